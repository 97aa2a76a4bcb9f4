"""The counterpart of `adapting` for times to an event: what a region gains by an update of its own.

baseline multiplies the frozen hazard by a factor, slope the log relative risks too; full fits all
coefficients of a linear model again, which is its own head (`hazards`). Each is fitted to the region's
training rows, their follow-up up to the horizon, with a ridge penalty on its distance from the frozen model,
of which the factor is free. A network has baseline and slope alone: head and full are said to be refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from fedsim import metrics
from fedsim.config.validation import Update, ValidationPlan
from fedsim.metrics import Absolute
from fedsim.validation.adapting import FEWEST, Adaptation, Tried, Which, gains
from fedsim.validation.hazards import Hazard, fit_update
from fedsim.validation.logistic import Floats
from fedsim.validation.measures import Bootstrap
from fedsim.validation.rows import Frozen, Rows, Scorer

METRICS = ("brier_t", "c_index")
_PARTED = (
    "a combination of features is highest at every event among its training rows, so that there is no "
    "maximum of the partial likelihood"
)
_UPDATES: dict[Adaptation, Update] = {"baseline": "baseline", "slope": "slope", "full": "refit"}


def menu(frozen: Frozen) -> tuple[Adaptation, ...]:
    """A linear model is its own head."""
    if frozen.coefficients is not None:
        return ("baseline", "slope", "full")
    return ("baseline", "slope", "head", "full")


def adapt(
    frozen: Frozen, update: Adaptation, rows: Rows, horizon: float, hazard: Hazard, ridge: float
) -> Scorer | str:
    """Log relative risks after an update on `rows`, which go with the frozen baseline hazard, or why there
    are none."""
    if frozen.coefficients is None and update in ("head", "full"):
        return f"no {update} of a network of times to an event, which has baseline and slope alone"
    early = rows.until(horizon)
    assert early.time is not None
    events = int(early.y.sum())
    if events < FEWEST:
        return f"{events} events by {horizon:g} among its training rows, and {FEWEST} are needed"
    x = early.x if update == "full" else None
    made = fit_update(_UPDATES[update], x, early.lp, early.y, early.time, hazard(early.time), ridge)
    return _PARTED if made.separated else lambda x: made.predict(x, frozen.score(x))


def adaptations(frozen: Frozen, plan: ValidationPlan, hazard: Hazard) -> list[dict[str, Any]]:
    """Every region's menu: see `adapting.gains`. hazard: the frozen cumulative baseline hazard."""
    horizon = plan.horizon
    assert horizon is not None
    made: dict[Tried, Scorer | str] = {
        (region.train.name, update): adapt(frozen, update, region.train, horizon, hazard, plan.ridge)
        for region in frozen.regions
        for update in menu(frozen)
    }
    end = np.array([horizon], np.float64)
    with np.errstate(divide="ignore"):
        steps = np.log(hazard(end))[None]

    def measured(
        place: Rows, lps: Mapping[Which, Floats], drawn: Bootstrap
    ) -> dict[Which, dict[str, Floats]]:
        absolute = Absolute(end, steps, np.zeros(place.y.size, np.int64))

        def of(lp: Floats, w: Floats | None) -> list[float | None]:
            found = metrics.evaluate(
                "survival", place.y, lp, w, time=place.time, absolute=absolute, only=METRICS
            )
            return [found[name] for name in METRICS]

        each = {
            which: np.array([of(lp, None), *(of(lp, w) for w in drawn)], np.float64)
            for which, lp in lps.items()
        }
        return {which: dict(zip(METRICS, values.T, strict=True)) for which, values in each.items()}

    return gains(frozen, plan, made, METRICS, measured)
