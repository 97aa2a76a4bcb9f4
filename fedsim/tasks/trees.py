"""A forest of binary trees of one depth as arrays, and the sums over rows from which they are grown.

Source: Friedman, "Greedy Function Approximation: A Gradient Boosting Machine", Annals of Statistics 2001, for
the additive model; Chen, Guestrin, "XGBoost: A Scalable Tree Boosting System", KDD 2016, section 2.2, for the
sums of first and second derivatives, and section 3.4 for the direction of missing values.

With T trees of depth D, in the parameters: `base` [1]; `feature`, `threshold` and `missing` [T, 2^D - 1], by
node, whose children are nodes 2i + 1, to which values up to the threshold go, and 2i + 2 (missing: 1 where
missing values go to the first); `leaf` [T, 2^D]. All are floating-point numbers, as of any other model.
"""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fedsim.base import require
from fedsim.config import Trees
from fedsim.model import Array, Batch, Boosted, Growing, Histograms, Key, Model, Spec, Task, Tree
from fedsim.tasks import heads
from fedsim.tasks.layers import wide

REACH = 10.0  # in standard deviations; what lies beyond counts as lying there


def trees(cfg: Trees, spec: Spec, dtype: str) -> Task:
    """Build a forest, whose leaves are all zero at first.

    Raises:
      RequestError: the label is neither a number nor one of two classes; or `dtype` cannot tell the rounds
        or the features apart.
    """
    heads.outputs(spec)  # of times to an event it says what to do
    require(
        spec.kind != "multiclass",
        f"task=trees predicts a number or one of two classes, and this data's label has {spec.classes}; use "
        "task=logistic or task=mlp",
    )
    kind = jnp.dtype(dtype)
    features, most = math.prod(spec.shape), 2 ** (jnp.finfo(kind).nmant + 1)
    rounds = cfg.trees * cfg.depth + 1
    require(
        max(features, rounds) <= most,
        f"{features} features and {rounds} rounds (task.trees={cfg.trees} times task.depth={cfg.depth}, and "
        f"one) are counted in numerics.dtype={dtype}, which counts to {most}; set numerics.dtype=float32",
    )
    nodes, leaves = 2**cfg.depth - 1, 2**cfg.depth

    def init(key: Key) -> Model:
        def empty(*shape: int) -> Array:
            return jnp.zeros(shape, kind)

        params = {name: empty(cfg.trees, nodes) for name in ("feature", "threshold", "missing")}
        return Model(params | {"base": empty(1), "leaf": empty(cfg.trees, leaves)}, ())

    def outputs(model: Model, batch: Batch) -> Array:
        return margins(model.params, _within(batch["x"]), cfg.trees)[:, None]

    def loss(model: Model, batch: Batch, key: Key | None) -> tuple[Array, Tree]:
        return heads.losses(spec, outputs(model, batch), batch["y"]), model.state

    grid = ends(leaves * cfg.bins)
    return Task(
        init=init,
        loss=loss,
        predict=lambda model, batch: heads.predictions(spec, outputs(model, batch)),
        # The penalty is on the sum of losses, and has its say where leaves are made.
        penalty=lambda model: jnp.zeros((), wide(kind)),
        flops=float(cfg.trees * (cfg.depth + 1)),  # a comparison for each level, and the sum of leaves
        boosted=Boosted(
            rows=partial(histograms, cfg, spec, grid),
            grid=grid,
            l2=cfg.l2,
            learning_rate=cfg.learning_rate,
            gamma=cfg.gamma,
            min_child_weight=cfg.min_child_weight,
            depth=cfg.depth,
            features=features,
            bins=cfg.bins,
        ),
    )


def ends(cells: int) -> np.ndarray:
    """f64[cells]: upper ends of the grid's cells, from -REACH to REACH, near 0 narrow: alike in the inverse
    hyperbolic sine. 0, which is what a mean that was imputed comes to, is in the middle of one."""
    limit = np.arcsinh(REACH)
    found = np.sinh(np.linspace(-limit, limit, cells))
    found[-1] = REACH
    return found


def _within(x: Array) -> Array:
    """[B, F], as it is compared with thresholds; missing values stay."""
    return jnp.clip(x.reshape(len(x), -1), -REACH, REACH)


def reached(params: Any, t: Array, x: Array) -> Array:
    """bool[2^D, B]: which leaf of tree `t` each row of x [B, F] ends in."""
    which = jnp.clip(params["feature"][t].astype(jnp.int32), 0, x.shape[1] - 1)
    columns = x.T[which]  # [nodes, B]; whole columns, since gathers of single values are slow
    first = jnp.where(
        jnp.isnan(columns), params["missing"][t][:, None] > 0.5, columns <= params["threshold"][t][:, None]
    )
    found, begin = jnp.ones((1, len(x)), bool), 0
    while begin < len(which):
        left = first[begin : begin + len(found)]
        begin += len(found)
        found = jnp.stack([found & left, found & ~left], axis=1).reshape(-1, len(x))
    return found


def margins(params: Any, x: Array, count: Any) -> Array:
    """[B]: base and the leaves of the first `count` trees, added up in their order, in at least 32 bits."""
    dtype = wide(params["leaf"].dtype)

    def add(t: Array, total: Array) -> Array:
        leaf = params["leaf"][t].astype(dtype)[:, None]
        return total + jnp.sum(jnp.where(reached(params, t, x), leaf, jnp.zeros((), dtype)), axis=0)

    base = jnp.broadcast_to(params["base"].astype(dtype), (len(x),))
    return jax.lax.fori_loop(0, count, add, base)


def histograms(
    cfg: Trees, spec: Spec, grid: np.ndarray, model: Model, batch: Batch, growing: Growing
) -> Histograms:
    """`Boosted.rows`. Derivatives are those of the negative log likelihood, or of half the squared error."""
    params, x = model.params, _within(batch["x"])
    dtype = wide(params["leaf"].dtype)
    weight = batch["mask"].astype(dtype)
    if "weight" in batch:
        weight = weight * batch["weight"].astype(dtype)
    level_of_all = growing.round.astype(jnp.int32) - 1
    tree, level = level_of_all // cfg.depth, level_of_all % cfg.depth
    out, y = margins(params, x, tree), batch["y"].astype(dtype)
    if spec.kind == "binary":
        p = jax.nn.sigmoid(out)
        slopes = jnp.stack([p - y, p * (1 - p)])
    else:
        slopes = jnp.stack([out - y, jnp.ones_like(out)])
    # Rows that do not count may hold anything.
    slopes = jnp.where(weight > 0, weight * slopes, jnp.zeros((), dtype))
    nodes, features = 2 ** (cfg.depth - 1), x.shape[1]

    def counted() -> Array:
        above = (x[:, :, None] > grid.astype(x.dtype)) & (weight > 0)[:, None, None]
        there = ~jnp.isnan(x) & (weight > 0)[:, None]
        above = jnp.sum(above, axis=0, dtype=dtype)
        before = jnp.concatenate([jnp.sum(there, axis=0, dtype=dtype)[:, None], above[:, :-1]], axis=1)
        cells = (before - above).reshape(features, nodes, cfg.bins, 2).swapaxes(0, 1)
        return jnp.pad(cells, ((0, 0), (0, 0), (0, 1), (0, 0)))

    def summed() -> Array:
        leaves = jnp.arange(2**cfg.depth, dtype=jnp.int32)
        leaf = jnp.sum(jnp.where(reached(params, tree, x), leaves[:, None], 0), axis=0)
        node = leaf >> (cfg.depth - level)
        here = node == jnp.arange(nodes, dtype=jnp.int32)[:, None]  # [nodes, B]
        by_node = jnp.where(here[:, None], slopes, jnp.zeros((), dtype)).reshape(2 * nodes, -1)
        missing = jnp.isnan(x)[:, :, None]
        above = x[:, :, None] > growing.edges
        within = jnp.concatenate([~missing, above[:, :, :-1]], axis=2) & ~above
        bins = jnp.concatenate([within, missing], axis=2).reshape(len(x), -1).astype(dtype)
        # A product, because sums by index have no fixed order on a GPU.
        cells = jnp.matmul(by_node, bins, precision=jax.lax.Precision.HIGHEST)
        return cells.reshape(nodes, 2, features, -1).transpose(0, 2, 3, 1)

    cells = jax.lax.cond(growing.round > 0, summed, counted)
    return Histograms(cells, jnp.sum(slopes, axis=1))
