"""What stored runs show: how many of the patients that each way to train would flag have the event.

Positive predictive values are computed from stored predictions, so that patients can be drawn again. Equal
scores are in random order: the value is the expected one.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from fedsim.base import RequestError, nearest, require
from fedsim.report import stored
from fedsim.report.decision.spec import Arm, Decision
from fedsim.report.rows import Rows, Run, Value

Floats = NDArray[np.float64]
RESAMPLES = 2_000
FEWEST = 10  # rows of a region, below which nothing is said of it
_ENTRIES = 4_000_000  # of resamples times patients at once
_KEY = 50_000_000  # of the resamples: every page draws the same ones


@dataclass(frozen=True)
class Judged:
    """The tested rows of one region in one run. row, label 0 or 1, score: [n]; unit: whose each row is, the
    patient where the data name any, else the row [n]."""

    row: NDArray[np.int64]
    unit: NDArray[np.int64]
    label: Floats
    score: Floats


@dataclass(frozen=True)
class Shown:
    """What the runs of an arm show. runs: {seed: run}; tested: {region: {seed: its rows}}."""

    arm: Arm
    runs: dict[Value, Run]
    tested: dict[str, dict[Value, Judged]]


@dataclass(frozen=True)
class Difference:
    """An arm's PPV in a region, beside the baseline's on the same seeds.

    value, baseline: means over common seeds; mean: their difference; draws: f64[RESAMPLES], differences of
    resampled seeds and patients; same_patients: whether all seeds tested the same ones.
    """

    seeds: int
    value: float
    baseline: float
    mean: float
    draws: Floats
    same_patients: bool


# --- runs ------------------------------------------------------------------------------------


def show(rows: Rows, decision: Decision, arm: Arm, again: str) -> Shown | None:
    """The finished runs of an arm, and what they tested; None if the plan has none or none is finished.

    Args:
      again: the command that makes missing runs.

    Raises:
      RequestError: two runs with one seed, a region that was not tested, or predictions that were not kept.
    """
    where = {**decision.where, **arm.where}
    runs: dict[Value, Run] = {}
    for run in rows.chosen(where):
        if not run.done:
            continue
        if run.seed in runs:
            differ = [d for d in run.cell if run.cell.get(d) != runs[run.seed].cell.get(d)]
            raise RequestError(
                f"two runs of {arm.name} with seed {run.seed} ({runs[run.seed].id} and {run.id}) differ in "
                f"{', '.join(differ)}; name it in where"
            )
        runs[run.seed] = run
    if not runs:
        return None
    sites = [region.site for region in decision.regions]
    tested: dict[str, dict[Value, Judged]] = {site: {} for site in sites}
    for seed, run in runs.items():
        found = predictions(run, again)
        for site in sites:
            require(
                site in found,
                f"run {run.id} of {arm.name} tested no patient of {site!r}; {nearest(site, found)}",
            )
            tested[site][seed] = found[site]
    return Shown(arm, runs, tested)


def needed(rows: Rows, decision: Decision, arm: Arm, again: str) -> Shown:
    """As `show`, for the baseline and the choice. Raises RequestError where no run is finished, too."""
    found = show(rows, decision, arm, again)
    if found is None:
        where = ", ".join(f"{k}={v}" for k, v in {**decision.where, **arm.where}.items())
        raise RequestError(f"no finished run of {arm.name} ({where}); run: {again}")
    return found


def predictions(run: Run, again: str) -> dict[str, Judged]:
    """{region: test rows at the last round of each fold}.

    Raises:
      RequestError: none are kept, they are not of a binary task, or there are too few, or not finite.
    """
    table = stored.read(run, f"run it with evaluate.predictions=true, as in: {again}")
    names = table.column_names
    binary = "label" in names and pa.types.is_integer(table["label"].type) and "time" not in names
    require(
        binary and pa.types.is_floating(table["score"].type),
        f"run {run.id} predicts no probability of one event; a decision needs a task with two classes",
    )
    require(
        "weight" not in names, f"run {run.id} has weighted rows; a decision takes every row as one patient"
    )
    rounds, replica = (table[c].to_numpy().astype(np.int64) for c in ("round", "replica"))
    last = {int(r): rounds[replica == r].max() for r in np.unique(replica)}
    kept = rounds == np.array([last[int(r)] for r in replica])
    kept &= np.asarray(table["set"].to_pylist()) == "test"
    clients = np.asarray(table["client"].to_pylist())
    row, label = table["row"].to_numpy().astype(np.int64), table["label"].to_numpy().astype(np.float64)
    unit = table["patient"].to_numpy().astype(np.int64) if "patient" in names else row
    score = table["score"].to_numpy().astype(np.float64)
    found = {}
    for name in np.unique(clients[kept]).tolist():
        at = np.flatnonzero(kept & (clients == name))
        require(
            at.size >= FEWEST,
            f"run {run.id} tested {at.size} patients of {name}, and {FEWEST} are the fewest that say "
            "anything; raise split.test, or use folds",
        )
        require(
            np.isfinite(score[at]).all(),
            f"run {run.id} has scores of {name} that are not finite; leave it out by where",
        )
        found[name] = Judged(row[at], unit[at], label[at], score[at])
    return found


# --- positive predictive value ---------------------------------------------------------------


def ppv(tested: Judged, capacity: float) -> float:
    """Share of positives among the share `capacity` of rows with the highest scores."""
    return float(_Ranked(tested).ppv(np.ones((1, len(tested.row)), np.float64), capacity)[0])


class _Ranked:
    """Rows by falling score, so that many weightings of them are judged together."""

    def __init__(self, tested: Judged) -> None:
        self.order = np.argsort(-tested.score, kind="stable")
        score = tested.score[self.order]
        self.label = tested.label[self.order]
        # Where each run of equal scores ends: within one, rows count by their share.
        self.ends = np.append(np.flatnonzero(score[1:] != score[:-1]), score.size - 1)

    def ppv(self, weights: NDArray[Any], capacity: float) -> Floats:
        """f64[b] of weights [b, n], one per row as given; no line all 0."""
        acted = capacity * weights.sum(axis=1, dtype=np.float64)
        # The rows beyond those that are acted on need no look: try some more than the capacity, then all.
        expected = capacity * self.label.size
        for most in (int(expected + 8 * math.sqrt(expected) + 8), self.label.size):
            first = self.ends[: np.searchsorted(self.ends, most) + 1]
            w = weights[:, self.order[: first[-1] + 1]].astype(np.float64)
            above = _at(np.cumsum(w, axis=1), first)
            if (above[:, -1] >= acted).all() or first.size == self.ends.size:
                break
        hits = _at(np.cumsum(w * self.label[: first[-1] + 1], axis=1), first)
        edge = np.maximum(np.argmax(above >= np.minimum(acted, above[:, -1])[:, None], axis=1), 1)
        line = np.arange(acted.size)
        below, width = above[line, edge - 1], above[line, edge] - above[line, edge - 1]
        share = (acted - below) / width
        right = hits[line, edge - 1] + share * (hits[line, edge] - hits[line, edge - 1])
        return np.asarray(right / acted, np.float64)


def _at(sums: Floats, ends: NDArray[np.intp]) -> Floats:
    """Sums [b, rows] at the ends of runs, a zero before: [b, ends + 1]."""
    return np.concatenate((np.zeros((len(sums), 1), np.float64), sums[:, ends]), axis=1)


def same_patients(each: Sequence[Judged]) -> bool:
    """Whether rows of one number are one patient in all of them: no label of a row differs."""
    seen: dict[int, float] = {}
    for tested in each:
        for row, label in zip(tested.row.tolist(), tested.label.tolist(), strict=True):
            if seen.setdefault(row, label) != label:
                return False
    return True


def difference(arm: Shown, baseline: Shown, site: str, capacity: float) -> Difference | None:
    """PPV of `arm` against `baseline` in a region, on the same patients of the same seeds; None without any.

    Resamples draw seeds, and within them patients, with replacement (percentile bootstrap, Efron 1979). A
    patient drawn twice counts twice in both arms, and where seeds test the same patients, in all seeds.
    """
    seeds = [seed for seed in arm.runs if seed in baseline.runs]
    pairs = [_both(arm.tested[site][s], baseline.tested[site][s]) for s in seeds]
    if not pairs or min(len(a.row) for a, _ in pairs) < FEWEST:
        return None
    values = [(ppv(a, capacity), ppv(b, capacity)) for a, b in pairs]
    value, base = (math.fsum(v[k] for v in values) / len(values) for k in (0, 1))
    same = same_patients([tested for pair in pairs for tested in pair])
    return Difference(len(seeds), value, base, value - base, _resampled(pairs, capacity, same), same)


def _both(a: Judged, b: Judged) -> tuple[Judged, Judged]:
    """The rows that both tested: a region that is left out of training is tested whole."""

    def kept(one: Judged, other: Judged) -> Judged:
        at = np.isin(one.row, other.row)
        return Judged(one.row[at], one.unit[at], one.label[at], one.score[at])

    return kept(a, b), kept(b, a)


def _resampled(pairs: Sequence[tuple[Judged, Judged]], capacity: float, same: bool) -> Floats:
    # Seeds by a stream of their own, so that the k-th resample takes the same seeds in every region.
    size = (RESAMPLES, len(pairs))
    chosen = np.random.Generator(np.random.Philox(key=[_KEY, 1])).integers(0, len(pairs), size)
    rng = np.random.Generator(np.random.Philox(key=[_KEY, 0]))
    of_seed = np.empty(size, np.float64)  # each seed's difference on each resample of its patients
    for group in [[*range(len(pairs))]] if same else [[s] for s in range(len(pairs))]:
        tested = [pairs[s] for s in group]
        patients = np.unique(np.concatenate([one.unit for pair in tested for one in pair]))
        ranked = [[_Ranked(one) for one in pair] for pair in tested]
        places = [[np.searchsorted(patients, one.unit) for one in pair] for pair in tested]
        step = max(1, _ENTRIES // patients.size)
        for start in range(0, RESAMPLES, step):
            lines = slice(start, min(start + step, RESAMPLES))
            times = _times(rng, lines.stop - start, patients.size, places)
            for s, both, at in zip(group, ranked, places, strict=True):
                first, second = (
                    one.ppv(times[:, rows], capacity) for one, rows in zip(both, at, strict=True)
                )
                of_seed[lines, s] = first - second
    return np.asarray(np.take_along_axis(of_seed, chosen, axis=1).mean(axis=1), np.float64)


def _times(
    rng: np.random.Generator, lines: int, patients: int, places: Sequence[Sequence[NDArray[np.intp]]]
) -> NDArray[np.int32]:
    """How often each patient is drawn: i32[lines, patients]. No line misses all that one seed tested, as a
    few of few rows would."""
    made = np.empty((lines, patients), np.int32)
    for k in range(lines):
        empty = True
        while empty:
            made[k] = np.bincount(rng.integers(0, patients, patients), minlength=patients)
            empty = any(not made[k][at].any() for both in places for at in both)
    return made


# --- what manifests say ----------------------------------------------------------------------


def mean_of(shown: Shown, entry: Sequence[str]) -> float:
    """The mean over an arm's runs of a number in their manifests; 0 where a run has none."""
    found = []
    for run in shown.runs.values():
        at: Any = run.manifest
        for key in entry:
            at = at.get(key) if isinstance(at, Mapping) else None
        found.append(float(at or 0.0))
    return math.fsum(found) / len(found)
