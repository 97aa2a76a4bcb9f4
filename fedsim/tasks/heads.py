"""From a network's outputs to losses and predictions, by the kind of label."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp

from fedsim.base import require
from fedsim.model import Array, Spec
from fedsim.tasks.layers import wide


class Likelihood(NamedTuple):
    """losses: (outputs [B, n], batch) -> [B]; predictions: outputs -> [B] or [B, classes]; curve: outputs
    -> `Task.curve`, of outputs that are `Task.hazards`."""

    losses: Callable[[Array, dict[str, Array]], Array]
    predictions: Callable[[Array], Array]
    curve: Callable[[Array], Array] | None = None


def of(spec: Spec) -> Likelihood:
    """The likelihood of classes and numbers."""
    return Likelihood(lambda out, batch: losses(spec, out, batch["y"]), partial(predictions, spec))


def outputs(spec: Spec) -> int:
    """Numbers a network must give per row: one logit, one logit per class, or one value.

    Raises RequestError for the time to an event, which has tasks of its own.
    """
    require(
        spec.kind != "survival",
        "this data's label is the time to an event (data.time), which is no class and no number; use "
        "task=cox or task=survival_discrete, or put the times into data.drop",
    )
    return spec.classes if spec.kind == "multiclass" else 1


def losses(spec: Spec, out: Array, y: Array) -> Array:
    """[B, outputs] and labels [B] -> [B]: negative log likelihood in nats, or squared error.

    Finite, with finite gradients, at every finite output; at least 32 bits.
    """
    out = out.astype(wide(out.dtype))
    if spec.kind == "regression":
        return jnp.square(out[:, 0] - y.astype(out.dtype))
    if spec.kind == "binary":
        # Not softplus(z) - y * z: that cancels to 0 where the loss is small.
        return jax.nn.softplus(jnp.where(y > 0, -out[:, 0], out[:, 0]))
    # A sum with one term, because XLA:CPU is slow at the gradient of a gather.
    own = jnp.arange(spec.classes, dtype=jnp.int32) == y.astype(jnp.int32)[:, None]
    return jax.nn.logsumexp(out, axis=1) - jnp.sum(jnp.where(own, out, jnp.zeros((), out.dtype)), axis=1)


def predictions(spec: Spec, out: Array) -> Array:
    """[B, outputs] -> probability of class 1 or value [B], or probabilities [B, classes]."""
    out = out.astype(wide(out.dtype))
    if spec.kind == "regression":
        return out[:, 0]
    if spec.kind == "binary":
        return jax.nn.sigmoid(out[:, 0])
    return jax.nn.softmax(out, axis=1)
