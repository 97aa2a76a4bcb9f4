"""A survival curve from counts with noise: an actuarial estimate whose interval knows of the noise.

Source of the estimate: Cutler and Ederer, "Maximum Utilization of the Life Table Method in Analyzing
Survival", J. Chronic Diseases 1958: who is censored in an interval is at risk for half of it. Its variance is
that of the counts (multinomial) and of the noise, by the delta method. Intervals are on the scale of log S,
which is defined where noise makes S exceed 1; curve and interval are then made to fall by isotonic
regression, which is post-processing and keeps the order of the three.
"""

from __future__ import annotations

import numpy as np
from scipy.optimize import isotonic_regression

from fedsim.estimate.survival import Curve, quantile

LEAST_AT_RISK = 4.0  # deviations of its noise that the number at risk must exceed for the curve to go on


def actuarial(
    events: np.ndarray,
    censored: np.ndarray,
    beyond: float,
    ends: np.ndarray,
    variance: float,
    confidence: float,
) -> Curve:
    """The curve at the ends of intervals; NaN from where too few are at risk to be told from the noise.

    Args:
      events, censored: float64[m], counts in each interval, noise included; beyond: those still under
        observation after the last.
      variance: of the noise in each of these numbers.
    """
    m = len(ends)
    gone = events + censored
    starts = beyond + np.cumsum(gone[::-1])[::-1]  # at risk when an interval begins
    f = starts - censored / 2
    deviation = np.sqrt(variance * (2 * (m - np.arange(m)) + 1))
    enough = (f - events > np.maximum(LEAST_AT_RISK * deviation, 0.5)) & (f > 0)
    k = m if enough.all() else int(np.argmin(enough))
    nothing = np.full(m, np.nan)
    if k == 0:
        return Curve(ends, nothing, np.full((m, m), np.nan), nothing, nothing, steps=False)
    log_s = np.cumsum(np.log(f[:k] - events[:k]) - np.log(f[:k]))
    covariance = _covariance(events, censored, beyond, f, k, variance)
    half = quantile(confidence) * np.sqrt(np.diag(covariance))
    three = [np.exp(np.minimum(log_s + by, 0.0)) for by in (-half, np.zeros(k), half)]
    low, survival, high = (np.clip(_falling(values), 0.0, 1.0) for values in three)
    whole = np.full((m, m), np.nan)
    whole[:k, :k] = covariance
    rest = nothing[k:]
    return Curve(
        ends, *(np.append(survival, rest), whole, np.append(low, rest), np.append(high, rest)), False
    )


def _covariance(
    events: np.ndarray, censored: np.ndarray, beyond: float, f: np.ndarray, k: int, variance: float
) -> np.ndarray:
    """Of log S at the first k ends: J (diag(counts) + variance) J', J being its gradient by the counts.

    Multinomial counts have diag(counts) - counts counts' / n, and J counts = 0: twice the counts have the
    same curve.
    """
    m = len(f)
    u, w = np.zeros(m), np.zeros(m)
    w[:k] = 1 / (f[:k] - events[:k])
    u[:k] = w[:k] - 1 / f[:k]
    total = np.cumsum(u)
    row, column = np.arange(k)[:, None], np.arange(m)[None, :]
    shared = total[np.minimum(row, column)]
    own = column <= row
    by_event = shared - own * w
    by_censored = shared - own * u / 2
    jacobian = np.concatenate([by_event, by_censored, total[:k, None]], axis=1)
    counts = np.maximum(np.concatenate([events, censored, [beyond]]), 0.0) + variance
    found: np.ndarray = (jacobian * counts) @ jacobian.T
    return found


def _falling(values: np.ndarray) -> np.ndarray:
    fitted: np.ndarray = isotonic_regression(values, increasing=False).x
    return fitted
