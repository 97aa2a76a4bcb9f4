"""Discrete-time survival: in each interval of time the hazard is a logistic regression, or a network.

Sources: Gensheimer, Narasimhan, "A Scalable Discrete-Time Survival Model for Neural Networks", PeerJ
2019, eq. 3, and its rule for censored rows; Singer, Willett, "It's About Time", J. Educ. Stat. 1993, for
one effect of a feature over all intervals (`task.proportional`).
"""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from fedsim.base import require
from fedsim.config import SurvivalDiscrete
from fedsim.model import Array, Key, Model, Spec, Task, Tree
from fedsim.tasks.glm import slopes
from fedsim.tasks.heads import Likelihood
from fedsim.tasks.layers import wide
from fedsim.tasks.mlp import risk_network
from fedsim.tasks.network import network_task


class Hazards(nnx.Module):
    """[B, *shape] -> logits of the hazard, [B, bins]: a baseline, and what the features add to it."""

    def __init__(self, risk: Any, bins: int, dtype: jnp.dtype):
        self.risk = risk
        self.baseline = nnx.Param(jnp.zeros((bins,), dtype))

    def __call__(self, x: Array, rows: Array | None, key: Key | None) -> Array:
        out = self.risk(x, rows, key)
        return out + (self.baseline[...] + jnp.asarray(_start(len(self.baseline[...])), out.dtype))


def survival_discrete(cfg: SurvivalDiscrete, spec: Spec, dtype: str) -> Task:
    """Build a model of hazards, whose loss is a sum over rows.

    A row's risk is the logarithm of its cumulative hazard at the horizon, as Cox's is, so that the same
    metrics judge both.

    Raises:
      RequestError: the label is no time to an event.
    """
    require(
        spec.kind == "survival",
        f"task=survival_discrete needs the time to an event, and this data's label is not one ({spec.kind}); "
        "name the column with data.time, or use task=logistic, linear or mlp",
    )
    widths = [math.prod(spec.shape), *cfg.hidden, 1 if cfg.proportional else cfg.bins]

    def losses(out: Array, batch: dict[str, Array]) -> Array:
        out = out.astype(wide(out.dtype))
        survived, failed = intervals(cfg, batch["time"], batch["y"] > 0)
        zero = jnp.zeros((), out.dtype)
        return jnp.sum(
            jnp.where(survived, jax.nn.softplus(out), zero) + jnp.where(failed, jax.nn.softplus(-out), zero),
            axis=1,
        )

    def log_hazard(out: Array) -> Array:
        out = out.astype(wide(out.dtype))
        # Far below 0, log(softplus(z)) is z, where softplus itself would round to 0.
        return jnp.where(out < -15, out, jnp.log(jax.nn.softplus(jnp.maximum(out, -15))))

    def risk(out: Array) -> Array:
        return jax.nn.logsumexp(log_hazard(out), axis=1)

    def curve(out: Array) -> Array:
        return jax.lax.cumlogsumexp(log_hazard(out), axis=1)

    def coefficients(model: Model) -> tuple[Array, Array]:
        baseline = model.params["baseline"]
        weights = slopes(model.params["risk"], cfg.proportional)
        return weights, baseline + jnp.asarray(_start(cfg.bins), baseline.dtype)

    return network_task(
        lambda rngs: Hazards(risk_network(cfg, widths, jnp.dtype(dtype), rngs), cfg.bins, jnp.dtype(dtype)),
        cfg,
        spec,
        flops=sum(2 * a * b for a, b in pairwise(widths)),
        coefficients=None if cfg.hidden else coefficients,
        likelihood=Likelihood(losses, risk, curve),
    )


def edges(cfg: SurvivalDiscrete) -> Array:
    """f32[bins + 1] from 0 to the horizon: quantiles of the events of a constant hazard that leaves
    `surviving` of the rows; of equal width where that is 1."""
    share = jnp.arange(cfg.bins + 1, dtype=jnp.float32) / jnp.float32(cfg.bins)
    left = jnp.asarray(cfg.surviving, jnp.float32)
    safe = jnp.where(left < 1, left, jnp.float32(0.5))
    quantiles = jnp.log1p(-share * (1 - safe)) / jnp.log(safe)
    return jnp.asarray(cfg.horizon, jnp.float32) * jnp.where(left < 1, quantiles, share)


def intervals(cfg: SurvivalDiscrete, time: Array, event: Array) -> tuple[Array, Array]:
    """bool[B, bins] each: intervals that a row has lived through, and the one in which it had its event.

    A row that is censored in an interval has lived through it if it got past its middle.
    """
    cuts = edges(cfg)
    low, high, t = cuts[:-1], cuts[1:], time.astype(jnp.float32)[:, None]
    survived = jnp.where(event[:, None], t >= high, t >= (low + high) / 2)
    return survived, event[:, None] & (t >= low) & (t < high)


def last_layer(params: Tree) -> Tree:
    """1 for a network's parameters of the last layer and the baseline, 0 for others, shaped as `params`."""
    last = ["risk", "dense", max(params["risk"]["dense"])]

    def mine(path: tuple[Any, ...], leaf: Array) -> Array:
        keys = [step.key for step in path]
        return jnp.full_like(leaf, float(keys[0] == "baseline" or keys[:3] == last))

    return jax.tree.map_with_path(mine, params)


def _start(bins: int) -> np.float64:
    """The logit of a hazard with which one half survives all intervals: training begins there."""
    return np.log(np.expm1(np.log(2) / bins))
