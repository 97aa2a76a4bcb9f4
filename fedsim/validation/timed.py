"""The protocol for times to an event: follow-up to a horizon, probabilities of an event by then."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from fedsim import metrics, survival
from fedsim.base import require
from fedsim.config.validation import ValidationPlan
from fedsim.data.rng import generator
from fedsim.validation import adapting_times, differences, measures, subgroups
from fedsim.validation.adapting import FEWEST
from fedsim.validation.discrete import discrete
from fedsim.validation.logistic import Floats
from fedsim.validation.measures import Bootstrap, Value
from fedsim.validation.outcome import ENOUGH, Judged, Outcome, Row, of_folds, of_patients, of_rows, of_tests
from fedsim.validation.over_time import OverTime
from fedsim.validation.proportional import proportional
from fedsim.validation.rows import Frozen, Rows, folds_of
from fedsim.validation.subgroups import TREAT_ALL
from fedsim.validation.updates import Choice, Updated, choose

PER_COEFFICIENT = 10  # events, to fit all coefficients again
_STEPS = 50  # of the integrated Brier score's grid, as a run's own


def evaluate(frozen: Frozen, plan: ValidationPlan) -> Outcome:
    """Carry out a plan with a horizon.

    Raises:
      RequestError: fewer than 10 events by the horizon at the site, a plan that refits a network, or what
        `OverTime.check` raises.
    """
    horizon = plan.horizon
    assert horizon is not None
    site = frozen.site.until(horizon)
    assert site.time is not None
    events = int(site.y.sum())
    model: OverTime = proportional(frozen) if frozen.ends is None else discrete(frozen)
    _check(frozen, model, plan, events)
    model.check(site)
    fitted = [model.fit(name, site) for name in plan.updates]
    choice = choose(fitted, plan.alpha)
    parted = next((update.name for update in fitted if update.separated), None)
    if parted is not None:
        said = (
            f"{site.name}: {parted} has no maximum of the likelihood, since {model.parted}; plan updates "
            "without it, or validate at more patients"
        )
        choice = Choice(None, (), said)
    crossed: dict[str, Floats | None] = {}
    for update in fitted[1:]:
        crossed[update.name] = _crossed(model, update, site, plan)
    told: list[Row] = []
    for update in fitted[1:]:
        if not update.separated:
            told += [{"update": update.name} | row for row in model.estimates(update, frozen)]
    predictors = {"keep": site.predictor, **crossed}
    drawn = Bootstrap(site.y.size, site.patient, plan.bootstrap, plan.seed, site.name)
    times = np.linspace(0.0, horizon, _STEPS + 1, dtype=np.float64)
    if "ibs" not in plan.metrics:
        times = times[-1:]  # the grid is what takes time
    judged = _judged(model, frozen.site, predictors, times, plan, drawn)

    def judge(mine: NDArray[np.int64], some: Mapping[str, Floats | None]) -> list[Judged]:
        return _judged(model, frozen.site.of(mine), some, times, plan, drawn.among(mine))

    apart, few = subgroups.evaluate(frozen, site.y, predictors, choice.update, judged, judge)
    return Outcome(
        n=site.y.size,
        events=events,
        choice=choice,
        metrics=[one.row() for one in judged],
        updates=told,
        case_mix=_case_mix(frozen, plan, drawn),
        features=differences.features(frozen),
        subgroups=apart,
        adaptation=adapting_times.adaptations(frozen, plan, model) if plan.adapt else [],
        unknown=dict(frozen.unknown),
        warnings=_warnings(frozen, site, plan, events, fitted[-1]) + of_folds(fitted, crossed) + few,
    )


def _check(frozen: Frozen, model: OverTime, plan: ValidationPlan, events: int) -> None:
    other = {"baseline", "intercept"} - {model.least}
    require(
        not other & {*plan.updates},
        f"run {frozen.run} has {model.least} for its smallest update, and not {', '.join(other)}; plan "
        f"updates=[keep,{model.least},slope]",
    )
    require(
        "refit" not in plan.updates or frozen.coefficients is not None,
        f"run {frozen.run} stores {model.unfit}; plan updates=[keep,{model.least},slope]",
    )
    require(
        events >= FEWEST,
        f"{frozen.site.name} has {events} events by {plan.horizon:g} in {frozen.site.y.size} rows, and at "
        f"least {FEWEST} are needed to judge or update a model; nothing was evaluated",
    )


def _warnings(frozen: Frozen, site: Rows, plan: ValidationPlan, events: int, largest: Updated) -> list[str]:
    found = []
    if events < ENOUGH:
        found.append(
            f"{site.name} has {events} events by {plan.horizon:g}; below {ENOUGH}, intervals are wide and "
            "the closed test sees large differences only"
        )
    coefficients = largest.parameters - 1  # beside the one number of the smallest update
    if largest.name == "refit" and events < PER_COEFFICIENT * coefficients:
        found.append(
            f"refit estimates {coefficients} coefficients from {events} events; below {PER_COEFFICIENT} "
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


def _crossed(model: OverTime, update: Updated, site: Rows, plan: ValidationPlan) -> Floats | None:
    """Predictors of every row by updates fitted without its fold; None where one has no maximum."""
    fold = folds_of(site, plan.folds, generator(plan.seed, "validation", "folds", site.name))
    found = np.empty_like(site.predictor)
    for k in range(plan.folds):
        out = fold == k
        if not out.any():
            continue
        made = model.fit(update.name, site.of(np.flatnonzero(~out)))
        if made.separated:
            return None
        found[out] = model.after(made, site.x[out], site.predictor[out])
    return found


def _judged(
    model: OverTime,
    site: Rows,
    predictors: Mapping[str, Floats | None],
    times: Floats,
    plan: ValidationPlan,
    drawn: Bootstrap,
) -> list[Judged]:
    """Metrics of the frozen model, of its updates, and of treating everybody; of all follow-up."""

    wanted = measures.wanted((*plan.metrics, measures.TREAT_ALL), plan.thresholds)
    only = set(wanted.values())

    def of(predictor: Floats) -> Callable[[Floats | None], dict[str, Value]]:
        score, absolute = model.risks(predictor, times)

        def weighted(w: Floats | None) -> dict[str, Value]:
            found = metrics.evaluate(
                "survival",
                site.y,
                score,
                w,
                time=site.time,
                thresholds=plan.thresholds,
                absolute=absolute,
                only=only,
            )
            return {name: found[asked] for name, asked in wanted.items()}

        return weighted

    found: list[Judged] = []
    everybody: list[Judged] = []
    for update, predictor in predictors.items():
        fitted = "frozen" if update == "keep" else "crossed"
        weighted = of(site.predictor if predictor is None else predictor)
        whole = weighted(None)
        each = [] if predictor is None else [weighted(w) for w in drawn]
        for metric, value in whole.items():
            again = np.array([one[metric] for one in each], np.float64)
            everyone = metric.startswith(measures.TREAT_ALL)
            if everyone and update == "keep":
                name = metric.replace(measures.TREAT_ALL, "net_benefit")
                everybody.append(Judged(TREAT_ALL, "frozen", name, value, again))
            elif not everyone:
                found.append(Judged(update, fitted, metric, *(() if predictor is None else (value, again))))
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
