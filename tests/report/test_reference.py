"""Differences of cells to a reference, and means over strata."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fedsim import report
from fedsim.base import RequestError
from fedsim.report.intervals import mean_interval, stratified
from tests.report.made import Put, build, cells, three_seeds

LOCAL = {"algorithm": "local"}


def test_cells_show_the_paired_difference_to_the_reference(tmp_path: Path, put: Put) -> None:
    # Seeds differ by far more than methods do: only pairs see it.
    seeds = [0.05 * s for s in range(8)]
    gains = [0.02, 0.03, 0.04, 0.03, 0.02, 0.03, 0.04, 0.03]
    runs = three_seeds(
        put,
        {
            "local": tuple(0.5 + s for s in seeds),
            "fedavg": tuple(0.5 + s + g for s, g in zip(seeds, gains, strict=True)),
            "same": tuple(0.5 + s for s in seeds[:7]),
        },
    )
    table = build(tmp_path, runs, reference=LOCAL)
    mean, low, high = mean_interval(gains, "t")
    found = table.differences["fedavg", "auroc"]
    assert (found.mean, found.low, found.high) == pytest.approx((mean, low, high))
    # All eight of one sign: 2 of 2**8 signs; of two comparisons the smaller p counts twice.
    assert (found.pairs, found.p, found.corrected) == (8, 2 / 2**8, 4 / 2**8)
    text = table.markdown()
    assert "| fedavg | **0.705 Δ +0.030 [+0.024, +0.036]* (8)** |" in text
    assert "| same | 0.650 Δ 0.000 [0.000, 0.000] (7)† |" in text
    assert "| local | 0.675 [0.573, 0.777] (8) |" in text
    assert "Δ: mean difference to algorithm local on common seeds" in text
    assert "permutation test of signs" in text and "Holm" in text and "cannot give a p" not in text
    tiny = three_seeds(put, {"base": (0.5, 0.5), "less": (0.49999, 0.49998)})
    assert "Δ 0.000 [0.000, 0.000]" in build(tmp_path, tiny, reference={"algorithm": "base"}).markdown()
    lines = {line["algorithm"]: line for line in csv.DictReader(io.StringIO(table.csv()))}
    assert float(lines["fedavg"]["difference"]) == found.mean and lines["fedavg"]["pairs"] == "8"
    assert lines["local"]["difference"] == "" and float(lines["fedavg"]["low"]) < 0.7
    few = build(tmp_path, runs, reference=LOCAL, where={"seed": [0, 1], "algorithm": ["local", "fedavg"]})
    assert "2 pairs cannot give a p below 0.5; add seeds" in few.markdown()


@pytest.mark.parametrize(
    ("reference", "words"),
    [
        ({"algorithm": "lokal"}, "no finished run has algorithm=lokal; .*did you mean 'local'"),
        ({"split": "iid"}, "reference names one value of one row or column"),
        ({"algorithm": "local", "split": "iid"}, "reference names one value of one row or column"),
    ],
)
def test_a_wrong_reference_says_what_to_do(
    tmp_path: Path, put: Put, reference: dict[str, Any], words: str
) -> None:
    with pytest.raises(RequestError, match=words):
        build(tmp_path, three_seeds(put, {"local": (0.5,), "fedavg": (0.6,)}), reference=reference)


def test_the_verdict_is_by_the_interval_and_by_what_is_better(tmp_path: Path, put: Put) -> None:
    seeds = (0.50, 0.70, 0.60)
    runs = three_seeds(
        put,
        {
            "local": seeds,
            "up": (0.53, 0.74, 0.63),
            "down": (0.46, 0.67, 0.57),
            "either": (0.53, 0.66, 0.60),
            "once": (0.58,),
        },
    )
    asked: dict[str, Any] = {"reference": LOCAL, "verdict": True}
    more = build(tmp_path, runs, **asked)
    text = more.markdown()
    said = {line["algorithm"]: line["verdict"] for line in csv.DictReader(io.StringIO(more.csv()))}
    words = {"local": "", "up": "gains", "down": "loses", "either": "not shown", "once": "not shown"}
    assert said == words
    assert "+0.048] gains (3)" in text and "gains, loses: the interval of Δ lies on the better" in text
    # Of a metric of which less is better the words change places.
    less = [put({"algorithm": a, "seed": s}, [{"brier": v}]) for a, of in
            {"local": seeds, "up": (0.53, 0.74, 0.63)}.items() for s, v in enumerate(of)]  # fmt: skip
    worse = build(tmp_path, less, metrics="brier", **asked)
    assert "] loses |" in worse.markdown()
    assert "gains" not in build(tmp_path, runs, reference=LOCAL).markdown()


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({}, "verdict needs a reference, .*got no reference"),
        ({"reference": LOCAL, "metrics": ["auroc", "o_e"]}, "more or less is better, got o_e"),
    ],
)
def test_a_verdict_needs_something_to_be_better_than(
    tmp_path: Path, put: Put, asked: dict[str, Any], words: str
) -> None:
    with pytest.raises(RequestError, match=words):
        build(tmp_path, three_seeds(put, {"local": (0.5,), "fedavg": (0.6,)}), verdict=True, **asked)


# --- strata ----------------------------------------------------------------------------------


def two_splits(put: Put) -> list[str]:
    values = {"natural": (0.5, 0.6, 0.7), "iid": (0.8, 0.9)}
    return [
        put({"algorithm": "fedavg", "split": split, "seed": seed}, [{"auroc": value}])
        for split, of_seeds in values.items()
        for seed, value in enumerate(of_seeds)
    ]


def test_strata_count_the_same_and_are_drawn_each_on_their_own(tmp_path: Path, put: Put) -> None:
    runs = two_splits(put)
    table = build(tmp_path, runs, strata="split", interval="bootstrap")
    cell = cells(table)["fedavg", "auroc"]
    # The mean of all five would be 0.7.
    assert cell.mean == pytest.approx((0.6 + 0.85) / 2) and cell.seeds == 5
    assert set(cell.runs) == {"natural/0", "natural/1", "natural/2", "iid/0", "iid/1"}
    low, high = stratified([[0.5, 0.6, 0.7], [0.8, 0.9]])[1:]
    assert (cell.low, cell.high) == (low, high)
    assert low == pytest.approx((0.5 + 0.8) / 2, abs=0.03) and high == pytest.approx(
        (0.7 + 0.9) / 2, abs=0.03
    )
    text = table.markdown()
    assert "Mean over 5 runs and 95 % interval (stratified percentile bootstrap" in text
    assert "Every value of split counts the same" in text
    assert cells(build(tmp_path, [*runs, "gone"], strata="split", interval="bootstrap"))


def test_strata_are_drawn_independently() -> None:
    values = np.random.default_rng(0).normal(size=40).tolist()
    one, two = stratified([values]), stratified([values, values])
    assert one[1] is not None and two[1] is not None and two[2] is not None and one[2] is not None
    # Drawn together, the interval of the mean of two equal strata would be as wide as that of one.
    assert (two[2] - two[1]) / (one[2] - one[1]) == pytest.approx(0.5**0.5, rel=0.05)


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ({"strata": ["split"]}, "needs interval: bootstrap, got t"),
        ({"strata": ["seed"], "interval": "bootstrap"}, "strata are choices of the sweep .*got seed"),
        ({"strata": ["site"], "interval": "bootstrap"}, "strata are choices of the sweep .*got site"),
        ({"strata": ["algorithm"], "interval": "bootstrap"}, "strata are choices .*got algorithm"),
    ],
)
def test_wrong_strata_say_what_to_do(tmp_path: Path, put: Put, table: dict[str, Any], words: str) -> None:
    with pytest.raises(RequestError, match=words):
        build(tmp_path, two_splits(put), **table)


def test_a_lacking_stratum_marks_the_cell(tmp_path: Path, put: Put) -> None:
    plan = {}
    for run, split in zip(two_splits(put), ["natural"] * 3 + ["iid"] * 2, strict=True):
        plan[run] = {"algorithm": "fedavg", "split": split, "seed": int(run[-1])}
    plan["gone"] = {"algorithm": "fedavg", "split": "iid", "seed": 2}
    table: report.Table = build(tmp_path, plan, strata="split", interval="bootstrap")
    assert cells(table)["fedavg", "auroc"].missing == ("iid/2",)
