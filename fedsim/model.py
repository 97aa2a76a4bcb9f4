"""What a model is to the rest of fedsim: a pytree, and four pure functions of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import jax

Tree = Any
Array = jax.Array
Key = jax.Array
Batch = dict[str, Array]  # "x" [B, ...], "y" [B], "mask" bool[B], and what other columns a source has
Penalty = Callable[[Array, Batch], Array]  # (features [B, D], batch) -> [B], added to the losses


class Model(NamedTuple):
    """What is trained and sent. state: batch statistics; () where a task has none."""

    params: Tree
    state: Tree


@dataclass(frozen=True)
class Spec:
    """What a task must know of the data. shape: of one row's features; classes: 0 for regression; for
    survival `y` is the event, 1 or 0, and batches have its `time`. times: where all clients must know them,
    the distinct times of events, rising."""

    shape: tuple[int, ...]
    kind: Literal["binary", "multiclass", "regression", "survival"]
    classes: int
    times: tuple[float, ...] = ()


class Backprop(NamedTuple):
    """What one layer read and what came back to it, row by row, from which follow per-row gradients.

    apply: (inputs, kernel) -> outputs, what the layer does but for its bias; row by row.
    inputs: [B, ...]; slopes: of the sum of losses by the layer's outputs, [B, ...]; bias: whether it has one.
    dense: whether both are vectors, so that a row's gradient is their outer product.
    """

    apply: Callable[[Array, Array], Array]
    inputs: Array
    slopes: Array
    bias: bool
    dense: bool


class Curvature(NamedTuple):
    """Sums over rows at a model of P numbers, in the order of `jax.flatten_util.ravel_pytree`.

    weight: of the rows; loss: in nats, or squared errors, without penalty; gradient: [P]; hessian: [P, P].
    """

    weight: Array
    loss: Array
    gradient: Array
    hessian: Array


class SecondOrder(NamedTuple):
    """How a linear model's `Curvature` is summed over rows, slice by slice.

    rows: (model, batch, found) -> Curvature of a slice; whole: (found, sum of them) -> Curvature of all rows.
    Where rows share risk sets a first pass comes before, else `found` is (): empty: () -> its sums over no
    rows; survey: (sums, model, batch) -> the sums with a slice more; found: sums over all rows -> what they
    come to; times: how many event times they are for.
    """

    rows: Callable[[Model, Batch, Tree], Curvature]
    whole: Callable[[Tree, Curvature], Curvature] = lambda found, total: total
    empty: Callable[[], Tree] | None = None
    survey: Callable[[Tree, Model, Batch], Tree] = lambda sums, model, batch: sums
    found: Callable[[Tree], Tree] = lambda sums: ()
    times: int = 0


class Growing(NamedTuple):
    """Where boosting is; scalars and arrays of the model's dtype.

    edges: [F, bins], upper ends of every feature's bins, rising; round: how many are done. The first counts
      values, from which edges follow; the others each grow a level of a tree, the root first.
    """

    edges: Array
    round: Array


class Histograms(NamedTuple):
    """Sums over rows of their losses' first and second derivatives by the model's output.

    cells: [nodes, F, bins + 1, 2], by the node of the level in growth and the bin of each feature, the last
      for missing values; in the first round numbers of rows instead, by the cells of a grid that is known to
      all: [F, cells] as [nodes, F, bins, 2]. total: [2], of all rows.
    """

    cells: Array
    total: Array


class Boosted(NamedTuple):
    """How trees are grown.

    rows: (model, batch, where boosting is) -> Histograms of a slice; grid: f[cells], upper ends of the grid's
    cells, rising; l2, learning_rate, gamma, min_child_weight: as in the config; depth, features, bins: of
    trees, F, of each.
    """

    rows: Callable[[Model, Batch, Growing], Histograms]
    grid: Any
    l2: Any
    learning_rate: Any
    gamma: Any
    min_child_weight: Any
    depth: int
    features: int
    bins: int


@dataclass(frozen=True)
class Task:
    """The model and how it is judged.

    init: key -> Model.
    loss: (model, batch, key) -> (per-example losses [B] in nats, or squared errors; new state), in
      training mode; with None for a key in evaluation mode: no dropout, and the state stays. Losses of
      masked rows are finite and ignored by the caller.
    predict: (model, batch) -> probability, value or risk [B], or probabilities [B, classes].
    penalty: model -> scalar, added to the mean loss.
    flops: arithmetic of one example forward, counted, two per multiply-add.
    coefficients: model -> (weights [F] or [F, C], intercept or None) for linear models, else None.
    features: (model, batch, key or None as in `loss`) -> the representation [B, D] that the head reads;
      None where the model is a head alone.
    penalised: (model, batch, key, penalty) -> as `loss`, plus penalty(features, batch) [B] of the same
      pass; None where `features` is.
    joint: 0, or, where a row's loss depends on the others of its batch, so that no sum over slices is the
      loss of all rows, how many rows are then read as one slice.
    backprops: (model, batch, key) -> by a layer's path in the parameters, its `Backprop` of the sum of the
      masked rows' losses; None unless every parameter is a kernel or bias of a layer that is passed once.
    second_order: for models of one output that are linear in the features, else None.
    boosted: for forests, else None.
    curve: for models of hazards over time: (model, batch) -> logarithm of the cumulative hazard by the end of
      each interval, [B, intervals]; else None.
    hazards: for the same: (model, batch) -> logits of the hazard in each interval, [B, intervals].
    """

    init: Callable[[Key], Model]
    loss: Callable[[Model, Batch, Key | None], tuple[Array, Tree]]
    predict: Callable[[Model, Batch], Array]
    penalty: Callable[[Model], Array]
    flops: float
    coefficients: Callable[[Model], tuple[Array, Array | None]] | None = None
    features: Callable[[Model, Batch, Key | None], Array] | None = None
    penalised: Callable[[Model, Batch, Key | None, Penalty], tuple[Array, Tree]] | None = None
    joint: int = 0
    backprops: Callable[[Model, Batch, Key | None], dict[tuple[Any, ...], Backprop]] | None = None
    second_order: SecondOrder | None = None
    boosted: Boosted | None = None
    curve: Callable[[Model, Batch], Array] | None = None
    hazards: Callable[[Model, Batch], Array] | None = None
