"""Distributed discrete Gaussian mechanism: shares of discrete Gaussian noise in a ring.

Source: Kairouz, Liu, Steinke, "The Distributed Discrete Gaussian Mechanism for Federated Learning with
Secure Aggregation", ICML 2021, Alg. 1 and 2; sampler: Canonne, Kamath, Steinke, "The Discrete Gaussian for
Differential Privacy", NeurIPS 2020, Alg. 1 and 3.

The sampler computes with whole numbers alone. A deviation s is whole, so |X| = U + s V with U below s, and
exp(-|X|^2 / (2 s^2)) = exp(-V^2 / 2) exp(-U (U + 2 s V) / (2 s^2)): V is drawn from a table, U uniformly, and
kept with the second probability, whose whole part again is looked up and whose rest is drawn by Alg. 1.
Tables hold 64 bits, so what is drawn differs from the discrete Gaussian by less than 2**-60 in total
variation, numbers beyond 10 s included, which are never drawn.
"""

from __future__ import annotations

from decimal import Decimal, localcontext
from functools import cache
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from fedsim.config import DiscreteGaussian
from fedsim.privacy.ring import FLOAT_ERROR, in_ring
from fedsim.stage import Array, Key, Stage

_HIGHEST = 12  # of V, and of the whole part of an exponent: e**(-V**2 / 2) is nothing in 64 bits well before


class Draw(NamedTuple):
    """Numbers on their way. value: i32, of the proposal; rest: u32, of its exponent, in 1 / (2 s^2); trial:
    u32, K of Alg. 1, 0 without a proposal; done: bool, whether it is kept."""

    value: Array
    rest: Array
    trial: Array
    done: Array


@cache
def tables() -> tuple[np.ndarray, np.ndarray]:
    """(P(V > v) for v = 0 .., exp(-q) for q = 0 ..) in units of 2**-64, as u32[n, 2], high words first.

    Of exp(0) = 1 the last unit is missing.
    """
    with localcontext() as context:
        context.prec = 60
        mass = [(-Decimal(v * v) / 2).exp() for v in range(2 * _HIGHEST)]
        above = [sum(mass[v + 1 :], Decimal()) / sum(mass, Decimal()) for v in range(_HIGHEST)]
        kept = [Decimal(-q).exp() for q in range(_HIGHEST)]
    return words(above), words(kept)


def words(probabilities: list[Decimal]) -> np.ndarray:
    """Probabilities in units of 2**-64 as u32[n, 2]."""
    whole = [min(round(p * 2**64), 2**64 - 1) for p in probabilities]
    return np.array([[x >> 32, x & 0xFFFFFFFF] for x in whole], np.uint32)


def below(high: Array, low: Array, table: Array) -> Array:
    """Whether the 64-bit number is below the entry, u32[..., 2]."""
    return (high < table[..., 0]) | ((high == table[..., 0]) & (low < table[..., 1]))


def uniform(word: Array, n: Array) -> tuple[Array, Array]:
    """(a random word as a whole number below n, whether to use it: all come up equally often)."""
    return word % n, word >= (jnp.uint32(0) - n) % n


def step(key: Key, d: Draw, n: Array) -> Draw:
    """One proposal for numbers that have none, and one trial of Alg. 1 for all; n: the deviation."""
    r = jax.random.bits(key, (8, len(d.value)), jnp.uint32)
    above, kept = (jnp.asarray(t) for t in tables())
    v = jnp.sum(below(r[0, :, None], r[1, :, None], above), axis=1, dtype=jnp.uint32)
    u, fair = uniform(r[2], n)
    exponent = u * (u + 2 * n * v)  # in 1 / (2 s^2); below 2**32 for s up to 2**13
    whole = exponent // (2 * n * n)
    likely = below(r[3], r[4], kept[jnp.minimum(whole, _HIGHEST - 1)])
    x = (u + n * v).astype(jnp.int32)
    negative = (r[5] & 1) == 1
    proposed = fair & likely & ~(negative & (x == 0))  # zero must not come up twice
    new = d.trial == 0
    value = jnp.where(new, jnp.where(negative, -x, x), d.value)
    rest = jnp.where(new, exponent - whole * (2 * n * n), d.rest)
    trial = jnp.where(new, proposed.astype(jnp.uint32), d.trial)
    # Alg. 1 for exp(-rest / (2 s^2)): trial K succeeds with that / K; kept if the first to fail is odd.
    a, fair_a = uniform(r[6], 2 * n * n)
    b, fair_b = uniform(r[7], jnp.maximum(trial, 1))
    tried = (trial > 0) & fair_a & fair_b & ~d.done
    success = (a < rest) & (b == 0)
    odd = trial % 2 == 1
    done = d.done | (tried & ~success & odd)
    after = jnp.where(success, trial + 1, jnp.where(odd, trial, 0))
    return Draw(value, rest, jnp.where(tried, after, trial), done)


def rounded_up(deviation: Array) -> Array:
    """u32: the least whole number of steps that is not below."""
    return jnp.ceil(deviation * FLOAT_ERROR).astype(jnp.uint32)


def discrete_gaussian_noise(key: Key, length: int, deviation: Array) -> Array:
    """i32[length] of discrete Gaussian numbers; deviation: in steps, rounded up to a whole number."""
    s = rounded_up(deviation)
    n = jnp.maximum(s, 1)
    few = -(-length // 8)

    def steps(count: int, i: Array, d: Draw) -> tuple[Array, Draw]:
        def one(j: Array, d: Draw) -> Draw:
            return step(jax.random.fold_in(key, i + j), d, n)

        return i + count, jax.lax.fori_loop(0, count, one, d)

    def those_left(carry: tuple[Array, Draw]) -> tuple[Array, Draw]:
        """Only some are left after a few steps: a part of them goes on by itself."""
        i, d = carry
        at = jnp.nonzero(~d.done, size=few, fill_value=length)[0]
        part = jax.tree.map(lambda x: x[jnp.minimum(at, length - 1)], d)
        i, part = steps(4, i, part)
        return i, jax.tree.map(lambda x, y: x.at[at].set(y, mode="drop"), d, part)

    zero = jnp.zeros(length, jnp.uint32)
    begin = Draw(zero.astype(jnp.int32), zero, zero, zero != 0)
    d = jax.lax.while_loop(
        lambda c: ~jnp.all(c[1].done), those_left, steps(2, jnp.zeros((), jnp.int32), begin)
    )[1]
    return jnp.where(s > 0, d.value, 0)


def discrete_gaussian(cfg: DiscreteGaussian) -> Stage:
    """Build the mechanism."""
    return in_ring(cfg, discrete_gaussian_noise, "discrete_gaussian")
