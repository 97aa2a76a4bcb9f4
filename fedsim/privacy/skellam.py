"""Skellam mechanism: shares of Skellam noise, the difference of two Poisson numbers, in a ring.

Source: Agarwal, Kairouz, Liu, "The Skellam Mechanism for Differentially Private Federated Learning", NeurIPS
2021, section 3 (noise) and 4 (in a ring, with rotation and rounding as `privacy=discrete_gaussian`).

Sums of Skellam numbers are Skellam, of the summed variance. So one of a variance that is a whole number of
squared steps is a sum of some of variances 1, 2, 4 .., one for each bit that is set; each is looked up in a
table of 64 bits, computed with whole numbers alone. The variance keeps 8 significant bits, rounded up. What
is drawn differs from the Skellam distribution by less than 2**-48 in total variation.
"""

from __future__ import annotations

from functools import cache
from math import isqrt
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from fedsim.config import Skellam
from fedsim.config.privacy_distributed import SIGNIFICANT
from fedsim.privacy.ring import FLOAT_ERROR, in_ring
from fedsim.quantise import padded
from fedsim.stage import Array, Key, Stage

_POWERS = (Skellam.most_noise**2).bit_length()  # of two that have a table


@cache
def masses(power: int) -> list[int]:
    """P(|X| = k) for k = 0 .. n - 1, for X of variance mu = 2**power, as whole numbers that sum to n 2**64,
    n being a power of two.

    The probabilities are exp(-mu) I_k(mu), I the modified Bessel function, which for all k follow from
    I_(k-1) = I_(k+1) + (2 k / mu) I_k from far out (Miller's algorithm), and sum to 1.
    """
    mu = 2**power
    n = padded(10 * (isqrt(mu) + 2))
    after, here, found = 0, 1 << 128, []
    for k in range(n - 1 + 32, 0, -1):
        found.append(2 * here)
        after, here = here, after + 2 * k * here // mu
    found = [here, *reversed(found)][:n]
    total = sum(found)
    whole = [n * (m << 64) // total for m in found]
    whole[0] += n * 2**64 - sum(whole)  # less than n units that rounding down has left over
    return whole


class Table(NamedTuple):
    """Walker's alias tables of all powers. A number k below n, drawn uniformly, stays k with probability
    `stays` in units of 2**-64 (u32[n, 2], high words first), and else becomes `other` (i32[n]). begin:
    i32[powers], of each; bits: u32[powers], n = 2**bits."""

    stays: np.ndarray
    other: np.ndarray
    begin: np.ndarray
    bits: np.ndarray


@cache
def table() -> Table:
    """Vose's construction, in whole numbers: exact for `masses`."""
    stays, other, sizes = [], [], []
    for power in range(_POWERS):
        left, n = masses(power)[:], len(masses(power))
        becomes = list(range(n))
        small = [k for k in range(n) if left[k] < 2**64]
        large = [k for k in range(n) if left[k] > 2**64]
        while small:
            k, rich = small.pop(), large[-1]
            becomes[k] = rich
            left[rich] -= 2**64 - left[k]
            if left[rich] <= 2**64:
                large.pop()
                if left[rich] < 2**64:
                    small.append(rich)
        stays += [min(x, 2**64 - 1) for x in left]
        other += becomes
        sizes.append(n)
    words = np.array([[x >> 32, x & 0xFFFFFFFF] for x in stays], np.uint32)
    begin = np.cumsum([0, *sizes[:-1]]).astype(np.int32)
    bits = np.array([n.bit_length() - 1 for n in sizes], np.uint32)
    return Table(words, np.array(other, np.int32), begin, bits)


def rounded_up(deviation: Array) -> Array:
    """u32: the least variance of `SIGNIFICANT` bits that is not below the deviation's square."""
    square = jnp.ceil(jnp.square(deviation) * FLOAT_ERROR).astype(jnp.uint32)
    cut = jnp.maximum(32 - jax.lax.clz(square).astype(jnp.int32) - SIGNIFICANT, 0).astype(jnp.uint32)
    return ((square + (jnp.uint32(1) << cut) - 1) >> cut) << cut


def skellam_noise(key: Key, length: int, deviation: Array) -> Array:
    """i32[length] of Skellam numbers; deviation: in steps, its square rounded up to a variance."""
    t = jax.tree.map(jnp.asarray, table())

    def add(carry: tuple[Array, Array]) -> tuple[Array, Array]:
        """A number for the highest bit that is left."""
        left, total = carry
        power = 31 - jax.lax.clz(left).astype(jnp.int32)
        r = jax.random.bits(jax.random.fold_in(key, power), (3, length), jnp.uint32)
        k = (r[0] & ((jnp.uint32(1) << t.bits[power]) - 1)).astype(jnp.int32)
        at = t.begin[power] + k
        high, low = t.stays[at, 0], t.stays[at, 1]
        x = jnp.where((r[1] < high) | ((r[1] == high) & (r[2] < low)), k, t.other[at])
        negative = (r[0] >> 31) == 1  # a bit that no k reaches
        return left ^ (jnp.uint32(1) << power.astype(jnp.uint32)), total + jnp.where(negative, -x, x)

    begin = rounded_up(deviation), jnp.zeros(length, jnp.int32)
    return jax.lax.while_loop(lambda c: c[0] > 0, add, begin)[1]


def skellam(cfg: Skellam) -> Stage:
    """Build the mechanism."""
    return in_ring(cfg, skellam_noise, "skellam")
