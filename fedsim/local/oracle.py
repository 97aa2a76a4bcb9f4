"""What an algorithm may ask of a client's rows.

An algorithm is handed an oracle and never sees rows. A private oracle answers the same questions from
clipped and noised records, and refuses those it cannot protect.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from fedsim import trees
from fedsim.local.batches import LONG_SLICE, SLICE, Batches, Refused, Whole
from fedsim.model import Batch, Boosted, Curvature, Growing, Histograms, Model, Penalty, Task

Tree = Any
Array = jax.Array
Key = jax.Array


class Shared(NamedTuple):
    """Curvature where rows of several clients are in one another's losses, in two exchanges.

    survey: (model, batches) -> sums over all rows of the client; found: the sum of all clients' -> what it
    comes to; curvature: (model, batches, what was found) -> sums over all rows of the client; whole: (what
    was found, the sum of all clients') -> Curvature of all rows of all clients; times: of events, how many.
    """

    survey: Callable[[Model, Batches], Tree]
    found: Callable[[Tree], Tree]
    curvature: Callable[[Model, Batches, Tree], Curvature]
    whole: Callable[[Tree, Curvature], Curvature]
    times: int


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
    curvature: (model, batches) -> sums of loss, gradient and Hessian over all rows of the client, by
      themselves; raises Refused where the model is not linear. shared: the same of all clients' rows
      together, where that is more than a sum, else None.
    ridge: model -> the task's penalty on the mean loss, of which no row has a say.
    histograms: (model, batches, where boosting is) -> sums of derivatives over all rows of the client, by
      node and bin; raises Refused where the model is no forest. boosted: how its trees are grown, else None.
    """

    gradient: Callable[[Model, Batch | Whole, Key | None], tuple[Tree, Tree]]
    loss: Callable[[Model, Batch | Whole, Key | None], Array]
    full_gradient: Callable[[Model, Batches, Key | None], Tree]
    full_loss: Callable[[Model, Batches, Key | None], Array]
    features: Callable[[Model, Batch, Key | None], Array]
    penalised: Callable[[Model, Batch | Whole, Key | None, Penalty], tuple[Tree, Tree]]
    curvature: Callable[[Model, Batches], Curvature]
    shared: Shared | None
    ridge: Callable[[Model], Array]
    histograms: Callable[[Model, Batches, Growing], Histograms]
    boosted: Boosted | None


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

    shared, of = None, task.second_order
    if of is not None and of.empty is not None:
        shared = Shared(partial(_surveyed, task), of.found, partial(_curvature, task), of.whole, of.times)

    def curvature(model: Model, batches: Batches) -> Curvature:
        if of is None:
            raise Refused(
                "this algorithm needs sums of second derivatives, which are there for linear models of one "
                "output: task=logistic with two classes, task=linear, task=gamma, or task=cox without "
                "task.hidden; choose one of these, or algorithm=fedavg"
            )
        found: Tree = ()
        if shared is not None:
            found = shared.found(shared.survey(model, batches))
        return of.whole(found, _curvature(task, model, batches, found))

    def histograms(model: Model, batches: Batches, growing: Growing) -> Histograms:
        boosted = task.boosted
        if boosted is None:
            raise Refused(
                "this algorithm grows trees, and this task has none; set task=trees, or choose another "
                "algorithm, such as algorithm=fedavg"
            )
        summed: Histograms = _summed(batches, lambda batch: boosted.rows(model, batch, growing))
        return summed

    return Oracle(
        gradient=gradient,
        loss=loss,
        full_gradient=lambda model, batches, key: gradient(model, Whole(batches), key)[0],
        full_loss=lambda model, batches, key: loss(model, Whole(batches), key),
        features=features,
        penalised=penalised,
        curvature=curvature,
        shared=shared,
        ridge=task.penalty,
        histograms=histograms,
        boosted=task.boosted,
    )


def _surveyed(task: Task, model: Model, batches: Batches) -> Tree:
    """Sums of the first pass over all rows."""
    of = task.second_order
    assert of is not None and of.empty is not None

    def body(carry: tuple[Array, Tree]) -> tuple[Array, Tree]:
        i, sums = carry
        return i + 1, of.survey(sums, model, batches.slice(i, LONG_SLICE))

    return _over(batches, body, of.empty())


def _curvature(task: Task, model: Model, batches: Batches, found: Tree) -> Curvature:
    """Sums of the last pass over all rows."""
    of = task.second_order
    assert of is not None

    total: Curvature = _summed(batches, lambda batch: of.rows(model, batch, found))
    return total


def _summed(batches: Batches, per_slice: Callable[[Batch], Tree]) -> Tree:
    """Sum of `per_slice` over all rows."""

    def rows(i: Array) -> Tree:
        return per_slice(batches.slice(i, LONG_SLICE))

    shapes = jax.eval_shape(rows, jax.ShapeDtypeStruct((), jnp.int32))
    zero = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), shapes)
    return _over(batches, lambda carry: (carry[0] + 1, trees.add(carry[1], rows(carry[0]))), zero)


def _over(batches: Batches, body: Callable[[tuple[Array, Tree]], tuple[Array, Tree]], begin: Tree) -> Tree:
    """What the second of (slice number, sums) is after all slices."""
    first = jnp.zeros((), jnp.int32), begin
    return jax.lax.while_loop(lambda c: c[0] < batches.parts(LONG_SLICE), body, first)[1]
