"""One affine map of the features: what logistic, linear and gamma regression share."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from fedsim.config import TaskConfig
from fedsim.model import Array, Key, Model, Spec, Task, Tree
from fedsim.tasks import heads
from fedsim.tasks.layers import Initializer, Narrow
from fedsim.tasks.network import network_task
from fedsim.tasks.second_order import glm_second_order

Inits = tuple[Initializer, Initializer | None]  # of the weights, and of the intercepts, if there are any
ZEROS = nnx.initializers.zeros_init()


def inits_of(name: str, features: int) -> tuple[Initializer, Initializer]:
    """Where weights and intercepts begin: `zeros`, `normal` (LeCun), or `uniform` on +-1 / sqrt(features)."""
    limit = features**-0.5

    def uniform(key: Key, shape: tuple[int, ...], dtype: Any) -> Array:
        return jax.random.uniform(key, shape, dtype, -limit, limit)

    normal = nnx.initializers.lecun_normal()
    return {"zeros": (ZEROS, ZEROS), "normal": (normal, ZEROS), "uniform": (uniform, uniform)}[name]


class Affine(nnx.Module):
    """[B, *shape] -> [B, outputs]."""

    def __init__(self, features: int, outputs: int, inits: Inits, dtype: jnp.dtype, rngs: nnx.Rngs):
        weights, intercepts = inits
        self.head = Narrow(features, outputs, weights, dtype, rngs, bias=intercepts is not None)
        if intercepts is not None:
            self.head.bias = nnx.Param(intercepts(rngs.params(), (outputs,), dtype))

    def __call__(self, x: Array, rows: Array | None, key: Key | None) -> Array:
        return self.head(x.reshape(x.shape[0], -1))


def slopes(params: Tree, one: bool) -> Array:
    """Weights of the features, [F] or [F, outputs], in an `Affine`'s parameters."""
    kernel = params["head"]["kernel"]
    return kernel[0] if one else kernel.T


def glm(
    inits: Inits,
    cfg: TaskConfig,
    spec: Spec,
    dtype: str,
    likelihood: heads.Likelihood | None = None,
    outputs: int = 1,
) -> Task:
    """A generalised linear model.

    Args:
      inits: of the weights and of the intercepts.
      likelihood: of so many outputs; None for that of the kind of label, and the outputs it has.
    """
    outputs = heads.outputs(spec) if likelihood is None else outputs
    likelihood = likelihood or heads.of(spec)
    features, one = math.prod(spec.shape), outputs == 1

    def coefficients(model: Model) -> tuple[Array, Array]:
        bias = model.params["head"]["bias"]
        return slopes(model.params, one), bias[0] if one else bias

    task = network_task(
        lambda rngs: Affine(features, outputs, inits, jnp.dtype(dtype), rngs),
        cfg,
        spec,
        flops=2 * features * outputs,
        coefficients=coefficients,
        likelihood=likelihood,
    )
    return replace(task, second_order=glm_second_order(likelihood.losses)) if one else task
