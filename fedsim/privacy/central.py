"""What central, client-level mechanisms share: whole messages clipped, noise on their sum.

The sum is divided by the expected cohort, never by the actual one, which would tell who was there. An
update whose norm is not finite counts as a zero update: its number would be everybody's. How many there
were is stored as it is, without noise, for whoever debugs a run: it is outside the guarantee.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from fedsim import trees
from fedsim.stage import Array, Key, Mechanism, Stage, Tree, nothing


class Noise(NamedTuple):
    """Noise of deviation 1 on a sum, round by round.

    init: message template -> state; draw: (template, state, key of the round) -> (noise, state).
    """

    init: Callable[[Tree], Tree]
    draw: Callable[[Tree, Tree, Key], tuple[Tree, Tree]]


class State(NamedTuple):
    """nonfinite: i32, updates so far that were not finite; noise: of the noise."""

    nonfinite: Array
    noise: Tree


def measurable(message: Tree) -> tuple[Array, Array]:
    """(Euclidean norm of the message as one vector, 0 if it is not finite; whether it is)."""
    length = jnp.sqrt(trees.squared_norm(message))
    finite = jnp.isfinite(length)
    return jnp.where(finite, length, 0), finite


def clip(message: Tree, norm: Array | float) -> Tree:
    """The message as one vector, scaled to a Euclidean norm of at most `norm`; zeros if it is not finite."""
    length, finite = measurable(message)
    scaled = trees.scale(message, jnp.minimum(1, norm / jnp.maximum(length, jnp.finfo(length.dtype).tiny)))
    return trees.where(finite, scaled, trees.zeros(message))


def nonfinite(message: Tree) -> Array:
    """What a client reports: 1 if its message counts as zero for not being finite, else 0."""
    return (~measurable(message)[1]).astype(jnp.int32)


def normal(like: Tree, key: Key) -> Tree:
    """Independent standard normal numbers shaped and typed like `like`."""
    leaves, treedef = jax.tree.flatten(like)
    drawn = [jax.random.normal(jax.random.fold_in(key, i), x.shape, x.dtype) for i, x in enumerate(leaves)]
    return jax.tree.unflatten(treedef, drawn)


def stacked(like: Tree, count: int) -> Tree:
    """Zeros [count, ...], in float32 or wider."""
    return jax.tree.map(lambda x: jnp.zeros((count, *x.shape), jnp.promote_types(x.dtype, jnp.float32)), like)


def weighted(weights: Sequence[float] | np.ndarray, parts: Array) -> Array:
    """Sum over the first axis of `parts`, weighted."""
    return jnp.tensordot(jnp.asarray(weights, parts.dtype), parts, 1, precision=jax.lax.Precision.HIGHEST)


def add(aggregate: Tree, deviation: Array | float, noise: Tree) -> Tree:
    """aggregate + deviation * noise, in the dtype of the aggregate."""
    return jax.tree.map(
        lambda x, z: x + (jnp.asarray(deviation, z.dtype) * z).astype(x.dtype), aggregate, noise
    )


independent = Noise(init=nothing, draw=lambda like, state, key: (normal(like, key), state))


def central(
    clip_norm: Array | float, noise_multiplier: Array | float, noise: Noise, cost: dict[str, Any]
) -> Stage:
    """Clip to `clip_norm`; add noise of deviation noise_multiplier * clip_norm, times `noise`, to the sum."""

    def client(message: Tree, memory: Tree, state: Tree, key: Key) -> tuple[Tree, Tree]:
        return clip(message, clip_norm), memory

    def server(aggregate: Tree, state: State, key: Key, count: Array) -> tuple[Tree, State]:
        drawn, kept = noise.draw(aggregate, state.noise, key)
        return add(aggregate, noise_multiplier * clip_norm / count, drawn), state._replace(noise=kept)

    def hear(state: State, reports: Array, key: Key, count: Array) -> State:
        return state._replace(nonfinite=state.nonfinite + reports)

    return Stage(
        init=lambda message: State(jnp.zeros((), jnp.int32), noise.init(message)),
        init_memory=nothing,
        client=client,
        server=server,
        announce=lambda state, key: (),
        report=lambda message, state: nonfinite(message),
        hear=hear,
        measures=lambda state: {"nonfinite": state.nonfinite},
        mechanism=Mechanism(sensitivity=clip_norm, cost=cost, unit="client"),
        summed=True,
        fixed=True,
        scales=True,
    )
