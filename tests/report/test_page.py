"""The HTML page of a sweep: its structure, what is escaped, what it says of cost, origin and privacy."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from fedsim import report
from tests.report.made import SITES, SPEC, Put

VOID = {"meta", "link", "br", "path", "use", "circle", "image", "rect", "line"}
ODD = "<script>alert('1')</script> & \"quotes\""


class Page(HTMLParser):
    """Elements as (tag, attributes), and the text of each; complains of tags that do not match."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(text)
        assert self.open == [], self.open

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: Any) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if not {"script", "style"} & {*self.open}:
            self.words.append(data)

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attrs for name, attrs in self.elements if name == tag]

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


def made(tmp_path: Path, runs: Any, stale: str = "refuse", lead: str = "A claim.", **about: Any) -> str:
    said = {"title": "demo", "lead": lead, "commands": ["fedsim sweep demo"], "version": "1", "watts": 50.0}
    args = (tmp_path / "store", tmp_path / "tables.yaml", tmp_path / "out/report.html", runs, stale)
    report.write_page("demo", report.About(**{**said, **about}), *args)
    return (tmp_path / "out/report.html").read_text(encoding="utf-8")


@pytest.fixture
def page(tmp_path: Path, experiment: Any) -> str:
    return made(tmp_path, experiment)


def test_it_needs_no_network_and_no_other_file(page: str) -> None:
    found = Page(page)
    assert not re.search(r"(https?:)?//\w", re.sub(r"(?m)^// ---.*$", "", page))
    for tag, attrs in found.elements:
        for name in ("src", "href", "action", "data"):
            link = attrs.get(name)
            assert link is None or link.startswith(("#", "data:")), (tag, link)
    assert "@import" not in page and "url(http" not in page


def test_its_structure_can_be_used_by_keyboard_and_read_aloud(page: str) -> None:
    found = Page(page)
    assert [a.get("lang") for a in found.all("html")] == ["en"] and len(found.all("h1")) == 1
    ids = [a["id"] for _, a in found.elements if "id" in a]
    assert len(ids) == len(set(ids))
    targets = [str(a["href"])[1:] for a in found.all("a")] + [str(a["href"])[1:] for a in found.all("use")]
    assert set(targets) <= set(ids)
    heads = [a for a in found.all("th") if a.get("scope") == "col"]
    assert heads and all(a.get("aria-sort") == "none" for a in heads)
    assert len(found.all("button")) == len(heads) + 1  # a button in each head, and light or dark
    pictures = [a for a in found.all("svg") if a.get("role") == "img"]
    assert len(pictures) == len(found.all("svg")) == 2
    assert all(a["tabindex"] == "0" and a["aria-label"] for a in pictures)
    marks = [a["data-text"] for a in found.all("circle") if a.get("class") == "mark"]
    assert "Small, FedAvg: +0.2100 [+0.1852, +0.2348]" in marks


def test_numbers_to_sort_by_are_exact(page: str) -> None:
    values = [a["data-value"] for a in Page(page).all("td") if "data-value" in a]
    assert repr(0.5 + 0.05 * 3 + 0.01) in values


def test_labels_cannot_become_markup(tmp_path: Path, experiment: Any, put: Put) -> None:
    spec = SPEC.replace("FedAvg", json.dumps(ODD))
    (tmp_path / "tables.yaml").write_text(spec.replace("Pooled AUROC", '"A <b>title</b> {{js}}"'))
    bad = put({"algorithm": "local", "split": "natural", "seed": 7}, status="failed", error=ODD)
    plan = {**experiment, bad: {"algorithm": "local", "split": "natural", "seed": 7}}
    text = made(tmp_path, plan, lead=ODD, title=ODD)
    found = Page(text)
    assert len(found.all("script")) == 1 and not found.all("b")
    assert "A <b>title</b> {{js}}" in found.text and ODD in found.text
    assert any(ODD in str(a.get("data-text")) for a in found.all("circle"))


def test_what_it_says_of_runs_cost_origin_and_privacy(tmp_path: Path, put: Put) -> None:
    (tmp_path / "tables.yaml").write_text("tables: [{name: t, title: T, rows: algorithm, metrics: auroc}]")
    account = {
        "mechanism": "record",
        "protected": True,
        "delta": 1e-5,
        "unit": "records",
        "covered": ["models"],
        "uncovered": ["counts of rows"],
        "warnings": ["delta is above 1 / rows"],
    }
    runs: dict[str, Any] = {}
    for algorithm in ("local", "fedavg"):
        for seed in range(2):
            cell = {"algorithm": algorithm, "seed": seed}
            about: dict[str, Any] = {
                "seconds": 3600.0,
                "compile_seconds": 1800.0,
                "device_kind": "cpu X",
                "commit": f"c0ffee{seed}",
                "spent": {"bytes_up": 1_000_000, "bytes_down": 500_000},
                "versions": {"jax": "0.10.2"},
                "host": {"processor": "X", "cores": 2},
                "privacy": {"mechanism": None, "protected": False, "reason": "no mechanism: privacy=none"},
            }
            if algorithm == "fedavg":
                about["privacy"] = account | {"epsilon": 1.0 + seed}
            runs[put(cell, [{"auroc": 0.5}], **about)] = cell
    runs["gone"] = {"algorithm": "fedavg", "seed": 2}
    runs[put({"algorithm": "fedavg", "seed": 3}, status="failed", error="it broke")] = {
        "algorithm": "fedavg",
        "seed": 3,
    }
    text = Page(made(tmp_path, runs)).text
    assert "6 runs: 4 done, 1 failed, 1 not in the store." in text
    assert "1 runs of the plan are not in the store" in text and "1 run failed: it broke" in text
    assert "Privacy account: delta is above 1 / rows" in text
    # Four runs of an hour each at 50 W.
    assert "200.0 Wh: all device seconds at 50 W. The power is assumed and not measured" in text
    assert "14,400.0 for 4 runs, of these 7,200.0 compiling" in text
    assert "6 MB up and down, all runs together" in text
    assert "c0ffee0 (2 runs); c0ffee1 (2 runs)" in text and "jax 0.10.2" in text and "2 cores" in text
    assert "2 runs without a privacy mechanism" in text and "Keeping rows at home is no such limit." in text
    assert "2 runs with privacy=record" in text and "ε = 1 to 2 at δ = 1e-05, at the site" in text
    assert "Not covered, in the clear: counts of rows." in text
    assert "anonym" not in text and "fedsim sweep demo" in text


def test_of_very_many_runs_those_that_are_not_done_are_listed(
    tmp_path: Path, experiment: Any, put: Put, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fedsim.report.page.assemble.MOST_RUNS", 5)
    bad = put({"algorithm": "local", "split": "natural", "seed": 7}, status="diverged", error="nan")
    found = Page(made(tmp_path, {**experiment, bad: {"algorithm": "local", "split": "natural", "seed": 7}}))
    assert "10 runs: only those that are not done are listed." in found.text
    listed = found.text.split("only those")[1]
    assert bad in listed and not any(run in listed for run in experiment)
    assert set(SITES) <= set(found.text.split()) | {"Small", "Large"}
