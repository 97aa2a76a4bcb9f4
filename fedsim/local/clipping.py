"""Sums of gradients that are clipped unit by unit, a unit being a row or all rows of a patient.

Two forms of the same sum. *Ghost*: a unit's norm follows from what its rows brought into each layer and
what came back, a_r and d_r: for a matrix the gradient is sum_r d_r a_r^T, and its squared norm
sum_{r,s} (d_r . d_s)(a_r . a_s), so that no gradient of a unit has to exist; a convolution's is small,
and is made. The sum of clipped gradients is then the plain one with slopes scaled. *Vmap*: the gradient of
every unit, for any model.

Sources: Goodfellow, "Efficient Per-Example Gradient Computations", arXiv 1510.01799, 2015; several rows: Li
et al., "Large Language Models Can Be Strong Differentially Private Learners", ICLR 2022, section 4; no
second pass back: Bu et al., "Differentially Private Optimization on Large Model at Small Cost", ICML 2023,
section 3; per layer: McMahan et al., ICLR 2018, section 2.
"""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from fedsim.model import Backprop, Batch, Model, Task

Tree = Any
Array = jax.Array
Key = jax.Array


class Clip(NamedTuple):
    """What a unit's gradient is clipped to. rows: of each unit; layered: layer by layer."""

    norm: Array | float
    rows: int
    layered: bool


class Clipped(NamedTuple):
    """total: sum of clipped gradients, in at least 32 bits; lost: units whose norm was not finite, which add
    nothing; i32 scalar."""

    total: Tree
    lost: Array


def factors(squares: Array, used: Array, clip: Clip) -> tuple[Array, Array]:
    """(what units' gradients are multiplied by, [layers, units]; how many were not finite).

    Args:
      squares: squared norms [layers, units]; used: bool[units].
    """
    fine = jnp.all(jnp.isfinite(squares), axis=0)
    bound = jnp.asarray(clip.norm, squares.dtype)
    if clip.layered:
        bound = bound / len(squares) ** 0.5
    else:
        squares = jnp.broadcast_to(jnp.sum(squares, axis=0), squares.shape)
        fine = fine & jnp.isfinite(squares[0])
    norms = jnp.sqrt(jnp.where(fine, squares, jnp.zeros((), squares.dtype)))
    scale = bound / jnp.maximum(norms, bound)
    keep = used & fine
    return jnp.where(keep, scale, 0), jnp.sum((used & ~fine).astype(jnp.int32))


def ghost(task: Task, model: Model, batch: Batch, key: Key | None, used: Array, clip: Clip) -> Clipped:
    """The clipped sum over the units of a batch of [units * rows], without a gradient of any of them."""
    assert task.backprops is not None
    total = jax.tree.map(lambda w: jnp.zeros(w.shape, jnp.promote_types(w.dtype, jnp.float32)), model.params)
    layers, kernels, squares = [], [], []
    for path, layer in task.backprops(model, batch, key).items():
        there = total
        for step in path:
            there = there[step]
        dtype = there["kernel"].dtype
        layer = layer._replace(inputs=layer.inputs.astype(dtype), slopes=layer.slopes.astype(dtype))
        kernel = None if layer.dense else _kernel_gradients(layer, there["kernel"], clip.rows)
        square = _dense_squares(layer, clip.rows) if kernel is None else _squares(kernel)
        if layer.bias:
            square = square + _squares(_bias_gradients(layer.slopes, clip.rows))
        layers.append((there, layer))
        kernels.append(kernel)
        squares.append(square)
    scale, lost = factors(jnp.stack(squares), used, clip)
    for (there, layer), kernel, c in zip(layers, kernels, scale, strict=True):
        of_row = jnp.repeat(c, clip.rows)
        slopes = _scaled(layer.slopes, of_row)
        if kernel is None:
            inputs = _scaled(layer.inputs, (of_row > 0).astype(c.dtype))
            there["kernel"] = jax.vjp(partial(layer.apply, inputs), there["kernel"])[1](slopes)[0]
        else:
            there["kernel"] = jnp.sum(_scaled(kernel, c), axis=0)
        if layer.bias:
            there["bias"] = jnp.sum(slopes, axis=tuple(range(slopes.ndim - 1)))
    return Clipped(total, lost)


def _dense_squares(layer: Backprop, rows: int) -> Array:
    """Squared norms [units] of a matrix's gradients."""
    if rows == 1:
        return _squares(layer.inputs) * _squares(layer.slopes)
    products = []
    for x in (layer.inputs, layer.slopes):
        x = x.reshape(-1, rows, x.shape[-1])
        products.append(jnp.einsum("urf,usf->urs", x, x))
    return jnp.maximum(jnp.sum(products[0] * products[1], axis=(1, 2)), 0)


def _kernel_gradients(layer: Backprop, kernel: Array, rows: int) -> Array:
    """Gradients [units, *kernel.shape] of a layer that is no matrix, one unit at a time."""

    def one(pair: tuple[Array, Array]) -> Array:
        inputs, slopes = pair
        found: Array = jax.vjp(partial(layer.apply, inputs), kernel)[1](slopes)[0]
        return found

    pairs = jax.tree.map(lambda x: x.reshape(-1, rows, *x.shape[1:]), (layer.inputs, layer.slopes))
    return jax.lax.map(one, pairs)


def _bias_gradients(slopes: Array, rows: int) -> Array:
    """[units, features]."""
    return jnp.sum(slopes.reshape(len(slopes) // rows, -1, slopes.shape[-1]), axis=1)


def _squares(x: Array) -> Array:
    """Sum of squares of each entry of the first axis."""
    return jnp.sum(jnp.square(x), axis=tuple(range(1, x.ndim)))


def _scaled(x: Array, factor: Array) -> Array:
    """Entries of the first axis times their factor; 0 where that is, whatever the entry."""
    factor = factor.astype(x.dtype).reshape(-1, *[1] * (x.ndim - 1))
    return jnp.where(factor > 0, x * factor, jnp.zeros((), x.dtype))


# --- the gradient of every unit ------------------------------------------------------------------


def per_unit(task: Task, model: Model, batch: Batch, key: Key | None, used: Array, clip: Clip) -> Clipped:
    """The same sum, of any task whose loss is a sum over rows."""

    def one(number: Array, rows: Batch) -> Tree:
        own = None if key is None else jax.random.fold_in(key, number)

        def loss(params: Tree) -> Array:
            losses, _ = task.loss(Model(params, model.state), rows, own)
            if "weight" in rows:
                losses = losses * rows["weight"].astype(losses.dtype)
            return jnp.sum(jnp.where(rows["mask"], losses, jnp.zeros((), losses.dtype)))

        return jax.grad(loss)(model.params)

    units = jax.tree.map(lambda x: x.reshape(-1, clip.rows, *x.shape[1:]), batch)
    grads = jax.vmap(one)(jnp.arange(len(used), dtype=jnp.uint32), units)
    grads = jax.tree.map(lambda g: g.astype(jnp.promote_types(g.dtype, jnp.float32)), grads)
    leaves, treedef = jax.tree.flatten_with_path(grads)
    layers: dict[Any, Array] = {}
    for path, g in leaves:
        layers[path[:-1]] = layers.get(path[:-1], jnp.zeros((), g.dtype)) + _squares(g)
    scale, lost = factors(jnp.stack(list(layers.values())), used, clip)
    place = {path: i for i, path in enumerate(layers)}
    total = [jnp.sum(_scaled(g, scale[place[path[:-1]]]), axis=0) for path, g in leaves]
    return Clipped(jax.tree.unflatten(treedef, total), lost)
