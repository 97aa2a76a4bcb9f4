"""From a frozen model and a plan to what is stored: evaluation, case mix, closed test, adaptations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import special

from fedsim.base import require
from fedsim.config.validation import ValidationPlan
from fedsim.data.rng import generator
from fedsim.metrics.draws import Ranked
from fedsim.validation import adapting, case_mix, measures
from fedsim.validation.adapting import FEWEST
from fedsim.validation.logistic import Floats
from fedsim.validation.measures import Bootstrap, Value
from fedsim.validation.rows import Frozen, Rows, folds_of
from fedsim.validation.updates import Choice, Updated, choose, estimates, fit_update

ENOUGH = 100  # events, and as many without, for a validation (Collins et al., Statistics in Medicine 2016)
PER_COEFFICIENT = 10  # events, to fit all coefficients again

Row = dict[str, Any]


@dataclass(frozen=True)
class Outcome:
    """What a validation found. Tables are lists of mappings of one set of keys.

    metrics: update, fitted (`frozen` model, or `crossed`: every patient judged by an update fitted without
      them), metric, value, low, high. updates: update, term, frozen, value, low, high, estimated.
    case_mix: quantity, development, outside, value (a difference if nothing else is said), low, high.
    features: feature, development, outside, difference, low, high,
      missing_development, missing_outside. adaptation: `adapting.adaptations`.
    """

    n: int
    events: int
    choice: Choice
    metrics: list[Row]
    updates: list[Row]
    case_mix: list[Row]
    features: list[Row]
    adaptation: list[Row]
    unknown: dict[str, int]
    warnings: list[str]


def evaluate(frozen: Frozen, plan: ValidationPlan) -> Outcome:
    """Carry out a plan.

    Raises:
      RequestError: fewer than 10 events, or 10 without, at the site; or a plan that refits a network.
    """
    site = frozen.site
    events = int(site.y.sum())
    _check(frozen, plan, events)
    drawn = Bootstrap(site.y.size, site.patient, plan.bootstrap, plan.seed, site.name)
    fitted = [fit_update(name, site.x, site.lp, site.y) for name in plan.updates]
    choice = choose(fitted, plan.alpha)
    if choice.update is None:
        choice = Choice(None, choice.tests, f"{site.name}: {choice.reason}")
    crossed: dict[str, Floats | None] = {update.name: _crossed(update, site, plan) for update in fitted[1:]}
    unstable = [
        f"{update.name} has no maximum of the likelihood without one fold of the patients, so that it is not "
        "judged; the site has too few for it"
        for update in fitted[1:]
        if crossed[update.name] is None and not update.separated
    ]
    scale, frozen_coefficients = frozen.scale, frozen.coefficients
    told: list[Row] = []
    for update in fitted[1:]:
        if not update.separated:
            coefficients = np.zeros(0, np.float64) if frozen_coefficients is None else frozen_coefficients
            found = estimates(update, frozen.features, coefficients, scale)
            told += [{"update": update.name} | row for row in found]
    return Outcome(
        n=site.y.size,
        events=events,
        choice=choice,
        metrics=_judged(site, {"keep": site.lp, **crossed}, plan, drawn),
        updates=told,
        case_mix=_case_mix(frozen, plan, drawn),
        features=_features(frozen),
        adaptation=adapting.adaptations(frozen, plan) if plan.adapt else [],
        unknown=dict(frozen.unknown),
        warnings=_warnings(frozen, plan, events) + unstable,
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
    if site.patient is not None and np.unique(site.patient).size < site.y.size:
        found.append(
            "patients have several rows: intervals draw patients, but the closed test takes rows for "
            "independent, and rejects too often"
        )
    absent = [name for name, x in zip(frozen.features, site.raw.T, strict=True) if np.isnan(x).all()]
    if absent:
        found.append(
            f"{site.name} has no value of {', '.join(absent)}: the development's imputation stands in for "
            "every patient, and refit keeps the frozen coefficient"
        )
    for column, count in frozen.unknown.items():
        found.append(
            f"{site.name} has {count} of {site.y.size} rows whose {column} is a category that no region has; "
            "they count as its reference level"
        )
    if any(region.test is None for region in frozen.regions):
        found.append(
            "the run held no rows back (split.test), so the development's c statistic is of training rows, "
            "and too high; adaptations are not judged at home"
        )
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
) -> list[Row]:
    """Metrics of the frozen model, of its updates' linear predictors, and of treating everybody."""
    known = {update: lp for update, lp in lps.items() if lp is not None}
    again = measures.replicates(site.y, known, (*plan.metrics, measures.TREAT_ALL), plan.thresholds, drawn)
    found: list[Row] = []
    for update in lps:
        head: Row = {"update": update, "fitted": "frozen" if update == "keep" else "crossed"}
        whole = measures.measure(site.y, known.get(update, site.lp), plan.metrics, plan.thresholds)
        for metric, value in whole.items():
            told = _measured(metric, value, again[update][metric]) if update in known else _measured(metric)
            found.append(head | told)
    head = {"update": "treat all", "fitted": "frozen"}
    everyone = measures.measure(site.y, site.lp, (measures.TREAT_ALL,), plan.thresholds)
    for t in plan.thresholds:
        name = measures.benefit(t, measures.TREAT_ALL)
        found.append(head | _measured(measures.benefit(t), everyone[name], again["keep"][name]))
    return found


def _measured(metric: str, value: Value = None, again: Floats | None = None) -> Row:
    low, high = (None, None) if again is None else measures.ends(again)
    return {"metric": metric, "value": value, "low": low, "high": high}


# --- case mix --------------------------------------------------------------------------------


def _case_mix(frozen: Frozen, plan: ValidationPlan, drawn: Bootstrap) -> list[Row]:
    """Regions' training rows against the site's; concordance at home of held-out rows where there are any."""
    site = frozen.site
    trained = [region.train for region in frozen.regions]
    home = [region.test or region.train for region in frozen.regions]
    centre = float(np.mean([rows.lp.mean() for rows in trained]))
    development = case_mix.sums([rows.lp for rows in trained], centre)
    outside = case_mix.sums([site.lp], centre)
    found: list[Row] = []
    for quantity, value in case_mix.spread(development, outside).items():
        a, b = (
            (development.mean, outside.mean)
            if quantity == "mean_difference"
            else (_root(development.variance), _root(outside.variance))
        )
        label = f"linear predictor, {'mean' if quantity == 'mean_difference' else 'deviation (ratio)'}"
        found.append(_compared(label, a, b, value))
    columns = [np.column_stack([rows.x, rows.y]) for rows in (*trained, site)]
    folds = [
        folds_of(rows, plan.folds, generator(plan.seed, "validation", "membership", rows.name))
        for rows in (*trained, site)
    ]
    told = case_mix.membership(_standardised(columns), [False] * len(trained) + [True], folds)
    found.append(_compared("membership (auroc)", None, None, tuple(told)))

    y, lp = (np.concatenate([getattr(rows, name) for rows in home]) for name in ("y", "lp"))
    at_home = _patients(home)
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
        found.append(_compared(label, *sides[part], (split[part], *measures.ends(replicates[part]))))
    return found


def _compared(quantity: str, development: Value, outside: Value, told: Sequence[Value]) -> Row:
    value, low, high = told
    sides = {"quantity": quantity, "development": development, "outside": outside}
    return sides | {"value": value, "low": low, "high": high}


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


def _root(variance: Value) -> Value:
    return None if variance is None else float(np.sqrt(variance))


def _standardised(columns: Sequence[Floats]) -> list[Floats]:
    """Columns by the mean and deviation of all rows together, which follow from sites' sums."""
    n = sum(len(part) for part in columns)
    mean = np.sum([part.sum(axis=0) for part in columns], axis=0) / n
    deviation = np.sqrt(np.sum([np.square(part - mean).sum(axis=0) for part in columns], axis=0) / n)
    return [(part - mean) / np.where(deviation > 1e-9 * np.abs(mean), deviation, 1.0) for part in columns]


def _patients(parts: Sequence[Rows]) -> Any:
    """Whose each row is, over several regions; None where every row is a patient."""
    if all(rows.patient is None for rows in parts):
        return None
    count, found = 0, []
    for rows in parts:
        of = (
            np.arange(rows.y.size)
            if rows.patient is None
            else np.unique(rows.patient, return_inverse=True)[1]
        )
        found.append(of + count)
        count += int(of.max(initial=-1)) + 1
    return np.concatenate(found)


def _features(frozen: Frozen) -> list[Row]:
    """Standardised differences of what was recorded, and how much was not."""
    trained = [region.train.raw for region in frozen.regions]
    n = sum(len(part) for part in trained)
    found: list[Row] = []
    for i, name in enumerate(frozen.features):
        here, there = [part[:, i] for part in trained], frozen.site.raw[:, i]
        total = sum(float(np.nansum(values)) for values in here)
        seen = sum(int((~np.isnan(values)).sum()) for values in here)
        centre = total / seen if seen else 0.0
        a, b = case_mix.sums(here, centre), case_mix.sums([there], centre)
        value, low, high = case_mix.mean_difference(a, b)
        found.append(
            {
                "feature": name,
                "development": a.mean,
                "outside": b.mean,
                "difference": value,
                "low": low,
                "high": high,
                "missing_development": 1.0 - a.n / n,
                "missing_outside": 1.0 - b.n / len(there),
            }
        )
    return found
