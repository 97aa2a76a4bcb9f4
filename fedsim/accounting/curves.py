"""What no library here has: Rényi curves of integer noise, and the exact account of Gaussian noise."""

from __future__ import annotations

from math import exp, inf, log, log1p, pi, sqrt

import numpy as np
import scipy
from scipy import special

from fedsim.accounting.events import DiscreteGaussian, Skellam, halves

_FEW = 10_000  # terms of a sum that are written out
_TERMS, _AT_ONCE = 1000, 50  # of a series
_SMALL = 30  # by how much the logarithm of a series' last term is less than that of its sum


def discrete_gaussian(event: DiscreteGaussian, relation: str, orders: np.ndarray) -> np.ndarray:
    """Rényi divergence of a sum of discrete Gaussians at `orders`.

    Source: Kairouz, Liu, Steinke, "The Distributed Discrete Gaussian Mechanism for Federated Learning with
    Secure Aggregation", ICML 2021, Theorem 1: e^2 / 2-concentrated, with the least of three e. For one
    client it is Canonne, Kamath, Steinke, NeurIPS 2020, Theorem 4.
    """
    norm = 1 / halves(event, relation)  # of what moves, over the noise of the sum
    one_norm = norm * event.one_norm / event.sensitivity
    variance = (event.noise_multiplier * event.sensitivity) ** 2 / event.clients  # of a client's noise
    terms = min(event.clients - 1, _FEW)
    k = np.arange(1, terms + 1)
    gap = 10 * float(np.exp(-2 * pi**2 * variance * k / (k + 1)).sum())
    # The rest of the terms are no larger than the last.
    gap += 10 * (event.clients - 1 - terms) * exp(-2 * pi**2 * variance * _FEW / (_FEW + 1))
    d = event.dimension
    squared = min(
        norm**2 + gap * d / 2,
        norm**2 + 2 * one_norm * gap + gap**2 * d,
        (norm + gap * sqrt(d)) ** 2,
    )
    return squared / 2 * orders


def sampled_gaussian(noise: float, rate: float, orders: np.ndarray) -> np.ndarray:
    """Rényi divergence at `orders` of the Gaussian mechanism of sensitivity 1 on Poisson samples, rate < 1;
    inf for fractional orders whose series is not done within a thousand terms.

    Source: Mironov, Talwar, Zhang, "Rényi Differential Privacy of the Sampled Gaussian Mechanism",
    arXiv 1908.10530, section 3.3. Terms of the series are added without their signs, as in dp-accounting,
    whose numbers these are: a bound, and the same one.
    """
    between = orders != np.floor(orders)
    found = np.empty(len(orders), np.float64)
    found[~between] = [_whole_moment(noise, rate, int(order)) for order in orders[~between]]
    found[between] = _moments(noise, rate, orders[between])
    return found / (orders - 1)


def _whole_moment(noise: float, rate: float, order: int) -> float:
    """log E (p / q)^order under q."""
    k = np.arange(order + 1, dtype=np.float64)
    ways = special.gammaln(order + 1) - special.gammaln(k + 1) - special.gammaln(order - k + 1)
    terms = ways + k * log(rate) + (order - k) * log1p(-rate) + (k * k - k) / (2 * noise**2)
    most = float(terms.max())
    return most + log(float(np.exp(terms - most).sum()))


def _moments(noise: float, rate: float, orders: np.ndarray) -> np.ndarray:
    """The same for fractional orders, f64[n]; split where both densities of the mixture are equal."""
    split = noise**2 * log(1 / rate - 1) + 0.5
    a, total, open_ = orders[:, None], np.full(len(orders), -inf), np.ones(len(orders), np.bool_)
    for begin in range(0, _TERMS, _AT_ONCE):
        i = np.arange(begin, begin + _AT_ONCE, dtype=np.float64)
        j = a[open_] - i
        ways = special.gammaln(a[open_] + 1) - special.gammaln(i + 1) - special.gammaln(j + 1)
        below = ways + i * log(rate) + j * log1p(-rate) + (i * i - i) / (2 * noise**2)
        above = ways + j * log(rate) + i * log1p(-rate) + (j * j - j) / (2 * noise**2)
        terms = np.concatenate(
            [below + special.log_ndtr((split - i) / noise), above + special.log_ndtr((j - split) / noise)], 1
        )
        most = terms.max(axis=1)
        now = np.logaddexp(total[open_], most + np.log(np.exp(terms - most[:, None]).sum(axis=1)))
        total[open_] = now
        last = terms[:, [_AT_ONCE - 1, -1]]
        falling = (last < terms[:, [_AT_ONCE - 2, -2]]).all(axis=1)
        open_[open_] = ~(falling & (last.max(axis=1) < now - _SMALL))
        if not open_.any():
            break
    total[open_] = inf
    return total


def skellam(event: Skellam, relation: str, orders: np.ndarray) -> np.ndarray:
    """Rényi divergence of Skellam noise at `orders`.

    Source: Agarwal, Kairouz, Liu, "The Skellam Mechanism for Differentially Private Federated Learning",
    NeurIPS 2021, Corollary 3.7; for whole orders, and a divergence rises with the order.
    """
    variance = (event.noise_multiplier * event.sensitivity) ** 2
    moved = event.noise_multiplier / halves(event, relation)
    two, one = (moved * event.sensitivity) ** 2, moved * event.one_norm
    order = np.ceil(orders)
    extra = np.minimum(((2 * order - 1) * two + 6 * one) / (4 * variance**2), 3 * one / (2 * variance))
    return order * two / (2 * variance) + extra


# --- Gaussian differential privacy -----------------------------------------------------------


def gaussian_delta(mu: float, epsilon: float) -> float:
    """Of the Gaussian mechanism whose mean moves by `mu` deviations, exactly (Balle and Wang, "Improving the
    Gaussian Mechanism for Differential Privacy", ICML 2018, Theorem 8)."""
    if mu == 0:
        return 0.0
    first = special.log_ndtr(mu / 2 - epsilon / mu)
    second = epsilon + special.log_ndtr(-mu / 2 - epsilon / mu)
    return float(-np.exp(first) * np.expm1(min(second - first, 0.0)))


def gaussian_epsilon(mu: float, delta: float) -> float:
    """The least epsilon, rounded up, of `gaussian_delta`."""
    if mu == 0 or gaussian_delta(mu, 0.0) <= delta:
        return 0.0
    high = 1.0
    while gaussian_delta(mu, high) > delta:
        high *= 2
        if high > 1e9:
            return inf
    root = scipy.optimize.brentq(lambda e: gaussian_delta(mu, e) - delta, 0.0, high, xtol=1e-13, rtol=1e-14)
    return float(root) * (1 + 1e-12) + 1e-12
