"""Metrics of probabilities of a class, in one pass over rows sorted by score. See the package's docstring."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedsim.metrics import decisions, smooth

Floats = NDArray[np.float64]

BINS = 15
EDGES = np.linspace(0.0, 1.0, BINS + 1, dtype=np.float64)[1:-1]
EPS = float(np.finfo(np.float64).eps)


def binary(
    y: NDArray[Any], p: Floats, w: Floats | None, full: bool, thresholds: Sequence[float] = ()
) -> dict[str, float | None]:
    """Every metric of labels y [n], 0 or 1, and probabilities p [n]; n > 0.

    Raises:
      ValueError: labels or probabilities out of range.
    """
    order = np.argsort(p)  # the one sort that ranks, precision, bins and ranges share
    p = p[order]
    positive = y[order] == 1
    if p[0] < 0 or p[-1] > 1:
        raise ValueError(f"binary scores must be probabilities, got {p[0]} to {p[-1]}; apply the sigmoid")
    if not ((y == 0) | (y == 1)).all():
        raise ValueError("binary labels must be 0 or 1")
    w = np.ones(p.size, np.float64) if w is None else w[order]
    t = positive.astype(np.float64)
    wt = w * t
    total, positives = float(w.sum()), float(wt.sum())
    both = bool(positive.any()) and not bool(positive.all())
    clipped = np.clip(p, EPS, 1.0 - EPS)
    logs = np.log(np.where(positive, clipped, 1.0 - clipped))
    found: dict[str, float | None] = {
        "accuracy": float(w @ ((p > 0.5) == positive)) / total,
        "log_loss": -float(w @ logs) / total,
        "brier": float(w @ np.square(p - t)) / total,
        "auroc": None,
        "auprc": None,
        "calibration_intercept": None,
        "calibration_slope": None,
        "ici": None,
    }
    below_w, below_wt = running(w), running(wt)
    starts = np.flatnonzero(np.concatenate(([True], p[1:] != p[:-1])))  # of runs of equal scores
    ends = np.append(starts[1:], p.size)
    if both:
        hits = below_wt[ends] - below_wt[starts]
        misses_below = below_w[starts] - below_wt[starts]
        misses = below_w[ends] - below_w[starts] - hits
        found["auroc"] = float(hits @ (misses_below + 0.5 * misses)) / (positives * (total - positives))
        if full:
            precision = (positives - below_wt[starts]) / (total - below_w[starts])
            found["auprc"] = float(hits @ precision) / positives
    if full:
        cuts = np.concatenate(([0], np.searchsorted(p, EDGES, side="right"), [p.size]))
        gap = below_wt - running(w * p)
        found["ece"] = float(np.abs(np.diff(gap[cuts])).sum()) / total
        expected = float(w @ p)
        found["o_e"] = positives / expected if expected > 0 else None
        found |= decisions.capacity(below_w, below_wt, ends)
        for threshold in thresholds:
            at = int(np.searchsorted(p, threshold, side="left"))
            acted, right = (float(x[-1] - x[at]) / total for x in (below_w, below_wt))
            found[f"net_benefit_{threshold:g}"] = decisions.net_benefit(acted, right, threshold)
            every = decisions.net_benefit(1.0, positives / total, threshold)
            found[f"net_benefit_all_{threshold:g}"] = every
        if both:
            found["ici"] = smooth.ici(p, w, smooth.curve(p, t, w))
            logit = np.log(clipped / (1.0 - clipped))
            found["calibration_intercept"] = intercept(logit, t, w)
            found["calibration_slope"] = slope(logit, positive, t, w)
    return found


def running(x: Floats) -> Floats:
    """Sums of the first 0, 1, ..., n entries."""
    sums = np.zeros(x.size + 1, np.float64)
    np.cumsum(x, out=sums[1:])
    return sums


def intercept(logit: Floats, t: Floats, w: Floats) -> float:
    """The root of sum w (t - sigmoid(a + logit)), by Newton steps kept inside a bracket.

    Exists and is unique whenever both classes are there; `logit` is sorted.
    """
    share = float(w @ t) / float(w.sum())
    centre = math.log(share / (1.0 - share))
    low, high = centre - float(logit[-1]), centre - float(logit[0])
    a = min(max(0.0, low), high)
    wt = float(w @ t)
    for _ in range(200):
        q = 1.0 / (1.0 + np.exp(-(a + logit)))
        wq = w * q
        slack = wt - float(wq.sum())
        if slack > 0:
            low = a
        else:
            high = a
        curvature = float(wq @ (1.0 - q))
        step = a + slack / curvature if curvature > 0 else math.inf
        if not low < step < high:
            step = 0.5 * (low + high)
        if abs(step - a) <= 1e-10 * (1.0 + abs(a)):
            return step
        a = step
    return a


def slope(logit: Floats, positive: NDArray[np.bool_], t: Floats, w: Floats) -> float | None:
    """Slope of the logistic regression of t on logit, by damped Newton steps (IRLS).

    None unless the classes overlap, the condition under which a finite maximum exists (Albert and
    Anderson 1984, Theorem 1). `logit` is sorted, so each class's range is at its ends.
    """
    first, last = logit[positive], logit[~positive]
    if first[-1] <= last[0] or last[-1] <= first[0]:
        return None
    total = float(w.sum())
    w = w / total
    centre = float(w @ logit)
    scale = math.sqrt(float(w @ np.square(logit - centre)))
    x = (logit - centre) / scale
    wx = w * x
    wt, wtx = float(w @ t), float(wx @ t)

    def gain(a: float, b: float) -> tuple[float, Floats, Floats]:
        eta = a + b * x
        e = np.exp(-np.abs(eta))
        both = 1.0 + e
        q = np.where(eta >= 0, 1.0, e) / both
        value = a * wt + b * wtx - float(w @ (np.maximum(eta, 0.0) + np.log1p(e)))
        return value, q, e / np.square(both)

    a, b = centre, scale  # slope 1, intercept 0 on the scale of the logit
    best, q, v = gain(a, b)
    for _ in range(200):
        ga, gb = wt - float(w @ q), wtx - float(wx @ q)
        wxv = wx * v
        haa, hab, hbb = float(w @ v), float(wxv.sum()), float(wxv @ x)
        det = haa * hbb - hab * hab
        if not det > 1e-14 * haa * hbb:  # a flat start: go back to where every row has curvature
            a = b = 0.0
            best, q, v = gain(a, b)
            continue
        da, db = (hbb * ga - hab * gb) / det, (haa * gb - hab * ga) / det
        rise = ga * da + gb * db
        if rise <= 1e-20:
            break
        size = 1.0
        while True:
            value, q_new, v_new = gain(a + size * da, b + size * db)
            # Below 1e-14 the objective's own rounding decides; a Newton step is right there.
            if value >= best + 1e-4 * size * rise - 1e-14 or size < 1e-6:
                break
            size *= 0.5
        a, b, best, q, v = a + size * da, b + size * db, value, q_new, v_new
    return b / scale
