"""The document and its page: numbers by hand, every number on the page from the document, both languages."""

from __future__ import annotations

import json
import re
import string
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fedsim.base import RequestError
from fedsim.report import decide
from fedsim.report.decision import words
from fedsim.report.decision.document import guess
from fedsim.report.decision.words import Language, number
from tests.report.decision.made import AGAIN, SITES, arm, predictions, runs, values, write
from tests.report.test_page import Page

Put = Callable[..., str]
ACCOUNT = {
    "mechanism": "record",
    "unit": "record",
    "delta": 1e-5,
    "covered": ["models"],
    "uncovered": ["<counts>"],
    "notes": [],
}


def document(tmp_path: Path, plan: Any, **changes: Any) -> dict[str, Any]:
    path = write(tmp_path / "decision.yaml", **changes)
    return decide.numbers("demo", tmp_path / "store", path, plan, AGAIN)[0]


@pytest.fixture
def made(tmp_path: Path, put: Put) -> dict[str, Any]:
    """With two arms more: one pays for privacy, one has no run."""
    plan = runs(put)
    for seed, epsilon in enumerate((1.0, 2.0)):
        cell = {"algorithm": "private", "seed": seed}
        about = {"privacy": {**ACCOUNT, "epsilon": epsilon}}
        plan[put(cell, predictions=predictions({"Här": 0, "Där": 2}, 100 * seed), **about)] = cell
    others = [arm("private", "private"), arm("pooled", "pooled")]
    return document(tmp_path, plan, others=others, not_tested=[{"en": "The <moon>.", "sv": "Månen."}])


def test_numbers_by_hand(made: dict[str, Any]):
    here = made["regions"]["Här"]
    assert (here["patients"], here["flagged"], here["tested"], here["events"]) == (1000, 100, 20, 3)
    assert here["difference"]["baseline"] == 0.5 and here["difference"]["value"] == 1.0
    expected = {
        "found": 50, "avoided": 20, "value": 200_000, "staff": 90_000, "compute": 100, "traffic": 10,
        "cost": 90_110, "net": 109_890,
    }  # fmt: skip
    for name, value in expected.items():
        assert here[name]["base"] == pytest.approx(value), name
        assert here[name]["low"] <= here[name]["high"]
    assert made["training"] == pytest.approx({"seconds": 3600, "gigabytes": 0.5, "gigabytes_up": 0.2})


def test_sums_verdicts_and_arms(made: dict[str, Any]):
    total = made["total"]
    for name in ("found", "avoided", "value", "cost", "net"):
        parts = [made["regions"][site][name]["base"] for site in SITES]
        assert total[name]["base"] == pytest.approx(sum(parts)), name
    assert made["regions"]["Där"]["gain"] == "no_gain" and made["regions"]["Där"]["pays"] == "no_gain"
    assert made["regions"]["Här"]["gain"] in ("gain", "cannot_tell")
    assert made["arms"]["private"]["regions"]["Här"]["base"] == -0.5
    account = made["arms"]["private"]["privacy"]
    assert (account["epsilon"], account["delta"]) == (2.0, 1e-5)  # of the run that pays most
    assert made["absent"] == [{"name": "pooled", "label": {"en": "pooled", "sv": "pooled"}}]
    assert made["regions"]["Här"]["few_events"] and made["same_patients"]
    runs_of = {run for told in made["arms"].values() for run in told["runs"].values()}
    assert all((Path(made["store"]) / run).is_dir() for run in runs_of) and len(runs_of) == 6


def test_no_share_beyond_1_turns_the_answer(tmp_path: Path, put: Put):
    # Alone 0.5 (Här) and 1 (Där) are right already. At 600 SEK the net is 19,780; at 1,000 it is -100,220,
    # and 0.75 more, or 0.25 more, would have to be right.
    plan = runs(put)
    for cost, expected in ((600, [0.5 * 0.9011, -0.5 * 0.0989]), (1000, [None, None])):
        assumptions = values()["assumptions"]
        assumptions["hour_cost"] |= {"low": cost - 100, "base": cost, "high": cost + 100}
        (tmp_path / str(cost)).mkdir()
        path = write(tmp_path / str(cost) / "decision.yaml", assumptions=assumptions)
        made = decide.numbers("demo", tmp_path / "store", path, plan, AGAIN)[0]
        turns = {bar["name"]: bar["turns"] for bar in made["tornado"]}
        assert [turns[f"difference/{site}"] for site in SITES] == pytest.approx(expected)


def test_one_run_without_an_account_leaves_no_bound(tmp_path: Path, put: Put):
    plan = runs(put)
    for seed, account in enumerate(({**ACCOUNT, "epsilon": 1.0}, {"mechanism": None, "epsilon": None})):
        cell = {"algorithm": "private", "seed": seed}
        held = predictions({"Här": 0, "Där": 2}, 100 * seed)
        plan[put(cell, predictions=held, privacy=account)] = cell
    found = document(tmp_path, plan, others=[arm("private", "private")])
    assert found["arms"]["private"]["privacy"]["epsilon"] is None


def test_attacks_that_were_tried_are_named(tmp_path: Path, put: Put):
    experiment = {"audit": {"name": "clients"}}
    found = document(tmp_path, runs(put, audit={"epsilon_bound": 0.1}, experiment=experiment))
    assert found["arms"]["together"]["privacy"]["attacks"] == ["clients"]
    text = Page(decide.page(found, "en", "1")).text
    assert "Attacks that were tried on these runs: clients." in text and "No attack was tried" not in text


def test_guess_is_the_bound_on_an_even_bet():
    assert guess(0.0, 0.0) == 0.5 and guess(0.0, 1.0) == 1.0
    assert guess(1.0, 0.0) == pytest.approx(0.7310585786)
    # Against the region of all tests: the least (false positives + false negatives) / 2 under both bounds
    # FN >= 1 - delta - e^eps FP and FP >= 1 - delta - e^eps FN lies where they meet.
    fp = (1 - 1e-2) / (1 + 7.38905609893065)
    assert guess(2.0, 1e-2) == pytest.approx(1 - fp)
    assert guess(5000.0, 0.0) == 1.0


def test_nothing_stored_names_the_sweep(tmp_path: Path):
    with pytest.raises(RequestError, match=r"none of the 1 runs asked for is in .*; run: fedsim sweep demo$"):
        document(tmp_path, {"gone": {"algorithm": "local", "seed": 0}})


# --- the page --------------------------------------------------------------------------------


def at(found: Any, pointer: str) -> Any:
    for key in pointer.split("/")[1:]:
        key = key.replace("~1", "/").replace("~0", "~")
        found = found[int(key)] if isinstance(found, list) else found[key]
    return found


@pytest.mark.parametrize("language", words.LANGUAGES)
def test_every_number_is_the_documents_and_leads_to_where_it_is_from(
    made: dict[str, Any], language: Language
):
    text = decide.page(json.loads(json.dumps(made)), language, "1")
    links = re.findall(
        r'<a class="n" href="#([^"]+)" data-at="([^"]+)" data-style="(\w+)" data-value="([^"]*)">([^<]*)</a>',
        text,
    )
    assert len(links) > 150 and len(links) == text.count('class="n"')
    ids = set(re.findall(r'\bid="([^"]+)"', text))
    for to, pointer, style, exact, shown in links:
        value = at(made, pointer)
        assert to in ids, to
        assert (exact == "") if value is None else (float(exact) == value), pointer
        assert shown.replace("&gt;", ">").replace("&lt;", "<") == number(value, style, language), pointer
    pointers = {pointer for _, pointer, *_ in links}
    for site in SITES:
        assert f"/regions/{site}/net/high" in pointers and f"/regions/{site}/avoided/low" in pointers


@pytest.mark.parametrize("language", words.LANGUAGES)
def test_it_stands_alone_and_can_be_read_aloud(made: dict[str, Any], language: Language):
    text = decide.page(made, language, "1")
    found = Page(text)
    assert not re.search(r"(https?:)?//\w", re.sub(r"(?m)^// ---.*$", "", text))
    for tag, attrs in found.elements:
        for name in ("src", "href", "action", "data"):
            assert (attrs.get(name) or "#").startswith(("#", "data:")), (tag, attrs)
    assert "@import" not in text and "url(http" not in text
    assert [a["lang"] for a in found.all("html")] == [language] and len(found.all("h1")) == 1
    ids = [a["id"] for _, a in found.elements if "id" in a]
    assert len(ids) == len(set(ids))
    svg = found.all("svg")
    assert len(svg) == 1 and str(svg[0]["aria-labelledby"]).split() == ["tornado-title", "tornado-desc"]
    assert {"tornado-title", "tornado-desc"} <= set(ids)
    assert all(a.get("scope") in ("col", "row") for a in found.all("th"))
    for run in (r for told in made["arms"].values() for r in told["runs"].values()):
        assert found.text.count(run) == 2  # its id, and its folder
    assert "anonym" not in text.lower()
    assert "{" not in "".join(found.words)  # nothing is left to fill in


def test_what_it_says(made: dict[str, Any]):
    text = Page(decide.page(made, "en", "1")).text
    assert "Shall we?" in text and "an <example>" in text and "The <moon>." in text
    assert "Not covered, in the clear: <counts>." in text
    assert "Fewer than 100 tested patients of one of the two kinds in Här, Där" in text
    assert "pooled: none of its runs is finished." in text and "No attack was tried" in text
    assert "nothing limits mathematically" in text and "fedsim report demo --decision" in text
    sv = Page(decide.page(made, "sv", "1")).text
    assert "Ska vi?" in sv and "vårddygn" in sv and "Månen." in sv and "Ingen nytta" in sv


def test_a_choice_with_a_bound_says_what_it_is_worth(tmp_path: Path, put: Put):
    found = document(tmp_path, runs(put, privacy={**ACCOUNT, "epsilon": 1.0}))
    text = Page(decide.page(found, "en", "1")).text
    assert "ε = 1 (δ = 0.00001 ), for one record." in text
    assert "can be right at most 73.1 % of the time" in text


@pytest.mark.parametrize(
    ("value", "style", "en", "sv"),
    [
        (0.12345, "percent", "12.3\u202f%", "12,3\u202f%"),
        (0.3, "share", "30\u202f%", "30\u202f%"),
        (0.99999, "percent", ">99.9\u202f%", ">99,9\u202f%"),
        (1.0, "percent", "100.0\u202f%", "100,0\u202f%"),
        (-0.0312, "points", "−3.1", "−3,1"),
        (0.0312, "points", "+3.1", "+3,1"),
        (-0.0001, "points", "0.0", "0,0"),
        (12345.6, "count", "12,346", "12\u202f346"),
        (3.14, "count", "3.1", "3,1"),
        (-1234567.0, "amount", "−1,230,000", "−1\u202f230\u202f000"),
        (0.006, "amount", "<1", "<1"),
        (0.0, "amount", "0", "0"),
        (0.00001, "plain", "0.00001", "0,00001"),
        (144.46, "plain", "144.5", "144,5"),
        (0.000019, "mega", "0.019", "0,019"),
        (None, "plain", "–", "–"),
    ],
)
def test_how_numbers_are_written(value: float | None, style: Any, en: str, sv: str):
    assert (number(value, style, "en"), number(value, style, "sv")) == (en, sv)


def test_both_languages_say_everything():
    for key, text in words.words().items():
        assert set(text) == set(words.LANGUAGES), key
        assert all(text[language].strip() for language in words.LANGUAGES), key
        named = [{name for _, name, *_ in string.Formatter().parse(t) if name} for t in text.values()]
        assert named[0] == named[1], key
    same = {key for key, text in words.words().items() if text["en"] == text["sv"]}
    assert same <= {"region", "epsilon", "delta"}, same
