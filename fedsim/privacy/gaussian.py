"""Client-level Gaussian mechanism: clip each client's message, add noise to the sum.

The sum is divided by the expected cohort, never by the actual one, which would tell who was there.

Source: McMahan et al., "Learning Differentially Private Recurrent Language Models", ICLR 2018, Alg. 1
with the estimator of a fixed denominator.

What the noise is worth as (epsilon, delta) is the accountant's business: fedsim/accounting/releases.py.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from fedsim import trees
from fedsim.config import GaussianPrivacy
from fedsim.stage import Array, Key, Mechanism, Stage, Tree, nothing


def clip(message: Tree, norm: Array | float) -> Tree:
    """The message as one vector, scaled to a Euclidean norm of at most `norm`."""
    length = jnp.sqrt(trees.squared_norm(message))
    return trees.scale(message, jnp.minimum(1, norm / jnp.maximum(length, jnp.finfo(length.dtype).tiny)))


def gaussian(cfg: GaussianPrivacy) -> Stage:
    """Build the mechanism; noise has deviation noise_multiplier * clip_norm on the sum."""

    def client(message: Tree, memory: Tree, state: Tree, key: Key) -> tuple[Tree, Tree]:
        return clip(message, cfg.clip_norm), memory

    def server(aggregate: Tree, state: Tree, key: Key, count: Array) -> tuple[Tree, Tree]:
        leaves, treedef = jax.tree.flatten(aggregate)
        deviation = cfg.noise() * cfg.clip_norm / count
        noisy = [
            x
            + jnp.asarray(deviation, x.dtype)
            * jax.random.normal(jax.random.fold_in(key, i), x.shape, x.dtype)
            for i, x in enumerate(leaves)
        ]
        return jax.tree.unflatten(treedef, noisy), state

    return Stage(
        init=nothing,
        init_memory=nothing,
        client=client,
        server=server,
        mechanism=Mechanism(
            sensitivity=cfg.clip_norm,
            cost={"event": "gaussian", "noise_multiplier": cfg.noise()},
            unit="client",
        ),
        summed=True,
        fixed=True,
    )
