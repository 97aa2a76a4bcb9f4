"""Smooth calibration curves, and how far predictions lie from them.

Sources: Cleveland, Devlin, "Locally Weighted Regression", JASA 1988, section 2, for loess; Austin,
Steyerberg, "The Integrated Calibration Index (ICI)", Statistics in Medicine 2019, who smooth with it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

SPAN = 0.75  # share of the rows that a local fit sees, as in Austin and Steyerberg
GROUPS = 64  # of neighbouring scores, beyond which rows are put together before the fit
_FLAT = 1e-10  # of a column's spread: what is left of it after the others is rounding


def curve(p: Floats, y: Floats, w: Floats) -> tuple[Floats, Floats]:
    """Loess of y on p: local quadratics with tricube weights, each of the nearest `SPAN` of the weight.

    Rows with equal scores are one point; of more than `GROUPS` points, neighbours are put together into
    groups of about equal weight, whose width is far below that of a local fit. Where scores take too few
    values for a quadratic it is a line, or a mean.

    Args:
      p: probabilities [n], n > 0; y: what came of them [n]; w: [n], > 0.

    Returns:
      (scores, rising; fitted shares there, within [0, 1]); f64[m] each, m <= `GROUPS`.
    """
    x, point = _distinct(p)
    weight: Floats = np.asarray(np.bincount(point, w, len(x)), np.float64)
    if len(x) > GROUPS:
        point = _groups(weight)[point]
        weight = _sums(point, w)
        x = _sums(point, w * p) / weight
    return x, _local(x, weight, _sums(point, w * y) / weight)


def of_points(x: Floats, weight: Floats, hits: Floats) -> tuple[Floats, Floats]:
    """`curve` of rows put together by score: x [k] rising, their weight > 0, and its part with y = 1."""
    if len(x) > GROUPS:
        group = _groups(weight)
        mass, hits, weight = (_sums(group, values) for values in (weight * x, hits, weight))
        x = mass / weight
    return x, _local(x, weight, hits / weight)


def _sums(group: NDArray[Any], values: Floats) -> Floats:
    return np.asarray(np.bincount(group, values), np.float64)


def _groups(weight: Floats) -> NDArray[np.int64]:
    """The group of each point, from 0, none empty."""
    middle = np.cumsum(weight) - 0.5 * weight
    group = np.minimum(middle / weight.sum() * GROUPS, GROUPS - 1).astype(np.int64)
    found: NDArray[np.int64] = _distinct(group)[1]
    return found


def _distinct(values: NDArray[Any]) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """The distinct values [m], rising, and which of them each of `values` [n] is, n > 0."""
    if (values[1:] < values[:-1]).any():
        return np.unique(values, return_inverse=True)
    first = np.concatenate(([True], values[1:] != values[:-1]))  # no need to sort, as most often
    return values[first], np.cumsum(first) - 1


def _local(x: Floats, weight: Floats, shares: Floats) -> Floats:
    """What local fits to points x [m], rising, with shares [m] are at each, within [0, 1]."""
    u = x - x[:, None]  # [fits, points]
    distance = np.abs(u)
    order = np.argsort(distance, axis=1, kind="stable")
    reached = np.cumsum(weight[order], axis=1) >= SPAN * weight.sum() * (1 - 1e-12)
    fits = np.arange(len(x))
    width = np.maximum(distance[fits, order[fits, reached.argmax(axis=1)]], np.finfo(np.float64).tiny)[
        :, None
    ]
    # From here on in units of the width; those beyond have no weight.
    distance = np.minimum(distance / width, 1.0)
    u = np.copysign(distance, u)
    near = 1.0 - distance * distance * distance
    near = weight * near * near * near
    near /= near.sum(axis=1, keepdims=True)

    def mean(values: Floats) -> Floats:
        found: Floats = np.einsum("fp,fp->f", near, values)
        return found

    # Orthogonal columns 1, a, b: what a column adds is left out where nothing of it is left.
    centre = mean(u)
    a = u - centre[:, None]
    a2 = a * a
    spread = mean(a2)
    some = np.maximum(spread, _FLAT)
    along = mean(a2 * a) / some
    b = a2 - along[:, None] * a - spread[:, None]
    rest = mean(b * b)
    line = np.where(spread > _FLAT, (near * a) @ shares / some, 0.0)
    bend = np.where((spread > _FLAT) & (rest > _FLAT), (near * b) @ shares / np.maximum(rest, _FLAT), 0.0)
    at = centre**2 + along * centre - spread  # b at the point itself, where a is -centre
    found: Floats = np.clip(near @ shares - line * centre + bend * at, 0.0, 1.0)
    return found


def ici(p: Floats, w: Floats, fitted: tuple[Floats, Floats]) -> float:
    """Integrated calibration index: mean |p - curve(p)|, the curve taken linearly between its points."""
    return float(w @ np.abs(p - np.interp(p, *fitted))) / float(w.sum())
