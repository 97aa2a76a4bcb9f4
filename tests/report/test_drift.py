"""Committed tables against what the rows give."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pytest

from fedsim import report
from fedsim.base import RequestError
from tests.report.made import SPEC, Put


def test_check_finds_what_moved_beyond_the_band(tmp_path: Path, experiment: Any) -> None:
    (tmp_path / "tables.yaml").write_text(SPEC.split("figures")[0])
    args = ("demo", tmp_path / "store", tmp_path / "tables.yaml")
    report.write(*args, tmp_path / "out", experiment)
    committed = tmp_path / "out/tables"
    assert report.check(*args, committed, experiment) == []

    path = committed / "pooled.csv"
    lines = list(csv.DictReader(path.read_text().splitlines()))

    def commit() -> None:
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, list(lines[0]), lineterminator="\n")
            writer.writeheader()
            writer.writerows(lines)

    lines[0]["mean"] = repr(float(lines[0]["mean"]) + 0.019)  # inside the band
    commit()
    assert report.check(*args, committed, experiment) == []
    lines[0]["mean"] = repr(float(lines[0]["mean"]) + 0.002)
    lines[1]["seeds"] = "2"
    lines[2]["mean"] = ""
    del lines[3]
    lines.append({**lines[0], "algorithm": "newton"})
    commit()
    drifts = report.check(*args, committed, experiment)
    assert [(d.cell, d.quantity) for d in drifts] == [
        ("local, natural, auroc", "mean"),
        ("local, natural, brier", "seeds"),
        ("fedavg, natural, auroc", "mean"),
        ("fedavg, natural, brier", "cell"),
        ("newton, natural, auroc", "cell"),
    ]
    assert drifts[0].band == 0.02 and "(band 0.02)" in str(drifts[0])
    assert str(drifts[1]) == "pooled: local, natural, brier: seeds was 2, is 3 (exact)"

    path.rename(committed / "other.csv")
    assert [(d.table, d.new) for d in report.check(*args, committed, experiment)] == [
        ("pooled", "present"),
        ("other", "absent"),
    ]
    with pytest.raises(RequestError, match="has no committed tables"):
        report.check(*args, tmp_path / "nowhere", experiment)


def test_counts_are_exact_and_differences_have_twice_the_band(tmp_path: Path, put: Put) -> None:
    runs = [
        put({"algorithm": a, "seed": s}, [{"auroc": 0.5 + 0.1 * s, "bytes_up": 1000.0}])
        for a in ("local", "fedavg")
        for s in range(2)
    ]
    (tmp_path / "tables.yaml").write_text(
        "tables: [{name: t, title: T, rows: algorithm, metrics: [auroc, bytes_up], "
        "reference: {algorithm: local}}]"
    )
    args = ("demo", tmp_path / "store", tmp_path / "tables.yaml")
    report.write(*args, tmp_path / "out", runs)
    path = tmp_path / "out/tables/t.csv"
    lines = list(csv.DictReader(path.read_text().splitlines()))

    def drifts(line: int, **moved: float) -> list[tuple[str, float | None]]:
        changed = [dict(other) for other in lines]
        changed[line] |= {name: repr(value) for name, value in moved.items()}
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, list(lines[0]), lineterminator="\n")
            writer.writeheader()
            writer.writerows(changed)
        return [(d.quantity, d.band) for d in report.check(*args, path.parent, runs)]

    assert [line["metric"] for line in lines] == ["auroc", "bytes_up"] * 2
    assert drifts(0, mean=0.5599) == [] and drifts(0, mean=0.5601) == [("mean", 0.01)]
    assert drifts(1, mean=1000.001) == [("mean", 0.0)]
    assert drifts(2, difference=0.019, p=0.4) == []
    assert drifts(2, difference=0.021) == [("difference", 0.02)]


def test_a_table_without_runs_drifts_only_where_it_was_committed(tmp_path: Path, experiment: Any) -> None:
    spec = tmp_path / "tables.yaml"
    args = ("demo", tmp_path / "store", spec)
    report.write(*args, tmp_path / "out", experiment)
    committed = tmp_path / "out/tables"
    later = "{name: later, title: t, rows: [split], metrics: [auroc], where: {algorithm: newton}}"
    spec.write_text(spec.read_text().replace("tables:\n", f"tables:\n  - {later}\n", 1))
    assert report.check(*args, committed, experiment) == []
    (committed / "later.csv").write_text("split\n")
    assert [(d.table, d.new) for d in report.check(*args, committed, experiment)] == [("later", "absent")]
