"""Gradient inversion: rows of a table from what a client sends.

The message is the gradient of the mean loss over a client's batch (one local step), or with secure
aggregation the mean of several clients' gradients; clipped and noised where told. The attacker knows the
model, the labels and the values that columns can take.

- `layer`: the gradient of a neuron's weights over that of its bias is a row, exactly so where the neuron
  answers to one row of the batch only; each neuron is a candidate.
  Sources: Phong, Aono, Hayashi, Wang, Moriai, "Privacy-Preserving Deep Learning via Additively Homomorphic
  Encryption", IEEE TIFS 2018, section III; Boenisch et al., "When the Curious Abandon Honesty", EuroS&P 2023,
  section 4.
- `optimised`: rows whose gradient points as the message does, by Adam from several random starts, whose best
  by the same cosine is taken.
  Sources: Geiping, Bauermeister, Droge, Moeller, "Inverting Gradients", NeurIPS 2020, eq. 4; for tables,
  Vero, Balunovic, Dimitrov, Vechev, "TabLeak: Tabular Data Leakage in Federated Learning", ICML 2023, of
  which the decoding to known values is kept, and the softmax over categories is not.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import optax

from fedsim import trees
from fedsim.model import Model, Task

Tree = Any
Array = jax.Array

_STEP = 0.1  # of Adam, in standard deviations of a feature
_SMALL = 1e-9  # a bias's gradient below which a neuron says nothing


def gradient(task: Task, model: Model, x: Array, y: Array) -> Tree:
    """Of the mean loss over rows x [n, F], in evaluation mode, without a ridge penalty, which is known."""

    def mean(params: Tree) -> Array:
        batch = {"x": x, "y": y, "mask": jnp.ones(x.shape[0], bool)}
        return jnp.mean(task.loss(Model(params, model.state), batch, None)[0])

    return jax.grad(mean)(model.params)


def flat(tree: Tree) -> Array:
    return jnp.concatenate([x.reshape(-1).astype(jnp.float32) for x in jax.tree.leaves(tree)])


def message(task: Task, model: Model, x: Array, y: Array, clip: Array, drawn: Array) -> Array:
    """What is seen of clients with rows x [K, B, F]: the mean of their gradients as one vector [d].

    clip: norm that each gradient is scaled down to, inf for none; drawn: f32[d], noise on the sum.
    """

    def one(x: Array, y: Array) -> Array:
        g = flat(gradient(task, model, x, y))
        return g * jnp.minimum(1, clip / jnp.maximum(jnp.linalg.norm(g), jnp.finfo(jnp.float32).tiny))

    return (jnp.sum(jax.vmap(one)(x, y), axis=0) + drawn) / x.shape[0]


def layer(model: Model, seen: Array, features: int) -> Array:
    """Candidates f32[neurons, F] from the first layer's part of a message; none where it has no bias.

    Rows of neurons that say nothing are NaN.
    """
    found = _first(model.params, features)
    if found is None:
        return jnp.zeros((0, features), jnp.float32)
    weights, biases = (jax.tree.leaves(part) for part in found)
    start = {id(leaf): at for leaf, at in _offsets(model.params)}
    w = jax.lax.dynamic_slice_in_dim(seen, start[id(weights[0])], weights[0].size).reshape(weights[0].shape)
    b = jax.lax.dynamic_slice_in_dim(seen, start[id(biases[0])], biases[0].size)
    w = w if w.shape == (b.size, features) else w.T
    silent = jnp.abs(b) < _SMALL
    return jnp.where(silent[:, None], jnp.nan, w / jnp.where(silent, 1, b)[:, None])


def _offsets(params: Tree) -> list[tuple[Any, int]]:
    leaves, at = jax.tree.leaves(params), 0
    out = []
    for leaf in leaves:
        out.append((leaf, at))
        at += leaf.size
    return out


def _first(params: Tree, features: int) -> tuple[Any, Any] | None:
    """(kernel, bias) of the first layer that reads the features."""
    if not isinstance(params, dict):
        return None
    kernel, bias = params.get("kernel"), params.get("bias")
    if kernel is not None and bias is not None and not isinstance(kernel, dict):
        fits = kernel.ndim == 2 and kernel.shape in ((features, bias.size), (bias.size, features))
        return (kernel, bias) if fits else None
    ordered = sorted(params, key=str)
    return next((found for name in ordered if (found := _first(params[name], features))), None)


def optimised(
    task: Task, model: Model, seen: Array, y: Array, starts: Array, steps: int
) -> tuple[Array, Array]:
    """Rows f32[n, F] whose gradient points as `seen` does, and the cosine distance that is left.

    starts: f32[restarts, n, F].
    """

    def away(x: Array) -> Array:
        g = flat(gradient(task, model, x, y))
        scale = jnp.linalg.norm(g) * jnp.linalg.norm(seen)
        return 1 - jnp.dot(g, seen) / jnp.maximum(scale, jnp.finfo(jnp.float32).tiny)

    adam = optax.adam(_STEP)

    def descend(x: Array) -> tuple[Array, Array]:
        def step(_: Array, carry: tuple[Array, Tree]) -> tuple[Array, Tree]:
            x, state = carry
            updates, state = adam.update(jax.grad(away)(x), state)
            return x + updates, state

        x, _ = jax.lax.fori_loop(0, steps, step, (x, adam.init(x)))
        return x, away(x)

    rows, left = jax.vmap(descend)(starts)
    best = jnp.argmin(jnp.where(jnp.isnan(left), jnp.inf, left))
    return trees.take(rows, best), left[best]
