"""Rows of finished runs, read once, and the values in them by label and seed."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import yaml
from numpy.typing import NDArray

from fedsim.base import RequestError, nearest, require
from fedsim.report.spec import INSIDE, Level
from fedsim.store import gathered

ALL_FOLDS = -1  # the replica that holds every fold's out-of-fold predictions together

_KEYS = frozenset(("run", "round", "replica", "set", "aggregate", "group", "name"))

Value = str | int | float | bool | None
Key = tuple[Value, ...]


class NoRuns(RequestError):
    """No run that was asked for has what a table or figure is to show."""


@dataclass(frozen=True)
class Run:
    """A run in the store: its manifest, and its options where a table asks for them."""

    id: str
    folder: Path
    manifest: dict[str, Any]

    @property
    def done(self) -> bool:
        return bool(self.manifest.get("status") == "done")

    @property
    def diverged(self) -> bool:
        return bool(self.manifest.get("status") == "diverged")

    @property
    def cell(self) -> dict[str, Any]:
        return dict(self.manifest.get("cell") or {})

    @property
    def seed(self) -> Value:
        return self.label("seed")

    @cached_property
    def config(self) -> dict[str, Any]:
        return dict(yaml.load((self.folder / "config.yaml").read_text("utf-8"), yaml.CSafeLoader) or {})

    def label(self, dimension: str) -> Value:
        """The run's value of a dimension: its label in the sweep, else the option at that path.

        Raises:
          RequestError: it has neither.
        """
        if dimension in self.cell:
            return plain(self.cell[dimension])
        node: Any = self.config
        for part in dimension.split("."):
            if not isinstance(node, Mapping) or part not in node:
                known = {*self.cell, *self.config, *INSIDE}
                raise RequestError(f"unknown dimension {dimension!r}; {nearest(dimension, known)}")
            node = node[part]
        return plain(node)


def plain(value: Any) -> Value:
    if isinstance(value, Mapping) and "name" in value:
        value = value["name"]
    return value if isinstance(value, str | int | float | bool | None) else json.dumps(value, sort_keys=True)


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
      runs: ids, or ids with the labels of their cells: with labels, cells of runs that are not in
        the store are known, too.
      metrics: columns to read; None reads all.
      levels: what will be asked of the rows; without `site` and `client` clients.parquet is left alone.

    Raises:
      RequestError: none of the runs is in the store, or a file of one of them is damaged.
    """
    wanted = None if metrics is None else set(metrics)
    groups = set(levels) & {"site", "client"}
    overall = bool(set(levels) - groups)
    found: list[Run] = []
    missing: list[str] = []
    done: dict[str, int] = {}
    kinds = ["rounds"] * overall + ["clients"] * bool(groups)
    for run in runs:
        folder = store / run
        try:
            manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
        except FileNotFoundError:
            missing.append(run)
            continue
        if manifest.get("status") == "done":
            done[run] = len(found)
        found.append(Run(run, folder, manifest))
    require(found, f"none of the {len(missing)} runs asked for is in {store}; run the sweep first")
    labels = tuple(dict(cell) for cell in runs.values()) if isinstance(runs, Mapping) else None
    tables = {kind: pa.table({"run": []}) for kind in ("rounds", "clients")}
    known: dict[str, frozenset[str]] = {kind: frozenset() for kind in tables}
    for kind in kinds:
        table, there = gathered.read(store, kind, list(done), _part)
        known[kind] = frozenset(there) - _KEYS
        metrics_read = known[kind] if wanted is None else known[kind] & wanted
        at = np.array(list(done.values()), np.int64)[table["run"].to_numpy()]
        table = table.select([c for c in there if c in _KEYS | metrics_read])
        tables[kind] = table.append_column("run", pa.array(at))
    return Rows(tuple(found), labels, tuple(missing), **tables, columns=known)


def _part(path: Path) -> pa.Table:
    try:
        # In one piece: small files are not worth threads that read ahead.
        with pq.ParquetFile(pa.BufferReader(path.read_bytes()), pre_buffer=False) as file:
            table = file.read(use_threads=False)
    except (FileNotFoundError, pa.ArrowInvalid):
        raise RequestError(
            f"{path} is absent or damaged though its run is done; remove {path.parent} and sweep again"
        ) from None
    # Some writers store text as dictionaries, of which each file has its own.
    for i, column in enumerate(table.schema):
        if pa.types.is_dictionary(column.type):
            table = table.set_column(i, column.name, table.column(i).cast(pa.string()))
    return table


# --- values ----------------------------------------------------------------------------------


def chosen(run: Run, where: Mapping[str, Any]) -> bool:
    """Whether the labels of `run` are among those that `where` keeps."""
    return all(_among(run.label(d), wanted) for d, wanted in where.items() if d not in INSIDE)


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
    label = level if level in ("site", "client") else "aggregate"
    points = _points(rows, level, metrics, dimensions, where, at)
    outside = [d for d in dimensions if d not in INSIDE]
    kept = {i: [r.label(d) for d in outside] for i, r in enumerate(rows.runs) if r.done and chosen(r, where)}
    found: dict[Key, dict[Value, float]] = {}
    owner: dict[tuple[Key, Value], int] = {}
    for i, inside, values in points:
        if i not in kept:
            continue
        own: dict[str, Value] = dict(zip(outside, kept[i], strict=True))
        own |= {"set": inside[0], label: inside[1], "round": inside[2]}
        for metric, value in zip(metrics, values, strict=True):
            own["metric"] = metric
            try:
                key = tuple(own[d] for d in dimensions)
            except KeyError as error:
                raise RequestError(
                    f"rows from {level} have no {error.args[0]}; use from: {error.args[0]}"
                ) from None
            seed = rows.runs[i].seed
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
    named = level in ("site", "client")
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
