"""dp-accounting behind one door: its events and relations are handed what they mean, and nothing else.

Two of its habits (version 0.6) are kept away from users. Its Rényi accountant takes a noise multiplier
relative to the clip norm and, where data are replaced, forgets that they then move the sum twice as far
(google/differential-privacy issue 378): here sensitivities are doubled before it is asked. Its privacy loss
distributions refuse what they could take with a doubled sensitivity: they are built directly.
"""

from __future__ import annotations

import logging
from functools import lru_cache
from math import ceil, floor, sqrt
from typing import Any

import numpy as np
from scipy import stats

from fedsim.accounting import losses

INTERVAL = 1e-4  # between values of the privacy loss


# --- Rényi differential privacy --------------------------------------------------------------


@lru_cache(maxsize=1)
def orders() -> np.ndarray:
    from dp_accounting import rdp

    return np.asarray(rdp.RdpAccountant().orders, np.float64)


@lru_cache(maxsize=4096)
def gaussian_rdp(noise: float, rate: float = 1.0) -> np.ndarray:
    """Of the Gaussian mechanism of sensitivity 1, Poisson sampled under add or remove one."""
    import dp_accounting as dp

    return _rdp(dp.PoissonSampledDpEvent(rate, dp.GaussianDpEvent(noise)))


@lru_cache(maxsize=4096)
def fixed_rdp(noise: float, population: int, cohort: int) -> np.ndarray:
    """Of the Gaussian mechanism of sensitivity 1 under replace one, sampled without replacement."""
    import dp_accounting as dp
    from dp_accounting import NeighboringRelation

    event = dp.SampledWithoutReplacementDpEvent(population, cohort, dp.GaussianDpEvent(noise))
    return _rdp(event, NeighboringRelation.REPLACE_ONE)


@lru_cache(maxsize=4096)
def laplace_rdp(noise: float) -> np.ndarray:
    import dp_accounting as dp

    return _rdp(dp.LaplaceDpEvent(noise))


@lru_cache(maxsize=4096)
def tree_rdp(noise: float, steps: int) -> np.ndarray:
    import dp_accounting as dp
    from dp_accounting import NeighboringRelation

    return _rdp(dp.SingleEpochTreeAggregationDpEvent(noise, steps), NeighboringRelation.REPLACE_SPECIAL)


def _rdp(event: Any, relation: Any = None) -> np.ndarray:
    from dp_accounting import NeighboringRelation, rdp

    # An order whose series does not converge is left out of the least, which stays a bound: no warning.
    logging.getLogger("absl").setLevel(logging.ERROR)
    accountant = rdp.RdpAccountant(orders(), relation or NeighboringRelation.ADD_OR_REMOVE_ONE)
    accountant.compose(event)
    return np.asarray(accountant.rdp, np.float64)


def epsilon_of_rdp(curve: np.ndarray, delta: float) -> float:
    from dp_accounting import rdp

    return float(rdp.compute_epsilon(orders(), curve, delta)[0])


def delta_of_rdp(curve: np.ndarray, epsilon: float) -> float:
    from dp_accounting import rdp

    return float(rdp.compute_delta(orders(), curve, epsilon)[0])


# --- privacy loss distributions --------------------------------------------------------------


@lru_cache(maxsize=64)
def gaussian_pld(noise: float, rate: float, replaced: bool, rows: int = 1) -> Any:
    """noise: over the clip norm; rows: of a unit, each in the sample with probability `rate`, so that the sum
    moves by a binomial number of clip norms (Choquette-Choo et al., "Privacy Amplification for Matrix
    Mechanisms", ICLR 2024)."""
    from dp_accounting.pld import pld_pmf
    from dp_accounting.pld import privacy_loss_distribution as pld

    pair = losses.replaced(noise, rate) if replaced else losses.sampled(noise, rate, rows)
    least, most = losses.bounds(pair)

    def discretised(which: int, least: float, most: float) -> Any:
        low, high = floor(least / INTERVAL), ceil(most / INTERVAL)
        divergences = losses.deltas(pair, np.arange(low, high + 1) * INTERVAL)[which]
        found = losses.masses(divergences, INTERVAL)
        return pld_pmf.DensePLDPmf(INTERVAL, low, found, float(divergences[-1]), pessimistic_estimate=True)

    removed = discretised(0, least, most)
    if replaced or rate == 1:  # the same either way
        return pld.PrivacyLossDistribution(removed)
    return pld.PrivacyLossDistribution(removed, discretised(1, -most, -least))


@lru_cache(maxsize=64)
def laplace_pld(noise: float, rate: float) -> Any:
    """Of sensitivity 1."""
    from dp_accounting.pld import privacy_loss_distribution as pld

    return pld.from_laplace_mechanism(noise, value_discretization_interval=INTERVAL, sampling_prob=rate)


@lru_cache(maxsize=64)
def truncated_pld(noise: float, rate: float, population: int, cap: int, replaced: bool) -> Any:
    """Of a Poisson sample cut to `cap` units (Ganesh, arXiv 2508.15089): where it is cut, a unit in it
    stands in another's place, so that the sum moves twice as far, either way."""
    plain = gaussian_pld(noise, rate, replaced)
    cut = float(stats.binom.sf(cap - 1, population - 1, rate))  # that it is, where one more unit is drawn
    if cut == 0:
        return plain
    inside = float(stats.binom.sf(cap, population, rate)) * cap / (cut * population)
    return gaussian_pld(noise / 2, inside, True).compute_mixture(plain, cut)


def repeated_gaussian_pld(noise: float, times: int, replaced: bool) -> Any:
    """All `times` releases at once: a Gaussian again."""
    return gaussian_pld(noise / sqrt(times), 1.0, replaced)
