"""Mime: MimeLite whose local gradients are corrected for what a client's rows differ by.

Source: Karimireddy et al., "Mime: Mimicking Centralized Stochastic Algorithms in Federated Learning",
arXiv 2008.03606 ("Breaking the Centralized Barrier for Cross-Device Federated Learning", NeurIPS 2021),
Alg. 1, Mime, with SGD with momentum as the base optimiser.

A round has two exchanges. First the cohort's gradients at the server's model x, each on all of a client's
rows, become their mean c; then a local step at y goes along U(g, m) with

    g = grad f_i(y; batch) - grad f_i(x; batch) + c.

Last, m <- V(c, m), and x becomes the mean of the clients' models.
"""

from __future__ import annotations

from fedsim import trees
from fedsim.algorithms.algorithm import Algorithm, Key, Survey, Tree, no_memory, weighted_mean
from fedsim.algorithms.mimelite import Server, mixed
from fedsim.config.servers import Mime
from fedsim.local import Batch, Batches, Optimizer, Oracle, Whole, run_steps
from fedsim.model import Model


def mime(oracle: Oracle, optimizer: Optimizer, cfg: Mime) -> Algorithm:
    """Build Mime; what its survey finds is c."""

    def answer(start: Server, batches: Batches, key: Key) -> Tree:
        return oracle.full_gradient(start.model, batches, key)

    def client_update(
        start: tuple[Server, Tree], memory: Tree, batches: Batches, key: Key
    ) -> tuple[Model, Tree]:
        (x, momentum), c = start

        def direction(model: Model, batch: Batch | Whole, key: Key) -> tuple[Tree, Tree]:
            here, state = oracle.gradient(model, batch, key)
            there, _ = oracle.gradient(x, batch, key)  # the same key: of the same function
            return mixed(trees.add(trees.sub(here, there), c), momentum, cfg.momentum), state

        return trees.sub(run_steps(direction, optimizer, x, batches, key), x), memory

    def server_update(server: Server, found: tuple[Tree, Model]) -> Server:
        c, mean = found
        return Server(trees.add(server.model, mean), mixed(c, server.momentum, cfg.momentum))

    return Algorithm(
        init=lambda model: Server(model, trees.zeros(model.params)),
        init_memory=no_memory,
        survey=Survey(answer, weighted_mean),
        client_update=client_update,
        aggregate=weighted_mean,
        server_update=server_update,
        model=lambda server: server.model,
    )
