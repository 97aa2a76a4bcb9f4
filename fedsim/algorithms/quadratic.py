"""A step to the minimum of a quadratic model of a loss, with a lasso penalty or without.

Sources: Boyd and Vandenberghe, "Convex Optimization", 2004, section 9.5 (Newton's decrement); Lee, Sun,
Saunders, "Proximal Newton-type Methods for Minimizing Composite Functions", SIAM J. Optim. 2014, Alg. 1;
Friedman, Hastie, Tibshirani, "Regularization Paths for Generalized Linear Models via Coordinate Descent",
J. Stat. Software 2010, section 2.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

Array = jax.Array

_SWEEPS = 10_000  # of coordinate descent at most


class Spectrum(NamedTuple):
    """Of a Hessian with its diagonal brought to 1. unit: f[P], by what; values: f[P], rising, the first about
    0 where a column is nothing or follows from others; vectors: f[P, P]."""

    unit: Array
    values: Array
    vectors: Array

    @property
    def root(self) -> Array:
        """R [P, P] with R' H R = 1, for a positive definite H."""
        least = jnp.finfo(self.values.dtype).tiny
        return self.unit[:, None] * self.vectors / jnp.sqrt(jnp.maximum(self.values, least))


def spectrum(hessian: Array) -> Spectrum:
    """f[P, P], symmetric and positive semi-definite."""
    diagonal = jnp.diagonal(hessian)
    unit = jnp.where(diagonal > 0, 1 / jnp.sqrt(jnp.where(diagonal > 0, diagonal, 1)), 1)
    return Spectrum(unit, *jnp.linalg.eigh(hessian * unit[:, None] * unit))


def step(
    gradient: Array, hessian: Array, of: Spectrum, point: Array, l1: Array, tolerance: Array
) -> tuple[Array, Array]:
    """(d, its length): d minimises gradient' d + d' H d / 2 + sum_j l1_j |point_j + d_j|, and its length is
    (d' H d)^1/2, which for sums over rows is in standard errors.

    Args:
      gradient, point, l1: f[P]; hessian: f[P, P], positive semi-definite; of: its spectrum; tolerance: length
        to which coordinate descent is exact, where there is any l1.
    """
    inverse = jnp.where(of.values > 0, 1 / jnp.where(of.values > 0, of.values, 1), 0)
    free = -of.unit * (of.vectors @ (inverse * (of.vectors.T @ (of.unit * gradient))))
    d = jnp.where(jnp.any(l1 > 0), _lasso(gradient, hessian, point, l1, tolerance), free)
    return d, jnp.sqrt(jnp.maximum(d @ (hessian @ d), 0))


def _lasso(gradient: Array, hessian: Array, point: Array, l1: Array, tolerance: Array) -> Array:
    """The same by coordinate descent; no sweep where no l1 is above 0."""
    curved = jnp.diagonal(hessian)
    units = jnp.sqrt(jnp.maximum(curved, 0))

    def one(j: Array, carry: Any) -> Any:
        at, slope, moved = carry
        h = jnp.where(curved[j] > 0, curved[j], 1)
        target = h * at[j] - slope[j]
        new = jnp.sign(target) * jnp.maximum(jnp.abs(target) - l1[j], 0) / h
        change = jnp.where(curved[j] > 0, new - at[j], 0)
        slope = slope + hessian[:, j] * change
        return at.at[j].add(change), slope, jnp.maximum(moved, jnp.abs(change) * units[j])

    def sweep(carry: Any) -> Any:
        i, at, slope, _ = carry
        return i + 1, *jax.lax.fori_loop(0, len(point), one, (at, slope, jnp.zeros((), at.dtype)))

    def on(carry: Any) -> Array:
        i, _, _, moved = carry
        return jnp.any(l1 > 0) & (i < _SWEEPS) & (moved > tolerance)

    begin = jnp.zeros((), jnp.int32), point, gradient, jnp.full((), jnp.inf, point.dtype)
    end: Array = jax.lax.while_loop(on, sweep, begin)[1]
    return end - point


def information_left(hessian: Array, root: Array) -> Array:
    """min over v of v' H v / v' F v, root being that of a positive definite F: the information left of the
    first in the direction that lost most."""
    left: Array = jnp.linalg.eigvalsh(root.T @ hessian @ root)[0]
    return left
