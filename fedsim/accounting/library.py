"""dp-accounting behind one door: its events and relations are handed what they mean, and nothing else.

Two of its habits (version 0.6) are kept away from users. Its Rényi accountant takes a noise multiplier
relative to the clip norm and, where data are replaced, forgets that they then move the sum twice as far
(google/differential-privacy issue 378): here sensitivities are doubled before it is asked. Its privacy loss
distributions refuse what they could take with a doubled sensitivity: they are built directly.
"""

from __future__ import annotations

import logging
from functools import lru_cache
from typing import Any

import numpy as np

# --- Rényi differential privacy --------------------------------------------------------------


@lru_cache(maxsize=1)
def orders() -> np.ndarray:
    from dp_accounting import rdp

    return np.asarray(rdp.RdpAccountant().orders, np.float64)


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
def laplace_pld(noise: float, rate: float, interval: float) -> list[tuple[int, np.ndarray, float]]:
    """Of sensitivity 1, where a unit is removed and where one is added: (least loss, in intervals;
    probabilities of it and those that follow; probability of an infinite one)."""
    from dp_accounting.pld import privacy_loss_distribution as pld

    both = pld.from_laplace_mechanism(noise, value_discretization_interval=interval, sampling_prob=rate)
    dense = (one.to_dense_pmf() for one in (both._pmf_remove, both._pmf_add))
    return [(one._lower_loss, np.asarray(one._probs), one._infinity_mass) for one in dense]
