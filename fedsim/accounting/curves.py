"""What no library here has: Rényi curves of integer noise, and the exact account of Gaussian noise."""

from __future__ import annotations

from math import exp, inf, pi, sqrt

import numpy as np
from scipy import optimize, special

from fedsim.accounting.events import DiscreteGaussian, Skellam, halves

_FEW = 10_000  # terms of a sum that are written out


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
    root = optimize.brentq(lambda e: gaussian_delta(mu, e) - delta, 0.0, high, xtol=1e-13, rtol=1e-14)
    return float(root) * (1 + 1e-12) + 1e-12
