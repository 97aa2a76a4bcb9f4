"""Gaussian noise at the client, on its own clipped message: nobody, the server included, has to be trusted.

The unit is a client towards the server, which sees every message and whose it is: one release of noise
multiplier z to each client in every round that it takes part in, whatever sampling there is. Where a
client's data are replaced by others', its message moves by up to twice the clip norm.

Source: Dwork and Roth, "The Algorithmic Foundations of Differential Privacy", 2014, appendix A (the
Gaussian mechanism), and Kasiviswanathan et al., "What Can We Learn Privately?", FOCS 2008 (the local model).

Draws are of the run's dtype: what a simulation needs, not what withstands an attack on low bits (Mironov,
"On Significance of the Least Significant Bits for Differential Privacy", CCS 2012).
"""

from __future__ import annotations

import jax.numpy as jnp

from fedsim.config import LocalGaussian
from fedsim.privacy.central import add, clip, nonfinite, normal
from fedsim.stage import Key, Mechanism, Stage, Tree, nothing


def local_gaussian(cfg: LocalGaussian) -> Stage:
    """Build the mechanism; every message gets noise of deviation noise_multiplier * clip_norm."""

    def client(message: Tree, memory: Tree, state: Tree, key: Key) -> tuple[Tree, Tree]:
        clipped = clip(message, cfg.clip_norm)
        return add(clipped, cfg.noise() * cfg.clip_norm, normal(clipped, key)), memory

    return Stage(
        init=lambda message: jnp.zeros((), jnp.int32),
        init_memory=nothing,
        client=client,
        server=lambda aggregate, state, key, count: (aggregate, state),
        announce=lambda state, key: (),
        report=lambda message, state: nonfinite(message),
        hear=lambda state, reports, key, count: state + reports,
        measures=lambda state: {"nonfinite": state},
        mechanism=Mechanism(
            sensitivity=cfg.clip_norm,
            cost={"event": "gaussian", "noise_multiplier": cfg.noise()},
            unit="client",
        ),
        uniform=True,
    )
