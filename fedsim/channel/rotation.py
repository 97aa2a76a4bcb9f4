"""Stochastic rotated quantisation: numbers are spread evenly by a random rotation, then rounded at random.

Z = R x with R = H D / sqrt(d): signs D drawn by a seed that all clients of a round share, and the
Walsh-Hadamard matrix H, d the next power of two. Each number of Z is rounded up or down to one of k
levels evenly spaced from min Z to max Z, so that its mean stays; the server decodes R^-1 of that.

Source: Suresh et al., "Distributed Mean Estimation with Limited Communication", ICML 2017, section 3,
with the k-level quantisation of section 2.2 over the range of Z.

Here every leaf is a vector of its own.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from fedsim.channel.compression import compressing, cut, whole_bytes, wide
from fedsim.config import Rotation
from fedsim.quantise import hadamard, padded, round_at_random
from fedsim.stage import Array, Key, Stage, Tree


def quantise(z: Array, levels: int, uniform: Array) -> Array:
    """Each number at random one of the two nearest of `levels` levels from min z to max z."""
    low = jnp.min(z)
    step = (jnp.max(z) - low) / (levels - 1)
    at = round_at_random(jnp.minimum((z - low) / jnp.where(step == 0, 1, step), levels - 1), uniform)
    return low + at * step


def rotation(cfg: Rotation) -> Stage:
    """Build the stage."""

    def leaf(x: Array, signs: Array, uniform: Array) -> Array:
        if x.size == 0:
            return x
        flat = jnp.pad(x.reshape(-1).astype(wide(x)), (0, signs.size - x.size))
        signs = signs.astype(flat.dtype)
        decoded = signs * hadamard(quantise(hadamard(signs * flat), cfg.levels, uniform))
        return decoded[: x.size].reshape(x.shape).astype(x.dtype)

    def compress(message: Tree, told: Key, key: Key) -> Tree:
        leaves, treedef = jax.tree.flatten(message)
        sizes = [padded(x.size) for x in leaves]
        signs = jax.random.rademacher(told, (sum(sizes),), jnp.float32)
        uniform = jax.random.uniform(key, (sum(sizes),), jnp.result_type(jnp.float32, *leaves))
        return jax.tree.unflatten(treedef, map(leaf, leaves, cut(signs, sizes), cut(uniform, sizes)))

    def nbytes(message: Tree) -> int:
        """Per leaf: a level for each of d numbers, packed, and the smallest and the largest."""
        bits = (cfg.levels - 1).bit_length()
        leaves = [x for x in jax.tree.leaves(message) if x.size]
        return sum(whole_bytes(bits * padded(x.size)) + 2 * wide(x).itemsize for x in leaves)

    return compressing(compress, nbytes, feedback=False, alike=True)
