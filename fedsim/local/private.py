"""The oracle of record and patient level privacy: gradients are clipped sums over Poisson samples, and noise.

An answer is (sum over the lot of clip_C(gradient of a unit) + N(0, (z C)^2)) / expected lot. It is divided by
the expected size, never by that of the lot, which would tell who is in it. Every answer draws a lot and noise
of its own, whatever the algorithm asked before: k answers are k compositions of one Poisson-sampled Gaussian
mechanism with rate min(1, batch_size / units of the client), under the unit's addition or removal, the
clients' sizes being known. A gradient of all rows is one such answer at rate 1. What an algorithm makes of
answers costs nothing more. Every other question is refused. Units whose gradient is not finite add nothing,
and are noted for `counted`.

Source: Abadi et al., "Deep Learning with Differential Privacy", CCS 2016, Alg. 1; several rows per unit:
McMahan et al., "A General Approach to Adding Differential Privacy to Iterative Training Procedures", 2018.
"""

from __future__ import annotations

from itertools import count
from typing import Any

import jax
import jax.numpy as jnp

from fedsim import keys, trees
from fedsim.config.privacy_record import RecordPrivacy
from fedsim.local import lots
from fedsim.local.batches import SLICE, Batches, Refused, Whole
from fedsim.local.clipping import Clip, Clipped, ghost, per_unit
from fedsim.local.counted import note
from fedsim.local.oracle import Oracle
from fedsim.model import Batch, Curvature, Growing, Histograms, Model, Penalty, Task

Tree = Any
Array = jax.Array
Key = jax.Array

_GRADIENTS = 2**22  # numbers in the gradients of a microbatch, where these are made


def private(task: Task, cfg: RecordPrivacy, algorithm: str) -> Oracle:
    """Answers that protect single records or patients, for one client and one trace of its program.

    Raises Refused for what cannot be protected; the message names `algorithm` and what it asked.
    """
    if task.joint:
        raise Refused(
            "privacy=record bounds what a single row does to a sum over rows, and with this task the loss of "
            "a row depends on the others; choose task=survival_discrete, or privacy=none"
        )
    answers = count()  # of a program, so that no two of them share their draws

    def refused(question: str, why: str) -> Refused:
        return Refused(
            f"algorithm={algorithm} asks for {question}, which privacy=record does not answer: {why}; choose "
            "an algorithm that asks for gradients alone, such as algorithm=fedavg, or privacy=none"
        )

    def answer(model: Model, batches: Batches, key: Key | None, whole: bool) -> Tree:
        """A noised mean gradient, of a lot or of all units."""
        if jax.tree.leaves(model.state):
            raise Refused(
                "privacy=record bounds what a single row does to a gradient, and batch statistics mix rows "
                "and are sent as they are; set task.batch_norm=false"
            )
        if key is None:
            raise refused("a gradient in evaluation mode", "its noise needs a key")
        own = keys.apart(key, next(answers))
        drawing, noising, training = (jax.random.fold_in(own, i) for i in range(3))
        units = lots.units(batches, cfg.rows_per_patient if cfg.unit == "patient" else 0)
        form = ghost if uses_ghost(task, cfg) else per_unit
        m = microbatch(task, cfg, batches.size, trees.size(model.params))
        clip = Clip(cfg.clip_norm, max(units.rows, 1), cfg.clipping == "per_layer")
        if whole:
            size, expected = units.number, units.number
            batches.asked(m)
        else:
            room = -(-lots.places(batches.size) // m) * m
            drawn, size = lots.draw(drawing, units.number, batches.size, room)
            expected = jnp.minimum(units.number, batches.size)

        def part(i: Array) -> Clipped:
            place = i * m + jnp.arange(m, dtype=jnp.int32)
            at = place.astype(jnp.uint32) if whole else jax.lax.dynamic_slice(drawn, (i * m,), (m,))
            used = place < size
            batch = lots.read(batches, units, at, used)
            return form(task, model, batch, jax.random.fold_in(training, i), used, clip)

        def body(carry: tuple[Array, Clipped]) -> tuple[Array, Clipped]:
            i, total = carry
            return i + 1, trees.add(total, part(i))

        # The first stands alone: most lots have no more.
        begin = (jnp.ones((), jnp.int32), part(jnp.zeros((), jnp.int32)))
        _, (total, lost) = jax.lax.while_loop(lambda c: c[0] * m < size, body, begin)
        note(lost)
        noisy = trees.add(total, noise(total, cfg, noising))
        mean = trees.scale(noisy, 1 / jnp.maximum(expected, 1).astype(jnp.float32))
        # No row has a say in the penalty.
        ridge = jax.grad(lambda params: task.penalty(Model(params, model.state)))(model.params)
        return jax.tree.map(lambda r, g: r + g.astype(r.dtype), ridge, mean)

    def gradient(model: Model, batch: Batch | Whole, key: Key | None) -> tuple[Tree, Tree]:
        if not isinstance(batch, Whole):
            raise refused("the gradient of rows it has taken itself", "nobody knows how they were drawn")
        return answer(model, batch.batches, key, batch.batches.size == 0), model.state

    def loss(model: Model, batch: Batch | Whole, key: Key | None) -> Array:
        raise refused("the loss of a batch", "a loss has no bound that its noise could hide")

    def full_loss(model: Model, batches: Batches, key: Key | None) -> Array:
        raise refused("the loss of all rows", "a loss has no bound that its noise could hide")

    def features(model: Model, batch: Batch, key: Key | None) -> Array:
        raise refused("the representation of rows", "it belongs to single rows")

    def penalised(model: Model, batch: Batch | Whole, key: Key | None, penalty: Penalty) -> tuple[Tree, Tree]:
        raise refused("a penalty on the representation of rows", "it belongs to single rows")

    def curvature(model: Model, batches: Batches) -> Curvature:
        raise refused("sums of second derivatives", "they have no bound that noise could hide")

    def histograms(model: Model, batches: Batches, growing: Growing) -> Histograms:
        raise refused("histograms of derivatives", "no account here knows what growing trees discloses")

    return Oracle(
        gradient=gradient,
        loss=loss,
        full_gradient=lambda model, batches, key: answer(model, batches, key, True),
        full_loss=full_loss,
        features=features,
        penalised=penalised,
        curvature=curvature,
        shared=None,
        ridge=task.penalty,
        histograms=histograms,
        boosted=task.boosted,
    )


def noise(total: Tree, cfg: RecordPrivacy, key: Key) -> Tree:
    """Independent normals of deviation noise_multiplier * clip_norm, shaped and typed like `total`."""
    leaves, treedef = jax.tree.flatten(total)
    dtype = jnp.result_type(*leaves)
    drawn = jax.random.normal(key, (trees.size(total),), dtype)
    drawn = drawn * jnp.asarray(cfg.noise() * cfg.clip_norm, dtype)
    made, at = [], 0
    for x in leaves:
        made.append(drawn[at : at + x.size].reshape(x.shape).astype(x.dtype))
        at += x.size
    return jax.tree.unflatten(treedef, made)


def uses_ghost(task: Task, cfg: RecordPrivacy) -> bool:
    """Whether no unit's gradient is made.

    Raises Refused where that is asked for and cannot be.
    """
    if cfg.form == "ghost" and task.backprops is None:
        raise Refused(
            "privacy.form=ghost needs a model of dense layers and convolutions alone, and this one has other "
            "parameters; set privacy.form=auto"
        )
    return cfg.form != "vmap" and task.backprops is not None


def microbatch(task: Task, cfg: RecordPrivacy, batch: int, parameters: int) -> int:
    """Units side by side: as many as nearly every lot has, but no more gradients than stay in memory."""
    if cfg.microbatch:
        return cfg.microbatch
    room = lots.usual(batch) if batch else SLICE
    room = max(1, room // cfg.rows_per_patient)
    return room if uses_ghost(task, cfg) else max(1, min(room, _GRADIENTS // max(parameters, 1)))
