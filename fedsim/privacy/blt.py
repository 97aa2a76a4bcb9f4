"""Buffered linear Toeplitz noise: as banded noise with as many bands as rounds, from a few buffers.

The strategy C is a Toeplitz matrix with 1, then c_i = sum_j s_j d_j^(i-1), so that what is taken back in
round t is a weighted sum of d buffers,

    x_t = z_t - sum_j s_j B_j,    B_j <- d_j B_j + x_t,

and is the noise of C^-1 Z, Z being independent. It is scaled by the norm of C's first column, so that
columns have norm 1 at most.

Source: Dvijotham, McMahan, Pillutla, Steinke, Thakurta, "Efficient and Near-Optimal Noise Generation for
Streaming Differential Privacy", FOCS 2024; in federated learning: McMahan, Xu, Zhang, "A Hassle-free
Algorithm for Strong Differential Privacy in Federated Learning Systems", EMNLP 2024 (industry track).

For the accountant: the whole run is one Gaussian release of noise multiplier `noise_multiplier` over the
norm of C times the rounds that a client takes part in, C scaled so.
"""

from __future__ import annotations

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from fedsim.accounting.events import blt_coefficients
from fedsim.config import BltPrivacy
from fedsim.privacy.central import Noise, central, normal, stacked, weighted
from fedsim.stage import Key, Stage, Tree


def by_buffers(decay: Sequence[float], scale: Sequence[float], rounds: int) -> Noise:
    """The noise of C^-1, C being scaled for so many rounds."""
    norm = np.linalg.norm(blt_coefficients(decay, scale, rounds))

    def draw(like: Tree, buffers: Tree, key: Key) -> tuple[Tree, Tree]:
        def now(z: jax.Array, buffer: jax.Array) -> jax.Array:
            return jnp.asarray(norm, buffer.dtype) * z.astype(buffer.dtype) - weighted(scale, buffer)

        def decayed(buffer: jax.Array, x: jax.Array) -> jax.Array:
            rates = jnp.asarray(decay, buffer.dtype).reshape(-1, *[1] * x.ndim)
            return rates * buffer + x

        noise = jax.tree.map(now, normal(like, key), buffers)
        return noise, jax.tree.map(decayed, buffers, noise)

    return Noise(init=lambda message: stacked(message, len(decay)), draw=draw)


def blt(cfg: BltPrivacy) -> Stage:
    """Build the mechanism, whose strategy and rounds are known: `strategies.prepared`."""
    noise = by_buffers(cfg.decay, cfg.scale, cfg.rounds)
    cost = {
        "event": "matrix",
        "noise_multiplier": cfg.noise(),
        "decay": cfg.decay,
        "scale": cfg.scale,
        "rounds": cfg.rounds,
    }
    return central(cfg.clip_norm, cfg.noise(), noise, cost)
