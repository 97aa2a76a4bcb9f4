"""How probabilities of an event by a horizon are judged where some rows are censored before it.

Rows whose state at the horizon is known stand for those whose is not: each weighs one over the probability of
being observed that long (inverse probability of censoring weighting), which the Kaplan-Meier estimate of
censoring gives. That is right where censoring does not depend on what the model knows.

Sources: Graf, Schmoor, Sauerbrei, Schumacher, Statistics in Medicine 1999, for the Brier score and its
integral; Uno, Cai, Pencina, D'Agostino, Wei, Statistics in Medicine 2011, for the truncated concordance; Uno,
Cai, Tian, Wei, JASA 2007, for the cumulative/dynamic AUC, and for who is found among high risks; Gerds,
Andersen, Kattan, Statistics in Medicine 2014, for calibration curves; Scheike, Zhang, Gerds, Biometrika 2008,
for logistic regression with these weights, which intercept and slope are of; Vickers et al. 2008, see
`decisions`.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedsim import survival
from fedsim.metrics import decisions, smooth
from fedsim.metrics.binary import EPS, binary, intercept, running, slope

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]

_CAPACITY = tuple(f"{name}_top{k}" for name in ("ppv", "sensitivity", "nne") for k in decisions.CAPACITIES)
NAMES = (
    *("uno_c", "auc_t", "brier_t", "ibs", "o_e", "ici", "calibration_intercept", "calibration_slope"),
    *_CAPACITY,
)


@dataclass(frozen=True)
class Absolute:
    """What turns log relative risks into probabilities.

    times: f64[g], rising and evenly spaced from 0, the last being the horizon; the horizon alone, where no
      more is known. log_hazard: f64[s, m], of each stratum's cumulative baseline hazard, a step function;
      stratum: i64[n], of rows. step: i64[g], the column of `log_hazard` at each time; None: one for each.
    """

    times: Floats
    log_hazard: Floats
    stratum: NDArray[np.int64]
    step: NDArray[np.int64] | None = None

    @property
    def horizon(self) -> float:
        return float(self.times[-1])

    def of(self, rows: Any) -> Absolute:
        return replace(self, stratum=self.stratum[rows])

    def order(self, score: Floats) -> Floats:
        """Logarithm of the cumulative hazard at the horizon, f64[n]: ordered as the probabilities are."""
        found: Floats = self.log_hazard[:, -1][self.stratum] + score
        return found

    def risk(self, score: Floats, at: int = -1) -> Floats:
        """Probability of the event by times[at], f64[n]: 1 - exp(-hazard exp(score))."""
        column = at if self.step is None else self.step[at]
        with np.errstate(over="ignore"):  # a hazard beyond all numbers is certainty
            found: Floats = -np.expm1(-np.exp(self.log_hazard[:, column][self.stratum] + score))
        return found


def stepped(ends: Floats, score: Floats, curve: NDArray[Any], times: Floats) -> Absolute:
    """Of hazards in intervals: nothing happens between their ends, where the survival steps down.

    Args:
      ends: f64[m], of the intervals, rising. times: as in `Absolute`.
      score: [n], the logarithm of the cumulative hazard by the last end; curve: f[n, m], by each end.
    """
    log_hazard = np.full((len(score), len(ends) + 1), -np.inf, np.float64)  # none before the first end
    log_hazard[:, 1:] = curve - score[:, None].astype(np.float64)
    log_hazard[:, -1] = 0.0  # the score itself
    # An end that is a time of the grid is reached there, whatever rounding says.
    step = np.searchsorted(ends * (1 - 1e-9), times, side="right")
    return Absolute(times, log_hazard, np.arange(len(score), dtype=np.int64), step.astype(np.int64))


def evaluate(
    event: Flags,
    time: Floats,
    score: Floats,
    w: Floats,
    absolute: Absolute,
    thresholds: Sequence[float],
    wanted: Collection[str],
) -> dict[str, float | None]:
    """`NAMES` and net benefits; None where undefined, as all are where no row is observed up to the horizon.

    Args:
      event, time, score, w: [n], n > 0; score: log relative risk; w > 0.
      wanted: whose values are needed; others may be None.

    Returns:
      o_e: Kaplan-Meier's share of events by the horizon over the mean probability; ici: of a smooth curve
      through the rows whose state is known, in their weights, over all rows. Calibration intercept and
      slope, and what is found at a capacity, which is a share of their weight, are of those rows too. uno_c
      looks at events before the horizon.
    """

    def asked(*names: str) -> bool:
        return any(name in wanted for name in names)

    t, p = absolute.horizon, absolute.risk(score)
    censored = survival.kaplan_meier(event, time, w, censoring=True)
    found: dict[str, float | None] = dict.fromkeys(NAMES)
    found |= {f"net_benefit_{kind}{x:g}": None for x in thresholds for kind in ("", "all_")}
    happened = survived_less(event, time, w, t)
    omega, known = weights(event, time, censored, t)
    if happened is None or not np.isfinite(omega).all():
        return found
    early = event & (time <= t)
    both = bool(early.any()) and not bool(early[known].all())
    expected, total = float(w @ p), float(w.sum())
    if asked("uno_c"):
        observed = survival.share_at(censored, time, before=True)
        factor = np.where(event & (time < t), 1.0 / np.square(np.where(observed > 0, observed, 1.0)), 0.0)
        found["uno_c"] = survival.c_index(event, time, absolute.order(score), w, factor)
    found["brier_t"] = float((w * omega) @ np.square(early - p)) / total
    found["o_e"] = happened * total / expected if expected > 0 else None
    if both:
        y, q, v = early[known].astype(np.float64), p[known], (w * omega)[known]
        if asked("auc_t"):
            found["auc_t"] = binary(y, q, v, full=False)["auroc"]
        if asked("ici"):
            found["ici"] = smooth.ici(p, w, smooth.curve(q, y, v))
        if asked("calibration_intercept", "calibration_slope"):
            found |= _recalibrated(y, q, v)
    if asked(*_CAPACITY):
        found |= _at_capacity(early[known].astype(np.float64), p[known], (w * omega)[known])
    if asked("ibs") and len(absolute.times) > 1:
        found["ibs"] = _integrated(event, time, score, w, absolute, censored)
    for threshold in thresholds:
        acted = p >= threshold
        share = float(w[acted].sum()) / total
        inside = survived_less(event[acted], time[acted], w[acted], t) if acted.any() else 0.0
        if inside is not None:
            gain = decisions.net_benefit(share, share * inside, threshold)
            found[f"net_benefit_{threshold:g}"] = gain
        found[f"net_benefit_all_{threshold:g}"] = decisions.net_benefit(1.0, happened, threshold)
    return found


def _recalibrated(y: Floats, p: Floats, v: Floats) -> dict[str, float | None]:
    """Of rows of both states."""
    order = np.argsort(p)
    y, v, p = y[order], v[order], np.clip(p[order], EPS, 1.0 - EPS)
    logit = np.log(p / (1.0 - p))
    return {
        "calibration_intercept": intercept(logit, y, v),
        "calibration_slope": slope(logit, y == 1, y, v),
    }


def _at_capacity(y: Floats, p: Floats, v: Floats) -> dict[str, float | None]:
    order = np.argsort(p)
    starts = np.flatnonzero(np.diff(p[order], prepend=np.nan) != 0)  # of runs of equal probabilities
    return decisions.capacity(running(v[order]), running((v * y)[order]), np.append(starts[1:], len(p)))


def survived_less(event: Flags, time: Floats, w: Floats, t: float) -> float | None:
    """Kaplan-Meier's share of events by t; None where follow-up ends before, with some left."""
    curve = survival.kaplan_meier(event, time, w)
    left = float(survival.share_at(curve, np.array([t], np.float64))[0])
    return 1.0 - left if time.max() >= t or left == 0 else None


def weights(event: Flags, time: Floats, censored: tuple[Floats, Floats], t: float) -> tuple[Floats, Flags]:
    """(inverse probability of being observed as long as is needed to know the state at t, 0 where it is not
    known; whether it is), [n] each. Who is censored at t itself has no event by t."""
    early = event & (time <= t)
    known = early | (time >= t)
    seen = survival.share_at(censored, np.minimum(time, t), before=True)
    with np.errstate(divide="ignore"):
        return np.where(known, 1.0 / seen, 0.0), known


def _integrated(
    event: Flags, time: Floats, score: Floats, w: Floats, absolute: Absolute, censored: tuple[Floats, Floats]
) -> float:
    """Mean of the Brier score from 0 to the horizon, by the trapezoid rule."""
    scores = []
    for k, t in enumerate(absolute.times):
        omega, _ = weights(event, time, censored, float(t))
        early = event & (time <= t)
        scores.append(float((w * omega) @ np.square(early - absolute.risk(score, k))) / float(w.sum()))
    return float(np.trapezoid(scores, absolute.times)) / absolute.horizon
