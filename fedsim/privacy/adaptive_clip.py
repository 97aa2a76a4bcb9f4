"""DP-FedAvg whose clip norm follows a quantile of the updates' norms, found privately.

Each client sends, beside its clipped update, whether it was within the bound; the server moves the bound C
for the next round by the noisy share b of those that were,

    C <- C exp(-eta (b - gamma)),

towards the gamma-quantile of the norms. Bits count as +-1/2, which halves what one client can change, and
with noise of deviation s_b on their sum the updates' noise must be z_delta = (z^-2 - (2 s_b)^-2)^-1/2 for
both together to cost what one Gaussian release of noise multiplier z does.

Source: Andrew, Thakkar, McMahan, Ramaswamy, "Differentially Private Learning with Adaptive Clipping",
NeurIPS 2021, Alg. 1, with the estimator of a fixed denominator; the split of the noise: Theorem 1.

For the accountant: a round is one Gaussian release of noise multiplier `noise_multiplier`, the bits being
in it, as of `privacy=gaussian`.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from fedsim.config import AdaptiveClip
from fedsim.privacy.central import add, clip, measurable, nonfinite, normal
from fedsim.stage import Array, Key, Mechanism, Stage, Tree, nothing


class State(NamedTuple):
    """clip_norm: f32, of the next round; nonfinite: i32, updates so far that were not finite."""

    clip_norm: Array
    nonfinite: Array


class Report(NamedTuple):
    """within: 1/2 for an update within the bound, else -1/2; nonfinite: 1 for one that is not finite."""

    within: Array
    nonfinite: Array


def update_noise(multiplier: Array | float, bits: Array | float) -> Array:
    """z_delta: noise multiplier of the updates, so that with noise `bits` on the bits all is `multiplier`."""
    share = multiplier / jnp.where(jnp.asarray(bits) > 0, 2 * jnp.asarray(bits), jnp.inf)
    return multiplier / jnp.sqrt(1 - share**2)


def adaptive_clip(cfg: AdaptiveClip) -> Stage:
    """Build the mechanism. Called while tracing: all numbers may be traced."""

    def init(message: Tree) -> State:
        return State(jnp.asarray(cfg.clip_norm, jnp.float32), jnp.zeros((), jnp.int32))

    def client(message: Tree, memory: Tree, bound: Array, key: Key) -> tuple[Tree, Tree]:
        return clip(message, bound), memory

    def report(message: Tree, bound: Array) -> Report:
        within = measurable(message)[0] <= bound
        return Report(jnp.where(within, 0.5, -0.5).astype(jnp.float32), nonfinite(message))

    def server(aggregate: Tree, state: State, key: Key, count: Array) -> tuple[Tree, State]:
        deviation = update_noise(cfg.noise(), cfg.bit_noise) * state.clip_norm / count
        return add(aggregate, deviation, normal(aggregate, key)), state

    def hear(state: State, reports: Report, key: Key, count: Array) -> State:
        noise = cfg.bit_noise * jax.random.normal(key, (), jnp.float32)
        share = ((reports.within + noise) / count + 0.5).astype(jnp.float32)
        moved = state.clip_norm * jnp.exp(-cfg.clip_step_size * (share - cfg.quantile))
        return State(moved.astype(jnp.float32), state.nonfinite + reports.nonfinite)

    return Stage(
        init=init,
        init_memory=nothing,
        client=client,
        server=server,
        announce=lambda state, key: state.clip_norm,
        announced=4,
        report=report,
        reported=1,  # a bit takes a byte
        hear=hear,
        measures=lambda state: {"clip_norm": state.clip_norm, "nonfinite": state.nonfinite},
        mechanism=Mechanism(
            # Of a round, times the clip norm that was announced: what it is follows from earlier releases.
            sensitivity=1.0,
            cost={"event": "gaussian", "noise_multiplier": cfg.noise()},
            unit="client",
        ),
        summed=True,
        fixed=True,
    )
