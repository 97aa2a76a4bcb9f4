"""SCAFFOLD: local steps corrected by control variates, so that clients do not drift apart.

Source: Karimireddy et al., "SCAFFOLD: Stochastic Controlled Averaging for Federated Learning", ICML
2020, Alg. 1.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from fedsim import trees
from fedsim.algorithms.algorithm import Algorithm, Array, Cohort, Key, Reduction, Tree, weighted_mean
from fedsim.config import Scaffold
from fedsim.local import Batch, Batches, Optimizer, Oracle, Whole, run_steps
from fedsim.model import Model


class Server(NamedTuple):
    """Also what clients receive. control: c, shaped like the parameters."""

    model: Model
    control: Tree


class Message(NamedTuple):
    model: Model  # y_i - x
    control: Tree  # c_i^+ - c_i


def scaffold(oracle: Oracle, optimizer: Optimizer, cfg: Scaffold) -> Algorithm:
    """Build SCAFFOLD; a client's memory is its control variate c_i.

    Controls of all clients count the same (line 17), so that where nothing moves the plain mean of clients'
    gradients is 0: its optimum is that of their objectives' plain mean, whatever `weighting` says of models.
    """

    def client_update(start: Server, memory: Tree, batches: Batches, key: Key) -> tuple[Message, Tree]:
        x, control = start.model, start.control

        def direction(model: Model, batch: Batch | Whole, key: Key) -> tuple[Tree, Tree]:
            grads, state = oracle.gradient(model, batch, key)
            return jax.tree.map(lambda g, ci, c: g - ci + c, grads, memory, control), state

        end = run_steps(direction, optimizer, x, batches, key)
        if cfg.option == 1:  # line 12, option I: the gradient at the server's model
            new = oracle.full_gradient(x, batches, key)
        else:  # option II: what the path says, c_i - c + (x - y_i) / (K eta_l)
            steps = jnp.maximum(batches.steps, 1).astype(optimizer.step_size.dtype) * optimizer.step_size
            # A step size of zero moves nothing and so says nothing about the gradient.
            rate = jnp.where(steps > 0, 1 / jnp.where(steps > 0, steps, 1), 0)
            new = jax.tree.map(
                lambda ci, c, w0, w: ci - c + (w0 - w) * rate.astype(w.dtype),
                memory,
                control,
                x.params,
                end.params,
            )
        return Message(trees.sub(end, x), trees.sub(new, memory)), new

    def lift(message: Message, weight: Array) -> tuple[Tree, Tree]:
        return weighted_mean.lift(message.model, weight), message.control

    def finish(total: tuple[Tree, Tree], cohort: Cohort) -> Message:
        model, control = total
        # |S| / N times the mean over S (line 17) is the sum over S divided by N.
        return Message(weighted_mean.finish(model, cohort), trees.scale(control, 1 / cohort.population))

    def server_update(server: Server, mean: Message) -> Server:
        step = trees.scale(mean.model.params, cfg.server_step_size)
        params = trees.add(server.model.params, step)
        state = trees.add(server.model.state, mean.model.state)
        return Server(Model(params, state), trees.add(server.control, mean.control))

    return Algorithm(
        init=lambda model: Server(model, trees.zeros(model.params)),
        init_memory=lambda model: trees.zeros(model.params),
        client_update=client_update,
        aggregate=Reduction(lift, finish),
        server_update=server_update,
        model=lambda server: server.model,
    )
