"""Local: every client trains alone. What federation has to beat."""

from __future__ import annotations

from fedsim.algorithms.algorithm import Algorithm, Key, Tree, nothing
from fedsim.algorithms.growing import Forest, grown, left, planted
from fedsim.config import Local
from fedsim.local import Batches, Optimizer, Oracle, run_steps
from fedsim.model import Model


def local(oracle: Oracle, optimizer: Optimizer, cfg: Local) -> Algorithm:
    """Build local training; a client's memory is its model, and nothing is sent.

    Of task=trees a round grows what a round of algorithm=boosting does, by the client's rows alone.
    """
    if oracle.boosted is not None:
        return _forests(oracle)

    def client_update(start: Model, memory: Model, batches: Batches, key: Key) -> tuple[Tree, Model]:
        return (), run_steps(oracle.gradient, optimizer, memory, batches, key)

    return Algorithm(
        init=lambda model: model,
        init_memory=lambda model: model,
        client_update=client_update,
        aggregate=nothing,
        server_update=lambda server, aggregate: server,
        personal=lambda start, memory: memory,
    )


def _forests(oracle: Oracle) -> Algorithm:
    """Every client grows a forest; its memory is how far that is."""
    boosted = oracle.boosted
    assert boosted is not None

    def client_update(start: Model, memory: Forest, batches: Batches, key: Key) -> tuple[Tree, Forest]:
        mine = batches.unless(~left(boosted, memory))
        return (), grown(boosted, memory, oracle.histograms(memory.model, mine, memory.growing))

    return Algorithm(
        init=lambda model: model,
        init_memory=lambda model: planted(boosted, model),
        client_update=client_update,
        aggregate=nothing,
        server_update=lambda server, aggregate: server,
        personal=lambda start, memory: memory.model,
    )
