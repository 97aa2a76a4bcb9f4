"""Survival curves from counts, in float64: product limit, its variance, and what is read off it.

Sources: Kaplan and Meier, "Nonparametric Estimation from Incomplete Observations", JASA 1958, eq. 2b;
Greenwood 1926 in Kalbfleisch and Prentice, "The Statistical Analysis of Failure Time Data", 2nd ed., eq. 1.9,
and the log-log interval, eq. 1.10; Brookmeyer and Crowley, "A Confidence Interval for the Median Survival
Time", Biometrics 1982; restricted mean: Klein and Moeschberger, "Survival Analysis", 2nd ed., section 4.5.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import special


@dataclass(frozen=True, eq=False)
class Counts:
    """What happened at rising times: float64[m] each. n: rows in all."""

    time: np.ndarray
    events: np.ndarray
    censored: np.ndarray

    @property
    def n(self) -> float:
        return float(self.events.sum() + self.censored.sum())

    @property
    def at_risk(self) -> np.ndarray:
        """Just before each time; who is censored at a time is at risk at it."""
        gone = self.events + self.censored
        risk: np.ndarray = np.cumsum(gone[::-1])[::-1]
        return risk


@dataclass(frozen=True, eq=False)
class Curve:
    """S at rising times, after what happens at them; NaN where it is not known. S(0) = 1.

    log_covariance: of log S, [m, m] or, where increments are independent, its diagonal [m]; low, high: the
    interval at each time by itself, NaN where it is undefined. steps: constant between times, or else linear.
    """

    time: np.ndarray
    survival: np.ndarray
    log_covariance: np.ndarray
    low: np.ndarray
    high: np.ndarray
    steps: bool

    def at(self, t: float, values: np.ndarray) -> float | None:
        """`values`, survival or an end of its interval, at a time; None where not known."""
        if self.steps:
            i = int(np.searchsorted(self.time, t, side="right")) - 1
            if i < 0:
                return 1.0 if values is self.survival else None
            if t > self.time[-1] and self.survival[-1] > 0:
                return None
            found = values[i]
        else:
            found = np.interp(t, np.append(0.0, self.time), np.append(1.0, values), right=np.nan)
        return None if np.isnan(found) else float(found)

    def reaches(self, values: np.ndarray, level: float) -> float | None:
        """The first time at which `values` are at most `level`; None where they never are."""
        below = np.flatnonzero(values <= level)
        if not len(below):
            return None
        i = int(below[0])
        if self.steps:
            return float(self.time[i])
        before = (0.0, 1.0) if i == 0 else (self.time[i - 1], values[i - 1])
        if np.isnan(before[1]) or before[1] == values[i]:
            return float(self.time[i])
        share = (before[1] - level) / (before[1] - values[i])
        return float(before[0] + share * (self.time[i] - before[0]))


def merged(times: np.ndarray, events: np.ndarray, censored: np.ndarray) -> Counts:
    """Counts at any times, in any order, added up by time."""
    unique, at = np.unique(times.astype(np.float64), return_inverse=True)
    size = len(unique)
    return Counts(unique, np.bincount(at, events, size), np.bincount(at, censored, size))


def product_limit(counts: Counts, confidence: float) -> Curve:
    """The Kaplan-Meier curve. Its interval is undefined before the first event, and where nobody is left."""
    n, d = counts.at_risk, counts.events
    survival = np.cumprod(1 - d / n)
    with np.errstate(divide="ignore", invalid="ignore"):
        variance = np.cumsum(np.where(d > 0, d / (n * (n - d)), 0.0))
        spread = quantile(confidence) * np.sqrt(variance) / np.abs(np.log(survival))
        low, high = survival ** np.exp(spread), survival ** np.exp(-spread)
    known = (survival > 0) & (survival < 1)
    return Curve(
        counts.time,
        survival,
        np.where(survival > 0, variance, np.nan),
        np.where(known, low, np.nan),
        np.where(known, high, np.nan),
        steps=True,
    )


def quantile(confidence: float) -> float:
    """Of the normal distribution, for a two-sided interval."""
    return float(special.ndtri((1 + confidence) / 2))


def median(curve: Curve) -> dict[str, float | None]:
    return {
        "value": curve.reaches(curve.survival, 0.5),
        "low": curve.reaches(curve.low, 0.5),
        "high": curve.reaches(curve.high, 0.5),
    }


def restricted_mean(curve: Curve, horizon: float, confidence: float) -> dict[str, float | None]:
    """Mean time until the event or the horizon, whichever is first; null beyond what is known.

    The area under the curve is a_1 S_1 + ... + constant, so its variance follows from that of log S: of
    steps a_i is the time until the next, of lines half the time between the neighbours.
    """
    nothing: dict[str, float | None] = dict.fromkeys(("value", "std_error", "low", "high"))
    inside = curve.time < horizon if curve.steps else curve.time <= horizon  # which ends with it
    t, s = np.append(0.0, curve.time[inside]), np.append(1.0, curve.survival[inside])
    if np.isnan(s).any() or (horizon > curve.time[-1] and not (curve.steps and s[-1] == 0)):
        return nothing
    if curve.steps:
        weight = np.diff(np.append(t, horizon))
    else:
        widths = np.diff(t)
        weight = (np.append(widths, 0.0) + np.append(0.0, widths)) / 2
    value = float(weight @ s)
    g = curve.log_covariance
    tail = (weight * s)[1:]
    if g.ndim == 1:
        # Independent increments: each moves all that comes after it.
        jumps = np.diff(np.nan_to_num(g[inside]), prepend=0.0)
        variance = float(jumps @ np.cumsum(tail[::-1])[::-1] ** 2)
    else:
        variance = float(tail @ g[np.ix_(inside, inside)] @ tail)
    error = float(np.sqrt(variance))
    half = quantile(confidence) * error
    return {
        "value": value,
        "std_error": error,
        "low": max(0.0, value - half),
        "high": min(horizon, value + half),
    }


def plain(values: np.ndarray) -> list[Any]:
    """Ready for JSON: null for NaN."""
    return [None if np.isnan(v) else float(v) for v in values]
