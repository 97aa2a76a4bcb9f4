"""Rows that are kept together are those of the runs' own files, whatever became of these since."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from fedsim import report
from fedsim.store import kept, summaries
from tests.report.made import Put

FILES = ("clients.parquet", "manifest.json", "rounds.parquet")


def fill(put: Put, seeds: range, algorithm: str = "a") -> list[str]:
    return [
        put(
            {"algorithm": algorithm, "seed": s},
            [{"round": r, "auroc": s + r / 10} for r in range(1 + s % 3)],
            [{"name": f"site {s % 2}", "auroc": float(s)}],
        )
        for s in seeds
    ]


def segments(store: Path) -> tuple[str, ...]:
    """The files that segments are of, in order."""
    return tuple(sorted(path.name.rpartition("-")[0] for path in (store / ".kept").iterdir()))


def values(rows: report.Rows) -> Any:
    """What the rows say, run by run."""
    tables = []
    for table in (rows.rounds, rows.clients):
        lines = table.to_pylist()
        tables.append([{**line, "run": rows.runs[line["run"]].id} for line in lines])
    return [sorted(map(str, lines)) for lines in tables], [(r.id, r.about) for r in rows.runs]


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (kept, summaries):
        monkeypatch.setattr(module, "FEW", 4)


def alone(store: Path, runs: list[str], monkeypatch: pytest.MonkeyPatch) -> Any:
    """The same without any file that keeps rows."""
    with monkeypatch.context() as patch:
        for module in (kept, summaries):
            patch.setattr(module, "FEW", 10**9)
        return values(report.read(store, runs))


def test_what_is_kept_is_what_would_be_read(
    tmp_path: Path, put: Put, few: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, runs = tmp_path / "store", fill(put, range(8))
    assert values(report.read(store, runs)) == alone(store, runs, monkeypatch)
    assert segments(store) == FILES

    read = []
    whole = pq.ParquetFile.read

    def counted(file: Any, **how: Any) -> Any:
        read.append(file)
        return whole(file, **how)

    monkeypatch.setattr(pq.ParquetFile, "read", counted)
    assert values(report.read(store, runs)) == alone(store, runs, monkeypatch)
    assert len(read) == 16  # by the run without kept files alone

    read.clear()
    some = [runs[5], runs[0], *runs[2:5], "never ran"]
    assert values(report.read(store, some)) == alone(store, some, monkeypatch)
    more = [*runs[:6], *fill(put, range(4), "b")]
    read.clear()
    assert values(report.read(store, more)) == alone(store, more, monkeypatch)
    assert len(read) == 8 + 20  # the new ones, and all of them alone
    read.clear()
    report.read(store, more)
    assert read == []


def test_a_run_that_was_replaced_is_read_again(
    tmp_path: Path, put: Put, few: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, runs = tmp_path / "store", fill(put, range(6))
    report.read(store, runs)
    shutil.rmtree(store / runs[2])
    put({"algorithm": "a", "seed": 2}, [{"auroc": 77.0, "brier": 0.5}], [{"name": "new", "auroc": 1.0}])
    found = report.read(store, runs)
    assert values(found) == alone(store, runs, monkeypatch)
    assert "brier" in found.columns["rounds"] and 77.0 in found.rounds.column("auroc").to_pylist()
    (store / runs[3] / "manifest.json").write_text(
        json.dumps({"run": runs[3], "status": "failed", "cell": {"seed": 3}})
    )
    assert values(report.read(store, runs)) == alone(store, runs, monkeypatch)
    (store / runs[4] / "manifest.json").write_text("{")  # cut short
    assert [run.id for run in report.read(store, runs).runs] == [*runs[:4], runs[5]]


@pytest.mark.parametrize("content", [b"", b"{", b'{"version": 99, "runs": {}}', b"ARROW1 cut off"])
def test_files_that_are_damaged_or_of_another_version_are_not_used(
    tmp_path: Path, put: Put, few: None, monkeypatch: pytest.MonkeyPatch, content: bytes
) -> None:
    store, runs = tmp_path / "store", fill(put, range(5))
    expected = alone(store, runs, monkeypatch)
    (store / ".kept").mkdir()
    for name in FILES:
        (store / ".kept" / f"{name}-0.arrow").write_bytes(content)
    assert values(report.read(store, runs)) == expected
    assert values(report.read(store, runs)) == expected
    assert segments(store) == FILES  # in their place


def test_a_store_that_may_not_be_written_is_read(
    tmp_path: Path, put: Put, few: None, monkeypatch: Any
) -> None:
    store, runs = tmp_path / "store", fill(put, range(5))

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    assert len(report.read(store, runs).runs) == 5
    assert [name for name in os.listdir(store) if name.startswith(".")] == [".kept"]
    assert segments(store) == ()


def test_only_the_columns_that_are_asked_for_come_back(tmp_path: Path, put: Put, few: None) -> None:
    store, runs = tmp_path / "store", fill(put, range(5))
    for _ in range(2):
        rows = report.read(store, runs, ["n"], ["pooled"])
        assert set(rows.rounds.column_names) == {"run", "round", "replica", "set", "aggregate", "n"}
        assert rows.columns == {"rounds": {"auroc", "n"}, "clients": frozenset()}
