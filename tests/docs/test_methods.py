"""The tables of docs/methods.md are what `make methods` writes, and what it writes is so."""

import json
import re

import pytest

from fedsim import topology
from fedsim.algorithms import ALGORITHMS
from fedsim.config import MEMBERS
from tests.benchmarks.methods import record
from tests.docs import methods

TEXT = methods.DOCUMENTS[0].read_text(encoding="utf-8")


@pytest.mark.long  # traces every method
@pytest.mark.parametrize("path", methods.DOCUMENTS, ids=lambda path: path.stem)
def test_the_tables_are_those_that_are_written(path):
    text = path.read_text(encoding="utf-8")
    assert methods.written(text) == text, f"docs/{path.name} is not what `make methods` writes"


def test_every_group_has_its_table_under_its_title():
    titled = re.findall(r"^## [^\n]*`(\w+)=`.*?^<!-- table: (\w+) -->", TEXT, re.M | re.S)
    assert [group for group, _ in titled] == [table for _, table in titled]
    assert sorted(group for group, _ in titled) == sorted(MEMBERS.keys() - {"executor"})


def test_every_member_is_one_that_is_built():
    for group, builders in (methods.BUILDERS | {"topology": topology.TOPOLOGIES}).items():
        assert MEMBERS[group].keys() - {"mean"} == builders.keys(), group


def test_every_algorithm_is_there_in_symbols():
    symbols = TEXT.partition("In symbols")[2].partition("## ")[0]
    assert re.findall(r"^\| `(\w+)` \| .+ \|$", symbols, re.M) == sorted(ALGORITHMS)


def test_every_algorithm_but_the_baselines_has_a_paper():
    papers = {name: methods.described("algorithm", name)[1] for name in ALGORITHMS}
    assert {name for name, paper in papers.items() if paper == "-"} == {"local", "pooled"}
    assert all(re.search(r"\b(19|20)\d\d\b|arXiv", paper) for paper in papers.values() if paper != "-")


@pytest.mark.parametrize(
    ("name", "receives", "sends", "keeps", "works"),
    [
        ("fedavg", "1", "1", "0", ("yes", "yes", "yes")),
        ("scaffold", "2", "2", "1", ("yes", "no", "yes")),  # w and c; both differences; c_i
        ("ifca", "2", "1 + 2 numbers", "2 numbers", ("no", "no", "yes")),  # which of two models
        ("fedbn", "0.64", "0.64", "0.36", ("yes", "yes", "yes")),  # 4 * 64 of 705 numbers are batch norm's
        ("dpsgd", "1", "1", "0", ("no", "no", "no")),
        ("local", "1", "0", "1", ("-", "-", "-")),
        ("pooled", "-", "-", "-", ("-", "-", "-")),
    ],
)
def test_what_the_papers_say_is_found(name, receives, sends, keeps, works):
    assert methods.facts(name) == (receives, sends, keeps, works)


def test_bytes_are_counted_in_models():
    shown = {0: "0", 4: "1 number", 8: "2 numbers", 400: "1", 404: "1 + 1 number", 800: "2", 300: "0.75"}
    assert {n: methods.amount(n, 400) for n in shown} == shown


def test_a_later_sitting_takes_the_place_of_what_it_measures(tmp_path):
    path = tmp_path / "methods.json"
    record(path, {"ditto": 2.0, "fedprox": 1.0}, turns=4)
    record(path, {"ditto": 1.9}, turns=5)
    record(path, {"fedprox": 1.1, "mime": 2.1}, turns=6)
    found = [
        (sitting["turns"], sitting["ratios"]) for sitting in json.loads(path.read_text(encoding="utf-8"))
    ]
    assert found == [(5, {"ditto": 1.9}), (6, {"fedprox": 1.1, "mime": 2.1})]
