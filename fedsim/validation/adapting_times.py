"""The counterpart of `adapting` for times to an event: what a region gains by an update of its own.

The smallest update is one number for all hazards, slope one more for the model's predictor; full fits all
coefficients of a linear model again, which is its own head. Of a network in discrete time head fits the last
layer and the baseline, full all parameters; a Cox network has neither, which is said. Each is fitted to the
region's training rows, their follow-up up to the horizon, with a ridge penalty on its distance from the
frozen model, of which that one number is free, but for a network's head and full.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from fedsim import metrics
from fedsim.config.validation import Update, ValidationPlan
from fedsim.validation.adapting import FEWEST, Adaptation, Tried, Which, gains
from fedsim.validation.logistic import Floats
from fedsim.validation.measures import Bootstrap
from fedsim.validation.over_time import OverTime
from fedsim.validation.rows import Frozen, Rows, Scorer

METRICS = ("brier_t", "c_index")
_UPDATES: dict[Adaptation, Update] = {
    "baseline": "baseline",
    "intercept": "intercept",
    "slope": "slope",
    "full": "refit",
}


def menu(frozen: Frozen, model: OverTime) -> tuple[Adaptation, ...]:
    """A model of one layer is its own head."""
    least: Adaptation = "intercept" if model.least == "intercept" else "baseline"
    one_layer = frozen.coefficients is not None or (frozen.refine is not None and frozen.refine_head is None)
    return (least, "slope", "full") if one_layer else (least, "slope", "head", "full")


def adapt(
    frozen: Frozen, model: OverTime, update: Adaptation, rows: Rows, horizon: float, ridge: float
) -> Scorer | str:
    """Predictors after an update on `rows`, or why there are none."""
    again = {"head": frozen.refine_head, "full": frozen.refine}.get(update)
    if frozen.coefficients is None and update in ("head", "full") and again is None:
        return f"no {update} of a network of times to an event, which has baseline and slope alone"
    early = rows.until(horizon)
    events = int(early.y.sum())
    if events < FEWEST:
        return f"{events} events by {horizon:g} among its training rows, and {FEWEST} are needed"
    if again is not None:
        return again(early, ridge)
    made = model.fit(_UPDATES[update], early, ridge)
    if made.separated:
        return f"{model.parted} among its training rows, so that there is no maximum of the likelihood"
    return lambda x: model.after(made, x, frozen.score(x))


def adaptations(frozen: Frozen, plan: ValidationPlan, model: OverTime) -> list[dict[str, Any]]:
    """Every region's menu: see `adapting.gains`."""
    horizon = plan.horizon
    assert horizon is not None
    made: dict[Tried, Scorer | str] = {
        (region.train.name, update): adapt(frozen, model, update, region.train, horizon, plan.ridge)
        for region in frozen.regions
        for update in menu(frozen, model)
    }
    end = np.array([horizon], np.float64)

    def measured(
        place: Rows, predictors: Mapping[Which, Floats], drawn: Bootstrap
    ) -> dict[Which, dict[str, Floats]]:
        def of(predictor: Floats) -> Floats:
            score, absolute = model.risks(predictor, end)

            def weighted(w: Floats | None) -> list[float | None]:
                found = metrics.evaluate(
                    "survival", place.y, score, w, time=place.time, absolute=absolute, only=METRICS
                )
                return [found[name] for name in METRICS]

            return np.array([weighted(None), *(weighted(w) for w in drawn)], np.float64)

        each = {which: of(predictor) for which, predictor in predictors.items()}
        return {which: dict(zip(METRICS, values.T, strict=True)) for which, values in each.items()}

    return gains(frozen, plan, made, METRICS, measured)
