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
  ici                    integrated calibration index: mean distance of probabilities to a smooth calibration
                         curve (Austin and Steyerberg 2019), see `smooth`
  o_e                    observed over expected: events over the sum of probabilities, amounts over the sum of
                         predictions
  ppv_topK, sensitivity_topK, nne_topK
                         share of positives among the K % with the highest scores, share of all positives that
                         is found there, and how many must be looked at to find one; see `decisions`
  net_benefit_T          of acting on probabilities from T on, per row (Vickers and Elkin 2006); acting on
                         every row gives net_benefit_all_T, on none 0
  calibration_intercept  calibration in the large: a in logit P(y) = a + logit(p)
  calibration_slope      b in logit P(y) = a + b logit(p), maximum likelihood, no penalty (Cox 1958)
  r2, mae, mse           coefficient of determination, mean absolute and mean squared error
  cpm                    Cumming's prediction measure: 1 - mae over the mean absolute deviation from the mean
  gini                   concentration of amounts >= 0 along predictions over that along themselves (Frees,
                         Meyers, Cummings, JASA 2011)
  gamma_deviance         of amounts > 0 and predictions > 0, mean of 2 (y / p - 1 - log(y / p)) (McCullagh and
                         Nelder 1989, section 8.3)
  tweedie_deviance       of amounts >= 0 and predictions > 0: the unit deviance of variance p^1.5, between
                         Poisson and gamma, 4 (sqrt(y) - sqrt(p))^2 / sqrt(p) (Jorgensen, JRSS B 1987)
  backdoor               share of the other classes' rows taken for an attack's target, with its trigger
  c_index                share of comparable pairs that the risk puts in the order of their events
                         (Harrell et al. 1996), equal risks counted half; undefined without such a pair
  cox_loss               negative log partial likelihood per event, nats, ties as Efron 1977; the risk is
                         taken for a log hazard ratio
  uno_c, auc_t, brier_t, ibs, and again o_e, ici, calibration_*, *_topK and net_benefit_T
                         of probabilities of an event by a horizon, under censoring; see `horizon`
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fedsim import survival
from fedsim.metrics import decisions, horizon
from fedsim.metrics.binary import EPS, binary
from fedsim.metrics.horizon import Absolute, stepped
from fedsim.metrics.others import multiclass, regression

__all__ = [
    "HIGHER_IS_BETTER",
    "NET_BENEFIT",
    "RANGE",
    "TARGET",
    "Absolute",
    "aggregates",
    "backdoor",
    "badness",
    "detail",
    "direction",
    "evaluate",
    "gap",
    "log_loss_rows",
    "loss",
    "names",
    "stepped",
]

Floats = NDArray[np.float64]
Number = TypeVar("Number", float, Floats)

HIGHER_IS_BETTER: dict[str, bool] = {
    "auroc": True,
    "auprc": True,
    "accuracy": True,
    "log_loss": False,
    "brier": False,
    "ece": False,
    "ici": False,
    **{
        f"{name}_top{k}": name != "nne"
        for name in ("ppv", "sensitivity", "nne")
        for k in decisions.CAPACITIES
    },
    "r2": True,
    "cpm": True,
    "gini": True,
    "mae": False,
    "mse": False,
    "gamma_deviance": False,
    "tweedie_deviance": False,
    "backdoor": False,
    "c_index": True,
    "cox_loss": False,
    "uno_c": True,
    "auc_t": True,
    "brier_t": False,
    "ibs": False,
}
# Metrics that are best at a value, not at an end.
TARGET: dict[str, float] = {"calibration_intercept": 0.0, "calibration_slope": 1.0, "o_e": 1.0}
NET_BENEFIT = "net_benefit_"  # followed by a threshold; higher is better
# What a value can be. A calibration slope can be anything; brier is the multi-class one.
RANGE: dict[str, tuple[float, float]] = {
    **dict.fromkeys(("auroc", "auprc", "accuracy", "ece", "backdoor", "c_index"), (0.0, 1.0)),
    **dict.fromkeys(("log_loss", "mae", "mse", "cox_loss", "o_e", "brier_t", "ibs"), (0.0, math.inf)),
    **dict.fromkeys(("gamma_deviance", "tweedie_deviance"), (0.0, math.inf)),
    **dict.fromkeys(("ici", "uno_c", "auc_t"), (0.0, 1.0)),
    **{f"{name}_top{k}": (0.0, 1.0) for name in ("ppv", "sensitivity") for k in decisions.CAPACITIES},
    **{f"nne_top{k}": (1.0, math.inf) for k in decisions.CAPACITIES},
    "brier": (0.0, 2.0),
    **dict.fromkeys(("r2", "cpm"), (-math.inf, 1.0)),
    "gini": (-1.0, 1.0),
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
        "ici",
        "o_e",
        *(f"{name}_top{k}" for name in ("ppv", "sensitivity", "nne") for k in decisions.CAPACITIES),
    ),
    "multiclass": ("auroc", "accuracy", "log_loss", "brier", "ece"),
    "regression": ("r2", "mae", "mse", "o_e", "cpm", "gini", "gamma_deviance", "tweedie_deviance"),
    "survival": ("c_index", "cox_loss"),
}
_QUICK = ("auroc", "accuracy", "log_loss", "brier", "r2", "mae", "mse", "c_index", "cox_loss")


def names(
    kind: str, full: bool = True, thresholds: Sequence[float] = (), absolute: bool = False
) -> tuple[str, ...]:
    """The metrics of a kind of task, in the order of tables.

    Args:
      kind: `binary`, `multiclass`, `regression` or `survival`.
      full: False leaves out what a training curve does not need (calibration, auprc).
      thresholds: of net benefits; absolute: whether survival has probabilities by a horizon.

    Raises:
      ValueError: another kind.
    """
    if kind not in _NAMES:
        raise ValueError(f"kind must be one of {', '.join(_NAMES)}; got {kind!r}")
    found = tuple(n for n in _NAMES[kind] if full or n in _QUICK)
    if full and absolute and kind == "survival":
        found += horizon.NAMES
    if full and (kind == "binary" or (absolute and kind == "survival")):
        found += tuple(f"{NET_BENEFIT}{of}{t:g}" for t in thresholds for of in ("", "all_"))
    return found


def direction(name: str) -> bool | None:
    """Whether higher is better; None for what is best at a value, and for what is no metric."""
    return True if name.startswith(NET_BENEFIT) else HIGHER_IS_BETTER.get(name)


def evaluate(
    kind: str,
    y: ArrayLike,
    scores: ArrayLike,
    weights: ArrayLike | None = None,
    full: bool = True,
    time: ArrayLike | None = None,
    thresholds: Sequence[float] = (),
    absolute: Absolute | None = None,
    only: Collection[str] | None = None,
) -> dict[str, float | None]:
    """Every metric of `kind`, see the module's docstring; None where undefined.

    Args:
      kind: as in `names`.
      y: labels [n]: 0/1, class numbers from 0, or values; 1 for an event, 0 for censored.
      scores: [n], or [n, classes] for `multiclass`.
      weights: [n], or None for equal weights.
      full: as in `names`.
      time: [n], of the event or of censoring; for `survival`, and no other kind.
      thresholds: of probabilities, in (0, 1), at which net benefit is asked for.
      absolute: what makes probabilities of the risks; for `survival`.
      only: names of the metrics that are returned; None: all. Of `survival` no others are worked out.

    Raises:
      ValueError: shapes that do not fit, labels or probabilities out of range; names that are not there.
    """
    wanted = names(kind, full, thresholds, absolute is not None)
    if only is not None:
        if strange := sorted({*only} - {*wanted}):
            raise ValueError(f"{kind} has no {', '.join(strange)}; choose of {', '.join(wanted)}")
        wanted = tuple(name for name in wanted if name in only)
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
        some = w > 0
        y, t, s, w = y[some], t[some], s[some], w[some]
        absolute = None if absolute is None else absolute.of(some)
    if y.size == 0 or not np.isfinite(s).all():
        return dict.fromkeys(wanted)
    if kind == "survival":
        found = _survival(y, t, s, w, absolute if full else None, thresholds, wanted)
    elif kind == "binary":
        found = binary(y, s, w, full, thresholds)
    else:
        found = (multiclass if kind == "multiclass" else regression)(y, s, w, full)
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
    loss: Floats = -np.log(np.clip(own, EPS, 1.0 - EPS))
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


def detail(name: str) -> bool:
    """Whether a metric is one of many alike, such as those at a capacity: stored, and too many for a line."""
    return name.startswith(NET_BENEFIT) or "_top" in name


def gap(values: Sequence[float | None]) -> float | None:
    """How far groups are apart: the largest value less the smallest, of those that are defined; None of fewer
    than two."""
    known = [value for value in values if value is not None]
    return max(known) - min(known) if len(known) > 1 else None


def badness(name: str, value: Number) -> Number:
    """A number that is smaller the better `value` is: the order behind `worst` and bold print."""
    if name in TARGET:
        return abs(value - TARGET[name])
    return -value if direction(name) else value


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


def _survival(
    y: NDArray[Any], time: NDArray[Any], s: Floats, w: Floats | None, absolute: Absolute | None,
    thresholds: Sequence[float], wanted: Collection[str],
) -> dict[str, float | None]:  # fmt: skip
    if not ((y == 0) | (y == 1)).all():
        raise ValueError("survival labels must be 1 (event) or 0 (censored)")
    event, t = y == 1, time.astype(np.float64)
    w = np.ones(y.size, np.float64) if w is None else w
    first = {"c_index": survival.c_index, "cox_loss": survival.cox_loss}
    found = {name: of(event, t, s, w) for name, of in first.items() if name in wanted}
    if absolute is not None:
        found |= horizon.evaluate(event, t, s, w, absolute, thresholds, wanted)
    return found
