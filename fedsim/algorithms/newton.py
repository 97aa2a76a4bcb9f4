"""Newton's method on sums that clients send: the fit on all rows pooled, to the last digits.

Sources: Wu, Jiang, Kim, Ohno-Machado, "Grid Binary LOgistic REgression (GLORE): building shared models
without sharing data", JAMIA 2012, eq. 3; Lu et al., "WebDISCO: a web service for distributed Cox model
learning without patient-level data sharing", JAMIA 2015; with an l1 penalty: Lee, Sun, Saunders, "Proximal
Newton-type Methods for Minimizing Composite Functions", SIAM J. Optim. 2014, Alg. 1.

A round asks all clients for sums of loss, gradient and Hessian at the server's model. Where they make less of

    sum of losses + W (l2 / 2 |w|^2 + l1 |w|_1),    W the rows' weight,

than at the last model kept, this one is kept, and a step to the minimum of its quadratic model gives the next
to ask about; else that lies half way back. Once a step is shorter than `algorithm.tolerance` standard errors
nothing changes any more, and clients read no rows. Cox regression over common risk sets takes a survey first.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree

from fedsim import trees
from fedsim.algorithms.algorithm import (
    Algorithm,
    Array,
    Key,
    Reduction,
    Survey,
    Tree,
    added,
    no_memory,
)
from fedsim.algorithms.quadratic import information_left, spectrum, step
from fedsim.config import Newton
from fedsim.local import Batches, Optimizer, Oracle
from fedsim.model import Curvature, Model

RUNNING, CONVERGED, SINGULAR, SEPARATED, STUCK = range(5)
_HALVINGS = 30


class Fit(NamedTuple):
    """The server's state. P: numbers of the model; all in its dtype.

    model: that clients are asked about, and that is judged.
    kept: f[P], the last one that was kept; objective: there, penalties included; sums: there, without.
    root: f[P, P], R with R' H R = 1 for the first penalised Hessian H; null: loss of the first model.
    hazard: f[T], of the baseline, cumulated, at `kept`; () where none is common to all clients.
    status: one of those above; kept_rounds: models kept so far; halvings: since the last one.
    length: of the last step, in standard errors.
    """

    model: Model
    kept: Array
    objective: Array
    sums: Curvature
    root: Array
    null: Array
    hazard: Tree
    status: Array
    kept_rounds: Array
    halvings: Array
    length: Array


class Asked(NamedTuple):
    """model: whose sums are wanted; done: whether nothing is."""

    model: Model
    done: Array


def newton(oracle: Oracle, optimizer: Optimizer, cfg: Newton) -> Algorithm:
    """Build Newton's method; `optimizer` is not used: a client takes no step."""
    shared = None if cfg.stratified else oracle.shared

    def init(model: Model) -> Fit:
        flat, _ = ravel_pytree(model.params)
        zero, square = jnp.zeros((), flat.dtype), jnp.zeros((len(flat), len(flat)), flat.dtype)
        hazard: Tree = ()
        if shared is not None:
            hazard = jnp.zeros(shared.times, flat.dtype)
        sums = Curvature(zero, zero, jnp.zeros_like(flat), square)
        return Fit(model, flat, zero, sums, square, zero, hazard, zero, zero, zero, zero)

    def answer(start: Asked, batches: Batches, key: Key) -> Tree:
        assert shared is not None
        return shared.survey(start.model, batches.unless(start.done > 0))

    def client_update(start: Tree, memory: Tree, batches: Batches, key: Key) -> tuple[Curvature, Tree]:
        asked, found = start if shared is not None else (start, ())
        mine = batches.unless(asked.done > 0)
        if shared is not None:
            return shared.curvature(asked.model, mine, found), memory
        return oracle.curvature(asked.model, mine), memory

    def server_update(fit: Fit, aggregate: Tree) -> Fit:
        sums, hazard = aggregate, fit.hazard
        if shared is not None:
            found, total = aggregate
            sums, hazard = shared.whole(found, total), found.hazard
        new = _next(oracle, cfg, fit, sums, hazard)
        return trees.where((fit.status == RUNNING) & (sums.weight > 0), new, fit)

    survey = None
    if shared is not None:
        survey = Survey(answer, Reduction(added.lift, lambda total, cohort: shared.found(total)))
    return Algorithm(
        init=init,
        init_memory=no_memory,
        survey=survey,
        client_update=client_update,
        aggregate=added,
        server_update=server_update,
        send=lambda fit: Asked(fit.model, (fit.status != RUNNING).astype(fit.status.dtype)),
        model=lambda fit: fit.model,
        measures=lambda fit: {"standard_errors_left": fit.length, "fit_status": fit.status},
        exact=True,
    )


def _next(oracle: Oracle, cfg: Newton, fit: Fit, sums: Curvature, hazard: Tree) -> Fit:
    """The state after the sums at `fit.model`."""
    flat, model_of = ravel_pytree(fit.model.params)
    dtype = jnp.promote_types(flat.dtype, jnp.float32)
    sums = jax.tree.map(lambda x: x.astype(dtype), sums)
    point, kept = flat.astype(dtype), fit.kept.astype(dtype)
    rounding = jnp.finfo(dtype).eps

    def ridge(theta: Array) -> Array:
        params = model_of(theta.astype(flat.dtype))
        return oracle.ridge(Model(params, fit.model.state)).astype(dtype)

    l1 = sums.weight * jnp.asarray(cfg.l1, dtype) * _weights(fit.model).astype(dtype)
    gradient = sums.gradient + sums.weight * jax.grad(ridge)(point)
    hessian = sums.hessian + sums.weight * jax.hessian(ridge)(point)
    objective = sums.loss + sums.weight * ridge(point) + l1 @ jnp.abs(point)
    fine = jnp.isfinite(objective) & trees.finite((gradient, hessian))
    before = fit.objective.astype(dtype)
    # Sums of so many numbers are not known to the last bits, and near the end nothing else is left.
    lower = objective <= before + 1e3 * rounding * jnp.abs(before)
    begun = fit.kept_rounds > 0
    keep = fine & (lower | ~begun)

    def kept_here() -> Fit:
        tolerance = jnp.maximum(jnp.asarray(cfg.tolerance, dtype), 1e2 * rounding)
        of = spectrum(hessian)
        d, length = step(gradient, hessian, of, point, l1, tolerance / 100)
        root = jnp.where(begun, fit.root.astype(dtype), of.root)
        # With a lasso no direction can run off, and not every one must be determined.
        sparse = jnp.any(l1 > 0)
        singular = ~begun & ~sparse & (of.values[0] < rounding**0.6)
        left = information_left(hessian, root)
        separated = begun & ~sparse & (left < jnp.maximum(1e-7, rounding**0.5))
        status = jnp.where(length <= tolerance, CONVERGED, RUNNING)
        status = jnp.where(separated, SEPARATED, jnp.where(singular, SINGULAR, status))
        to = jnp.where(status == RUNNING, point + d, point)
        zero = jnp.zeros((), dtype)
        new = Fit(
            fit.model, point, objective, sums, root, jnp.where(begun, fit.null.astype(dtype), sums.loss),
            hazard, status, fit.kept_rounds + 1, zero, length,
        )  # fmt: skip
        return _as(fit, new, Model(model_of(to.astype(flat.dtype)), fit.model.state))

    def half_way_back() -> Fit:
        stuck = (fit.halvings + 1 >= _HALVINGS) | ~begun
        to = jnp.where(stuck, kept, kept + (point - kept) / 2)
        new = fit._replace(status=jnp.where(stuck, STUCK, RUNNING), halvings=fit.halvings + 1)
        return _as(fit, new, Model(model_of(to.astype(flat.dtype)), fit.model.state))

    clean = jax.tree.map(lambda x: jnp.where(jnp.isfinite(x), x, jnp.zeros_like(x)), kept_here())
    return trees.where(keep, clean, half_way_back())


def _weights(model: Model) -> Array:
    """f[P]: 1 for weights, 0 for intercepts, which no penalty touches."""

    def of(path: tuple[object, ...], x: Array) -> Array:
        return jnp.full_like(x, path[-1] == jax.tree_util.DictKey("kernel"))

    return ravel_pytree(jax.tree.map_with_path(of, model.params))[0]


def _as(fit: Fit, new: Fit, model: Model) -> Fit:
    """`new` with this model, in the dtypes of `fit`."""
    return jax.tree.map(lambda old, x: jnp.asarray(x).astype(old.dtype), fit, new._replace(model=model))
