"""What distributed mechanisms share: messages as whole numbers modulo 2**bits, each with a share of noise.

A client clips its message to norm c, scales that to a whole number of steps, spreads it over its numbers by
a random rotation that all clients of a round share, rounds every number up or down at random, again until
the whole is no longer than a bound, and adds its noise. The server sees the sum modulo 2**bits, takes it
for the number nearest zero, and undoes rotation and scale.

Source: Kairouz, Liu, Steinke, "The Distributed Discrete Gaussian Mechanism for Federated Learning with
Secure Aggregation", ICML 2021, Alg. 1 (client) and 2 (server).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from fedsim.config import InRing
from fedsim.privacy.central import clip, nonfinite
from fedsim.quantise import hadamard, padded, round_at_random
from fedsim.stage import Array, Key, Mechanism, Stage, Tree, nothing

# Taken off a share before it is rounded up: less than `InRing.variance` takes off, so that there is never
# less noise than is accounted for.
FLOAT_ERROR = 1 - 2.0**-20
_ROUNDINGS = 1000  # that are drawn for one message at most

# (key, length, deviation in steps) -> i32[length]
Noise = Callable[[Key, int, Array], Array]


class State(NamedTuple):
    """like: an empty array for each leaf of a message, which tells its shape and type; rotation: u32[2], key
    of the next round's; wrapped: i32, numbers of sums so far that the ring did not hold; nonfinite: i32,
    messages so far that were not finite, and count as zeros."""

    like: Tree
    rotation: Array
    wrapped: Array
    nonfinite: Array


def vector(message: Tree) -> Array:
    """All numbers of a message, float32 or wider, with zeros up to a power of two."""
    leaves = jax.tree.leaves(message)
    flat = jnp.concatenate([x.reshape(-1).astype(_wide(x)) for x in leaves])
    return jnp.pad(flat, (0, padded(flat.size) - flat.size))


def messages_like(like: Tree, numbers: Array) -> Tree:
    """`numbers` as a message of these shapes and types."""
    leaves, treedef = jax.tree.flatten(like)
    out, at = [], 0
    for x in leaves:
        end = at + math.prod(x.shape[1:])
        out.append(numbers[at:end].reshape(x.shape[1:]).astype(x.dtype))
        at = end
    return jax.tree.unflatten(treedef, out)


def signs(rotation: Array, size: int, dtype: jnp.dtype) -> Array:
    return jax.random.rademacher(jax.random.wrap_key_data(rotation), (size,), dtype)


def rounded(x: Array, bound: int, key: Key) -> Array:
    """i32: `x` rounded at random, drawn again while the squares sum to more than `bound`; zeros if they
    always do."""

    def draw(i: Array) -> tuple[Array, Array]:
        uniform = jax.random.uniform(jax.random.fold_in(key, i), x.shape, x.dtype)
        whole = round_at_random(x, uniform).astype(jnp.int32)
        # Exact: less than 2**32 whatever is drawn (`InRing.check`).
        return whole, jnp.sum(jnp.square(whole).astype(jnp.uint32), dtype=jnp.uint32) <= jnp.uint32(bound)

    def again(carry: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        return carry[0] + 1, *draw(carry[0])

    zero = jnp.zeros((), jnp.int32)
    begin = zero, jnp.zeros(x.shape, jnp.int32), jnp.zeros((), bool)
    _, whole, short = jax.lax.while_loop(lambda c: ~c[2] & (c[0] < _ROUNDINGS), again, begin)
    return jnp.where(short, whole, 0)


def centred(total: Array, bits: int) -> Array:
    """The numbers nearest zero, from -2**(bits - 1) on, that are `total` modulo 2**bits."""
    half = jnp.int32(1 << (bits - 1))
    return ((total + half) & jnp.int32((1 << bits) - 1)) - half


def in_ring(cfg: InRing, noise: Noise, event: str) -> Stage:
    """Build the mechanism of this noise. Called while tracing: `cfg`'s norm and noise may be traced."""
    share = cfg.noise() * cfg.scale / jnp.sqrt(jnp.asarray(cfg.contributors, jnp.float32))

    def init(message: Tree) -> State:
        like = jax.tree.map(lambda x: jnp.zeros((0, *x.shape), x.dtype), message)
        return State(like, jnp.zeros(2, jnp.uint32), *(jnp.zeros((), jnp.int32) for _ in range(2)))

    def client(message: Tree, memory: Tree, rotation: Array, key: Key) -> tuple[Array, Tree]:
        x = vector(clip(message, cfg.clip_norm)) * (cfg.scale / cfg.clip_norm)
        x = hadamard(signs(rotation, x.size, x.dtype) * x)
        whole = rounded(x, cfg.squared_norm(x.size), jax.random.fold_in(key, 0))
        return whole + noise(jax.random.fold_in(key, 1), x.size, share), memory

    def server(total: Array, state: State, key: Key, count: Array) -> tuple[Tree, State]:
        found = centred(total, cfg.bits)
        wrapped = state.wrapped + jnp.sum(found != total, dtype=jnp.int32)
        dtype = jnp.result_type(jnp.float32, *jax.tree.leaves(state.like))
        x = found.astype(dtype) * jnp.asarray(cfg.clip_norm / cfg.scale / count, dtype)
        x = signs(state.rotation, x.size, dtype) * hadamard(x)
        drawn = jax.random.key_data(jax.random.fold_in(key, 0))
        return messages_like(state.like, x), state._replace(rotation=drawn, wrapped=wrapped)

    def hear(state: State, reports: Array, key: Key, count: Array) -> State:
        return state._replace(nonfinite=state.nonfinite + reports)

    return Stage(
        init=init,
        init_memory=nothing,
        client=client,
        server=server,
        announce=lambda state, key: state.rotation,
        announced=8,
        report=lambda message, state: nonfinite(message),
        hear=hear,
        measures=lambda state: {"nonfinite": state.nonfinite, "wrapped": state.wrapped},
        mechanism=Mechanism(
            sensitivity=cfg.clip_norm,
            cost={"event": event, "noise_multiplier": cfg.noise()},
            unit="client",
        ),
        summed=True,
        fixed=True,
        ring=cfg.bits,
    )


def _wide(x: Array) -> jnp.dtype:
    return jnp.promote_types(x.dtype, jnp.float32)
