"""Which seeds a table's cells should have, which runs are behind them, and what became of the rest."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from fedsim.report.intervals import Interval, mean_interval, stratified
from fedsim.report.labels import Labels
from fedsim.report.rows import Key, Rows, Value
from fedsim.report.spec import INSIDE, TableSpec

BETWEEN = "/"  # a stratum and a seed, where cells have strata


def merge(found: Mapping[Key, Mapping[Value, float]], strata: int) -> dict[Key, dict[Value, float]]:
    """The last `strata` dimensions of each key become part of the seed: `natural/0`."""
    if not strata:
        return {key: dict(values) for key, values in found.items()}
    merged: dict[Key, dict[Value, float]] = {}
    for key, values in found.items():
        cell = merged.setdefault(key[:-strata], {})
        cell |= {replicate(key[-strata:], seed): value for seed, value in values.items()}
    return merged


def replicate(stratum: Sequence[Value], seed: Value) -> Value:
    """What tells the runs of a cell apart: the seed, or with strata `natural/0`."""
    return BETWEEN.join(map(str, [*stratum, seed])) if stratum else seed


def interval(values: Mapping[Value, float], spec: TableSpec) -> Interval:
    """Mean and ends over the seeds of a cell, each stratum with equal weight; no ends where these are over
    patients."""
    if spec.interval == "patients" or spec.interval == "both":
        return math.fsum(values.values()) / len(values), None, None
    if not spec.strata:
        return mean_interval([values[s] for s in sorted(values, key=str)], spec.interval)
    strata: dict[str, list[float]] = {}
    for seed in sorted(values, key=str):
        strata.setdefault(str(seed).rpartition(BETWEEN)[0], []).append(values[seed])
    return stratified(list(strata.values()))


class Seeds:
    """Which seeds each cell should have, and what became of those without a value.

    Runs that failed or are not in the store count as missing. With the plan's labels each cell's
    own seeds are known; without, each cell is held to all seeds of the table.
    """

    def __init__(self, rows: Rows, spec: TableSpec, dimensions: Sequence[str]) -> None:
        self.dimensions = dimensions
        self.at = [i for i, d in enumerate(dimensions) if d not in INSIDE]
        outside = [dimensions[i] for i in self.at]
        self.planned: dict[Key, list[Value]] | None = None
        self.diverged: dict[Key, set[Value]] = {}
        self.runs: dict[Key, dict[Value, str]] = {}
        self.lost: dict[Key, None] = {}
        seen: dict[Value, None] = {}
        at = rows.labels.chosen(spec.where)
        for i, key, seed in zip(at.tolist(), *_called(rows.labels, spec, outside, at), strict=True):
            run = rows.runs[i]
            seen[seed] = None
            if run.done:
                self.runs.setdefault(key, {})[seed] = run.id
            else:
                self.lost[key] = None
            if run.diverged:
                self.diverged.setdefault(key, set()).add(seed)
        self.seen = list(seen)
        if rows.planned is not None and rows.plan is not None:
            known = {**spec.where, **dict.fromkeys([*outside, *spec.strata, "seed"])}.keys() - set(INSIDE)
            if all(known <= cell.keys() for cell in rows.planned):
                self.planned = {}
                at = rows.plan.chosen(spec.where)
                for key, seed in zip(*_called(rows.plan, spec, outside, at), strict=True):
                    self.planned.setdefault(key, []).append(seed)

    def lost_keys(self, metrics: Sequence[str]) -> list[Key]:
        """Cells of the plan, or of unfinished runs, where these alone tell the cell's whole key."""
        if any(d in INSIDE and d != "metric" for d in self.dimensions):
            return []
        made = []
        for known in [*(self.planned or {}), *self.lost]:
            for metric in metrics:
                rest = iter(known)
                made.append(tuple(metric if d == "metric" else next(rest) for d in self.dimensions))
        return made

    def behind(self, key: Key) -> dict[Value, str]:
        """{seed: id} of the finished runs of a cell."""
        return self.runs.get(self._outside(key), {})

    def diverged_at(self, key: Key) -> set[Value]:
        return self.diverged.get(self._outside(key), set())

    def wanted(self, key: Key) -> list[Value]:
        return self.seen if self.planned is None else self.planned.get(self._outside(key), [])

    def _outside(self, key: Key) -> Key:
        return tuple(key[i] for i in self.at)


def _called(
    labels: Labels, spec: TableSpec, outside: Sequence[str], at: NDArray[np.int64]
) -> tuple[list[Key], list[Value]]:
    """The cell's labels and the seed, with its stratum, of each run at these positions."""
    seeds = labels.of("seed", at)
    if spec.strata:
        seeds = [replicate(s, seed) for s, seed in zip(labels.keys(spec.strata, at), seeds, strict=True)]
    return labels.keys(outside, at), seeds
