"""Gamma regression with a log link, for amounts above 0 such as days in hospital and costs.

Source: McCullagh and Nelder, "Generalized Linear Models", 1989, section 8.3.
"""

from __future__ import annotations

import jax.numpy as jnp

from fedsim.base import require
from fedsim.config import Gamma
from fedsim.model import Array, Key, Spec, Task
from fedsim.tasks.glm import ZEROS, glm
from fedsim.tasks.heads import Likelihood
from fedsim.tasks.layers import wide


def gamma(cfg: Gamma, spec: Spec, dtype: str) -> Task:
    """Build gamma regression, which begins by predicting `cfg.typical` for every row.

    A row's loss is half its deviance, y / m - 1 - log(y / m) at the predicted mean m: 0 where they are equal,
    the same for days and for hours, and up to a constant the negative log likelihood times the dispersion.

    Raises:
      RequestError: the label is no amount.
    """
    needs_amounts("gamma", spec)

    def begin(key: Key, shape: tuple[int, ...], dtype: jnp.dtype) -> Array:
        return jnp.full(shape, jnp.log(cfg.typical), dtype)

    def losses(out: Array, batch: dict[str, Array]) -> Array:
        return half_deviance(out[:, 0].astype(wide(out.dtype)), batch["y"])

    def means(out: Array) -> Array:
        return jnp.exp(out[:, 0].astype(wide(out.dtype)))

    return glm((ZEROS, begin), cfg, spec, dtype, Likelihood(losses, means))


def half_deviance(log_mean: Array, y: Array) -> Array:
    """[B] of gamma distributed amounts; 0 where y is not above 0, as in padding."""
    some = y > 0
    ratio = jnp.log(jnp.where(some, y, jnp.ones((), y.dtype)).astype(log_mean.dtype)) - log_mean
    return jnp.where(some, jnp.expm1(ratio) - ratio, jnp.zeros((), log_mean.dtype))


def needs_amounts(name: str, spec: Spec) -> None:
    """Raises RequestError where labels are classes or times to an event."""
    what = "the time to an event" if spec.kind == "survival" else f"one of {spec.classes} classes"
    require(
        spec.kind == "regression",
        f"task={name} needs an amount as label, and this data's label is {what} ({spec.kind}); use "
        f"task={'cox' if spec.kind == 'survival' else 'logistic'}, or set data.kind=regression",
    )
