"""Rows of finished runs, read once, and the values in them by label and seed."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from operator import itemgetter
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import yaml
from numpy.typing import NDArray

from fedsim.base import RequestError, nearest, require
from fedsim.report.spec import INSIDE, NAMED, Level
from fedsim.store import ResultStore, kept

ALL_FOLDS = -1  # the replica that holds every fold's out-of-fold predictions together

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
    tables = {kind: pa.table({"run": []}) for kind in ("rounds", "clients")}
    columns: dict[str, frozenset[str]] = dict.fromkeys(tables, frozenset())
    for kind in kinds:
        table, names = kept.read(store, f"{kind}.parquet", list(place), _part)
        columns[kind] = frozenset(names) - _KEYS
        table = table.select([c for c in names if wanted is None or c in wanted] + ["run"])
        tables[kind] = table.set_column(table.num_columns - 1, "run", pa.array(at[table["run"].to_numpy()]))
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
    drawn: dict[str, list[Value]] = {}
    for run in runs:
        key = json.dumps({d: v for d, v in run.labels.items() if d != "seed"}, sort_keys=True)
        drawn.setdefault(key, []).append(run.data_seed)
    several = [seeds for seeds in drawn.values() if len(seeds) > 1]
    return bool(several) and all(None not in seeds and len({*seeds}) == len(seeds) for seeds in several)


# --- values ----------------------------------------------------------------------------------


def chosen(run: Run, where: Mapping[str, Any]) -> bool:
    """Whether the labels of `run` are among those that `where` keeps."""
    return keeper(where)(run)


def keeper(where: Mapping[str, Any]) -> Callable[[Run], bool]:
    """`chosen` for many runs: each value is looked for once."""
    wanted = {d: w for d, w in where.items() if d not in INSIDE}
    known: dict[tuple[str, Value], bool] = {}

    def keeps(run: Run) -> bool:
        for dimension, values in wanted.items():
            key = dimension, run.label(dimension)
            if key not in known:
                known[key] = _among(key[1], values)
            if not known[key]:
                return False
        return True

    return keeps


def options(wanted: Any) -> list[Any]:
    return list(wanted) if isinstance(wanted, list | tuple) else [wanted]


def _among(value: Value, wanted: Any) -> bool:
    return any(value == w or str(value) == str(w) for w in options(wanted))


def observe(
    rows: Rows,
    *,
    level: Level,
    metrics: Sequence[str],
    dimensions: Sequence[str],
    where: Mapping[str, Any],
    at: Literal["last", "all"] | int = "last",
) -> dict[Key, dict[Value, float]]:
    """Values by label and seed: {one value per dimension: {seed: value}}, nan where undefined.

    The set is `test` and the aggregate is `level`, unless `where` or `dimensions` name them. With
    folds, a run's value is that of all out-of-fold predictions together; where it is not in the rows
    (outside validation), the mean over folds, undefined if it is in one of them.

    Args:
      at: the last evaluated round of each run and fold, all rounds, or one.

    Raises:
      RequestError: an unknown dimension or metric, or two runs with the same labels and seed.
    """
    label = level if level in NAMED else "aggregate"
    points = _points(rows, level, metrics, dimensions, where, at)
    outside = [d for d in dimensions if d not in INSIDE]
    keeps = keeper(where)
    kept = {i: [r.label(d) for d in outside] for i, r in enumerate(rows.runs) if r.done and keeps(r)}
    # Where each dimension stands in (the run's labels, set, name or aggregate, round, metric).
    order = [*outside, "set", label, "round", "metric"]
    for dimension in dimensions if points else ():
        require(dimension in order, f"rows from {level} have no {dimension}; use from: {dimension}")
    at_places = itemgetter(*map(order.index, dimensions), len(order))  # one more, so that it gives a tuple
    found: dict[Key, dict[Value, float]] = {}
    owner: dict[tuple[Key, Value], int] = {}
    for i, inside, values in points:
        if i not in kept:
            continue
        seed = rows.runs[i].seed
        for metric, value in zip(metrics, values, strict=True):
            key: Key = at_places((*kept[i], *inside, metric, None))[:-1]
            if (key, seed) in owner:
                raise RequestError(_twice(rows, owner[key, seed], i, dimensions, key, seed))
            owner[key, seed] = i
            found.setdefault(key, {})[seed] = value
    return found


def _twice(rows: Rows, a: int, b: int, dimensions: Sequence[str], key: Key, seed: Value) -> str:
    place = ", ".join(f"{d}={v}" for d, v in zip(dimensions, key, strict=True))
    first, second = rows.runs[a].cell, rows.runs[b].cell
    differ = [d for d in {**first, **second} if first.get(d) != second.get(d)]
    why = f"they differ in {', '.join(differ)}" if differ else "add set, aggregate, site or client"
    return (
        f"two values for {place} and seed {seed} (runs {rows.runs[a].id} and {rows.runs[b].id}): {why}; "
        f"name it in rows, columns or where"
    )


def _points(
    rows: Rows,
    level: Level,
    metrics: Sequence[str],
    dimensions: Sequence[str],
    where: Mapping[str, Any],
    at: Literal["last", "all"] | int,
) -> list[tuple[int, tuple[str, str, int], list[float]]]:
    """(run, (set, aggregate or name, round), one value per metric), folds put together."""
    named = level in NAMED
    table = rows.clients if named else rows.rounds
    if table.num_rows == 0:
        return []
    label = "name" if named else "aggregate"
    sets, set_names = _codes(table, "set")
    labels, label_names = _codes(table, label)
    run, rnd, replica = (table.column(c).to_numpy().astype(np.int64) for c in ("run", "round", "replica"))

    keep = np.ones(table.num_rows, np.bool_)
    if "set" in where or "set" not in dimensions:
        keep &= _isin(sets, set_names, where.get("set", "test"))
    if named:
        groups, group_names = _codes(table, "group")
        keep &= _isin(groups, group_names, level)
        if level in where:
            keep &= _isin(labels, label_names, where[level])
    elif "aggregate" in where or "aggregate" not in dimensions:
        keep &= _isin(labels, label_names, where.get("aggregate", level))
    if isinstance(at, int):
        keep &= rnd == at
    if at == "all":
        # A curve is drawn from one kind of row: all folds together if each round has them.
        together = keep & (replica == ALL_FOLDS)
        alone = keep & (replica != ALL_FOLDS)
        keep = together if np.unique(rnd[together]).size >= np.unique(rnd[alone]).size else alone

    index = np.flatnonzero(keep)
    group = (run * len(set_names) + sets) * len(label_names) + labels
    index = index[np.lexsort((rnd[index], replica[index], group[index]))]
    if at != "all":  # the last round of each replica
        g, r = group[index], replica[index]
        index = index[np.append((g[1:] != g[:-1]) | (r[1:] != r[:-1]), True)] if index.size else index
    else:
        index = index[np.lexsort((replica[index], rnd[index], group[index]))]
    if not index.size:
        return []
    g, r, t = group[index], replica[index], rnd[index]
    new = g[1:] != g[:-1]
    if at == "all":
        new |= t[1:] != t[:-1]
    starts = np.flatnonzero(np.append(True, new))
    counts = np.diff(np.append(starts, index.size))
    first = index[starts]
    values = []
    for metric in metrics:
        x = _column(rows, table, metric, run)[index]
        mean = np.add.reduceat(x, starts) / counts
        values.append(np.where(r[starts] == ALL_FOLDS, x[starts], mean))
    whole = np.ones(starts.size, np.bool_)
    if at == "all":  # a round that some folds did not reach is not comparable with the others
        most: dict[int, int] = {}
        for group_id, count in zip(g[starts].tolist(), counts.tolist(), strict=True):
            most[group_id] = max(most.get(group_id, 0), count)
        whole = counts == np.asarray([most[group_id] for group_id in g[starts].tolist()])
    last = np.maximum.reduceat(t, starts)
    stacked = np.stack(values, axis=1)
    return [
        (
            int(run[first[k]]),
            (set_names[sets[first[k]]], label_names[labels[first[k]]], int(last[k])),
            stacked[k].tolist(),
        )
        for k in np.flatnonzero(whole)
    ]


def _codes(table: pa.Table, column: str) -> tuple[NDArray[np.int64], list[str]]:
    encoded = table.column(column).combine_chunks().dictionary_encode()
    if isinstance(encoded, pa.ChunkedArray):
        encoded = encoded.combine_chunks()
    return encoded.indices.to_numpy().astype(np.int64), encoded.dictionary.to_pylist()


def _isin(codes: NDArray[np.int64], names: list[str], wanted: Any) -> NDArray[np.bool_]:
    kept = np.asarray([_among(name, wanted) for name in names], np.bool_)
    result: NDArray[np.bool_] = kept[codes]
    return result


def _entry(manifest: Mapping[str, Any], path: str) -> Any:
    """An entry by its path, such as heterogeneity.label_js."""
    head, _, rest = path.partition(".")
    found = manifest.get(head)
    return _entry(found, rest) if rest and isinstance(found, Mapping) else None if rest else found


def _column(rows: Rows, table: pa.Table, metric: str, run: NDArray[np.int64]) -> NDArray[np.float64]:
    prefix, _, key = metric.partition(".")
    if prefix == "manifest":
        by_run = [_entry(r.manifest, key) for r in rows.runs]
        numeric = [float(v) if isinstance(v, int | float) else np.nan for v in by_run]
        require(
            not all(np.isnan(numeric)),
            f"no manifest has a number {key!r}; {nearest(key, rows.runs[0].manifest)}",
        )
        return np.asarray(numeric, np.float64)[run]
    known = rows.columns["clients" if table is rows.clients else "rounds"]
    require(metric in known, f"unknown metric {metric!r}; {nearest(metric, known)}")
    values: NDArray[np.float64] = table.column(metric).cast(pa.float64()).to_numpy()
    return values
