"""Pooled: the training rows of all clients in one place. The bound federation is held against."""

from __future__ import annotations

from dataclasses import replace

from fedsim import trees
from fedsim.algorithms.algorithm import Algorithm, no_memory, weighted_mean
from fedsim.algorithms.boosting import summed
from fedsim.algorithms.fedavg import local_sgd
from fedsim.config import Pooled
from fedsim.local import Optimizer, Oracle


def pooled(oracle: Oracle, optimizer: Optimizer, cfg: Pooled) -> Algorithm:
    """Build pooled training: one client, whose model the server takes over; or, of task=trees, its sums."""
    if oracle.boosted is not None:
        return replace(summed(oracle), pooled=True)
    return replace(
        Algorithm(
            init=lambda model: model,
            init_memory=no_memory,
            client_update=local_sgd(oracle, optimizer),
            aggregate=weighted_mean,
            server_update=trees.add,
        ),
        pooled=True,
    )
