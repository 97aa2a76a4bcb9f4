"""A frozen discrete-time model: logits of the hazard in intervals up to the plan's horizon."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from fedsim.base import RequestError, require
from fedsim.config.validation import Update
from fedsim.metrics import Absolute, stepped
from fedsim.validation import periods, updates
from fedsim.validation.logistic import Floats
from fedsim.validation.rows import Frozen, Rows
from fedsim.validation.updates import Updated, estimate


@dataclass(frozen=True)
class Discrete:
    """`OverTime`, whose predictor is the logits of the hazards [n, m].

    ends: [m + 1], of the intervals, from 0. baseline: [m], the logits at x = 0 of a model with one effect of
    a feature in all intervals; None of others.
    """

    ends: Floats
    baseline: Floats | None
    least: Update = "intercept"
    parted: str = "a combination of features parts intervals with an event from those lived through"
    unfit: str = "a network or effects of each interval, whose weights have no likelihood-ratio test"

    def check(self, site: Rows) -> None:
        """Every site with events has updates."""

    def fit(self, name: Update, rows: Rows, ridge: float = 0.0) -> Updated:
        assert rows.periods is not None
        return periods.fit_update(name, rows.x, rows.periods, self.baseline, ridge)

    def after(self, update: Updated, x: Floats, predictor: Floats) -> Floats:
        return periods.after(update, x, predictor)

    def estimates(self, update: Updated, frozen: Frozen) -> list[dict[str, Any]]:
        """Of refit, the baseline logit in each interval, on the scale of `x`, and the coefficients."""
        if update.name != "refit":
            return updates.estimates(update, (), np.zeros(0, np.float64), frozen.scale)
        assert update.fit is not None and self.baseline is not None and frozen.coefficients is not None
        names = [f"hazard, {a:g} to {b:g}" for a, b in zip(self.ends[:-1], self.ends[1:], strict=True)]
        one = np.ones(len(names), np.float64)
        told = zip(
            [*names, *frozen.features],
            np.concatenate([self.baseline, frozen.coefficients]).tolist(),
            update.fit.coefficients,
            np.sqrt(np.maximum(np.diag(update.fit.covariance), 0.0)),
            np.concatenate([one, frozen.scale]),
            update.fit.kept,
            strict=True,
        )
        return [
            estimate(name, old, old + change * scale, error * scale, kept)
            for name, old, change, error, scale, kept in told
        ]

    def risks(self, predictor: Floats, times: Floats) -> tuple[Floats, Absolute]:
        curve = periods.log_cumulative(predictor)
        return curve[:, -1], stepped(self.ends[1:], curve[:, -1], curve, times)


def discrete(frozen: Frozen) -> Discrete:
    """With the baseline that its coefficients have, if it is linear."""
    assert frozen.ends is not None
    origin = np.zeros((1, len(frozen.features)), np.float64)
    return Discrete(frozen.ends, None if frozen.coefficients is None else frozen.score(origin)[0])


def intervals_to(ends: Floats, horizon: float, run: str) -> int:
    """How many intervals there are up to a horizon, which is the end of one.

    Args:
      ends: [K + 1], rising from 0.

    Raises:
      RequestError: no interval ends there.
    """
    last = float(ends[-1])
    near = 1 + int(np.argmin(np.abs(ends[1:] - horizon)))
    if np.isclose(ends[near], horizon, rtol=1e-5, atol=0.0):  # six digits, as they are told
        return near
    require(
        horizon < last,
        f"horizon={horizon:g} lies beyond the intervals of run {run}, which end at {last:g}; set "
        f"horizon={last:g}, or train with a later task.horizon",
    )
    after = int(np.searchsorted(ends, horizon))
    low, high = float(ends[after - 1]), float(ends[after])
    either = f"horizon={low:g} or horizon={high:g}" if low > 0 else f"horizon={high:g}"
    raise RequestError(
        f"horizon={horizon:g} lies inside an interval of run {run}, from {low:g} to {high:g}, of which the "
        f"hazard is known as a whole; set {either}"
    )
