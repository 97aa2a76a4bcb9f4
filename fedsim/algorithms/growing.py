"""A forest as it grows, from sums over rows: bins, then a level of a tree at a time.

Source: Chen, Guestrin, "XGBoost: A Scalable Tree Boosting System", KDD 2016, eq. 5 (leaves), eq. 7 (splits)
and Alg. 3 (missing values), on bins (section 3.2, "global variant").

Whose rows they are does not matter here: all clients', one client's, or rows in one place.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from fedsim import trees
from fedsim.algorithms.algorithm import Array
from fedsim.model import Boosted, Growing, Histograms, Model


class Forest(NamedTuple):
    """The model, the edges of bins, and the number of rounds done."""

    model: Model
    growing: Growing


class Splits(NamedTuple):
    """Of the nodes of a level, [nodes] each: feature, number of the bin whose end is the threshold, whether
    missing values go with the smaller ones, and values of both children's leaves [nodes, 2]."""

    feature: Array
    bin: Array
    missing: Array
    values: Array


def planted(boosted: Boosted, model: Model) -> Forest:
    """The forest before its first round."""
    dtype = model.params["leaf"].dtype
    return Forest(model, Growing(jnp.zeros((boosted.features, boosted.bins), dtype), jnp.zeros((), dtype)))


def left(boosted: Boosted, forest: Forest) -> Array:
    """Whether there is something to grow."""
    rooms = len(forest.model.params["leaf"])
    return forest.growing.round <= rooms * boosted.depth


def grown(boosted: Boosted, forest: Forest, sums: Histograms) -> Forest:
    """The forest after one more round: of base and bins, then of a level of a tree."""
    begun = forest.growing.round > 0
    new = trees.where(begun, _level(boosted, forest, sums), _begun(boosted, forest, sums))
    # A round in which nobody has rows is none.
    return trees.where(left(boosted, forest) & (sums.total[1] > 0), new, forest)


def _begun(boosted: Boosted, forest: Forest, sums: Histograms) -> Forest:
    """Base and edges, from a first round's sums."""
    slope, curve = sums.total
    base = jnp.where(curve > 0, -slope / curve, jnp.zeros_like(slope))
    model, growing = forest
    params = model.params | {"base": base[None]}
    counts = sums.cells[:, :, :-1].swapaxes(0, 1).reshape(len(growing.edges), -1)
    new = Growing(edges(counts, boosted), growing.round + 1)
    return _as(forest, Forest(Model(params, model.state), new))


def edges(counts: Array, boosted: Boosted) -> Array:
    """[F, bins] upper ends of bins, from numbers of rows [F, cells] in the cells of the grid.

    They are quantiles of the mean of two distributions: of rows, and of the cells that have any; by the
    second, few different values are told apart however rare they are.
    """
    some = (counts > 0).astype(counts.dtype)
    shares = sum(x / jnp.maximum(jnp.sum(x, axis=1, keepdims=True), 1) for x in (counts, some))
    below = jnp.cumsum(shares / 2, axis=1)  # [F, cells]
    wanted = jnp.arange(1, boosted.bins, dtype=counts.dtype) / boosted.bins
    # A share that is wanted to the last digit is reached, whatever rounding says.
    cell = jnp.sum(below[:, None] < wanted[:, None] * (1 - 1e-5), axis=2)
    grid = jnp.asarray(boosted.grid, counts.dtype)
    found = grid[jnp.minimum(cell, len(grid) - 1)]
    return jnp.concatenate([found, jnp.full((len(counts), 1), grid[-1])], axis=1)


def _level(boosted: Boosted, forest: Forest, sums: Histograms) -> Forest:
    """The forest with one level more."""
    model, growing = forest
    depth, dtype = boosted.depth, sums.cells.dtype
    done = growing.round.astype(jnp.int32) - 1
    tree, level = done // depth, done % depth
    found = splits(sums.cells, boosted)
    node = jnp.arange(2 ** (depth - 1), dtype=jnp.int32)
    # Nodes of deeper levels than this are not there.
    at = jnp.where(node < 2**level, 2**level - 1 + node, 2**depth)
    threshold = growing.edges[found.feature, found.bin]
    new = {"feature": found.feature, "threshold": threshold, "missing": found.missing}
    params = model.params | {
        name: model.params[name].at[tree, at].set(x.astype(growing.edges.dtype), mode="drop")
        for name, x in new.items()
    }
    child = jnp.arange(2**depth, dtype=jnp.int32) >> (depth - level - 1)
    values = jnp.asarray(boosted.learning_rate, dtype) * found.values[child // 2, child % 2]
    leaf = model.params["leaf"]
    params["leaf"] = leaf.at[tree].set(values.astype(leaf.dtype), mode="drop")
    return _as(forest, Forest(Model(params, model.state), growing._replace(round=growing.round + 1)))


def splits(cells: Array, boosted: Boosted) -> Splits:
    """The best split of every node, from sums [nodes, F, bins + 1, 2].

    A node that none improves sends all rows to its first child, and both have its value.
    """
    numbers = boosted.l2, boosted.gamma, boosted.min_child_weight
    l2, gamma, least = (jnp.asarray(x, cells.dtype) for x in numbers)
    nodes, bins = cells.shape[0], cells.shape[2] - 1
    whole = jnp.sum(cells[:, 0], axis=1)  # [nodes, 2], by bins of the first feature

    def over(sums: Array, power: int) -> Array:
        """G^power / (H + l2), 0 without rows."""
        below = sums[..., 1] + l2
        return jnp.where(below > 0, sums[..., 0] ** power / jnp.where(below > 0, below, 1), 0)

    smaller, missing = jnp.cumsum(cells[:, :, :-1], axis=2), cells[:, :, -1:]
    first = jnp.stack([smaller + missing, smaller], axis=3)  # [nodes, F, bins, 2, 2]
    second = whole[:, None, None, None] - first
    parts = over(first, 2) + over(second, 2)
    gain = (parts - over(whole, 2)[:, None, None, None]) / 2 - gamma
    # A gain that may be rounding alone is none: pooled or not, the same nodes are split.
    sure = gain > 100 * jnp.finfo(cells.dtype).eps * parts
    allowed = sure & (first[..., 1] >= least) & (second[..., 1] >= least)
    gain = jnp.where(allowed, gain, -jnp.inf).reshape(nodes, -1)
    best = jnp.argmax(gain, axis=1)
    good = jnp.any(allowed.reshape(nodes, -1), axis=1)
    best = jnp.where(good, best, 2 * (bins - 1))  # all values, and the missing ones, to the first child
    feature, bin, side = best // (2 * bins), best // 2 % bins, best % 2
    node = jnp.arange(nodes)
    chosen = jnp.stack([of[node, feature, bin, side] for of in (first, second)], axis=1)
    values = -jnp.where(good[:, None], over(chosen, 1), over(whole, 1)[:, None])
    return Splits(feature, bin, 1 - side, values)


def _as(forest: Forest, new: Forest) -> Forest:
    """`new` in the dtypes of `forest`."""
    return jax.tree.map(lambda old, x: jnp.asarray(x).astype(old.dtype), forest, new)
