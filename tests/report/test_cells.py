"""Cells of tables of made-up stores, against numbers worked out by hand."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

import pytest

from fedsim.base import RequestError
from tests.report.made import T2, Put, build, cells, three_seeds


def test_mean_interval_and_bold(tmp_path: Path, put: Put) -> None:
    runs = three_seeds(put, {"local": (0.6, 0.7, 0.8), "fedavg": (0.7, 0.8, 0.9)})
    table = build(tmp_path, runs)
    cell = cells(table)["fedavg", "auroc"]
    half = T2 * 0.1 / math.sqrt(3)
    assert (cell.mean, cell.low) == pytest.approx((0.8, 0.8 - half))
    assert 0.8 + half > 1 and cell.high == 1  # an AUROC ends there
    assert (cell.seeds, cell.missing, cell.undefined, cell.diverged) == (3, (), 0, 0)
    text = table.markdown()
    assert "| local | 0.700 [0.452, 0.948] |" in text
    assert "| fedavg | **0.800 [0.552, 1.000]** |" in text
    assert "Mean over 3 seeds and 95 % interval (Student's t over seeds)" in text
    assert "- Intervals are cut where the metric ends" in text
    assert "†" not in text
    narrow = build(tmp_path, three_seeds(put, {"pooled": (0.70, 0.71, 0.72)}))
    assert "are cut" not in narrow.markdown()


@pytest.mark.parametrize(
    ("metric", "values", "best"),
    [
        ("brier", {"a": 0.1, "b": 0.2}, "a"),
        ("auroc", {"a": 0.1, "b": 0.2}, "b"),
        ("calibration_slope", {"a": 0.7, "b": 1.2, "c": 2.0}, "b"),
    ],
)
def test_best_is_the_metrics_own(
    tmp_path: Path, put: Put, metric: str, values: dict[str, float], best: str
) -> None:
    runs = [put({"algorithm": a, "seed": 0}, [{metric: v}]) for a, v in values.items()]
    table = build(tmp_path, runs, metrics=[metric])
    assert [table.row_keys[i][0] for i, _ in table.bold] == [best]
    assert not build(tmp_path, runs, metrics=[metric], best="none").bold


def test_missing_seeds_are_marked_and_listed(tmp_path: Path, put: Put) -> None:
    runs = three_seeds(put, {"local": (0.6, 0.7, 0.8), "fedavg": (0.7, 0.8)})
    table = build(tmp_path, [*runs, "never-ran"], mark="*")
    assert cells(table)["fedavg", "auroc"].missing == (2,)
    assert cells(table)["local", "auroc"].missing == ()
    text = table.markdown()
    assert re.search(r"\| fedavg \| \*\*0\.750 .* \(2\)\*\*\* \|", text)
    assert "- * Seeds without a finished run: fedavg: 2." in text
    assert "1 of 6 runs are not in the store." in text
    assert "up to 3 seeds (the count in round brackets)" in text


def test_with_the_plans_labels_each_cell_is_held_to_its_own_seeds(tmp_path: Path, put: Put) -> None:
    plan = {}
    for cell in (
        {"algorithm": "local", "split": "natural", "seed": 0},
        {"algorithm": "fedavg", "split": "natural", "seed": 0},
        {"algorithm": "fedavg", "split": "iid", "seed": 0},
    ):
        plan[put(cell, [{"auroc": 0.5}])] = cell
    plan["gone"] = {"algorithm": "fedavg", "split": "iid", "seed": 1}
    plan["also gone"] = {"algorithm": "fedprox", "split": "natural", "seed": 0}
    table = build(tmp_path, plan, columns=["split"])
    got = cells(table)
    assert got["fedavg", "iid", "auroc"].missing == (1,)
    assert got["fedprox", "natural", "auroc"].missing == (0,)
    assert got["fedprox", "natural", "auroc"].seeds == 0
    assert got["local", "iid", "auroc"].missing == ()  # never planned
    assert table.texts[table.row_keys.index(("local",))][table.column_keys.index(("iid", "auroc"))] == ""
    # Without labels nobody knows that, and the cell counts as lacking.
    assert cells(build(tmp_path, list(plan), columns=["split"]))["local", "iid", "auroc"].missing == (0,)


def test_failed_runs_are_missing_and_diverged_ones_are_counted(tmp_path: Path, put: Put) -> None:
    runs = three_seeds(put, {"local": (0.6, 0.7, 0.8), "fedavg": (0.9,)})
    runs.append(put({"algorithm": "fedavg", "split": "natural", "seed": 1}, status="failed"))
    runs.append(
        put({"algorithm": "fedavg", "split": "natural", "seed": 2}, [{"auroc": 0.1}], status="diverged")
    )
    runs.append(put({"algorithm": "fedprox", "split": "natural", "seed": 0}, status="diverged"))
    table = build(tmp_path, runs)
    cell = cells(table)["fedavg", "auroc"]
    assert (cell.mean, cell.seeds, cell.missing, cell.diverged) == (0.9, 1, (1,), 1)
    assert "| fedavg | **0.900 (1)†‡** |" in table.markdown()
    assert "‡ Seeds that diverged, which the mean leaves out: fedavg: 1; fedprox: 1." in table.markdown()
    assert cells(table)["fedprox", "auroc"].missing == (1, 2)


def test_undefined_is_a_dash_with_a_count(tmp_path: Path, put: Put) -> None:
    runs = three_seeds(put, {"local": (None, None, None), "fedavg": (0.7, None, 0.9)})
    table = build(tmp_path, runs)
    assert cells(table)["fedavg", "auroc"].mean == pytest.approx(0.8)
    assert cells(table)["fedavg", "auroc"].undefined == 1
    assert table.texts[0][0] == "– (3)"
    assert table.texts[1][0].endswith(", – (1)")
    assert "undefined for k seeds" in table.markdown()
    assert "local,auroc,,,,0,3,0," in table.csv()


def test_mixed_sources_are_refused_or_footnoted(tmp_path: Path, put: Put) -> None:
    runs = three_seeds(put, {"local": (0.6, 0.7)}, source="old")
    runs += three_seeds(put, {"fedavg": (0.6, 0.7)}, source="new")
    with pytest.raises(
        RequestError, match=r"2 versions of the code \(old: 2 runs, new: 2 runs\).*stale=keep"
    ):
        build(tmp_path, runs)
    assert "Runs of 2 versions of the code together" in build(tmp_path, runs, stale="keep").markdown()
    build(tmp_path, runs[:2])  # one of them alone is fine


def test_seeds_do_not_repeat_a_split_that_was_published(tmp_path: Path, put: Put) -> None:
    def said(split: str) -> str:
        about = {"experiment": {"split": {"name": split}}}
        cells = [{"split": split, "algorithm": "a", "seed": seed} for seed in range(2)]
        runs = [put(cell, [{"auroc": 0.5}], **about) for cell in cells]
        return build(tmp_path, runs, rows=["algorithm"], columns=[]).markdown()

    assert "Seeds repeat the training, on the same split;" in said("published")
    assert "Seeds repeat the split and the training;" in said("natural")


def test_a_table_over_the_last_rounds(tmp_path: Path, put: Put) -> None:
    losses = {"steady": (9.0, 0.5, 0.6, 0.7), "wild": (0.1, 0.2, 1.0, 0.6)}
    runs = [
        put({"algorithm": a, "seed": s}, [{"round": r, "log_loss": v + s} for r, v in enumerate(values)])
        for a, values in losses.items()
        for s in (0, 1)
    ]
    mean = build(tmp_path, runs, metrics="log_loss", over={"rounds": 3})
    got = {key[0]: cell.mean for key, cell in cells(mean).items()}
    assert got == pytest.approx({"steady": 1.1, "wild": 1.1})  # (0.6 + 1.6) / 2 both
    spread = build(tmp_path, runs, metrics="log_loss", over={"rounds": 3, "take": "spread"})
    got = {key[0]: cell.mean for key, cell in cells(spread).items()}
    assert got == pytest.approx({"steady": 0.1, "wild": 0.4})
    assert (
        "standard deviation over its last 3 evaluated rounds at most. Lower is steadier." in spread.markdown()
    )
    assert not spread.bold and "lower is better" not in spread.markdown()
    once = [put({"algorithm": "once", "seed": 0}, [{"log_loss": 0.5}])]
    with pytest.raises(RequestError, match=r"over: a spread needs .*evaluate\.every"):
        build(tmp_path, once, metrics="log_loss", over={"rounds": 3, "take": "spread"})
    with pytest.raises(RequestError, match="over takes the last rounds, and round names one"):
        build(tmp_path, runs, over={"rounds": 3}, round=2)


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ({"metrics": "aurok"}, "unknown metric 'aurok'.*did you mean 'auroc'"),
        ({"rows": "algoritm"}, "unknown dimension 'algoritm'.*did you mean 'algorithm'"),
        ({"where": {"algorithm": "fedavg"}}, "no run fits"),
        ({"colums": ["split"]}, r"unknown option tables\[0\].colums.*did you mean 'columns'"),
        ({"format": ".3q"}, "is not a format"),
        ({"rows": ["site"]}, "rows from pooled have no site; use from: site"),
        ({"name": "../t"}, "is a path"),
        ({"from": "somewhere"}, "must be one of pooled"),
        ({"columns": ["algorithm"]}, "given twice"),
        ({"band": -1}, "band must be >= 0"),
    ],
)
def test_wrong_declarations_say_what_to_do(
    tmp_path: Path, put: Put, table: dict[str, Any], words: str
) -> None:
    runs = three_seeds(put, {"local": (0.5,)})
    with pytest.raises(RequestError, match=words):
        build(tmp_path, runs, **table)
