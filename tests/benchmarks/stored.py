"""A store of many runs, as a sweep would leave it, for what reads stores: from one real run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
    for some in packs(list(cells)):
        of = {run: cells[run] for run in some}
        store.write_all(
            {run: replace(made, experiment=cell.experiment, cell=cell.labels) for run, cell in of.items()},
            fresh,
        )
    fresh.save()


def packs(runs: Sequence[str]) -> list[Sequence[str]]:
    """Runs that end together, eight as most of the main job's."""
    return [runs[i : i + 8] for i in range(0, len(runs), 8)]


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
    found: dict[str, Any] = {}
    for name, column in zip(table.column_names, table.columns, strict=True):
        if len(table) <= 100:
            found[name] = column.to_pylist()
        else:
            found[name] = column.chunk(0) if pa.types.is_string(column.type) else column.to_numpy()
    return found
