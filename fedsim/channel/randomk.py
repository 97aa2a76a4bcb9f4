"""Random-k: clients send coordinates drawn at random, the same for all clients of a round or their own.

Without memory, what is sent is scaled by size / k, which makes it unbiased; with memory it is sent as it
is, because error feedback needs a contraction.

Sources: Konecny et al., "Federated Learning: Strategies for Improving Communication Efficiency", 2016,
section 3, subsampling; with memory, Stich et al., "Sparsified SGD with Memory", NeurIPS 2018, Def. 2.1
and Alg. 1.
"""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp

from fedsim.channel.compression import SEED_BYTES, compressing, cut
from fedsim.config import RandomK
from fedsim.stage import Array, Key, Stage, Tree


def random_k(x: Array, k: int, factor: float, order: Array) -> Array:
    """`x` with all but the k coordinates that come first in a random order set to zero, times `factor`.

    order: u32[size], random words; the largest come first.
    """
    flat = x.reshape(-1)
    kept = jax.lax.top_k(order, k)[1]
    sent = flat[kept] * jnp.asarray(factor, x.dtype)
    return jnp.zeros_like(flat).at[kept].set(sent, unique_indices=True).reshape(x.shape)


def randomk(cfg: RandomK) -> Stage:
    """Build random-k per leaf; k is ceil(keep * size)."""

    def compress(message: Tree, told: Tree, key: Key) -> Tree:
        leaves, treedef = jax.tree.flatten(message)
        sizes = [x.size for x in leaves]
        drawn = jax.random.bits(told if cfg.shared else key, (sum(sizes),), jnp.uint32)

        def leaf(x: Array, order: Array) -> Array:
            k = math.ceil(cfg.keep * x.size)
            return random_k(x, k, 1.0 if cfg.feedback else x.size / max(k, 1), order)

        return jax.tree.unflatten(treedef, map(leaf, leaves, cut(drawn, sizes)))

    def nbytes(message: Tree) -> int:
        """k values per leaf; positions follow from a seed, sent along where it is the client's."""
        leaves = jax.tree.leaves(message)
        values = sum(math.ceil(cfg.keep * x.size) * x.dtype.itemsize for x in leaves)
        return values + (0 if cfg.shared else SEED_BYTES)

    return compressing(compress, nbytes, feedback=cfg.feedback, alike=cfg.shared)
