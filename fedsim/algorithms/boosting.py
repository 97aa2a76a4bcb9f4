"""Gradient-boosted trees from histograms that clients sum: the forest that pooled rows would give.

Source: Chen, Guestrin, "XGBoost: A Scalable Tree Boosting System", KDD 2016, eq. 5 (leaves), eq. 7 (splits)
and Alg. 3 (missing values), on bins (section 3.2, "global variant"), whose histograms are sums over clients.

In the first round clients count their values by the cells of a public grid, and sum derivatives at an output
of 0, of which one Newton step makes the base. Every other round grows one level of a tree: clients send sums
of derivatives by node, feature and bin, and the server splits each node where the penalised sum of losses is
lowered most. Once there are `task.trees` nothing changes any more, and clients read no rows.
"""

from __future__ import annotations

import jax.numpy as jnp

from fedsim.algorithms.algorithm import Algorithm, Key, Tree, added, no_memory
from fedsim.algorithms.growing import Forest, grown, left, planted
from fedsim.base import require
from fedsim.config import Boosting
from fedsim.local import Batches, Optimizer, Oracle
from fedsim.model import Histograms


def boosting(oracle: Oracle, optimizer: Optimizer, cfg: Boosting) -> Algorithm:
    """Build boosting; `optimizer` is not used: a client takes no step.

    Raises:
      RequestError: the task is no forest.
    """
    require(
        oracle.boosted is not None, "algorithm=boosting grows trees, and this task has none; set task=trees"
    )
    return summed(oracle)


def summed(oracle: Oracle) -> Algorithm:
    """Boosting by a server that is sent sums over all clients' rows."""
    boosted = oracle.boosted
    assert boosted is not None

    def client_update(start: Forest, memory: Tree, batches: Batches, key: Key) -> tuple[Histograms, Tree]:
        mine = batches.unless(~left(boosted, start))
        return oracle.histograms(start.model, mine, start.growing), memory

    return Algorithm(
        init=lambda model: planted(boosted, model),
        init_memory=no_memory,
        client_update=client_update,
        aggregate=added,
        server_update=lambda forest, sums: grown(boosted, forest, sums),
        model=lambda forest: forest.model,
        measures=lambda forest: {"trees_grown": jnp.maximum(forest.growing.round - 1, 0) / boosted.depth},
        exact=True,
    )
