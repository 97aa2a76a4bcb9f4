"""What a region gains by adapting the frozen model to its own patients, and what is forgotten elsewhere.

Updates: intercept and slope recalibrate; head fits a network's last layer again, full all parameters. Each
is fitted to the region's training rows by maximum likelihood with a ridge penalty on its distance from the
frozen model, and judged on rows that nobody trained on: its own, and everybody else's. The penalty leaves the
intercept out where there is one of the whole model, that is but for a network's full update.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np

from fedsim.config.validation import ValidationPlan
from fedsim.validation import measures
from fedsim.validation.logistic import Floats
from fedsim.validation.measures import Bootstrap, Value
from fedsim.validation.rows import Frozen, Rows, Scorer
from fedsim.validation.updates import fit_update

Adaptation = Literal["intercept", "slope", "head", "full"]
METRICS = ("log_loss", "auroc")
FEWEST = 10  # events, and as many without, to fit anything to
OTHERS = "others"


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
        return frozen.refine(rows.x, rows.y, ridge)
    if update == "intercept" or update == "slope":
        made = fit_update(update, None, rows.lp, rows.y, ridge)
        return _PARTED if made.separated else lambda x: made.predict(None, frozen.score(x))
    represent = frozen.represent if update == "head" else None

    def seen(x: Floats) -> Floats:
        return x if represent is None else represent(x)

    again = fit_update("refit", seen(rows.x), rows.lp, rows.y, ridge)
    return _PARTED if again.separated else lambda x: again.predict(seen(x), frozen.score(x))


def adaptations(frozen: Frozen, plan: ValidationPlan) -> list[dict[str, Any]]:
    """Every region's menu: one mapping per region, update, metric and place where it is judged.

    Returns:
      region, update, judged_at (a region, the site, or `others`: the mean over all but the region itself),
      metric, n, frozen, value, gain, low, high, reason. gain is the improvement on the frozen model, so that
      what is forgotten at others is a negative one, with a paired 95 % interval by bootstrap over the
      patients of the place. Undefined: None. Regions without held-out rows are not judged at.
    """
    places = [region.test for region in frozen.regions if region.test is not None] + [frozen.site]
    drawn = {
        place.name: Bootstrap(place.y.size, place.patient, plan.bootstrap, plan.seed, place.name)
        for place in places
    }
    kept = {place.name: _measured(place, place.lp, drawn[place.name]) for place in places}
    found: list[dict[str, Any]] = []
    for region in frozen.regions:
        for update in menu(frozen):
            head = {"region": region.train.name, "update": update}
            scorer = adapt(frozen, update, region.train, plan.ridge)
            if isinstance(scorer, str):
                found += [head | _nothing(metric, scorer) for metric in METRICS]
                continue
            now = {place.name: _measured(place, scorer(place.x), drawn[place.name]) for place in places}
            for metric in METRICS:
                gains = {p.name: _gains(metric, kept[p.name], now[p.name]) for p in places}
                for place in places:
                    values = {"frozen": kept[place.name][0][metric], "value": now[place.name][0][metric]}
                    told = {"judged_at": place.name, "metric": metric, "n": place.y.size} | values
                    found.append(head | told | _interval(gains[place.name]))
                others = [gains[p.name] for p in places if p.name != region.train.name]
                n = sum(p.y.size for p in places if p.name != region.train.name)
                told = {"judged_at": OTHERS, "metric": metric, "n": n, "frozen": None, "value": None}
                found.append(head | told | _interval([_mean(list(one)) for one in zip(*others, strict=True)]))
    return found


_PARTED = "its training rows part events from others perfectly, so that there is no maximum of the likelihood"
_Measured = list[dict[str, Value]]  # of all rows, then of every replicate


def _measured(place: Rows, lp: Floats, drawn: Bootstrap) -> _Measured:
    return [measures.measure(place.y, lp, METRICS, (), counts) for counts in drawn.also()]


def _gains(metric: str, before: _Measured, after: _Measured) -> list[Value]:
    """Improvement on all rows, then on every replicate."""
    out: list[Value] = []
    for old, new in zip(before, after, strict=True):
        a, b = old[metric], new[metric]
        if a is None or b is None:
            out.append(None)
        else:
            out.append(measures.goodness(metric, b) - measures.goodness(metric, a))
    return out


def _mean(values: Sequence[Value]) -> Value:
    """Over places where it is defined."""
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None


def _interval(gains: Sequence[Value]) -> dict[str, Any]:
    low, high = measures.ends(gains[1:])
    return {"gain": gains[0], "low": low, "high": high, "reason": None}


def _nothing(metric: str, reason: str) -> dict[str, Any]:
    blank = dict.fromkeys(("judged_at", "n", "frozen", "value", "gain", "low", "high"))
    return blank | {"metric": metric, "reason": reason}
