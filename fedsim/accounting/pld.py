"""Distributions of the privacy loss on a grid: of one release, of many together, and what they say.

All are rounded so that what they give is an upper bound. Releases are composed at once, by one transform of
each kind of release, its power, and one transform back.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from math import ceil, expm1, floor, inf, log, log1p, sqrt
from typing import NamedTuple

import numpy as np
import scipy

from fedsim.accounting import library, losses

INTERVAL = 1e-4  # between values of the privacy loss
_TAIL = 1e-15  # mass that a composition may leave out, and counts as lost
_BINS = 1 << 15  # of a distribution, where bounds are looked for
_FURTHEST = 700.0  # e to it is still a number


class Loss(NamedTuple):
    """lower: the least loss, in intervals; probs: f64[n], of it and those that follow; infinite: probability
    that nothing is hidden."""

    lower: int
    probs: np.ndarray
    infinite: float


class Either(NamedTuple):
    """The loss where a unit is removed, and where one is added."""

    removed: Loss
    added: Loss


# --- one release -----------------------------------------------------------------------------


@lru_cache(maxsize=64)
def gaussian(noise: float, rate: float, replaced: bool, rows: int = 1) -> Either:
    """noise: over the clip norm; rows: of a unit, each in the sample with probability `rate`, so that the sum
    moves by a binomial number of clip norms (Choquette-Choo et al., "Privacy Amplification for Matrix
    Mechanisms", ICLR 2024)."""
    pair = losses.replaced(noise, rate) if replaced else losses.sampled(noise, rate, rows)
    least, most = losses.bounds(pair)

    def discretised(which: int, least: float, most: float) -> Loss:
        low, high = floor(least / INTERVAL), ceil(most / INTERVAL)
        divergences = losses.deltas(pair, np.arange(low, high + 1) * INTERVAL)[which]
        return Loss(low, losses.masses(divergences, INTERVAL), float(divergences[-1]))

    removed = discretised(0, least, most)
    same = replaced or rate == 1  # either way
    return Either(removed, removed if same else discretised(1, -most, -least))


@lru_cache(maxsize=64)
def truncated(noise: float, rate: float, population: int, cap: int, replaced: bool) -> Either:
    """Of a Poisson sample cut to `cap` units (Ganesh, arXiv 2508.15089): where it is cut, a unit in it
    stands in another's place, so that the sum moves twice as far, either way."""
    plain = gaussian(noise, rate, replaced)
    # That it is, where one more unit is drawn.
    cut = float(scipy.stats.binom.sf(cap - 1, population - 1, rate))
    if cut == 0:
        return plain
    inside = float(scipy.stats.binom.sf(cap, population, rate)) * cap / (cut * population)
    swapped = gaussian(noise / 2, inside, True)
    return Either(*(_mixed(a, b, cut) for a, b in zip(swapped, plain, strict=True)))


def _mixed(one: Loss, other: Loss, weight: float) -> Loss:
    """`one` with probability `weight`, else `other`."""
    low = min(one.lower, other.lower)
    probs = np.zeros(max(x.lower + len(x.probs) for x in (one, other)) - low, np.float64)
    for x, share in ((one, weight), (other, 1 - weight)):
        probs[x.lower - low : x.lower - low + len(x.probs)] += share * x.probs
    return Loss(low, probs, weight * one.infinite + (1 - weight) * other.infinite)


def laplace(noise: float, rate: float) -> Either:
    """Of sensitivity 1."""
    removed, added = (Loss(*found) for found in library.laplace_pld(noise, rate, INTERVAL))
    return Either(removed, added)


def repeated_gaussian(noise: float, times: int, replaced: bool) -> Either:
    """All `times` releases at once: a Gaussian again."""
    return gaussian(noise / sqrt(times), 1.0, replaced)


# --- many releases ---------------------------------------------------------------------------


def composed(parts: Sequence[tuple[Either, int]]) -> Either:
    """What (release, how often) lose together."""
    removed = _sum([(either.removed, times) for either, times in parts])
    same = all(either.added is either.removed for either, _ in parts)
    return Either(removed, removed if same else _sum([(either.added, times) for either, times in parts]))


def _sum(parts: Sequence[tuple[Loss, int]]) -> Loss:
    """The distribution of a sum of independent losses, each of them `times` often.

    What lies outside the window lands inside it, at the wrong place, since a transform goes round: it is
    less than `_TAIL`, which is added to what is lost. Source: Koskela et al., "Tight Differential Privacy for
    Discrete-Valued Mechanisms and for the Subsampled Gaussian Mechanism Using FFT", AISTATS 2021.
    """
    if len(parts) == 1 and parts[0][1] == 1:
        return parts[0][0]
    low, high = _window(parts)
    size = scipy.fft.next_fast_len(high - low + 1, real=True)
    product = np.ones(size // 2 + 1, np.complex128)
    for loss, times in parts:
        around = np.zeros(-(-len(loss.probs) // size) * size, np.float64)
        around[: len(loss.probs)] = loss.probs
        product *= _power(scipy.fft.rfft(around.reshape(-1, size).sum(axis=0)), times)
    probs = np.roll(scipy.fft.irfft(product, size), -low)[: high - low + 1]
    kept = sum(times * log1p(-loss.infinite) for loss, times in parts)
    return Loss(sum(times * loss.lower for loss, times in parts) + low, probs, _TAIL - expm1(kept))


def _power(base: np.ndarray, times: int) -> np.ndarray:
    """By squaring: NumPy's own goes through logarithms."""
    found = np.ones_like(base)
    while times:
        if times & 1:
            found *= base
        times >>= 1
        if times:
            base = base * base
    return found


def _window(parts: Sequence[tuple[Loss, int]]) -> tuple[int, int]:
    """Bounds of the sum, in intervals from its least value, outside of which lies less than `_TAIL`: by
    Chernoff, from distributions in bins, at whose upper (and lower) ends all of their mass is put."""
    low, high, variance, binned = 0, 0, 0.0, []
    for loss, times in parts:
        n = len(loss.probs)
        high += times * (n - 1)
        width = -(-n // _BINS)
        starts = np.arange(0, n, width)
        ends, mass = np.minimum(starts + width, n) - 1, np.add.reduceat(loss.probs, starts)
        mean = mass @ starts / mass.sum()
        variance += times * float(mass @ (starts - mean) ** 2 / mass.sum())
        with np.errstate(divide="ignore"):
            binned.append((times, starts, ends, np.log(mass)))
    most = high
    # The best order for a normal distribution; where rare losses are large, others are far better.
    usual = sqrt(2 * log(2 / _TAIL) / max(variance, 1.0))
    for order in (*(usual * np.geomspace(0.125, 2.0, 9)), *(INTERVAL * 2.0 ** np.arange(-4, 9))):
        up = sum(times * _log_sum(mass + order * ends) for times, _, ends, mass in binned)
        down = sum(times * _log_sum(mass - order * starts) for times, starts, _, mass in binned)
        high = min(high, ceil((up + log(2 / _TAIL)) / order))
        low = max(low, floor(-(down + log(2 / _TAIL)) / order))
    return max(0, low), min(most, max(high, low))


def _log_sum(exponents: np.ndarray) -> float:
    """log of the sum of exponentials: SciPy's own checks more than it adds."""
    most = float(exponents.max())
    return most + log(float(np.exp(exponents - most).sum()))


# --- what they say ---------------------------------------------------------------------------


def delta(either: Either, epsilon: float) -> float:
    """The hockey-stick divergence at `epsilon`, the larger of both ways."""
    return max(_delta(loss, epsilon) for loss in _ways(either))


def epsilon(either: Either, delta: float) -> float:
    """The least epsilon whose divergence is at most `delta`, the larger of both ways; inf where there is
    none."""
    return max(_epsilon(loss, delta) for loss in _ways(either))


def _ways(either: Either) -> tuple[Loss, ...]:
    return (either.removed,) if either.added is either.removed else tuple(either)


def _delta(loss: Loss, epsilon: float) -> float:
    at = (loss.lower + np.arange(len(loss.probs))) * INTERVAL
    above = at > epsilon
    return float(loss.infinite - np.expm1(epsilon - at[above]) @ loss.probs[above])


def _epsilon(loss: Loss, delta: float) -> float:
    if loss.infinite > delta:
        return inf
    at = (loss.lower + np.arange(len(loss.probs))) * INTERVAL
    upper = loss.infinite + loss.probs[::-1].cumsum()[::-1]  # mass of this loss and larger ones
    # A divergence is below that mass: epsilon is no larger than the first loss whose mass is small enough.
    most = float(at[min(int((upper > delta).sum()), len(at) - 1)])
    least = max(0.0, most - _FURTHEST)
    there = at >= least
    if not there.any():
        return 0.0
    at, upper, probs = at[there], upper[there], loss.probs[there]
    scale = np.exp(most - at)
    lower = (probs * scale)[::-1].cumsum()[::-1]  # the other distribution's mass, times exp(most)
    i = int((upper - lower / scale <= delta).argmax())  # the first loss at which it is small enough
    if upper[i] <= delta or lower[i] <= 0:
        return float(at[i]) if i else least
    return max(least, most + log((upper[i] - delta) / lower[i]))
