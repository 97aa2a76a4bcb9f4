"""Quantity skew: clients differ in size, not in labels.

Source: Li et al., "Federated Learning on Non-IID Data Silos: An Experimental Study" (NIID-Bench),
ICDE 2022, section 4.3, for Dirichlet shares.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from fedsim.config import Quantity
from fedsim.data.federation import Federation
from fedsim.data.heterogeneity import gini
from fedsim.data.rng import generator
from fedsim.data.splits.assignment import (
    Assignment,
    assemble,
    check_min_rows,
    deal,
    shared_rows,
    training_rows,
)
from fedsim.data.splits.severity import MILD, SEVERE, search
from fedsim.data.splits.tables import log_gammas, log_shares

STEEPEST = 100.0  # the second client then has 2 ** -100 of the first one's share


def quantity(federation: Federation, cfg: Quantity, seed: int) -> Assignment:
    """Every client gets `split.min_rows` rows (at least one); the rest is shared by the law.

    Raises:
      RequestError: fewer rows than `split.min_rows` for every client.
    """
    if cfg.law == "listed":
        cfg = replace(cfg, clients=len(cfg.shares))
    rows, clients = training_rows(federation, cfg, "quantity")
    least = check_min_rows(cfg.min_rows, clients, len(rows))
    rng = generator(seed, "split", "quantity")
    if cfg.severity is not None:
        sizes = _searched(cfg.law, cfg.severity, len(rows), clients, least, rng)
    elif cfg.law == "listed":
        listed = np.array(cfg.shares, dtype=np.float64)
        sizes = shared_rows(len(rows), listed / listed.sum(), least)
    elif cfg.law == "dirichlet":
        shares = rng.dirichlet(np.full(clients, cfg.alpha, dtype=np.float64))
        sizes = shared_rows(len(rows), shares, least)
    else:
        sizes = shared_rows(len(rows), power_shares(clients, cfg.exponent), least)
    return assemble(federation, clients, rows, deal(len(rows), sizes, rng))


def power_shares(clients: int, exponent: float) -> np.ndarray:
    """float64[K] in proportion to rank ** -exponent."""
    mass = np.arange(1, clients + 1, dtype=np.float64) ** -exponent
    return mass / mass.sum()


def _searched(
    law: str, severity: float, rows: int, clients: int, least: int, rng: np.random.Generator
) -> np.ndarray:
    """int64[K] whose Gini coefficient is near `severity` times the largest."""
    largest = gini(shared_rows(rows, np.eye(clients)[0], least))
    log_mass = log_gammas(rng, (clients,))

    def sizes(strength: float) -> np.ndarray:
        by_law = (
            np.exp(log_shares(log_mass(strength))) if law == "dirichlet" else power_shares(clients, strength)
        )
        return shared_rows(rows, by_law, least)

    mild, severe = (MILD, SEVERE) if law == "dirichlet" else (1 / MILD, STEEPEST)
    return sizes(search(lambda strength: gini(sizes(strength)), severity * largest, mild, severe))
