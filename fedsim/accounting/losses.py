"""Hockey-stick divergences of pairs of Gaussian mixtures, in closed form but for where the loss has a value.

A release of Gaussian noise is a pair (P, Q): what comes out with and without a unit, moved along one line.
P = sum_j p_j N(m_j, 1) and Q = sum_j q_j N(n_j, 1), means in deviations, all n_j <= 0 <= m_j, so that the
privacy loss log P / Q rises along the line, and the divergence at e is P(x > t) - exp(e) Q(x > t) where the
loss is e at t.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import scipy
from scipy import special

_TAIL = 10.0  # deviations: beyond them lies less than exp(-50) of the mass, which counts as lost
_CELLS = 4096  # of the line, in which Newton's method starts where the loss is nearly straight
_NEWTON = 4


class Mixture(NamedTuple):
    """Normal distributions of deviation 1. probs: f64[k], positive, of sum 1; means: f64[k]."""

    probs: np.ndarray
    means: np.ndarray

    def log_density(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(log of the density, up to a term that all mixtures share; its slope) at x."""
        exponents = np.multiply.outer(self.means, x) - (self.means**2 / 2 - np.log(self.probs))[:, None]
        most = exponents.max(axis=0)
        parts = np.exp(exponents - most)
        total = parts.sum(axis=0)
        return most + np.log(total), self.means @ parts / total

    def above(self, x: np.ndarray) -> np.ndarray:
        return special.ndtr(self.means - x[..., None]) @ self.probs

    def below(self, x: np.ndarray) -> np.ndarray:
        return special.ndtr(x[..., None] - self.means) @ self.probs


class Pair(NamedTuple):
    """With a unit, and without."""

    with_it: Mixture
    without: Mixture

    def loss(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(the privacy loss, its slope) at x."""
        (one, rise), (other, less) = self.with_it.log_density(x), self.without.log_density(x)
        return one - other, rise - less


def sampled(noise: float, rate: float, rows: int = 1) -> Pair:
    """A unit of `rows` rows, each of which is in the sample with probability `rate` and moves the sum by one
    clip norm, against none of it."""
    moved = np.arange(rows + 1, dtype=np.float64)
    return Pair(
        _mixture(scipy.stats.binom.pmf(moved, rows, rate), moved / noise), _mixture(np.ones(1), np.zeros(1))
    )


def replaced(noise: float, rate: float) -> Pair:
    """A unit that is in the sample with probability `rate`, against one that moves the sum the other way.

    No other two units tell more: of all directions and lengths that two clipped vectors may have, opposite
    ones of full length have the largest divergence at every e, by reflection and by the monotone ratio.
    """
    probs, means = np.array([1 - rate, rate]), np.array([0.0, 1.0]) / noise
    return Pair(_mixture(probs, means), _mixture(probs, -means))


def _mixture(probs: np.ndarray, means: np.ndarray) -> Mixture:
    there = probs > 0
    return Mixture(probs[there], means[there])


def bounds(pair: Pair) -> tuple[float, float]:
    """The losses between which all but a negligible mass of either distribution lies."""
    low, high = pair.loss(np.array(_ends(pair)))[0]
    return float(low), float(high)


def _ends(pair: Pair) -> tuple[float, float]:
    return float(pair.without.means.min()) - _TAIL, float(pair.with_it.means.max()) + _TAIL


def thresholds(pair: Pair, losses: np.ndarray) -> np.ndarray:
    """Where on the line the loss is each of `losses`, which rise; -inf below all that it can be."""
    if len(pair.with_it.means) == 2 and not pair.with_it.means[0]:
        return (_of_one_row if len(pair.without.means) == 1 else _of_two_rows)(pair.with_it, losses)
    low, high = _ends(pair)
    line = np.linspace(low - 1, high + 1, _CELLS + 1)
    known, width = pair.loss(line)[0], line[1] - line[0]
    start = np.interp(losses, known, line)
    at = start
    for _ in range(_NEWTON):
        value, slope = pair.loss(at)
        step = (value - losses) / np.maximum(slope, 1e-300)
        at = np.clip(at - step, start - width, start + width)
    return np.where(losses < known[0], -np.inf, at)


def _of_one_row(with_it: Mixture, losses: np.ndarray) -> np.ndarray:
    """The same where the mixture of N(0, 1) and N(m, 1) stands against N(0, 1): in closed form."""
    (stays, moves), (_, m) = with_it
    with np.errstate(divide="ignore", invalid="ignore"):
        # log(exp(loss) - stays), without overflow
        excess = losses + np.log(-np.expm1(np.log(stays) - losses))
    at: np.ndarray = (excess - np.log(moves)) / m + m / 2
    return np.where(np.isnan(at), -np.inf, at)


def _of_two_rows(with_it: Mixture, losses: np.ndarray) -> np.ndarray:
    """The same where the mixture of N(0, 1) and N(m, 1) stands against its mirror image.

    With u = exp(m x) the loss is l where c u^2 - a (exp(l) - 1) u - c exp(l) = 0, a and c exp(m^2 / 2) being
    the probabilities of 0 and of m: u = exp(l / 2) (y + sqrt(y^2 + 1)) with y = a / c sinh(l / 2).
    """
    (stays, moves), (_, m) = with_it
    half = losses / 2
    with np.errstate(divide="ignore"):
        log_y = np.log(stays / moves) + m**2 / 2 + np.log(np.abs(np.sinh(half)))
    # asinh(y) is log(2 y) where y is large, and there it does not overflow
    risen = np.where(log_y > 20, log_y + np.log(2), np.arcsinh(np.exp(np.minimum(log_y, 20))))
    at: np.ndarray = (half + np.sign(half) * risen) / m
    return at


def deltas(pair: Pair, epsilons: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(divergence with from without, without from with) at each of `epsilons`, which rise."""
    at, scale = thresholds(pair, epsilons), np.exp(epsilons)
    removed = pair.with_it.above(at) - scale * pair.without.above(at)
    at = thresholds(pair, -epsilons[::-1])[::-1]
    added = pair.without.below(at) - scale * pair.with_it.below(at)
    return tuple(np.minimum.accumulate(np.clip(d, 0.0, 1.0)) for d in (removed, added))  # type: ignore[return-value]


def masses(divergences: np.ndarray, interval: float) -> np.ndarray:
    """Probabilities of losses `interval` apart, and of no others but infinity, which has the last divergence:
    those whose divergence is the given one at these losses, and no less between them.

    Source: Doroshenko et al., "Connect the Dots: Tighter Discrete Approximations of Privacy Loss
    Distributions", PoPETs 2022, Alg. 1.
    """
    falls, grow, more = np.diff(divergences), np.exp(interval), np.expm1(interval)
    found = np.empty_like(divergences)
    found[0] = 1 - divergences[0] + falls[0] / more
    found[1:-1] = (falls[1:] - grow * falls[:-1]) / more
    found[-1] = -falls[-1] * grow / more
    return np.maximum(found, 0.0)
