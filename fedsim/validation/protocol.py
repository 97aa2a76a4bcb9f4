"""From a frozen model and a plan to what is stored: evaluation, case mix, closed test, adaptations."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from scipy import special

from fedsim.base import require
from fedsim.config.validation import ValidationPlan
from fedsim.data.rng import generator
from fedsim.metrics.draws import Ranked
from fedsim.validation import adapting, case_mix, differences, measures, subgroups, timed
from fedsim.validation.adapting import FEWEST
from fedsim.validation.logistic import Floats
from fedsim.validation.measures import Bootstrap, Value
from fedsim.validation.outcome import ENOUGH, Judged, Outcome, Row, of_folds, of_patients, of_rows, of_tests
from fedsim.validation.rows import Frozen, Rows, folds_of
from fedsim.validation.subgroups import TREAT_ALL
from fedsim.validation.updates import Choice, Updated, choose, estimates, fit_update

PER_COEFFICIENT = 10  # events, to fit all coefficients again


def evaluate(frozen: Frozen, plan: ValidationPlan) -> Outcome:
    """Carry out a plan.

    Raises:
      RequestError: fewer than 10 events, or 10 without where the outcome has two classes, at the site; or a
        plan that refits a network.
    """
    site = frozen.site
    if site.time is not None:
        return timed.evaluate(frozen, plan)
    events = int(site.y.sum())
    _check(frozen, plan, events)
    drawn = Bootstrap(site.y.size, site.patient, plan.bootstrap, plan.seed, site.name)
    fitted = [fit_update(name, site.x, site.lp, site.y) for name in plan.updates]
    choice = choose(fitted, plan.alpha)
    if choice.update is None:
        choice = Choice(None, choice.tests, f"{site.name}: {choice.reason}")
    crossed: dict[str, Floats | None] = {}
    for update in fitted[1:]:
        crossed[update.name] = _crossed(update, site, plan)
    lps = {"keep": site.lp, **crossed}
    scale, frozen_coefficients = frozen.scale, frozen.coefficients
    told: list[Row] = []
    for update in fitted[1:]:
        if not update.separated:
            coefficients = np.zeros(0, np.float64) if frozen_coefficients is None else frozen_coefficients
            found = estimates(update, frozen.features, coefficients, scale)
            told += [{"update": update.name} | row for row in found]
    judged = _judged(site, lps, plan, drawn)

    def judge(mine: NDArray[np.int64], some: Mapping[str, Floats | None]) -> list[Judged]:
        return _judged(site.of(mine), some, plan, drawn.among(mine))

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
        adaptation=adapting.adaptations(frozen, plan) if plan.adapt else [],
        unknown=dict(frozen.unknown),
        warnings=_warnings(frozen, plan, events) + of_folds(fitted, crossed) + few,
    )


def _check(frozen: Frozen, plan: ValidationPlan, events: int) -> None:
    site = frozen.site
    require(
        "refit" not in plan.updates or frozen.coefficients is not None,
        f"run {frozen.run} stores a network, whose weights have no likelihood-ratio test; plan "
        "updates=[keep,intercept,slope]",
    )
    few = "events" if 2 * events <= site.y.size else "patients without the event"
    require(
        site.least >= FEWEST,
        f"{site.name} has {site.least} {few} in {site.y.size} rows, and at least {FEWEST} are needed to "
        "judge or update a model; nothing was evaluated",
    )


def _warnings(frozen: Frozen, plan: ValidationPlan, events: int) -> list[str]:
    site = frozen.site
    found = []
    if site.least < ENOUGH:
        found.append(
            f"{site.name} has {events} events and {site.y.size - events} without; below {ENOUGH} of either, "
            "intervals are wide and the closed test sees large differences only"
        )
    coefficients = site.x.shape[1]
    if "refit" in plan.updates and site.least < PER_COEFFICIENT * coefficients:
        found.append(
            f"refit estimates {coefficients} coefficients from {site.least} events or non-events; below "
            f"{PER_COEFFICIENT} for each they are unstable, and the test against refit is approximate"
        )
    found += of_patients(site)
    found += of_rows(frozen)
    found += of_tests(frozen, "; adaptations are not judged at home")
    return found


# --- the site --------------------------------------------------------------------------------


def _crossed(update: Updated, site: Rows, plan: ValidationPlan) -> Floats | None:
    """Linear predictors of every row by updates fitted without its fold; None where one has no maximum."""
    fold = folds_of(site, plan.folds, generator(plan.seed, "validation", "folds", site.name))
    lp = np.empty_like(site.lp)
    for k in range(plan.folds):
        out = fold == k
        if not out.any():
            continue
        made = fit_update(update.name, site.x[~out], site.lp[~out], site.y[~out])
        if made.separated:
            return None
        lp[out] = made.predict(site.x[out], site.lp[out])
    return lp


def _judged(
    site: Rows, lps: Mapping[str, Floats | None], plan: ValidationPlan, drawn: Bootstrap
) -> list[Judged]:
    """Metrics of the frozen model, of its updates' linear predictors, and of treating everybody."""
    known = {update: lp for update, lp in lps.items() if lp is not None}
    again = measures.replicates(site.y, known, (*plan.metrics, measures.TREAT_ALL), plan.thresholds, drawn)
    found: list[Judged] = []
    for update in lps:
        fitted = "frozen" if update == "keep" else "crossed"
        whole = measures.measure(site.y, known.get(update, site.lp), plan.metrics, plan.thresholds)
        for metric, value in whole.items():
            told = (value, again[update][metric]) if update in known else ()
            found.append(Judged(update, fitted, metric, *told))
    everyone = measures.measure(site.y, site.lp, (measures.TREAT_ALL,), plan.thresholds)
    for t in plan.thresholds:
        name = measures.benefit(t, measures.TREAT_ALL)
        told = (everyone[name], again["keep"][name])
        found.append(Judged(TREAT_ALL, "frozen", measures.benefit(t), *told))
    return found


# --- case mix --------------------------------------------------------------------------------


def _case_mix(frozen: Frozen, plan: ValidationPlan, drawn: Bootstrap) -> list[Row]:
    """Regions' training rows against the site's; concordance at home of held-out rows where there are any."""
    site = frozen.site
    home = [region.test or region.train for region in frozen.regions]
    found = [*differences.spread(frozen), differences.membership(frozen, plan)]
    y, lp = (np.concatenate([getattr(rows, name) for rows in home]) for name in ("y", "lp"))
    at_home = differences.patients(home)
    again = Bootstrap(y.size, at_home, plan.bootstrap, plan.seed, "development")
    of_home, of_site = _concordances(y, lp), _concordances(site.y, site.lp)
    split = case_mix.decomposed(*of_home, *of_site[::-1])
    replicates = _decomposed(_again(y, lp, again), _again(site.y, site.lp, drawn))
    words = {
        "total": "c statistic",
        "development": "c statistic, by the model's fit at home",
        "case_mix": "c statistic, by case mix",
        "coefficients": "c statistic, by coefficients",
    }
    sides: dict[str, tuple[Value, Value]] = {
        "total": (of_home[0], of_site[0]),
        "development": of_home,
        "case_mix": (of_home[1], of_site[1]),
        "coefficients": (of_site[1], of_site[0]),
    }
    for part, label in words.items():
        found.append(
            differences.compared(label, *sides[part], (split[part], *measures.ends(replicates[part])))
        )
    return found


def _concordances(y: Floats, lp: Floats) -> tuple[Value, Value]:
    """(observed, expected if the risks are right)."""
    return measures.measure(y, lp, ("auroc",), ())["auroc"], case_mix.expected_concordance(lp)


def _again(y: Floats, lp: Floats, drawn: Bootstrap) -> tuple[Floats, Floats]:
    """The same on every replicate, f64[replicates] each; nan where undefined."""
    ranked = Ranked(y, special.expit(lp))
    found = drawn.of(
        lambda block: {
            "expected": case_mix.expected_concordances(lp, block),
            **ranked.evaluate(block, ("auroc",)),
        }
    )
    return found["auroc"], found["expected"]


def _decomposed(home: tuple[Floats, Floats], site: tuple[Floats, Floats]) -> dict[str, Floats]:
    """`case_mix.decomposed` of replicates."""
    return {
        "total": site[0] - home[0],
        "development": home[1] - home[0],
        "case_mix": site[1] - home[1],
        "coefficients": site[0] - site[1],
    }
