"""Intervals over patients: stored predictions are drawn again, models stay what they are.

Source: Efron, Tibshirani, "An Introduction to the Bootstrap", 1993, chapters 8 (samples of several parts)
and 13 (percentile intervals). Patients are drawn within their clients, with all their rows; every run of a
table is judged on the same draws, so that differences between methods are paired by patient.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from fedsim.base import require
from fedsim.metrics.draws import Ranked
from fedsim.report import bca, paired
from fedsim.report.intervals import DRAWS, Ends, Interval, described
from fedsim.report.paired import Difference, holm
from fedsim.report.rows import Key, Rows, Value
from fedsim.report.seeds import Seeds
from fedsim.report.spec import Level, TableSpec
from fedsim.report.stored import Stored, load

Floats = NDArray[np.float64]

_KEY = 40_000_000  # of the draws: every table draws the same ones
_BATCH = 20_000_000  # weights in memory at once
_DEFINED = 0.9  # share of the draws on which a metric must be defined


def note(method: Literal["patients", "both"], ends: Ends = "percentile") -> str:
    """What `compared` has found, in a sentence or two."""
    return (
        f"Differences of pairs with the same seed: mean, 95 % interval ({described(method, ends)}, paired by "
        "patient), and p, twice the smaller share of resamples on either side of 0, corrected by Holm within "
        "each metric. Models stay what they are."
    )


@dataclass(frozen=True)
class Drawn:
    """by_seed: f64[draws, S], a cell's metric for each of its seeds on each draw, nan where undefined; both:
    whether seeds are drawn, too; left: f64[m, S], the metric without each group of patients, and strata:
    i64[m], whose they are, where ends are corrected by these."""

    seeds: tuple[Value, ...]
    by_seed: Floats
    both: bool
    left: Floats | None = None
    strata: NDArray[np.int64] | None = None

    def mean(self, seeds: Sequence[Value]) -> Floats:
        """Over `seeds`; where seeds are drawn too, over as many drawn ones."""
        chosen = self.by_seed[:, [self.seeds.index(s) for s in seeds]]
        if self.both:
            rng = np.random.Generator(np.random.Philox(key=[_KEY, len(seeds)]))
            at = rng.integers(0, len(seeds), chosen.shape, dtype=np.int64)
            chosen = np.take_along_axis(chosen, at, axis=1)
        found: Floats = chosen.mean(axis=1)
        return found

    def without(self, seeds: Sequence[Value]) -> Floats | None:
        """Over `seeds`, without each group of patients."""
        if self.left is None:
            return None
        found: Floats = self.left[:, [self.seeds.index(s) for s in seeds]].mean(axis=1)
        return found

    def interval(self, mean: float, seeds: Sequence[Value]) -> Interval:
        """Around `mean`, the metric's over `seeds`."""
        return interval(mean, self.mean(seeds), self.without(seeds), self.strata)


def drawn(
    rows: Rows, spec: TableSpec, dimensions: Sequence[str], cells: Mapping[Key, Mapping[Value, str]]
) -> dict[Key, Drawn]:
    """What each cell's metric is on every draw.

    Args:
      cells: {cell: {seed: id of the run}} where the metric is defined.

    Raises:
      RequestError: a run kept no predictions, or a metric does not follow from them.
    """
    runs = {run.id: run for run in rows.runs}
    wanted: dict[tuple[str, str, str | None], dict[str, None]] = {}
    places: dict[Key, list[tuple[str, str, str | None]]] = {}
    for key, by_seed in cells.items():
        at = dict(zip(dimensions, map(str, key), strict=True))
        which = at.get("set", spec.where.get("set", "test"))
        require(
            isinstance(which, str), f"interval={spec.interval} is of one set, got {which}; name one in where"
        )
        client = at.get("client") if spec.level == "client" else None
        require(
            spec.level != "client" or client is not None,
            f"interval={spec.interval} from clients needs client among rows or columns",
        )
        places[key] = [(run, str(which), client) for run in by_seed.values()]
        for place in places[key]:
            wanted.setdefault(place, {})[at["metric"]] = None
    held = {place: load(runs[place[0]], place[1]) for place in wanted}
    held = _apart(held, {run.id: run.data_seed for run in rows.runs})
    held = {p: s if p[2] is None else s.of(s.client == p[2]) for p, s in held.items()}
    units, stratum = _units(list(held.values()))
    at_unit = {place: np.searchsorted(units, s.unit) for place, s in held.items()}
    found = {place: {m: np.empty(DRAWS, np.float64) for m in names} for place, names in wanted.items()}
    most = max((len(s.unit) for s in held.values()), default=1)
    batch = max(1, min(DRAWS, _BATCH // max(most, len(units), 1)))

    def fill(into: dict[tuple[str, str, str | None], dict[str, Floats]], drawn: Iterator[Floats]) -> None:
        first = 0
        for counts in drawn:
            for place, stored in held.items():
                w = counts[:, at_unit[place]]
                if stored.weight is not None:
                    w = w * stored.weight
                for name, values in evaluate(stored, w, tuple(wanted[place])).items():
                    into[place][name][first : first + len(counts)] = values
            first += len(counts)

    fill(found, _resamples(stratum, batch))
    left: dict[tuple[str, str, str | None], dict[str, Floats]] = {}
    strata = None
    if spec.ends == "bca":
        group = bca.groups(stratum)
        strata = stratum[np.unique(group, return_index=True)[1]]
        left = {p: {m: np.empty(len(strata), np.float64) for m in names} for p, names in wanted.items()}
        fill(left, _without(group, batch))
    metric = dimensions.index("metric")
    return {
        key: Drawn(
            tuple(cells[key]),
            np.stack([found[place][str(key[metric])] for place in places[key]], axis=1),
            spec.interval == "both",
            np.stack([left[p][str(key[metric])] for p in places[key]], axis=1) if left else None,
            strata,
        )
        for key in cells
        if places[key]
    }


def interval(
    mean: float, values: Floats, left: Floats | None = None, strata: NDArray[np.int64] | None = None
) -> Interval:
    """The percentile interval of draws around `mean`, or, with what is `left` without each group of patients,
    the corrected one; no ends where the metric is undefined on many, or without some group."""
    defined = values[~np.isnan(values)]
    if len(defined) < _DEFINED * len(values):
        return mean, None, None
    if left is not None and strata is not None:
        # A stratum that is not judged moves nothing, and has no say.
        low, high = (np.nan, np.nan) if np.isnan(left).any() else bca.ends(mean, defined, left, strata)
        return (mean, None, None) if np.isnan(low) else (mean, float(low), float(high))
    low, high = np.quantile(defined, [0.025, 0.975])
    return mean, float(low), float(high)


def differences(
    made: Mapping[Key, Difference], base: Mapping[Key, Key], draws: Mapping[Key, Drawn]
) -> dict[Key, Difference]:
    """The same differences with intervals and p over patients.

    p is twice the smaller share of draws on either side of 0, each side with one draw more.

    Args:
      base: the cell that each cell is held against.
    """
    found: dict[Key, Difference] = {}
    for key, difference in made.items():
        one, other = draws[key], draws[base[key]]
        common = [s for s in one.seeds if s in other.seeds]
        values, (mine, theirs) = (
            one.mean(common) - other.mean(common),
            (x.without(common) for x in (one, other)),
        )
        left = None if mine is None or theirs is None else mine - theirs
        _, low, high = interval(difference.mean, values, left, one.strata)
        sides = [(1 + int(side.sum())) / (1 + len(values)) for side in (values <= 0, values >= 0)]
        p = None if low is None else min(1.0, 2 * min(sides))
        found[key] = replace(difference, low=low, high=high, p=p, corrected=None)
    return dict(zip(found, holm(list(found.values())), strict=True))


def _apart(
    held: Mapping[tuple[str, str, str | None], Stored], drawn: Mapping[str, Value]
) -> dict[tuple[str, str, str | None], Stored]:
    """Units of data that were drawn apart are told apart, though they have the same numbers.

    Args:
      drawn: {id of the run: its data's seed}.
    """
    data = {seed: at for at, seed in enumerate(dict.fromkeys(drawn[run] for run, _, _ in held))}
    width = 1 + max((int(s.unit.max(initial=0)) for s in held.values()), default=0)
    return {place: replace(s, unit=s.unit + width * data[drawn[place[0]]]) for place, s in held.items()}


def compared(
    rows: Rows,
    axis: str,
    baseline: str,
    metrics: Sequence[str],
    level: Level = "pooled",
    method: Literal["patients", "both"] = "patients",
    ends: Ends = "percentile",
) -> list[Difference]:
    """`paired.differences` with intervals and p over patients, or over patients and seeds.

    Raises:
      RequestError: as `paired.differences` and `drawn` do; or predictions are not of this level.
    """
    require(
        level in ("pooled", "client"),
        f"intervals over {method} draw stored predictions again, which are pooled or by client, got "
        f"{level}; compare pooled or client",
    )
    pairs = paired.against(rows, axis, baseline, metrics, level)
    made = pairs.differences()
    spec = TableSpec(
        name="compare",
        title="compare",
        rows=tuple(d for d in pairs.dimensions if d != "metric"),
        metrics=tuple(metrics),
        level=level,
        interval=method,
        ends=ends,
    )
    base = {key: pairs.base[key] for key in made}
    seeds = Seeds(rows, spec, pairs.dimensions)
    cells = {
        key: {seed: seeds.behind(key)[seed] for seed, value in pairs.values[key].items() if value == value}
        for key in dict.fromkeys([*base, *base.values()])
    }
    return list(differences(made, base, drawn(rows, spec, pairs.dimensions, cells)).values())


def _units(held: Sequence[Stored]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """(units, rising; the stratum of each, rising from 0): the unit's client, or one for all where runs have
    units at different clients."""
    unit = np.concatenate([s.unit for s in held]) if held else np.zeros(0, np.int64)
    client = np.concatenate([s.client for s in held]) if held else np.zeros(0, np.str_)
    code = np.unique(client, return_inverse=True)[1]
    pairs = np.unique(np.stack([unit, code], axis=1), axis=0)
    units = np.unique(pairs[:, 0])
    return units, pairs[:, 1] if len(pairs) == len(units) else np.zeros(len(units), np.int64)


def _resamples(stratum: NDArray[np.int64], batch: int) -> Iterator[NDArray[np.float64]]:
    """f64[batch, units]: how often each unit is drawn, as many draws in each stratum as it has units."""
    rng = np.random.Generator(np.random.Philox(key=_KEY))
    order = np.argsort(stratum, kind="stable")
    sizes = np.bincount(stratum)[stratum[order]] if len(stratum) else stratum
    starts = np.searchsorted(stratum[order], stratum[order])
    for first in range(0, DRAWS, batch):
        counts = np.empty((min(batch, DRAWS - first), len(stratum)), np.float64)
        for row in counts:
            at = starts + (rng.random(len(stratum)) * sizes).astype(np.int64)
            row[order] = np.bincount(at, minlength=len(stratum))
        yield counts


def _without(group: NDArray[np.int64], batch: int) -> Iterator[Floats]:
    """f64[batch, units]: 1, and 0 for the units of one group after the other."""
    count = int(group.max(initial=-1)) + 1
    for first in range(0, count, batch):
        yield (group != np.arange(first, min(first + batch, count))[:, None]).astype(np.float64)


# --- metrics of many draws at once ----------------------------------------------------------------


def evaluate(stored: Stored, w: Floats, names: tuple[str, ...]) -> dict[str, Floats]:
    """f64[draws] of each metric, nan where undefined. w: f64[draws, n], weights of each draw.

    Raises:
      RequestError: a metric that does not follow from stored predictions.
    """
    found: dict[str, Floats] = {}
    if stored.kind == "binary":
        found = Ranked(stored.label, stored.score).evaluate(w, names)
    rest = tuple(name for name in names if name not in found)
    if rest:
        known = stored.evaluate(np.ones(len(stored.label)), rest)
        lacking = [name for name in rest if known[name] is None]
        require(
            not lacking,
            f"{', '.join(lacking)} does not follow from stored predictions, or is undefined; use interval: t",
        )
        many = [stored.evaluate(row, rest) for row in w]
        for name in rest:
            found[name] = np.array([np.nan if m[name] is None else m[name] for m in many], np.float64)
    return found
