"""Bias-corrected and accelerated bootstrap intervals.

Source: Efron, "Better Bootstrap Confidence Intervals", JASA 1987; formulas as in Efron, Tibshirani, "An
Introduction to the Bootstrap", 1993, eq. 14.10 (ends), 14.14 (bias) and 14.15 (acceleration, from what a
statistic is without each unit), whose sums are over all strata, each unit's move over its stratum's size.

Units may be left out in groups of about equal size: the acceleration that is estimated is the same, less
steadily, at the cost of one evaluation for each group.
"""

from __future__ import annotations

from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

GROUPS = 1_000  # of units that are left out together, at most
_KEY = 50_000_000
_NORMAL = NormalDist()


def ends(observed: float, draws: Floats, left: Floats, stratum: NDArray[np.int64]) -> tuple[float, float]:
    """The ends of the 95 % interval.

    Args:
      observed: the statistic; draws: on resamples [B]; left: without each group [m]; stratum: whose group it
        is [m], resamples being drawn within strata.

    Returns:
      (nan, nan) where `observed` is beyond all draws, so that no bias can be told.
    """
    share = float(((draws < observed).sum() + (draws <= observed).sum()) / (2 * len(draws)))
    if np.ptp(draws) == 0:
        return float(draws[0]), float(draws[0])
    if not 0 < share < 1:
        return float("nan"), float("nan")
    bias, a = _NORMAL.inv_cdf(share), acceleration(left, stratum)

    def end(level: float) -> float:
        z = bias + _NORMAL.inv_cdf(level)
        return float(np.quantile(draws, _NORMAL.cdf(bias + z / (1 - a * z))))

    return end(0.025), end(0.975)


def acceleration(left: Floats, stratum: NDArray[np.int64]) -> float:
    """A sixth of the skewness of what each group moves the statistic by; 0 where none does."""
    cubes = squares = 0.0
    for s in np.unique(stratum):
        values = left[stratum == s]
        n = len(values)
        moved = (n - 1) * (values.mean() - values)
        cubes += float(np.sum(moved**3)) / n**3
        squares += float(np.sum(moved**2)) / n**2
    return cubes / (6 * squares**1.5) if squares > 0 else 0.0


def groups(stratum: NDArray[np.int64], most: int = GROUPS) -> NDArray[np.int64]:
    """i64[units], rising from 0: which group each unit is left out with, each of one stratum; alone where
    there are no more than `most` units, else dealt at random."""
    found, first = np.empty(len(stratum), np.int64), 0
    share = min(1.0, most / max(1, len(stratum)))
    rng = np.random.Generator(np.random.Philox(key=_KEY))
    for s in np.unique(stratum):
        units = np.flatnonzero(stratum == s)
        count = len(units) if share == 1 else min(len(units), max(2, int(share * len(units))))
        order = units if share == 1 else rng.permutation(units)
        found[order] = first + np.arange(len(units)) * count // len(units)
        first += count
    return found
