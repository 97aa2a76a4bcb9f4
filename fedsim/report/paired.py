"""Paired comparisons: what a choice comes to against another on the same seeds.

Differences are taken seed by seed, so that what a seed makes easy or hard for both cancels. The test is the
exact permutation test of paired differences (Fisher 1935, section 21): without an effect, each difference
was as likely to come with the other sign. p-values are corrected for how many comparisons are shown, within
each metric, by the step-down rule of Holm (Scandinavian Journal of Statistics 6, 1979).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedsim.base import RequestError, nearest, require
from fedsim.report.intervals import OverSeeds, mean_interval
from fedsim.report.rows import Key, Rows, Value, plain, redrawn
from fedsim.report.spec import NAMED, Level
from fedsim.report.values import observe

ALPHA = 0.05  # a corrected p below is marked
EXACT = 16  # pairs up to which every one of the 2**n signs is tried
DRAWS = 100_000  # of signs, beyond that
_KEY = 30_000_000


def note(rows: Rows) -> str:
    """What differences are, and what they are about."""
    luck = "Seeds repeat the split and the training; neither is about new patients."
    if redrawn(rows.runs):
        luck = "Each seed draws new patients, splits them and trains on them: both are about new patients."
    return (
        "Differences of pairs with the same seed: mean, 95 % interval (Student's t), and p of the "
        f"permutation test of signs (exact up to {EXACT} pairs, {DRAWS:,} draws beyond), corrected by Holm "
        f"within each metric. {luck}"
    )


@dataclass(frozen=True)
class Difference:
    """One choice against the baseline, where all else is the same.

    where: the other dimensions; pairs: seeds that both have; mean, low, high: of (choice - baseline), no
    ends for a single pair; p, corrected: None for a single pair.
    """

    where: dict[str, Value]
    metric: str
    choice: Value
    pairs: int
    mean: float
    low: float | None
    high: float | None
    p: float | None
    corrected: float | None = None


def differences(
    rows: Rows,
    axis: str,
    baseline: str,
    metrics: Sequence[str],
    level: Level = "pooled",
    where: Mapping[str, Any] | None = None,
) -> list[Difference]:
    """Every choice of `axis` against `baseline`, in every setting of the other axes.

    Args:
      rows: as `report.read` gives them; axis: a dimension of the plan; baseline: one of its values.
      level: what is compared: pooled predictions, an aggregate over clients, or each site or client.

    Raises:
      RequestError: an unknown axis, baseline or metric, or no pair of runs with a common seed.
    """
    compared = against(rows, axis, baseline, metrics, level, where)
    return holm(list(compared.differences().values()))


@dataclass(frozen=True)
class Compared:
    """What is compared with what.

    dimensions: of a key, the metric and the axis last; values: of every key by seed; base: the key that each
    choice is held against.
    """

    dimensions: tuple[str, ...]
    values: dict[Key, dict[Value, float]]
    base: dict[Key, Key]

    def differences(self) -> dict[Key, Difference]:
        """Of all keys whose pairs have values; p-values are not corrected."""
        found: dict[Key, Difference] = {}
        for key, base in self.base.items():
            setting = dict(zip(self.dimensions[:-2], key[:-2], strict=True))
            difference = paired(self.values[key], self.values[base], setting, str(key[-2]), key[-1])
            if difference:
                found[key] = difference
        require(
            found,
            f"no two runs that differ in {self.dimensions[-1]} alone share a seed with a value of both; run "
            "more seeds, or choose another metric",
        )
        return found


def against(
    rows: Rows,
    axis: str,
    baseline: str,
    metrics: Sequence[str],
    level: Level = "pooled",
    where: Mapping[str, Any] | None = None,
) -> Compared:
    """What `differences` is of. Raises RequestError as it does."""
    where = dict(where or {})
    cells = [run.cell for run in rows.chosen(where)]
    axes = list(dict.fromkeys(d for cell in cells for d in cell if d != "seed"))
    if axis not in axes:
        raise RequestError(f"these runs have no choice of {axis!r}; {nearest(axis, axes)}")
    values = list(dict.fromkeys(str(plain(cell[axis])) for cell in cells if axis in cell))
    if baseline not in values:
        raise RequestError(f"no run has {axis}={baseline}; {nearest(baseline, values)}")
    others = [d for d in axes if d != axis] + ([level] if level in NAMED else [])
    dimensions = (*others, "metric", axis)
    found = observe(rows, level=level, metrics=metrics, dimensions=dimensions, where=where, at="last")
    bases = {key[:-1]: key for key in found if str(key[-1]) == baseline}
    held = {key: bases[key[:-1]] for key in found if str(key[-1]) != baseline and key[:-1] in bases}
    require(held, f"no two runs differ in {axis} alone and share a seed with {axis}={baseline}")
    return Compared(dimensions, found, held)


def paired(
    values: Mapping[Value, float],
    base: Mapping[Value, float],
    where: Mapping[str, Value],
    metric: str,
    choice: Value,
    method: OverSeeds = "t",
) -> Difference | None:
    """values - base over their common seeds, undefined ones left out; None without any."""
    pairs = [values[s] - base[s] for s in sorted(values.keys() & base.keys(), key=str)]
    pairs = [d for d in pairs if d == d]
    if not pairs:
        return None
    mean, low, high = mean_interval(pairs, method)
    p = signs(pairs) if len(pairs) > 1 else None
    return Difference(dict(where), metric, choice, len(pairs), mean, low, high, p)


def signs(differences: Sequence[float]) -> float:
    """Two-sided p of the permutation test: how often |mean| is as large under random signs.

    Exact up to `EXACT` differences; beyond that (1 + count) / (1 + draws) with the same draws every time.
    """
    d = np.asarray(differences, np.float64)
    if d.size <= EXACT:
        eight: NDArray[Any] = np.arange(2**d.size) >> np.arange(0, d.size, 8)[:, None] & 255
    else:
        eight = _draws(d.size)
    count = eight.shape[1]
    sums, part = np.zeros(count, np.float64), np.empty(count, np.float64)
    for k, which in enumerate(eight):
        # All are below 256: `wrap` changes none, and spares a look at each.
        sums += np.take(_of_eight(d[8 * k : 8 * k + 8]), which, out=part, mode="wrap")
    # Equal sums in another order of addition must count as equal.
    as_large = int(np.sum(np.abs(sums) >= abs(d.sum()) - 1e-12 * np.abs(d).sum()))
    return as_large / count if d.size <= EXACT else (1 + as_large) / (1 + count)


def _of_eight(d: NDArray[np.float64]) -> NDArray[np.float64]:
    """f64[256]: the sum of up to eight differences under each choice of signs, a bit for each."""
    bits = np.arange(256)[:, None] >> np.arange(d.size) & 1
    return np.asarray((1.0 - 2.0 * bits) @ d, np.float64)


@lru_cache(maxsize=4)
def _draws(n: int) -> NDArray[np.uint8]:
    """u8[n / 8, DRAWS]: signs of n differences, eight in a number; every table draws the same ones."""
    rng = np.random.Generator(np.random.Philox(key=_KEY + n))
    return np.ascontiguousarray(rng.integers(0, 256, (DRAWS, -(-n // 8)), dtype=np.uint8).T)


def smallest(pairs: int) -> float:
    """The smallest p that so many pairs can give: all differences of one sign, or all of the other."""
    return 2.0 ** (1 - pairs) if pairs <= EXACT else 1 / (1 + DRAWS)


def too_few(found: Sequence[Difference]) -> list[str]:
    """A sentence where no p could be below `ALPHA`, whatever the values."""
    if not found:
        return []
    most = max(d.pairs for d in found)
    least = smallest(most)
    return (
        [f"{most} pairs cannot give a p below {least:g}; add seeds to tell more."] if least >= ALPHA else []
    )


def holm(found: Sequence[Difference]) -> list[Difference]:
    """The same with corrected p-values: of m comparisons of a metric, the k-th smallest p times m - k + 1,
    never below that of a smaller one."""
    made = list(found)
    for metric in {d.metric for d in made}:
        tested = sorted(
            ((d.p, i) for i, d in enumerate(made) if d.metric == metric and d.p is not None),
        )
        worst = 0.0
        for rank, (p, i) in enumerate(tested):
            worst = max(worst, min(1.0, p * (len(tested) - rank)))
            made[i] = replace(made[i], corrected=worst)
    return made
