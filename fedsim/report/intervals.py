"""95 % intervals of a mean over seeds. Those over patients are in `patients`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Literal

import numpy as np
from numpy.typing import NDArray

OverSeeds = Literal["t", "bootstrap"]
Method = Literal["t", "bootstrap", "patients", "both"]
Ends = Literal["percentile", "bca"]
Interval = tuple[float, float | None, float | None]  # mean, low, high
RESAMPLES = 10_000
DRAWS = 2_000  # of patients
_KEY = 20_000_000  # of the resamples: every table draws the same ones

NOTE: dict[Method, str] = {
    "t": "Student's t over seeds",
    "bootstrap": f"percentile bootstrap over seeds, {RESAMPLES:,} resamples",
    "patients": f"percentile bootstrap over patients within clients, {DRAWS:,} resamples of predictions",
    "both": f"percentile bootstrap over patients within clients and over seeds, {DRAWS:,} resamples of "
    "predictions",
}
BCA = NOTE["patients"].replace("percentile bootstrap", "bias-corrected and accelerated bootstrap")
STRATIFIED = f"stratified {NOTE['bootstrap']}"


def described(method: Method, ends: Ends) -> str:
    """What intervals are."""
    return BCA if ends == "bca" else NOTE[method]


def mean_interval(values: Sequence[float], method: OverSeeds) -> Interval:
    """Mean, and the ends of its 95 % interval; no ends for a single value.

    `t`: mean +- t(n - 1) s / sqrt(n). `bootstrap`: the 2.5 and 97.5 % quantiles of the means of
    resamples drawn with a fixed key (Efron 1979); it is too narrow below about ten seeds.
    """
    if method == "bootstrap":
        return stratified([values])
    v = np.asarray(values, dtype=np.float64)
    mean = math.fsum(values) / v.size
    if v.size == 1:
        return mean, None, None
    half = student_t(v.size - 1) * float(v.std(ddof=1)) / math.sqrt(v.size)
    return mean, mean - half, mean + half


def stratified(strata: Sequence[Sequence[float]]) -> Interval:
    """The mean of the strata's means, and the ends of its 95 % bootstrap interval.

    Values are drawn again within each stratum, strata independently of each other (Agarwal et al., "Deep
    Reinforcement Learning at the Edge of the Statistical Precipice", NeurIPS 2021, section 4.1, with the
    percentile interval). One stratum is the plain bootstrap.
    """
    parts = [np.asarray(values, dtype=np.float64) for values in strata]
    mean = math.fsum(math.fsum(values) / len(values) for values in strata) / len(parts)
    if max(v.size for v in parts) == 1:
        return mean, None, None
    means = sum(v[_resamples(v.size, k)].mean(axis=1) for k, v in enumerate(parts)) / len(parts)
    low, high = np.quantile(means, [0.025, 0.975])
    return mean, float(low), float(high)


def cut(interval: Interval, bounds: tuple[float, float]) -> Interval:
    """The part of an interval that lies within `bounds`: Student's t knows nothing of a metric's range."""
    mean, low, high = interval
    if low is None or high is None:
        return interval
    return mean, max(low, bounds[0]), min(high, bounds[1])


def end_band(band: float, n: int, method: Method) -> float:
    """How far an end of the interval can move when each of n values moves by at most `band`.

    For t: the mean moves by `band`, the deviation s by at most band * sqrt(n / (n - 1)).
    """
    if method != "t" or n < 2:
        return band
    return band * (1.0 + student_t(n - 1) / math.sqrt(n - 1))


@lru_cache(maxsize=32)
def _resamples(n: int, stratum: int) -> NDArray[np.int32]:
    rng = np.random.Generator(np.random.Philox(key=[_KEY + n, stratum]))
    return rng.integers(0, n, size=(RESAMPLES, n), dtype=np.int32)


@lru_cache
def student_t(df: int) -> float:
    """The 97.5 % quantile of Student's t with `df` whole degrees of freedom."""
    low, high = 0.0, math.pi / 2
    for _ in range(100):
        middle = 0.5 * (low + high)
        low, high = (middle, high) if _inside(middle, df) < 0.95 else (low, middle)
    return math.sqrt(df) * math.tan(low)


def _inside(angle: float, df: int) -> float:
    """P(|T| < sqrt(df) tan(angle)), a finite sum (Abramowitz and Stegun 1964, 26.7.3 and 26.7.4)."""
    sine, cosine = math.sin(angle), math.cos(angle)
    odd = df % 2
    term, total = (cosine if odd else 1.0), 0.0
    for k in range(odd, df - 1, 2):
        total += term
        term *= (k + 1) / (k + 2) * cosine * cosine
    return 2.0 / math.pi * (angle + sine * total) if odd else sine * total
