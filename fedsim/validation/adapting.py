"""What a region gains by adapting the frozen model to its own patients, and what is forgotten elsewhere.

Updates: intercept and slope recalibrate; head fits a network's last layer again, full all parameters. Each
is fitted to the region's training rows by maximum likelihood with a ridge penalty on its distance from the
frozen model, and judged on rows that nobody trained on: its own, and everybody else's. The penalty leaves the
intercept out where there is one of the whole model, that is but for a network's full update.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import numpy as np

from fedsim.config.validation import ValidationPlan
from fedsim.validation import measures
from fedsim.validation.logistic import Floats
from fedsim.validation.measures import Bootstrap, Value
from fedsim.validation.rows import Frozen, Rows, Scorer
from fedsim.validation.updates import fit_update

Adaptation = Literal["intercept", "baseline", "slope", "head", "full"]
METRICS = ("log_loss", "auroc")
FEWEST = 10  # events, and as many without, to fit anything to
OTHERS = "others"

Tried = tuple[str, Adaptation]  # a region, and its update
Which = Tried | None  # None: the frozen model
Measured = Callable[[Rows, Mapping[Which, Floats], Bootstrap], Mapping[Which, Mapping[str, Floats]]]


def menu(frozen: Frozen) -> tuple[Adaptation, ...]:
    """A linear model is its own head."""
    if frozen.represent is None:
        return ("intercept", "slope", "full")
    return ("intercept", "slope", "head", "full")


def adapt(frozen: Frozen, update: Adaptation, rows: Rows, ridge: float) -> Scorer | str:
    """The scorer after an update on `rows`, or why there is none."""
    if rows.least < FEWEST:
        return f"{rows.least} events or non-events among its training rows, and {FEWEST} of each are needed"
    if update == "full" and frozen.refine is not None:
        return frozen.refine(rows, ridge)
    if update == "intercept" or update == "slope":
        made = fit_update(update, None, rows.lp, rows.y, ridge)
        return _PARTED if made.separated else lambda x: made.predict(None, frozen.score(x))
    represent = frozen.represent if update == "head" else None

    def seen(x: Floats) -> Floats:
        return x if represent is None else represent(x)

    again = fit_update("refit", seen(rows.x), rows.lp, rows.y, ridge)
    return _PARTED if again.separated else lambda x: again.predict(seen(x), frozen.score(x))


def adaptations(frozen: Frozen, plan: ValidationPlan) -> list[dict[str, Any]]:
    """Every region's menu, of an outcome with two classes: see `gains`."""
    made: dict[Tried, Scorer | str] = {
        (region.train.name, update): adapt(frozen, update, region.train, plan.ridge)
        for region in frozen.regions
        for update in menu(frozen)
    }
    return gains(frozen, plan, made, METRICS, _measured)


def gains(
    frozen: Frozen,
    plan: ValidationPlan,
    made: Mapping[Tried, Scorer | str],
    metrics: Sequence[str],
    measured: Measured,
) -> list[dict[str, Any]]:
    """What updates are worth at home and elsewhere: one mapping per region, update, metric and place where it
    is judged.

    Args:
      made: the scorer after each region's every update, or why there is none.
      metrics: what `measured` finds, f64[1 + replicates] each: of all rows, then of every replicate.

    Returns:
      region, update, judged_at (a region, the site, or `others`: the mean over all but the region itself),
      metric, n, frozen, value, gain, low, high, reason. gain is the improvement on the frozen model, so that
      what is forgotten at others is a negative one, with a paired 95 % interval by bootstrap over the
      patients of the place. Undefined: None. Regions without held-out rows are not judged at.
    """
    places = [region.test for region in frozen.regions if region.test is not None] + [frozen.site]
    scorers = {which: scorer for which, scorer in made.items() if not isinstance(scorer, str)}
    known = {}
    for place in places:
        drawn = Bootstrap(place.y.size, place.patient, plan.bootstrap, plan.seed, place.name)
        predictors: dict[Which, Floats] = {None: place.predictor}
        predictors |= {which: scorer(place.x) for which, scorer in scorers.items()}
        known[place.name] = measured(place, predictors, drawn)
    found: list[dict[str, Any]] = []
    for which, scorer in made.items():
        region, update = which
        head: dict[str, Any] = {"region": region, "update": update}
        if isinstance(scorer, str):
            found += [head | _nothing(metric, scorer) for metric in metrics]
            continue
        for metric in metrics:
            gain = {}
            for place in places:
                kept, now = known[place.name][None][metric], known[place.name][which][metric]
                gain[place.name] = measures.goodness(metric, now) - measures.goodness(metric, kept)
                values = {"frozen": _value(kept[0]), "value": _value(now[0])}
                told = {"judged_at": place.name, "metric": metric, "n": place.y.size} | values
                found.append(head | told | _interval(gain[place.name]))
            others = [p for p in places if p.name != region]
            told = {"judged_at": OTHERS, "metric": metric, "n": sum(p.y.size for p in others)}
            mean = _mean(np.stack([gain[p.name] for p in others]))
            found.append(head | told | {"frozen": None, "value": None} | _interval(mean))
    return found


_PARTED = "its training rows part events from others perfectly, so that there is no maximum of the likelihood"


def _measured(place: Rows, lps: Mapping[Which, Floats], drawn: Bootstrap) -> dict[Which, dict[str, Floats]]:
    """Each model's metrics at a place."""
    again = measures.replicates(place.y, lps, METRICS, (), drawn)
    found: dict[Which, dict[str, Floats]] = {}
    for which, lp in lps.items():
        whole = measures.measure(place.y, lp, METRICS, ())
        found[which] = {
            metric: np.concatenate([np.array([whole[metric]], np.float64), again[which][metric]])
            for metric in METRICS
        }
    return found


def _mean(gains: Floats) -> Floats:
    """Over places [places, m] where it is defined."""
    known = ~np.isnan(gains)
    count = known.sum(axis=0)
    return np.where(count > 0, np.where(known, gains, 0.0).sum(axis=0) / np.maximum(count, 1), np.nan)


def _interval(gains: Floats) -> dict[str, Any]:
    low, high = measures.ends(gains[1:])
    return {"gain": _value(gains[0]), "low": low, "high": high, "reason": None}


def _value(value: np.float64) -> Value:
    return None if np.isnan(value) else float(value)


def _nothing(metric: str, reason: str) -> dict[str, Any]:
    blank = dict.fromkeys(("judged_at", "n", "frozen", "value", "gain", "low", "high"))
    return blank | {"metric": metric, "reason": reason}
