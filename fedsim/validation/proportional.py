"""A frozen Cox model: relative risks, and Breslow's baseline of the regions' training rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from fedsim import survival
from fedsim.base import require
from fedsim.config.validation import Update
from fedsim.metrics import Absolute
from fedsim.validation import updates
from fedsim.validation.hazards import Hazard, fit_update
from fedsim.validation.logistic import Floats
from fedsim.validation.rows import Frozen, Rows
from fedsim.validation.updates import Updated


@dataclass(frozen=True)
class Proportional:
    """`OverTime`, whose predictor is the log relative risk [n].

    at: the cumulative baseline hazard.
    """

    at: Hazard
    least: Update = "baseline"
    parted: str = "a combination of features is highest at every event"
    unfit: str = "a network, whose weights have no likelihood-ratio test"

    def check(self, site: Rows) -> None:
        """Raises RequestError where no event is expected by any of the site's times."""
        assert site.time is not None
        require(
            float(self.at(site.time) @ np.exp(site.lp)) > 0,
            f"no training row has an event by the last time of {site.name}'s rows, so none is expected "
            "there; set a later horizon",
        )

    def fit(self, name: Update, rows: Rows, ridge: float = 0.0) -> Updated:
        assert rows.time is not None
        return fit_update(name, rows.x, rows.lp, rows.y, rows.time, self.at(rows.time), ridge)

    def after(self, update: Updated, x: Floats, predictor: Floats) -> Floats:
        return update.predict(x, predictor)

    def estimates(self, update: Updated, frozen: Frozen) -> list[dict[str, Any]]:
        coefficients = np.zeros(0, np.float64) if frozen.coefficients is None else frozen.coefficients
        return updates.estimates(update, frozen.features, coefficients, frozen.scale)

    def risks(self, predictor: Floats, times: Floats) -> tuple[Floats, Absolute]:
        with np.errstate(divide="ignore"):
            steps = np.log(self.at(times))[None]
        return predictor, Absolute(times, steps, np.zeros(len(predictor), np.int64))


def proportional(frozen: Frozen) -> Proportional:
    """With Breslow's baseline of all regions' training rows, a step function."""
    parts = [region.train for region in frozen.regions]
    event, time, lp = (
        np.concatenate([np.asarray(getattr(rows, name), np.float64) for rows in parts])
        for name in ("y", "time", "lp")
    )
    events, log_hazard = survival.breslow(event > 0, time, lp, np.ones(len(lp), np.float64))
    steps: Floats = np.concatenate([[0.0], np.exp(log_hazard)])
    return Proportional(lambda t: steps[np.searchsorted(events, t, side="right")])
