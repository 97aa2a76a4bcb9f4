"""Sums over rows from which Newton's method fits a linear model exactly: generalised linear models, and Cox.

Sources: McCullagh and Nelder, "Generalized Linear Models", 1989, section 2.5; Cox, "Regression Models and
Life-Tables", JRSS B 1972; ties: Breslow, Biometrics 1974, and Efron, JASA 1977, section 5; what clients with
common risk sets exchange: Lu et al., "WebDISCO: a web service for distributed Cox model learning without
patient-level data sharing", JAMIA 2015, where it is one exchange with sums of x x' for every time; here they
follow in a second exchange, weighted, as one.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.flatten_util import ravel_pytree

from fedsim.model import Array, Batch, Curvature, Model, SecondOrder, Spec, Tree
from fedsim.tasks.layers import wide

_CHUNK = 256  # of the terms of tied events summed side by side


def glm_second_order(of: Callable[[Array, Batch], Array]) -> SecondOrder:
    """Of losses ([B, 1] outputs, batch) -> [B], with an intercept, which is parameter 0."""

    def rows(model: Model, batch: Batch, found: Tree) -> Curvature:
        theta = _theta(model)
        x, weight, _ = _counted(batch, theta.dtype)
        x = jnp.concatenate([jnp.ones((len(x), 1), x.dtype), x], axis=1)

        def losses(eta: Array) -> Array:
            return of(eta[:, None], batch)

        def slopes(eta: Array) -> Array:
            return jax.grad(lambda e: jnp.sum(losses(e)))(eta)

        eta = x @ theta
        first, second = jax.jvp(slopes, (eta,), (jnp.ones_like(eta),))
        loss, first, second = (_times(weight, of) for of in (losses(eta), first, second))
        return Curvature(jnp.sum(weight), jnp.sum(loss), first @ x, (x * second[:, None]).T @ x)

    return SecondOrder(rows)


class Found(NamedTuple):
    """What a survey of risk sets comes to; T event times.

    loss, gradient [P]: of all rows; centres [P, P]: what the Hessian is less than the sum of x x' by.
    hazard: f[T], the baseline's, cumulated; tied: f[T], by how much less events at this very time count.
    """

    loss: Array
    gradient: Array
    centres: Array
    hazard: Array
    tied: Array


def cox_second_order(spec: Spec, efron: bool, dtype: jnp.dtype) -> SecondOrder:
    """Of the negative log partial likelihood of all rows that were surveyed together, over `spec.times`.

    A row is at risk at the event times up to its own. Sums over the risk set of every time follow from sums
    over the rows between one time and the next, so that a pass adds each row to one of T bins; the Hessian

        sum_i r_i c_i x_i x_i' - centres,    r_i = w_i exp(x_i' theta),    c_i = hazard(t_i) - tied

    needs one more pass, and no [T, P, P]. Weighted rows: tied events weigh their mean. dtype: of the
    parameters.
    """
    features = math.prod(spec.shape)
    times, count = np.array(spec.times, np.float32), len(spec.times)
    # By column of the survey: sum of r, of r x; weight of events, number; and the first two of events alone.
    width = features + 3 + (features + 1 if efron else 0)

    def risks(model: Model, batch: Batch) -> tuple[Array, Array, Array, Array, Array, Array]:
        """(x [B, P], weights, eta, r, events as 0 and 1, place in `times`, or `count` before the first)."""
        theta = _theta(model)
        x, weight, counted = _counted(batch, theta.dtype)
        eta = x @ theta
        r = _times(weight, jnp.exp(eta))
        event = ((batch["y"] > 0) & counted).astype(x.dtype)
        at = jnp.searchsorted(times, batch["time"].astype(jnp.float32), side="right") - 1
        return x, weight, eta, r, event, jnp.where(at < 0, count, at).astype(jnp.int32)

    def empty() -> Tree:
        return jnp.zeros((count, width), wide(dtype)), jnp.zeros(features + 1, wide(dtype))

    def survey(sums: Tree, model: Model, batch: Batch) -> Tree:
        x, weight, eta, r, event, at = risks(model, batch)
        mine = jnp.concatenate([jnp.ones_like(x[:, :1]), x], axis=1) * r[:, None]
        columns = [mine, (event * weight)[:, None], event[:, None]]
        columns += [mine * event[:, None]] if efron else []
        bins, own = sums
        bins = bins.at[at].add(jnp.concatenate(columns, axis=1).astype(bins.dtype), mode="drop")
        # What events have by themselves: the sums of w eta and of w x.
        both = jnp.concatenate([eta[:, None], x], axis=1)
        both = jnp.where(event[:, None] > 0, both, jnp.zeros((), x.dtype))
        return bins, own + ((event * weight) @ both).astype(own.dtype)

    def found(sums: Tree) -> Found:
        bins, own = sums
        at_risk = lax.cumsum(bins[:, : features + 1], axis=0, reverse=True)
        weight, events = bins[:, features + 1], bins[:, features + 2]
        ties = bins[:, features + 3 :] if efron else jnp.zeros_like(at_risk)
        t = _terms(at_risk[:, 0], ties[:, 0], weight, events, efron)
        s, d = at_risk[:, 1:], ties[:, 1:]
        cross = (s * t.both[:, None]).T @ d
        centres = (s * t.squares[:, None]).T @ s - cross - cross.T + (d * t.tied_squares[:, None]).T @ d
        gradient = t.hazard @ s - t.tied @ d - own[1:]
        return Found(t.loss - own[0], gradient, centres, jnp.cumsum(t.hazard), t.tied)

    def rows(model: Model, batch: Batch, found: Found) -> Curvature:
        x, weight, _, r, event, at = risks(model, batch)
        place = jnp.minimum(at, count - 1)
        share = jnp.where(at < count, found.hazard[place] - event * found.tied[place], 0).astype(x.dtype)
        zero = jnp.zeros((), x.dtype)
        hessian = (x * (r * share)[:, None]).T @ x
        return Curvature(jnp.sum(weight), zero, jnp.zeros_like(x[0]), hessian)

    def whole(found: Found, total: Curvature) -> Curvature:
        return Curvature(total.weight, found.loss, found.gradient, total.hessian - found.centres)

    return SecondOrder(rows, whole, empty, survey, found, count)


class _Terms(NamedTuple):
    """Sums over the terms of each event time, f[T]: weights over what is at risk (`hazard`), times the share
    that is gone (`tied`); the same over its square, times the share, times its square. loss: of all times."""

    loss: Array
    hazard: Array
    tied: Array
    squares: Array
    both: Array
    tied_squares: Array


def _terms(risk: Array, ties: Array, weight: Array, events: Array, efron: bool) -> _Terms:
    """d tied events are d terms of their mean weight; before the k-th of them, k / d of them are gone from
    the risk set by Efron, and none by Breslow. All arrays [T]."""
    there, zero = events > 0, jnp.zeros((), risk.dtype)
    count = jnp.maximum(events, 1)
    if not efron:
        inverse = jnp.where(there, 1 / jnp.where(there, risk, 1), zero)
        nothing = jnp.zeros_like(risk)
        loss = jnp.sum(jnp.where(there, weight * jnp.log(jnp.where(there, risk, 1)), zero))
        return _Terms(loss, weight * inverse, nothing, weight * inverse**2, nothing, nothing)

    def more(carry: tuple[Array, _Terms]) -> tuple[Array, _Terms]:
        first, total = carry
        k = (first + jnp.arange(_CHUNK, dtype=jnp.int32)).astype(risk.dtype)
        used = k < events[:, None]
        gone = k / count[:, None]
        left = jnp.where(used, risk[:, None] - gone * ties[:, None], 1)
        one = jnp.where(used, (weight / count)[:, None], zero)
        found = _Terms(
            jnp.sum(one * jnp.log(left)),
            *(jnp.sum(one * gone**g / left**p, axis=1) for g, p in ((0, 1), (1, 1), (0, 2), (1, 2), (2, 2))),
        )
        return first + _CHUNK, jax.tree.map(jnp.add, total, found)

    begin = _Terms(zero, *(jnp.zeros_like(risk),) * 5)
    most = jnp.max(events, initial=0)
    _, total = lax.while_loop(
        lambda c: c[0].astype(risk.dtype) < most, more, (jnp.zeros((), jnp.int32), begin)
    )
    return total


def _theta(model: Model) -> Array:
    """All parameters as one vector, of at least 32 bits."""
    theta = ravel_pytree(model.params)[0]
    return theta.astype(wide(theta.dtype))


def _counted(batch: Batch, dtype: jnp.dtype) -> tuple[Array, Array, Array]:
    """(features [B, F], weights with 0 for rows that do not count, whether they do)."""
    weight = batch["mask"].astype(dtype)
    if "weight" in batch:
        weight = weight * batch["weight"].astype(dtype)
    return batch["x"].reshape(len(weight), -1).astype(dtype), weight, weight > 0


def _times(weight: Array, values: Array) -> Array:
    """weight * values, and 0 where a row does not count, whatever its value."""
    return jnp.where(weight > 0, weight * values, jnp.zeros((), values.dtype))
