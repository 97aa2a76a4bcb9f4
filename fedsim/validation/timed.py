"""The protocol for times to an event: follow-up to a horizon, probabilities of an event by then.

The frozen model is a log relative risk, with Breslow's cumulative baseline hazard of the regions' training
rows.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from fedsim import metrics, survival
from fedsim.base import require
from fedsim.config.validation import ValidationPlan
from fedsim.data.rng import generator
from fedsim.metrics import Absolute
from fedsim.validation import adapting_times, differences, measures, subgroups
from fedsim.validation.adapting import FEWEST
from fedsim.validation.hazards import fit_update
from fedsim.validation.logistic import Floats
from fedsim.validation.measures import Bootstrap, Value
from fedsim.validation.outcome import ENOUGH, Judged, Outcome, Row, of_patients, of_rows, of_tests
from fedsim.validation.rows import Frozen, Rows, folds_of
from fedsim.validation.subgroups import TREAT_ALL
from fedsim.validation.updates import Choice, Updated, choose, estimates

PER_COEFFICIENT = 10  # events, to fit all coefficients again
_STEPS = 50  # of the integrated Brier score's grid, as a run's own


def evaluate(frozen: Frozen, plan: ValidationPlan) -> Outcome:
    """Carry out a plan with a horizon.

    Raises:
      RequestError: fewer than 10 events by the horizon at the site, no event among the training rows by any
        of the site's times, or a plan that refits a network.
    """
    horizon = plan.horizon
    assert horizon is not None
    site = frozen.site.until(horizon)
    assert site.time is not None
    events = int(site.y.sum())
    _check(frozen, plan, events)
    baseline = _baseline(frozen)
    hazard = _at(baseline, site.time)
    require(
        float(hazard @ np.exp(site.lp)) > 0,
        f"no training row has an event by the last time of {site.name}'s rows, so none is expected there; "
        "set a later horizon",
    )
    fitted = [fit_update(name, site.x, site.lp, site.y, site.time, hazard) for name in plan.updates]
    choice = choose(fitted, plan.alpha)
    parted = next((update.name for update in fitted if update.separated), None)
    if parted is not None:
        said = (
            f"{site.name}: {parted} has no maximum of the partial likelihood, since a combination of "
            "features is highest at every event; plan updates without it, or validate at more patients"
        )
        choice = Choice(None, (), said)
    crossed: dict[str, Floats | None] = {}
    for update in fitted[1:]:
        crossed[update.name] = _crossed(update, site, hazard, plan)
    told: list[Row] = []
    for update in fitted[1:]:
        if not update.separated:
            coefficients = np.zeros(0, np.float64) if frozen.coefficients is None else frozen.coefficients
            rows = estimates(update, frozen.features, coefficients, frozen.scale)
            told += [{"update": update.name} | row for row in rows]
    lps = {"keep": site.lp, **crossed}
    drawn = Bootstrap(site.y.size, site.patient, plan.bootstrap, plan.seed, site.name)
    times = np.linspace(0.0, horizon, _STEPS + 1, dtype=np.float64)
    if "ibs" not in plan.metrics:
        times = times[-1:]  # the grid is what takes time
    with np.errstate(divide="ignore"):
        steps = np.log(_at(baseline, times))[None]
    absolute = Absolute(times, steps, np.zeros(site.y.size, np.int64))
    judged = _judged(frozen.site, lps, absolute, plan, drawn)

    def judge(mine: NDArray[np.int64], some: Mapping[str, Floats | None]) -> list[Judged]:
        return _judged(frozen.site.of(mine), some, absolute.of(mine), plan, drawn.among(mine))

    apart, few = subgroups.evaluate(frozen, site.y, lps, choice.update, judged, judge)
    return Outcome(
        n=site.y.size,
        events=events,
        choice=choice,
        metrics=[one.row() for one in judged],
        updates=told,
        case_mix=_case_mix(frozen, plan, drawn),
        features=differences.features(frozen),
        subgroups=apart,
        adaptation=adapting_times.adaptations(frozen, plan, lambda t: _at(baseline, t)) if plan.adapt else [],
        unknown=dict(frozen.unknown),
        warnings=_warnings(frozen, site, plan, events) + few,
    )


def _baseline(frozen: Frozen) -> tuple[Floats, Floats]:
    """Breslow's, of all regions' training rows: (times of events, logarithm of the cumulative hazard)."""
    parts = [region.train for region in frozen.regions]
    event, time, lp = (
        np.concatenate([np.asarray(getattr(rows, name), np.float64) for rows in parts])
        for name in ("y", "time", "lp")
    )
    return survival.breslow(event > 0, time, lp, np.ones(len(lp), np.float64))


def _at(baseline: tuple[Floats, Floats], time: Floats) -> Floats:
    """The cumulative baseline hazard at times [n], a step function from 0."""
    events, log_hazard = baseline
    steps: Floats = np.concatenate([[0.0], np.exp(log_hazard)])
    return steps[np.searchsorted(events, time, side="right")]


def _check(frozen: Frozen, plan: ValidationPlan, events: int) -> None:
    require(
        "refit" not in plan.updates or frozen.coefficients is not None,
        f"run {frozen.run} stores a network, whose weights have no likelihood-ratio test; plan "
        "updates=[keep,baseline,slope]",
    )
    require(
        events >= FEWEST,
        f"{frozen.site.name} has {events} events by {plan.horizon:g} in {frozen.site.y.size} rows, and at "
        f"least {FEWEST} are needed to judge or update a model; nothing was evaluated",
    )


def _warnings(frozen: Frozen, site: Rows, plan: ValidationPlan, events: int) -> list[str]:
    found = []
    if events < ENOUGH:
        found.append(
            f"{site.name} has {events} events by {plan.horizon:g}; below {ENOUGH}, intervals are wide and "
            "the closed test sees large differences only"
        )
    if "refit" in plan.updates and events < PER_COEFFICIENT * site.x.shape[1]:
        found.append(
            f"refit estimates {site.x.shape[1]} coefficients from {events} events; below {PER_COEFFICIENT} "
            "for each they are unstable, and the test against refit is approximate"
        )
    found += of_patients(site)
    assert frozen.site.time is not None
    if frozen.site.time.max() < plan.horizon:
        found.append(
            f"{site.name} follows nobody up to {plan.horizon:g} (the last time is "
            f"{frozen.site.time.max():g}), so that what is of probabilities by then has no value"
        )
    found += of_rows(frozen)
    found += of_tests(frozen, "; adaptations are not judged at home" if plan.adapt else "")
    return found


# --- the site --------------------------------------------------------------------------------


def _crossed(update: Updated, site: Rows, hazard: Floats, plan: ValidationPlan) -> Floats | None:
    """Log relative risks of every row by updates fitted without its fold; None where one has no maximum."""
    assert site.time is not None
    fold = folds_of(site, plan.folds, generator(plan.seed, "validation", "folds", site.name))
    lp = np.empty_like(site.lp)
    for k in range(plan.folds):
        out = fold == k
        if not out.any():
            continue
        some = ~out
        made = fit_update(
            update.name, site.x[some], site.lp[some], site.y[some], site.time[some], hazard[some]
        )
        if made.separated:
            return None
        lp[out] = made.predict(site.x[out], site.lp[out])
    return lp


def _judged(
    site: Rows, lps: Mapping[str, Floats | None], absolute: Absolute, plan: ValidationPlan, drawn: Bootstrap
) -> list[Judged]:
    """Metrics of the frozen model, of its updates, and of treating everybody; of all follow-up."""

    wanted = measures.wanted((*plan.metrics, measures.TREAT_ALL), plan.thresholds)
    only = set(wanted.values())

    def of(lp: Floats, w: Floats | None) -> dict[str, Value]:
        found = metrics.evaluate(
            "survival",
            site.y,
            lp,
            w,
            time=site.time,
            thresholds=plan.thresholds,
            absolute=absolute,
            only=only,
        )
        return {name: found[asked] for name, asked in wanted.items()}

    found: list[Judged] = []
    everybody: list[Judged] = []
    for update, lp in lps.items():
        fitted = "frozen" if update == "keep" else "crossed"
        whole = of(site.lp if lp is None else lp, None)
        each = [] if lp is None else [of(lp, w) for w in drawn]
        for metric, value in whole.items():
            again = np.array([one[metric] for one in each], np.float64)
            everyone = metric.startswith(measures.TREAT_ALL)
            if everyone and update == "keep":
                name = metric.replace(measures.TREAT_ALL, "net_benefit")
                everybody.append(Judged(TREAT_ALL, "frozen", name, value, again))
            elif not everyone:
                found.append(Judged(update, fitted, metric, *(() if lp is None else (value, again))))
    return found + everybody


# --- case mix --------------------------------------------------------------------------------


def _case_mix(frozen: Frozen, plan: ValidationPlan, drawn: Bootstrap) -> list[Row]:
    """Linear predictors, membership, and Harrell's concordance at home (of held-out rows where there are any)
    and outside."""
    site = frozen.site
    home = [region.test or region.train for region in frozen.regions]
    y, lp, time = (
        np.concatenate([np.asarray(getattr(rows, name), np.float64) for rows in home])
        for name in ("y", "lp", "time")
    )
    at_home = Bootstrap(y.size, differences.patients(home), plan.bootstrap, plan.seed, "development")
    assert site.time is not None
    here, there = (y > 0, time, lp), (site.y > 0, site.time, site.lp)
    both = [_c_index(rows, None) for rows in (here, there)]
    again = [
        np.array([_c_index(rows, w) for w in draws], np.float64)
        for rows, draws in ((here, at_home), (there, drawn))
    ]
    lost = None if both[0] is None or both[1] is None else both[1] - both[0]
    told = (lost, *measures.ends(again[1] - again[0]))
    return [
        *differences.spread(frozen),
        differences.membership(frozen, plan),
        differences.compared("c statistic", both[0], both[1], told),
    ]


def _c_index(rows: tuple[np.ndarray, Floats, Floats], w: Floats | None) -> Value:
    event, time, lp = rows
    if w is None:
        return survival.c_index(event, time, lp, np.ones(len(lp), np.float64))
    some = w > 0
    return survival.c_index(event[some], time[some], lp[some], w[some])
