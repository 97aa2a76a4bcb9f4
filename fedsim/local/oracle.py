"""What an algorithm may ask of a client's rows.

An algorithm is handed an oracle and never sees rows. A private oracle answers the same questions from
clipped and noised records, and refuses those it cannot protect.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from fedsim import trees
from fedsim.local.batches import SLICE, Batches, Refused, Whole
from fedsim.model import Batch, Model, Penalty, Task

Tree = Any
Array = jax.Array
Key = jax.Array


class Oracle(NamedTuple):
    """Questions about a client's rows.

    Answers are about training mode, with its dropout and batch statistics; with None for a key they are
    about evaluation mode: how good a model is.

    gradient: (model, batch, key) -> (mean gradient over the batch, shaped like model.params; new
      model state).
    loss: (model, batch, key) -> mean loss over the batch, nats per example (or squared error).
    full_gradient: (model, batches, key) -> mean gradient over all rows of the client.
    full_loss: (model, batches, key) -> mean loss over all rows of the client.
    features: (model, batch, key) -> the representation [B, D] that the model's head reads, for what
      `penalised` adds; raises Refused where the model is a head alone.
    penalised: (model, batch, key, penalty) -> as `gradient`, of the loss plus the mean over the batch of
      penalty(features, rows) [B]; of a batch that is the whole client, `rows` are slices of it.
    """

    gradient: Callable[[Model, Batch | Whole, Key | None], tuple[Tree, Tree]]
    loss: Callable[[Model, Batch | Whole, Key | None], Array]
    full_gradient: Callable[[Model, Batches, Key | None], Tree]
    full_loss: Callable[[Model, Batches, Key | None], Array]
    features: Callable[[Model, Batch, Key | None], Array]
    penalised: Callable[[Model, Batch | Whole, Key | None, Penalty], tuple[Tree, Tree]]


Losses = Callable[[Model, Batch, Key | None], tuple[Array, Tree]]  # per example, and the new state


def plain(task: Task) -> Oracle:
    """Exact answers, no protection."""
    length = task.joint or SLICE

    def mean(of: Losses, model: Model, batch: Batch, key: Key | None) -> tuple[Array, Tree]:
        losses, new = of(model, batch, key)
        mask = batch["mask"]
        weight = mask.astype(losses.dtype)
        if "weight" in batch:
            weight = weight * batch["weight"].astype(losses.dtype)
        total = jnp.sum(jnp.where(mask, losses * weight, jnp.zeros((), losses.dtype)))
        return total / jnp.maximum(jnp.sum(weight), jnp.asarray(1e-12, losses.dtype)), new

    def slope(of: Losses, model: Model, batch: Batch, key: Key | None) -> tuple[Tree, Tree]:
        """(gradient of the mean of `of` and the ridge penalty, new state)."""

        def objective(params: Tree) -> tuple[Array, Tree]:
            value, new = mean(of, Model(params, model.state), batch, key)
            return value + task.penalty(Model(params, model.state)), new

        return jax.grad(objective, has_aux=True)(model.params)

    def over_slices(per_slice: Callable[[Batch], Tree], batches: Batches) -> Tree:
        """Weighted mean of `per_slice` over all rows, summed slice by slice."""

        def weigh(i: Array) -> tuple[Tree, Array]:
            batch = batches.slice(i, length)
            weight = batch["mask"].astype(batches.rows.dtype)
            if "weight" in batch:
                weight = weight * batch["weight"].astype(weight.dtype)
            weight = jnp.sum(weight)
            return trees.scale(per_slice(batch), weight), weight

        shapes = jax.eval_shape(weigh, jax.ShapeDtypeStruct((), jnp.int32))
        empty = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), shapes)

        def body(carry: tuple[Array, Tree]) -> tuple[Array, Tree]:
            i, total = carry
            return i + 1, trees.add(total, weigh(i))

        _, (total, weight) = jax.lax.while_loop(
            lambda c: c[0] < batches.slices(length), body, (jnp.zeros((), jnp.int32), empty)
        )
        return trees.scale(total, 1 / jnp.maximum(weight, jnp.asarray(1e-12, weight.dtype)))

    def gradient_of(of: Losses, model: Model, batch: Batch | Whole, key: Key | None) -> tuple[Tree, Tree]:
        if isinstance(batch, Whole):
            # State such as batch statistics follows single batches; a whole-client step leaves it.
            return over_slices(lambda rows: slope(of, model, rows, key)[0], batch.batches), model.state
        return slope(of, model, batch, key)

    def gradient(model: Model, batch: Batch | Whole, key: Key | None) -> tuple[Tree, Tree]:
        return gradient_of(task.loss, model, batch, key)

    def loss(model: Model, batch: Batch | Whole, key: Key | None) -> Array:
        if isinstance(batch, Whole):
            return over_slices(lambda rows: mean(task.loss, model, rows, key)[0], batch.batches)
        return mean(task.loss, model, batch, key)[0]

    no_features = Refused(
        "this algorithm needs a representation of rows, which is what a model's last layer reads, and this "
        "model is a last layer alone; use task=mlp with task.hidden, task=cnn, or algorithm=fedavg"
    )

    def features(model: Model, batch: Batch, key: Key | None) -> Array:
        if task.features is None:
            raise no_features
        return task.features(model, batch, key)

    def penalised(model: Model, batch: Batch | Whole, key: Key | None, penalty: Penalty) -> tuple[Tree, Tree]:
        of = task.penalised
        if of is None:
            raise no_features
        return gradient_of(lambda m, rows, k: of(m, rows, k, penalty), model, batch, key)

    return Oracle(
        gradient=gradient,
        loss=loss,
        full_gradient=lambda model, batches, key: gradient(model, Whole(batches), key)[0],
        full_loss=lambda model, batches, key: loss(model, Whole(batches), key),
        features=features,
        penalised=penalised,
    )
