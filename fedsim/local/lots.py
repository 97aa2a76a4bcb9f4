"""Poisson samples of a client's records or patients, as many of them as an answer draws.

Every unit is in a lot with the same probability q, whatever the others do. A lot is read in microbatches
of a fixed number of places, of which those in use are marked; an empty lot is as ordinary as any.

Source: Abadi et al., "Deep Learning with Differential Privacy", CCS 2016, section 3 (lots).
"""

from __future__ import annotations

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp

from fedsim.local.batches import Batches
from fedsim.model import Batch

Array = jax.Array
Key = jax.Array

OVERFLOW = 2.0**-40  # that a lot has more units than places: to be added to delta for every answer


class Units(NamedTuple):
    """What is protected at a client. number: i32 scalar; first: i32 scalar, code of the first patient; rows:
    of each at most, or 0 where a unit is a row."""

    number: Array
    first: Array
    rows: int


def units(batches: Batches, rows: int) -> Units:
    """A client's rows, or with `rows` of each at most, its patients: whole numbers from the code of the
    first training row to that of the last, as rows lie in order of their patients. One who has no training
    row counts, and adds nothing."""
    if rows == 0:
        return Units(batches.window.rows, jnp.zeros((), jnp.int32), 0)
    ends = jnp.stack([jnp.zeros((), jnp.int32), jnp.maximum(batches.window.rows, 1) - 1])
    first, last = batches.rows.take(batches.window, ends.astype(jnp.uint32))["patient"]
    return Units(last - first + 1, first, rows)


def places(expected: int) -> int:
    """Units that a lot has room for: a Poisson variable of this mean is larger with probability `OVERFLOW`
    at most, and so is every binomial one of its mean (Anderson and Samuels 1967)."""
    # Summed from the smallest term, far in the tail.
    far = expected + 40 * math.isqrt(expected) + 60
    tail, k = 0.0, far
    while True:
        term = math.exp(k * math.log(expected) - expected - math.lgamma(k + 1))
        if tail + term > OVERFLOW:
            return k
        tail, k = tail + term, k - 1


def usual(expected: int) -> int:
    """Units that at most one lot in ten exceeds, in a multiple of 4."""
    return -(-math.ceil(expected + 1.3 * math.sqrt(expected)) // 4) * 4


def draw(key: Key, count: Array, expected: int, room: int) -> tuple[Array, Array]:
    """A lot: (units u32[room] in rising order, how many of them are in it, i32 scalar).

    The gaps between units that are in it are geometric, so that a lot costs its own size, however many
    rows there are.
    """
    q = jnp.minimum(1.0, jnp.float32(expected) / count.astype(jnp.float32))
    # As a distance from 0, where float32 is finest: small gaps have the right probability.
    uniform = jax.random.bits(key, (room,), jnp.uint32).astype(jnp.float32) * jnp.float32(2**-32)
    waits = -jnp.log1p(-jnp.minimum(uniform, jnp.float32(1 - 2**-24)))
    gaps = jnp.floor(waits / -jnp.log1p(-q))  # division by infinity: where q is 1, all are in
    end = count.astype(jnp.uint32)
    gaps = jnp.minimum(gaps, end.astype(jnp.float32)).astype(jnp.uint32) + jnp.uint32(1)
    after = jax.lax.associative_scan(lambda a, b: jnp.minimum(a + b, end + jnp.uint32(1)), gaps)
    return after - jnp.uint32(1), jnp.sum((after <= end).astype(jnp.int32))


def read(batches: Batches, of: Units, index: Array, used: Array) -> Batch:
    """The rows of units `index` u32[m], those not `used` masked: [m] of them, or [m * of.rows], patient
    after patient."""
    last = jnp.maximum(batches.window.rows, 1).astype(jnp.uint32) - jnp.uint32(1)
    if of.rows == 0:
        return batches.rows.read(batches.window, jnp.minimum(index, last), used)
    code = of.first + index.astype(jnp.int32)
    begin = _begin(batches, code)
    position = begin[:, None] + jnp.arange(of.rows, dtype=jnp.uint32)
    inside = position <= last
    position = jnp.minimum(position, last).reshape(-1)
    batch = batches.rows.read(batches.window, position, jnp.ones(position.shape, bool))
    mine = batch["patient"] == jnp.repeat(code, of.rows)
    mask, x = mine & inside.reshape(-1) & jnp.repeat(used, of.rows), batch["x"]
    # Rows of the next patient are read too, and must not reach this one's norm, not even as 0 * inf.
    x = jnp.where(mask.reshape(-1, *[1] * (x.ndim - 1)), x, jnp.zeros((), x.dtype))
    return batch | {"x": x, "mask": mask}


def _begin(batches: Batches, code: Array) -> Array:
    """Position u32[m] of the first row of patients `code` or later: a search by halves."""

    def body(ends: tuple[Array, Array]) -> tuple[Array, Array]:
        low, high = ends
        middle = (low + high) // jnp.uint32(2)
        before = batches.rows.take(batches.window, middle)["patient"] < code
        open_ = low < high
        return (
            jnp.where(open_ & before, middle + jnp.uint32(1), low),
            jnp.where(open_ & ~before, middle, high),
        )

    low = jnp.zeros(code.shape, jnp.uint32)
    high = jnp.broadcast_to(batches.window.rows.astype(jnp.uint32), code.shape)
    return jax.lax.while_loop(lambda ends: jnp.any(ends[0] < ends[1]), body, (low, high))[0]
