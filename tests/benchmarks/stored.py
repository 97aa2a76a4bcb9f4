"""A store of many runs, as a sweep would leave it, for what reads stores: from one real run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa

from fedsim.plan import Cell
from fedsim.run import run_experiments
from fedsim.store import TABLES, ResultStore, RunResult


def fill(cells: Mapping[str, Cell], root: Path) -> None:
    """Make `root` a store with every one of `cells`: the first is run, the others have its rows."""
    first = next(iter(cells))
    run_experiments([cells[first]], root)
    store = ResultStore(root)
    made = result(store, first)
    fresh = store.fresh()
    for run, cell in cells.items():
        store.write(run, replace(made, experiment=cell.experiment, cell=cell.labels), fresh)
    fresh.save()


def result(store: ResultStore, run: str) -> RunResult:
    """What a stored run left behind."""
    manifest = store.manifest(run)
    tables: dict[str, Any] = {
        name: columns(store.read(run, name)) for name in TABLES if name in manifest["rows"]
    }
    return RunResult(
        experiment=store.experiment(run),
        status="done",
        model=store.model(run),
        manifest=manifest,
        **tables,
    )


def columns(table: pa.Table) -> dict[str, Any]:
    """As a run gives them: lists with NaN and None, and arrays where there are many rows."""
    many = len(table) > 100
    return {
        name: column.to_numpy() if many and not pa.types.is_string(column.type) else column.to_pylist()
        for name, column in zip(table.column_names, table.columns, strict=True)
    }
