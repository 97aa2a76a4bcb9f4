"""Which canary clients may join: a coin for each at the start. NumPy only."""

from __future__ import annotations

import numpy as np

from fedsim.config import Experiment
from fedsim.config.audit import CanaryClients
from fedsim.data.names import client_ids
from fedsim.data.rng import generator


def ids(count: int) -> np.ndarray:
    """uint64[count]: canaries' identities, from which their draws follow; no client's."""
    return client_ids([f"\0canary {i}" for i in range(count)])


def included(seed: int, count: int) -> np.ndarray:
    """bool[count]: whose coin came up."""
    return generator(seed, "audit", "included").random(count) < 0.5


def signs(experiment: Experiment) -> np.ndarray:
    """f32[canaries]: what each canary's direction is sent times: 1, or where the coin did not come up 0, and
    -1 where neighbours replace a client's data."""
    cfg = experiment.audit
    if not isinstance(cfg, CanaryClients):
        return np.zeros(0, np.float32)
    other = -1 if cfg.relation == "replace_one" else 0
    return np.where(included(experiment.seed, cfg.canaries), 1, other).astype(np.float32)
