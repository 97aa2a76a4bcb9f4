"""Runs in the store and their rows, read once."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from fedsim.base import RequestError, nearest, require
from fedsim.report.labels import Labels
from fedsim.report.spec import INSIDE, NAMED, Level
from fedsim.store import ResultStore, kept
from fedsim.store.columns import NONE, ints, numbers

_KEYS = frozenset(("run", "round", "replica", "set", "aggregate", "group", "name"))

Value = str | int | float | bool | None
Key = tuple[Value, ...]


class NoRuns(RequestError):
    """No run that was asked for has what a table or figure is to show."""


@dataclass(frozen=True)
class Run:
    """A run in the store: of its manifest what is kept beside it, and the rest where a table asks."""

    id: str
    folder: Path
    about: Mapping[str, Any]

    @property
    def done(self) -> bool:
        return bool(self.about.get("status") == "done")

    @property
    def diverged(self) -> bool:
        return bool(self.about.get("status") == "diverged")

    @cached_property
    def cell(self) -> dict[str, Any]:
        return dict(self.about.get("cell") or {})

    @cached_property
    def labels(self) -> dict[str, Value]:
        return {dimension: plain(value) for dimension, value in self.cell.items()}

    @cached_property
    def kin(self) -> frozenset[tuple[str, Value]]:
        """What it shares with the runs that differ from it in their seed alone."""
        return frozenset(item for item in self.labels.items() if item[0] != "seed")

    @property
    def seed(self) -> Value:
        return self.label("seed")

    @property
    def data_seed(self) -> Value:
        """Of data that are drawn; else None."""
        return plain(self.about.get("data_seed"))

    @cached_property
    def manifest(self) -> dict[str, Any]:
        return dict(json.loads((self.folder / "manifest.json").read_text(encoding="utf-8")))

    @cached_property
    def config(self) -> dict[str, Any]:
        return dict(yaml.load((self.folder / "config.yaml").read_text("utf-8"), yaml.CSafeLoader) or {})

    def label(self, dimension: str) -> Value:
        """The run's value of a dimension: its label in the sweep, else the option at that path.

        Raises:
          RequestError: it has neither.
        """
        if dimension in self.labels:
            return self.labels[dimension]
        node: Any = self.config
        for part in dimension.split("."):
            if not isinstance(node, Mapping) or part not in node:
                known = {*self.cell, *self.config, *INSIDE}
                raise RequestError(f"unknown dimension {dimension!r}; {nearest(dimension, known)}")
            node = node[part]
        return plain(node)


def plain(value: Any) -> Value:
    if value is None or isinstance(value, (str, int, float, bool)):
        return value
    if isinstance(value, Mapping) and "name" in value:
        return plain(value["name"])
    return json.dumps(value, sort_keys=True)


@dataclass(frozen=True)
class Rows:
    """What the store holds of the runs asked for.

    planned: the labels of every run asked for, in order, where the caller gave them.
    missing: ids that are not in the store.
    rounds, clients: the runs' rows, one after another; column `run` is the position in `runs`.
    columns: {"rounds": ..., "clients": ...}: every metric in the files, read or not.
    """

    runs: tuple[Run, ...]
    planned: tuple[dict[str, Any], ...] | None
    missing: tuple[str, ...]
    rounds: pa.Table
    clients: pa.Table
    columns: Mapping[str, frozenset[str]]

    @cached_property
    def labels(self) -> Labels:
        """Of `runs`."""
        return Labels(self.runs)

    @cached_property
    def plan(self) -> Labels | None:
        """Of every run asked for, where these are known."""
        if self.planned is None:
            return None
        return Labels([Run("", Path(), {"cell": cell}) for cell in self.planned])

    @cached_property
    def order(self) -> dict[str, dict[str, int]]:
        """{dimension: {label: its place in the plan}}"""
        places: dict[str, dict[str, int]] = {}
        for cell in self.planned or tuple(run.cell for run in self.runs):
            for dimension, value in cell.items():
                of = places.setdefault(dimension, {})
                of.setdefault(str(plain(value)), len(of))
        return places

    def chosen(self, where: Mapping[str, Any]) -> list[Run]:
        """The runs whose labels are among those that `where` keeps. Raises RequestError as `Run.label`."""
        return [self.runs[i] for i in self.labels.chosen(where).tolist()]


def read(
    store: Path,
    runs: Sequence[str] | Mapping[str, Mapping[str, Any]],
    metrics: Iterable[str] | None = None,
    levels: Iterable[Level] = ("pooled", "site", "client"),
) -> Rows:
    """Read the rows of `runs`, and nothing else in the store.

    Args:
      store: its folder.
      runs: ids, with the labels that runs were stored with, or ids with the labels of their cells: then
        cells of runs that are not in the store are known, too.
      metrics: columns to read; None reads all.
      levels: what will be asked of the rows; without `site` and `client` clients.parquet is left alone.

    Raises:
      RequestError: none of the runs is in the store, or a file of one of them is damaged.
    """
    wanted = None if metrics is None else {*metrics, *_KEYS}
    groups = set(levels) & {*NAMED}
    kinds = ["rounds"] * bool(set(levels) - groups) + ["clients"] * bool(groups)
    about = ResultStore(store).about(runs)
    require(about, f"none of the {len(runs)} runs asked for is in {store}; run the sweep first")
    if isinstance(runs, Mapping):  # a run may have been stored by another sweep, which calls it otherwise
        about = {run: about[run] | {"cell": dict(runs[run])} for run in runs if run in about}
    found = tuple(Run(run, store / run, about[run]) for run in runs if run in about)
    place = {run.id: at for at, run in enumerate(found) if run.done}
    at = np.array(list(place.values()), np.int64)
    tables = dict.fromkeys(("rounds", "clients"), NONE)
    columns: dict[str, frozenset[str]] = dict.fromkeys(tables, frozenset())
    for kind in kinds:
        table, names = kept.read(store, f"{kind}.parquet", list(place), _part)
        columns[kind] = frozenset(names) - _KEYS
        table = table.select([c for c in names if wanted is None or c in wanted] + ["run"])
        tables[kind] = table.set_column(table.num_columns - 1, "run", ints(at[numbers(table["run"])]))
    labels = tuple(dict(cell) for cell in runs.values()) if isinstance(runs, Mapping) else None
    missing = tuple(run for run in runs if run not in about)
    return Rows(found, labels, missing, **tables, columns=columns)


def _part(path: Path) -> pa.Table:
    """Rows of one run."""
    try:
        # In one piece: small files are not worth threads that read ahead.
        with pq.ParquetFile(pa.BufferReader(path.read_bytes()), pre_buffer=False) as file:
            return file.read(use_threads=False)
    except (FileNotFoundError, pa.ArrowInvalid):
        raise RequestError(
            f"{path} is absent or damaged though its run is done; remove {path.parent} and sweep again"
        ) from None


def redrawn(runs: Iterable[Run]) -> bool:
    """Whether seeds draw the data anew: wherever runs differ in their seed alone, so do their data."""
    drawn: dict[frozenset[tuple[str, Value]], list[Value]] = {}
    for run in runs:
        drawn.setdefault(run.kin, []).append(run.data_seed)
    several = [seeds for seeds in drawn.values() if len(seeds) > 1]
    return bool(several) and all(None not in seeds and len({*seeds}) == len(seeds) for seeds in several)
