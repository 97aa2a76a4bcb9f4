"""Numbers made whole at random, after a rotation that spreads a vector evenly over its coordinates."""

from __future__ import annotations

import jax
import jax.numpy as jnp

Array = jax.Array


def round_at_random(x: Array, uniform: Array) -> Array:
    """Up or down to a whole number so that its mean over `uniform`, on [0, 1), is `x`."""
    low = jnp.floor(x)
    return low + (uniform < x - low).astype(x.dtype)


def padded(size: int) -> int:
    """The next power of two."""
    return 1 << max(size - 1, 0).bit_length()


def hadamard(x: Array) -> Array:
    """H x / sqrt(d) for d a power of two: its own inverse. d log d additions (fast Walsh-Hadamard)."""
    y, half = x, 1
    while half < x.size:
        pair = y.reshape(-1, 2, half)
        y = jnp.stack([pair[:, 0] + pair[:, 1], pair[:, 0] - pair[:, 1]], axis=1).reshape(-1)
        half *= 2
    return y / jnp.sqrt(jnp.asarray(x.size, x.dtype))
