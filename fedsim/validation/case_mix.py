"""How patients at an outside site differ from those a model was made from, and what that does to its rank.

Only sums leave a site: counts and power sums of features and linear predictors, gradients and information
of the membership model, counts of patients by bins of its score (through a secure sum, where a bin holds
few). Concordances are single numbers of the outside site's own patients; those of the development are of all
regions' patients together, which a simulation has in one place: outside of one, they take counts by label and
bin.

Sources: linear predictors and membership: Debray et al., "A new framework to enhance the interpretation of
external validation studies of clinical prediction models", Journal of Clinical Epidemiology 2015, 68:279;
model-based concordance: van Klaveren et al., "A new concordance measure for risk prediction models in
external validation settings", Statistics in Medicine 2016, 35:4136, eq. 4.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import special

from fedsim.validation import logistic
from fedsim.validation.logistic import Floats, Part
from fedsim.validation.updates import Z

MEMBERSHIP_RIDGE = 1.0  # on standardised columns: a feature that only one side has would part them
MEMBERSHIP_BINS = 1000
_BLOCK = 1 << 17  # counts of patients at once


class Sums(NamedTuple):
    """n values, and sums of the first four powers of their deviations from `centre`."""

    centre: float
    n: int
    powers: tuple[float, float, float, float]

    @property
    def mean(self) -> float | None:
        return self.centre + self.powers[0] / self.n if self.n else None

    @property
    def variance(self) -> float | None:
        """Divisor n - 1; None below two values."""
        if self.n < 2:
            return None
        return max(self.powers[1] - self.powers[0] ** 2 / self.n, 0.0) / (self.n - 1)

    @property
    def kurtosis(self) -> float | None:
        """Fourth central moment over the squared second: 3 for a Gaussian."""
        if not self.variance:
            return None
        m1, m2, m3, m4 = (power / self.n for power in self.powers)
        return (m4 - 4 * m1 * m3 + 6 * m1**2 * m2 - 3 * m1**4) / (m2 - m1**2) ** 2


def sums(parts: Sequence[Floats], centre: float) -> Sums:
    """What sites' values, NaN being missing, add up to. centre: anything known to all that is near them."""
    kept = [part[~np.isnan(part)] - centre for part in parts]
    powers = [float(sum(float(np.sum(part**k)) for part in kept)) for k in (1, 2, 3, 4)]
    return Sums(centre, sum(part.size for part in kept), (powers[0], powers[1], powers[2], powers[3]))


def spread(development: Sums, outside: Sums) -> dict[str, tuple[float | None, float | None, float | None]]:
    """Difference of the means and ratio of the standard deviations of the linear predictor, outside against
    development, with 95 % intervals: Welch's, and of the log ratio by its large-sample variance
    (kurtosis - 1) / (4 n) at each side."""
    none = (None, None, None)
    found = {"mean_difference": none, "deviation_ratio": none}
    a, b = development, outside
    if a.variance is None or b.variance is None or a.mean is None or b.mean is None:
        return dict(found)
    difference, error = b.mean - a.mean, math.sqrt(a.variance / a.n + b.variance / b.n)
    told: dict[str, tuple[float | None, float | None, float | None]] = dict(found)
    told["mean_difference"] = (difference, difference - Z * error, difference + Z * error)
    if a.variance > 0 and b.variance > 0:
        assert a.kurtosis is not None and b.kurtosis is not None
        ratio = math.sqrt(b.variance / a.variance)
        log_error = math.sqrt((a.kurtosis - 1) / (4 * a.n) + (b.kurtosis - 1) / (4 * b.n))
        told["deviation_ratio"] = (ratio, ratio * math.exp(-Z * log_error), ratio * math.exp(Z * log_error))
    return told


def mean_difference(development: Sums, outside: Sums) -> tuple[float | None, float | None, float | None]:
    """Standardised difference of means (divisor: root of the mean of both variances), outside minus
    development, and its 95 % interval (Hedges and Olkin 1985); None where a side has fewer than two values or
    neither varies."""
    a, b = development, outside
    if a.variance is None or b.variance is None or a.mean is None or b.mean is None:
        return None, None, None
    pooled = (a.variance + b.variance) / 2
    if pooled <= 0:
        return None, None, None
    d = (b.mean - a.mean) / math.sqrt(pooled)
    error = math.sqrt((a.n + b.n) / (a.n * b.n) + d**2 / (2 * (a.n + b.n)))
    return d, d - Z * error, d + Z * error


# --- concordance -----------------------------------------------------------------------------


def expected_concordance(lp: Floats, counts: Floats | None = None) -> float | None:
    """Model-based concordance: the c statistic that is expected of these patients if their risks are right;
    None where no two could differ.

    The share of the pairs i != j with event at i and none at j, by p_i (1 - p_j), in which i has the higher
    risk, equal risks counted half. In O(n log n), by running sums over sorted risks.

    Args:
      lp: logits of the risks, [n]. counts: [n], how often each patient is there, who makes no pair with
        itself.
    """
    w = np.ones(lp.size, np.float64) if counts is None else counts
    found = float(expected_concordances(lp, w[None])[0])
    return None if np.isnan(found) else found


def expected_concordances(lp: Floats, counts: Floats) -> Floats:
    """`expected_concordance` by each of counts [draws, n]: f64[draws], nan where no two could differ."""
    order = np.argsort(lp)
    eta = lp[order]
    p, q = special.expit(eta), special.expit(-eta)
    starts = np.flatnonzero(np.concatenate(([True], eta[1:] != eta[:-1])))
    tied = len(starts) < lp.size
    found = np.full(len(counts), np.nan)
    step = max(1, _BLOCK // max(lp.size, 1))
    for first in range(0, len(counts), step):
        w = np.take(counts[first : first + step], order, axis=1)
        parts = w * p, w * q, np.square(w) * (p * q)  # the last: pairs of a patient with itself
        events, others, own = (np.add.reduceat(x, starts, axis=1) if tied else x for x in parts)
        upto = np.cumsum(others, axis=1)
        everything = events.sum(axis=1) * upto[:, -1]
        pairs = everything - own.sum(axis=1)
        right = np.einsum("dr,dr->d", events, upto - 0.5 * others) - 0.5 * own.sum(axis=1)
        some = pairs > 1e-12 * everything
        found[first : first + step][some] = right[some] / pairs[some]
    return found


def decomposed(
    c_development: float | None,
    expected: float | None,
    expected_outside: float | None,
    c_outside: float | None,
) -> dict[str, float | None]:
    """Why concordance changes from development to outside, in three parts that add up to `total`.

    case_mix: what right risks would lose or gain among the outside patients; coefficients: how far the
    outside c is from what right risks would give; development: the same at home, with the other sign.
    """

    def minus(a: float | None, b: float | None) -> float | None:
        return None if a is None or b is None else a - b

    return {
        "total": minus(c_outside, c_development),
        "development": minus(expected, c_development),
        "case_mix": minus(expected_outside, expected),
        "coefficients": minus(c_outside, expected_outside),
    }


# --- membership ------------------------------------------------------------------------------


class Membership(NamedTuple):
    """How well patients' features and outcome tell the site. auroc: cross-fitted, with its interval."""

    auroc: float | None
    low: float | None
    high: float | None


def membership(
    parts: Sequence[Floats], outside: Sequence[bool], folds: Sequence[NDArray[np.integer[Any]]]
) -> Membership:
    """The c statistic of a logistic model of who comes from the outside site.

    0.5: patients cannot be told apart, so that validation there says whether the model can be reproduced;
    near 1: they are others, and it says whether it can be transported.

    Args:
      parts: each site's [n_k, F] features on a common scale without missing values, and outcome.
      outside: whether each part is the outside site's. folds: each row's fold, [n_k]; every patient is
        scored by a model that has not seen its fold.
    """
    width = parts[0].shape[1]
    ridge = np.full(width + 1, MEMBERSHIP_RIDGE, np.float64)
    ridge[0] = 0.0
    made = [np.column_stack([np.ones(len(part)), part]) for part in parts]
    count = 1 + max(int(fold.max(initial=0)) for fold in folds)
    counts = np.zeros((2, MEMBERSHIP_BINS), np.float64)
    for fold in range(count):
        learnt = [
            Part(
                x[of != fold],
                np.full(int((of != fold).sum()), float(is_outside)),
                np.zeros((of != fold).sum()),
            )
            for x, of, is_outside in zip(made, folds, outside, strict=True)
        ]
        b = logistic.fit(learnt, ridge).coefficients
        for x, of, is_outside in zip(made, folds, outside, strict=True):
            score = special.expit(x[of == fold] @ b)
            bins = np.minimum((score * MEMBERSHIP_BINS).astype(np.int64), MEMBERSHIP_BINS - 1)
            counts[int(is_outside)] += np.bincount(bins, minlength=MEMBERSHIP_BINS)
    return Membership(*concordance_of(counts))


def concordance_of(counts: Floats) -> tuple[float | None, float | None, float | None]:
    """AUROC of counts [2, bins] of others and members by rising score, ties counted half, and its 95 %
    interval (Hanley and McNeil, Radiology 1982); None where a class is absent."""
    others, members = counts
    n0, n1 = float(others.sum()), float(members.sum())
    if n0 == 0 or n1 == 0:
        return None, None, None
    below = np.concatenate(([0.0], np.cumsum(others)[:-1]))
    c = float(members @ (below + 0.5 * others)) / (n0 * n1)
    q1, q2 = c / (2 - c), 2 * c**2 / (1 + c)
    variance = (c * (1 - c) + (n1 - 1) * (q1 - c**2) + (n0 - 1) * (q2 - c**2)) / (n0 * n1)
    error = math.sqrt(max(variance, 0.0))
    return c, max(c - Z * error, 0.0), min(c + Z * error, 1.0)
