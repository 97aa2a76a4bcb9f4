"""How predictions are judged: pure functions of labels, scores and weights, in float64.

A metric that is undefined (a ranking with one class, a slope without a maximum likelihood estimate,
anything on no rows or on scores that are not finite) is None, never a stand-in such as 0.5.

Scores are probabilities of class 1 [n] (binary), probabilities [n, classes] (multi-class), predictions
[n] (regression) or risks [n], the higher the earlier (survival). Weights are >= 0, one per row; a row
of weight 0 does not exist.

  auroc                  area under the ROC curve, ties counted half; multi-class: unweighted mean of
                         one-vs-rest, undefined unless every class is there
  auprc                  average precision: sum of precision times step in recall, no interpolation
  accuracy               share of right classes; binary: class 1 where the score is above 0.5
  log_loss               mean -log(probability of the label), nats; probabilities are clipped to
                         [eps, 1 - eps], eps of float64
  brier                  binary: mean (p - y)^2; multi-class: squared error *summed* over classes
                         (Brier 1950), twice the binary form when there are two
  ece                    expected calibration error, 15 bins of equal width, closed on the right
                         (Guo et al. 2017, eq. 3); binary: of the probability of class 1;
                         multi-class: of the probability of the top label
  calibration_intercept  calibration in the large: a in logit P(y) = a + logit(p)
  calibration_slope      b in logit P(y) = a + b logit(p), maximum likelihood, no penalty (Cox 1958)
  r2, mae, mse           coefficient of determination, mean absolute and mean squared error
  backdoor               share of the other classes' rows taken for an attack's target, with its trigger
  c_index                share of comparable pairs that the risk puts in the order of their events
                         (Harrell et al. 1996), equal risks counted half; undefined without such a pair
  cox_loss               negative log partial likelihood per event, nats, ties as Efron 1977; the risk is
                         taken for a log hazard ratio
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fedsim import survival

Floats = NDArray[np.float64]

HIGHER_IS_BETTER: dict[str, bool] = {
    "auroc": True,
    "auprc": True,
    "accuracy": True,
    "log_loss": False,
    "brier": False,
    "ece": False,
    "r2": True,
    "mae": False,
    "mse": False,
    "backdoor": False,
    "c_index": True,
    "cox_loss": False,
}
# Metrics that are best at a value, not at an end.
TARGET: dict[str, float] = {"calibration_intercept": 0.0, "calibration_slope": 1.0}
# What a value can be. A calibration slope can be anything; brier is the multi-class one.
RANGE: dict[str, tuple[float, float]] = {
    **dict.fromkeys(("auroc", "auprc", "accuracy", "ece", "backdoor", "c_index"), (0.0, 1.0)),
    **dict.fromkeys(("log_loss", "mae", "mse", "cox_loss"), (0.0, math.inf)),
    "brier": (0.0, 2.0),
    "r2": (-math.inf, 1.0),
}

_NAMES: dict[str, tuple[str, ...]] = {
    "binary": (
        "auroc",
        "auprc",
        "accuracy",
        "log_loss",
        "brier",
        "ece",
        "calibration_intercept",
        "calibration_slope",
    ),
    "multiclass": ("auroc", "accuracy", "log_loss", "brier", "ece"),
    "regression": ("r2", "mae", "mse"),
    "survival": ("c_index", "cox_loss"),
}
_QUICK = ("auroc", "accuracy", "log_loss", "brier", "r2", "mae", "mse", "c_index", "cox_loss")
_BINS = 15
_EDGES = np.linspace(0.0, 1.0, _BINS + 1, dtype=np.float64)[1:-1]
_EPS = float(np.finfo(np.float64).eps)


def names(kind: str, full: bool = True) -> tuple[str, ...]:
    """The metrics of a kind of task, in the order of tables.

    Args:
      kind: `binary`, `multiclass`, `regression` or `survival`.
      full: False leaves out what a training curve does not need (calibration, auprc).

    Raises:
      ValueError: another kind.
    """
    if kind not in _NAMES:
        raise ValueError(f"kind must be one of {', '.join(_NAMES)}; got {kind!r}")
    return tuple(n for n in _NAMES[kind] if full or n in _QUICK)


def evaluate(
    kind: str,
    y: ArrayLike,
    scores: ArrayLike,
    weights: ArrayLike | None = None,
    full: bool = True,
    time: ArrayLike | None = None,
) -> dict[str, float | None]:
    """Every metric of `kind`, see the module's docstring; None where undefined.

    Args:
      kind: as in `names`.
      y: labels [n]: 0/1, class numbers from 0, or values; 1 for an event, 0 for censored.
      scores: [n], or [n, classes] for `multiclass`.
      weights: [n], or None for equal weights.
      full: as in `names`.
      time: [n], of the event or of censoring; for `survival`, and no other kind.

    Raises:
      ValueError: shapes that do not fit, labels or probabilities out of range.
    """
    wanted = names(kind, full)
    y = np.asarray(y)
    s: Floats = np.asarray(scores, dtype=np.float64)
    if y.ndim != 1 or s.ndim != (2 if kind == "multiclass" else 1) or s.shape[0] != y.size:
        raise ValueError(f"{kind} scores of shape {s.shape} do not fit labels of shape {y.shape}")
    if (time is None) != (kind != "survival"):
        raise ValueError(f"times go with survival and with no other kind, got {kind}")
    t = y if time is None else np.asarray(time)
    if t.shape != y.shape:
        raise ValueError(f"times of shape {t.shape} do not fit labels of shape {y.shape}")
    w: Floats | None = None
    if weights is not None:
        w = np.asarray(weights, dtype=np.float64)
        if w.shape != y.shape or not (w >= 0).all():
            raise ValueError(f"weights must be >= 0 and of shape {y.shape}, got shape {w.shape}")
        y, t, s, w = y[w > 0], t[w > 0], s[w > 0], w[w > 0]
    if y.size == 0 or not np.isfinite(s).all():
        return dict.fromkeys(wanted)
    found = _survival(y, t, s, w) if kind == "survival" else _KINDS[kind](y, s, w, full)
    return {name: found[name] for name in wanted}


def loss(kind: str, y: ArrayLike, scores: ArrayLike, time: ArrayLike | None = None) -> float:
    """What is smaller the better: the mean of `log_loss_rows`, or `cox_loss`; what tuning goes by.

    Infinite on scores that are not finite, and where there is no event.
    """
    if kind != "survival":
        mean = float(log_loss_rows(kind, y, scores).mean())
        return mean if math.isfinite(mean) else math.inf
    found = evaluate(kind, y, scores, time=time)["cox_loss"]
    return math.inf if found is None else found


def log_loss_rows(kind: str, y: ArrayLike, scores: ArrayLike) -> Floats:
    """Each row's loss: -log(probability of the label), nats; squared error for `regression`.

    Args:
      y: labels [n].
      scores: [..., n], or [..., n, classes] for `multiclass`; leading axes are lanes.

    Returns:
      [..., n], nan where the score is nan.
    """
    names(kind)
    y = np.asarray(y)
    s: Floats = np.asarray(scores, dtype=np.float64)
    if kind == "regression":
        error: Floats = np.square(s - y)
        return error
    label = y.astype(np.int64)
    own = np.where(label == 1, s, 1.0 - s) if kind == "binary" else s[..., np.arange(y.size), label]
    loss: Floats = -np.log(np.clip(own, _EPS, 1.0 - _EPS))
    return loss


def backdoor(
    kind: str, y: ArrayLike, scores: ArrayLike, target: int, weights: ArrayLike | None = None
) -> float | None:
    """How often rows of other classes are taken for class `target`: with a backdoor's trigger on them, its
    success rate.

    Args:
      kind: `binary` or `multiclass`; y, scores, weights: as for `evaluate`.

    Returns:
      The weighted share; None where there is no such row, or a score is not finite.
    """
    y, s = np.asarray(y), np.asarray(scores, dtype=np.float64)
    w = np.ones(y.size, np.float64) if weights is None else np.asarray(weights, dtype=np.float64)
    others = w * (y != target)
    if others.sum() == 0 or not np.isfinite(s).all():
        return None
    taken = s.argmax(axis=1) if kind == "multiclass" else (s > 0.5).astype(np.int64)
    return float(others @ (taken == target)) / float(others.sum())


def badness(name: str, value: float) -> float:
    """A number that is smaller the better `value` is: the order behind `worst` and bold print."""
    if name in TARGET:
        return abs(value - TARGET[name])
    return -value if HIGHER_IS_BETTER.get(name, False) else value


def aggregates(
    per_client: Sequence[Mapping[str, float | None]], sizes: Sequence[float]
) -> dict[str, dict[str, Any]]:
    """What a metric is over clients.

    Args:
      per_client: each client's metrics, as from `evaluate`.
      sizes: each client's rows.

    Returns:
      metric -> {mean, weighted_mean, worst, undefined}: the unweighted mean, the mean by rows and
      the worst value, over clients where the metric is defined (None where there is no such
      client), and the number of clients where it is not. Worst is the lowest where higher is
      better, the highest where lower is better, the furthest from 1 (slope) or 0 (intercept).
    """
    found: dict[str, dict[str, Any]] = {}
    for name in dict.fromkeys(key for client in per_client for key in client):
        pairs = [
            (float(v), float(n))
            for client, n in zip(per_client, sizes, strict=True)
            if (v := client.get(name)) is not None
        ]
        rows = math.fsum(n for _, n in pairs)
        found[name] = {
            "mean": math.fsum(v for v, _ in pairs) / len(pairs) if pairs else None,
            "weighted_mean": math.fsum(v * n for v, n in pairs) / rows if rows > 0 else None,
            "worst": max((v for v, _ in pairs), key=lambda v: badness(name, v), default=None),
            "undefined": len(per_client) - len(pairs),
        }
    return found


# --- binary ----------------------------------------------------------------------------------


def _binary(y: NDArray[Any], p: Floats, w: Floats | None, full: bool) -> dict[str, float | None]:
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
    clipped = np.clip(p, _EPS, 1.0 - _EPS)
    logs = np.log(np.where(positive, clipped, 1.0 - clipped))
    found: dict[str, float | None] = {
        "accuracy": float(w @ ((p > 0.5) == positive)) / total,
        "log_loss": -float(w @ logs) / total,
        "brier": float(w @ np.square(p - t)) / total,
        "auroc": None,
        "auprc": None,
        "calibration_intercept": None,
        "calibration_slope": None,
    }
    below_w, below_wt = _running(w), _running(wt)
    if both:
        starts = np.flatnonzero(np.concatenate(([True], p[1:] != p[:-1])))  # of runs of equal scores
        ends = np.append(starts[1:], p.size)
        hits = below_wt[ends] - below_wt[starts]
        misses_below = below_w[starts] - below_wt[starts]
        misses = below_w[ends] - below_w[starts] - hits
        found["auroc"] = float(hits @ (misses_below + 0.5 * misses)) / (positives * (total - positives))
        if full:
            precision = (positives - below_wt[starts]) / (total - below_w[starts])
            found["auprc"] = float(hits @ precision) / positives
    if full:
        cuts = np.concatenate(([0], np.searchsorted(p, _EDGES, side="right"), [p.size]))
        gap = below_wt - _running(w * p)
        found["ece"] = float(np.abs(np.diff(gap[cuts])).sum()) / total
        if both:
            logit = np.log(clipped / (1.0 - clipped))
            a = _intercept(logit, t, w)
            found["calibration_intercept"] = a
            found["calibration_slope"] = _slope(logit, positive, t, w)
    return found


def _running(x: Floats) -> Floats:
    """Sums of the first 0, 1, ..., n entries."""
    sums = np.zeros(x.size + 1, np.float64)
    np.cumsum(x, out=sums[1:])
    return sums


def _intercept(logit: Floats, t: Floats, w: Floats) -> float:
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


def _slope(logit: Floats, positive: NDArray[np.bool_], t: Floats, w: Floats) -> float | None:
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
        q = np.where(eta >= 0, 1.0, e) / (1.0 + e)
        value = a * wt + b * wtx - float(w @ (np.maximum(eta, 0.0) + np.log1p(e)))
        return value, q, e / np.square(1.0 + e)

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


# --- multi-class and regression --------------------------------------------------------------


def _multiclass(y: NDArray[Any], p: Floats, w: Floats | None, full: bool) -> dict[str, float | None]:
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
        "log_loss": float(w @ log_loss_rows("multiclass", y, p)) / total,
        "brier": float(w @ (np.square(p).sum(axis=1) - 2.0 * own + 1.0)) / total,
        "auroc": _one_vs_rest(y, p, w) if np.unique(y).size == classes > 1 else None,
    }
    if full:
        confidence = p[np.arange(n), top]
        bins = np.searchsorted(_EDGES, confidence, side="left")
        gap = np.bincount(bins, weights=w * (right - confidence), minlength=_BINS)
        found["ece"] = float(np.abs(gap).sum()) / total
    return found


def _one_vs_rest(y: NDArray[np.int64], p: Floats, w: Floats) -> float:
    areas: list[float] = []
    for c in range(p.shape[1]):
        area = _binary((y == c).astype(np.float64), p[:, c], w, False)["auroc"]
        assert area is not None  # every class is there, and the rest is not empty
        areas.append(area)
    return math.fsum(areas) / len(areas)


def _regression(y: NDArray[Any], s: Floats, w: Floats | None, full: bool) -> dict[str, float | None]:
    t: Floats = y.astype(np.float64)
    w = np.ones(t.size, np.float64) if w is None else w
    w = w / float(w.sum())
    error = s - t
    mse = float(w @ np.square(error))
    # Variance against the first value: exactly 0 for constant labels, whatever they are.
    shifted = t - t[0]
    variance = float(w @ np.square(shifted - float(w @ shifted)))
    return {
        "r2": 1.0 - mse / variance if variance > 0 else None,
        "mae": float(w @ np.abs(error)),
        "mse": mse,
    }


def _survival(y: NDArray[Any], time: NDArray[Any], s: Floats, w: Floats | None) -> dict[str, float | None]:
    if not ((y == 0) | (y == 1)).all():
        raise ValueError("survival labels must be 1 (event) or 0 (censored)")
    event, t = y == 1, time.astype(np.float64)
    w = np.ones(y.size, np.float64) if w is None else w
    return {"c_index": survival.c_index(event, t, s, w), "cox_loss": survival.cox_loss(event, t, s, w)}


_KINDS = {"binary": _binary, "multiclass": _multiclass, "regression": _regression}
