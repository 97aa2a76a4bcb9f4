"""A store of made-up runs, in the layout that the result store writes."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.report.made import SITES, SPEC

KEYS = {
    "round": pa.int32(),
    "replica": pa.int32(),
    "set": pa.string(),
    "aggregate": pa.string(),
    "group": pa.string(),
    "name": pa.string(),
    "n": pa.int64(),
}
Row = Mapping[str, Any]
Put = Callable[..., str]


def _write(path: Path, rows: Iterable[Row]) -> None:
    rows = list(rows)
    columns = list(dict.fromkeys(c for row in rows for c in row))
    arrays = {c: pa.array([row.get(c) for row in rows], KEYS.get(c, pa.float64())) for c in columns}
    pq.write_table(pa.table(arrays), path)


@pytest.fixture
def put(tmp_path: Path) -> Put:
    """put(cell, rounds=[...], clients=[...], status=..., source=...) stores a run and returns its id."""

    def one(
        cell: Mapping[str, Any],
        rounds: Iterable[Row] = (),
        clients: Iterable[Row] = (),
        predictions: Mapping[str, Any] | None = None,
        status: str = "done",
        source: str = "abc",
        **manifest: Any,
    ) -> str:
        run = "-".join(f"{k}={v}" for k, v in cell.items())
        folder = tmp_path / "store" / run
        folder.mkdir(parents=True)
        usual = {"round": 1, "replica": 0, "set": "test", "n": 100}
        if rounds:
            _write(folder / "rounds.parquet", [{**usual, "aggregate": "pooled", **r} for r in rounds])
        if clients:
            _write(folder / "clients.parquet", [{**usual, "group": "site", **r} for r in clients])
        if predictions is not None:
            pq.write_table(pa.table(dict(predictions)), folder / "predictions.parquet")
        config = f"seed: {cell.get('seed', 0)}\ntask: {{name: logistic, l2: 0.5}}\n"
        (folder / "config.yaml").write_text(config)
        about = {"run": run, "status": status, "source": source, "cell": dict(cell), **manifest}
        (folder / "manifest.json").write_text(json.dumps(about))
        return run

    return one


@pytest.fixture
def experiment(tmp_path: Path, put: Put) -> dict[str, dict[str, Any]]:
    """Three seeds of local and fedavg; at Small fedavg gains .2 + .01 seed, at Large it loses .1."""
    (tmp_path / "tables.yaml").write_text(SPEC)
    plan = {}
    for algorithm in ("local", "fedavg", "pooled"):
        for seed in range(3):
            cell = {"algorithm": algorithm, "split": "natural", "seed": seed}
            rounds = [
                {"round": r, "auroc": 0.5 + 0.05 * r + 0.01 * seed, "brier": 0.3 - 0.01 * r}
                for r in ([3] if algorithm == "pooled" else [1, 2, 3])
            ]
            clients = [
                {
                    "round": 3,
                    "name": site,
                    "n": 40,
                    # The seed moves the hospital by far more than the method does: only pairs see it.
                    "auroc": 0.5 + 0.1 * seed + (gain + 0.01 * seed if algorithm == "fedavg" else 0.0),
                }
                for site, gain in SITES.items()
            ]
            plan[put(cell, rounds, clients)] = cell
    return plan
