"""QSGD: every number becomes a sign and one of a few levels of its bucket's norm, at random, unbiased.

In a bucket v with levels 0 .. s: |v_i| / |v|_2 * s is rounded up or down so that its mean stays.

Source: Alistarh et al., "QSGD: Communication-Efficient SGD via Gradient Quantization and Encoding",
NeurIPS 2017, section 3.1; buckets: section 4.

Bits are counted at a fixed width, a sign and a level per number: the paper's Elias code, whose length
depends on the data, is not used.
"""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp

from fedsim.channel.compression import compressing, cut, whole_bytes, wide
from fedsim.config import Qsgd
from fedsim.quantise import round_at_random
from fedsim.stage import Array, Key, Stage, Tree


def quantise(v: Array, levels: int, uniform: Array) -> Array:
    """Q_s of each row of `v`, [buckets, size]."""
    norm = jnp.sqrt(jnp.sum(jnp.square(v), axis=1, keepdims=True))
    share = jnp.abs(v) / jnp.where(norm == 0, 1, norm)
    # No more than all of the norm: a quotient may round to above 1.
    level = round_at_random(jnp.minimum(share, 1) * levels, uniform)
    return norm * jnp.sign(v) * level / levels


def qsgd(cfg: Qsgd) -> Stage:
    """Build QSGD; each leaf is cut into buckets of consecutive numbers, the last filled up with zeros."""

    def shape(x: Array) -> tuple[int, int]:
        """(buckets, numbers in each)."""
        width = min(cfg.bucket or x.size, x.size)
        return -(-x.size // max(width, 1)), width

    def compress(message: Tree, told: Tree, key: Key) -> Tree:
        leaves, treedef = jax.tree.flatten(message)
        sizes = [math.prod(shape(x)) for x in leaves]
        drawn = jax.random.uniform(key, (sum(sizes),), jnp.result_type(jnp.float32, *leaves))

        def leaf(x: Array, uniform: Array) -> Array:
            flat = jnp.pad(x.reshape(-1).astype(wide(x)), (0, uniform.size - x.size))
            levels = quantise(flat.reshape(shape(x)), cfg.levels, uniform.reshape(shape(x)))
            return levels.reshape(-1)[: x.size].reshape(x.shape).astype(x.dtype)

        return jax.tree.unflatten(treedef, map(leaf, leaves, cut(drawn, sizes)))

    def nbytes(message: Tree) -> int:
        """Per leaf: a sign and a level of 0 .. s for each number, packed, and a norm for each bucket."""
        bits = 1 + cfg.levels.bit_length()
        leaves = jax.tree.leaves(message)
        return sum(whole_bytes(bits * x.size) + shape(x)[0] * wide(x).itemsize for x in leaves)

    return compressing(compress, nbytes, feedback=False)
