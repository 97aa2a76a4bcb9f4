"""Metrics of several classes, and of quantities such as days and costs. See the package's docstring."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedsim.metrics.binary import BINS, EDGES, EPS, binary

Floats = NDArray[np.float64]


def multiclass(y: NDArray[Any], p: Floats, w: Floats | None, full: bool) -> dict[str, float | None]:
    n, classes = p.shape
    y = y.astype(np.int64)
    if y.min() < 0 or y.max() >= classes:
        raise ValueError(f"labels must be in [0, {classes}), got {y.min()} to {y.max()}")
    if p.min() < 0 or p.max() > 1:
        raise ValueError(f"multiclass scores must be probabilities, got {p.min()} to {p.max()}")
    w = np.ones(n, np.float64) if w is None else w
    total = float(w.sum())
    top = p.argmax(axis=1)
    right = (top == y).astype(np.float64)
    own = p[np.arange(n), y]
    found: dict[str, float | None] = {
        "accuracy": float(w @ right) / total,
        "log_loss": -float(w @ np.log(np.clip(own, EPS, 1.0 - EPS))) / total,
        "brier": float(w @ (np.square(p).sum(axis=1) - 2.0 * own + 1.0)) / total,
        "auroc": _one_vs_rest(y, p, w) if np.unique(y).size == classes > 1 else None,
    }
    if full:
        confidence = p[np.arange(n), top]
        bins = np.searchsorted(EDGES, confidence, side="left")
        gap = np.bincount(bins, weights=w * (right - confidence), minlength=BINS)
        found["ece"] = float(np.abs(gap).sum()) / total
    return found


def _one_vs_rest(y: NDArray[np.int64], p: Floats, w: Floats) -> float:
    areas: list[float] = []
    for c in range(p.shape[1]):
        area = binary((y == c).astype(np.float64), p[:, c], w, False)["auroc"]
        assert area is not None  # every class is there, and the rest is not empty
        areas.append(area)
    return math.fsum(areas) / len(areas)


def regression(y: NDArray[Any], s: Floats, w: Floats | None, full: bool) -> dict[str, float | None]:
    t: Floats = y.astype(np.float64)
    w = np.ones(t.size, np.float64) if w is None else w
    w = w / float(w.sum())
    error = s - t
    mse = float(w @ np.square(error))
    # Variance against the first value: exactly 0 for constant labels, whatever they are.
    shifted = t - t[0]
    variance = float(w @ np.square(shifted - float(w @ shifted)))
    mean = float(w @ t)
    deviation = float(w @ np.abs(t - mean))
    predicted = float(w @ s)
    mae = float(w @ np.abs(error))
    positive = bool(s.min() > 0)
    return {
        "r2": 1.0 - mse / variance if variance > 0 else None,
        "mae": mae,
        "mse": mse,
        "o_e": mean / predicted if mean > 0 and predicted > 0 else None,
        "cpm": 1.0 - mae / deviation if variance > 0 else None,
        "gini": _gini(t, s, w) if full and t.min() >= 0 else None,
        "gamma_deviance": _gamma(t, s, w) if full and positive and t.min() > 0 else None,
        "tweedie_deviance": _tweedie(t, s, w) if full and positive and t.min() >= 0 else None,
    }


def _gamma(t: Floats, s: Floats, w: Floats) -> float | None:
    log_ratio = np.log(t) - np.log(s)
    with np.errstate(over="ignore"):
        found = 2.0 * float(w @ (np.expm1(log_ratio) - log_ratio))
    return found if math.isfinite(found) else None


def _tweedie(t: Floats, s: Floats, w: Floats) -> float:
    """Of power 1.5."""
    root = np.sqrt(s)
    return 4.0 * float(w @ (np.square(np.sqrt(t) - root) / root))


def _gini(t: Floats, s: Floats, w: Floats) -> float | None:
    """How much of the concentration of t, which is >= 0, its order by s recovers: 1 is all of it, 0 none.

    None where nothing is concentrated."""
    most = _concentration(t, t, w)
    # Equal amounts: the index is 0 but for rounding.
    return _concentration(t, s, w) / most if most > 1e-12 else None


def _concentration(t: Floats, s: Floats, w: Floats) -> float:
    """Concentration index of t along s, equal s sharing the middle of their ranks; w adds up to 1."""
    level = np.unique(s, return_inverse=True)[1]
    share = np.bincount(level, w)
    rank = (np.cumsum(share) - 0.5 * share)[level]
    amount = float(w @ t)
    return 2.0 * float((w * t) @ rank) / amount - 1.0 if amount > 0 else 0.0
