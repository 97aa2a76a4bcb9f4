"""Banded matrix noise: what a round adds is partly taken back in the next few.

With A the prefix sums over rounds, the noise of round t is row t of C^-1 Z, Z being independent. The
strategy C is a Toeplitz matrix with b bands and columns of norm 1 at most, so

    x_t = (z_t - c_1 x_{t-1} - ... - c_{b-1} x_{t-b+1}) / c_0,

and the last b - 1 of the x are kept. One band is independent noise.

Source: Choquette-Choo et al., "(Amplified) Banded Matrix Factorization: A unified approach to private
training", NeurIPS 2023, Alg. 9 for the noise; Toeplitz strategies: McKenna, "Scaling up the Banded Matrix
Factorization Mechanism for Differentially Private ML", ICLR 2025.

For the accountant: where a client's turns are at least b rounds apart, columns that one client is in are
orthogonal, and k turns cost what k independent Gaussian releases of noise multiplier `noise_multiplier` do;
if within its turn a client is there with probability q on its own, what k Poisson-subsampled ones do
(Theorem 4). Where turns are closer, the whole run is one Gaussian release of noise multiplier
`noise_multiplier` over the norm of C times the rounds that a client takes part in.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from fedsim.config import BandedPrivacy
from fedsim.privacy.central import Noise, central, independent, normal, stacked, weighted
from fedsim.stage import Key, Stage, Tree


def by_bands(coefficients: np.ndarray) -> Noise:
    """The noise of C^-1; coefficients: of C, f64[b], of norm 1."""
    first, rest = coefficients[0], coefficients[1:]

    def draw(like: Tree, past: Tree, key: Key) -> tuple[Tree, Tree]:
        def now(z: jax.Array, past: jax.Array) -> jax.Array:
            return (z.astype(past.dtype) - weighted(rest, past)) / jnp.asarray(first, past.dtype)

        noise = jax.tree.map(now, normal(like, key), past)
        kept = jax.tree.map(lambda x, past: jnp.concatenate([x[None], past[:-1]]), noise, past)
        return noise, kept

    return Noise(init=lambda message: stacked(message, len(rest)), draw=draw)


def banded(cfg: BandedPrivacy) -> Stage:
    """Build the mechanism, whose strategy is known: `strategies.prepared`."""
    coefficients = np.array(cfg.coefficients, np.float64) / np.linalg.norm(cfg.coefficients)
    noise = independent if len(coefficients) == 1 else by_bands(coefficients)
    cost = {
        "event": "matrix",
        "noise_multiplier": cfg.noise(),
        "coefficients": coefficients.tolist(),
    }
    return central(cfg.clip_norm, cfg.noise(), noise, cost)
