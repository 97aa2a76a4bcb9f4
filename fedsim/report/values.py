"""Values in the rows of runs, by label and seed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from fedsim.base import RequestError, nearest, require
from fedsim.report.labels import among, options
from fedsim.report.rows import Key, Rows, Value
from fedsim.report.spec import INSIDE, NAMED, Level
from fedsim.store.columns import floats, numbers

ALL_FOLDS = -1  # the replica that holds every fold's out-of-fold predictions together

Ints = NDArray[np.int64]


class _Points(NamedTuple):
    """A value of each metric for a run, a set, an aggregate or name, and a round.

    run, rounds: i64[p]; sets, labels: codes, i64[p], and what they stand for; values: f64[p] of each metric.
    """

    run: Ints
    sets: tuple[Ints, Sequence[str]]
    labels: tuple[Ints, Sequence[str]]
    rounds: Ints
    values: Sequence[NDArray[np.float64]]

    @staticmethod
    def none() -> _Points:
        empty = np.zeros(0, np.int64)
        return _Points(empty, (empty, ()), (empty, ()), empty, ())


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
    done = np.flatnonzero(np.asarray([run.done for run in rows.runs], np.bool_))
    kept = rows.labels.chosen(where, done)
    # Without runs there is nothing to say of a metric that other tasks do not have.
    points = _points(rows, level, metrics, dimensions, where, at, kept) if kept.size else _Points.none()
    codes = {d: rows.labels.codes(d, points.run) for d in dimensions if d not in INSIDE} | {
        "set": points.sets,
        label: points.labels,
        "round": (points.rounds, range(int(points.rounds.max(initial=0)) + 1)),
    }
    known = {*codes, "metric"}
    for dimension in dimensions if points.run.size else ():
        require(dimension in known, f"rows from {level} have no {dimension}; use from: {dimension}")
    seeds = rows.labels.of("seed", points.run)
    found: dict[Key, dict[Value, float]] = {}
    for places in _groups([codes[d][0] for d in dimensions if d != "metric"], points.run.size):
        first = places[0]
        named = {d: of[first_codes[first]] for d, (first_codes, of) in codes.items()}
        of_group = [seeds[k] for k in places.tolist()]
        for metric, values in zip(metrics, points.values, strict=True):
            key: Key = tuple(metric if d == "metric" else named[d] for d in dimensions)
            cell = found.setdefault(key, {})
            held = len(cell)
            cell.update(zip(of_group, values[places].tolist(), strict=True))
            if len(cell) < held + len(of_group):
                raise RequestError(_twice(rows, dimensions, key, of_group, points.run[places].tolist()))
    return found


def _groups(codes: Sequence[Ints], size: int) -> list[Ints]:
    """Positions of the points that have the same codes, together; groups in order of their first point."""
    if not size:
        return []
    group = np.zeros(size, np.int64)
    for column in codes:
        _, group = np.unique(group * (column.max() + 1) + column, return_inverse=True)
    order = np.argsort(group, kind="stable")
    starts = np.flatnonzero(np.diff(group[order])) + 1
    return sorted(np.split(order, starts), key=lambda places: int(places[0]))


def _twice(
    rows: Rows, dimensions: Sequence[str], key: Key, seeds: Sequence[Value], runs: Sequence[int]
) -> str:
    place = ", ".join(f"{d}={v}" for d, v in zip(dimensions, key, strict=True))
    again = next((i for i, seed in enumerate(seeds) if seed in seeds[:i]), 0)
    seed, a, b = seeds[again], runs[seeds.index(seeds[again])], runs[again]
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
    kept: Ints,
) -> _Points:
    """Those of the runs at `kept`, folds put together."""
    named = level in NAMED
    table = rows.clients if named else rows.rounds
    if table.num_rows == 0:
        return _Points.none()
    label = "name" if named else "aggregate"
    sets, set_names = _codes(table, "set")
    labels, label_names = _codes(table, label)
    run, rnd, replica = (numbers(table.column(c)).astype(np.int64) for c in ("run", "round", "replica"))

    keep = np.isin(run, kept)
    if "set" in where or "set" not in dimensions:
        keep &= _isin(sets, set_names, where.get("set", "test"))
    if named:
        groups, group_names = _codes(table, "group")
        of_level = _isin(groups, group_names, level)
        keep &= of_level
        if level in where:
            known = [label_names[i] for i in np.unique(labels[of_level])]
            _require_names(rows, level, where[level], known)
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
        return _Points.none()
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
    last, first = np.maximum.reduceat(t, starts)[whole], first[whole]
    return _Points(
        run[first],
        (sets[first], set_names),
        (labels[first], label_names),
        last,
        [x[whole] for x in values],
    )


def _require_names(rows: Rows, level: Level, wanted: Any, known: Sequence[str]) -> None:
    """Raises RequestError for a name that no run has, once all are done: another may have it till then."""
    lost = [name for name in options(wanted) if not any(among(one, name) for one in known)]
    if lost and not rows.missing and all(run.done for run in rows.runs):
        raise RequestError(f"where: no run has {level}={lost[0]}; {nearest(str(lost[0]), known)}")


def _codes(table: pa.Table, column: str) -> tuple[Ints, list[str]]:
    encoded = table.column(column).combine_chunks().dictionary_encode()
    return numbers(encoded.indices).astype(np.int64), encoded.dictionary.to_pylist()


def _isin(codes: Ints, names: list[str], wanted: Any) -> NDArray[np.bool_]:
    kept = np.asarray([among(name, wanted) for name in names], np.bool_)
    result: NDArray[np.bool_] = kept[codes]
    return result


def _entry(manifest: Mapping[str, Any], path: str) -> Any:
    """An entry by its path, such as heterogeneity.label_js."""
    head, _, rest = path.partition(".")
    found = manifest.get(head)
    return _entry(found, rest) if rest and isinstance(found, Mapping) else None if rest else found


def _column(rows: Rows, table: pa.Table, metric: str, run: Ints) -> NDArray[np.float64]:
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
    return floats(table.column(metric))
