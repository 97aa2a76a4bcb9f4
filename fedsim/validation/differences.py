"""How the site's patients differ from those of the regions, as rows of tables."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from fedsim.config.validation import ValidationPlan
from fedsim.data.rng import generator
from fedsim.validation import case_mix
from fedsim.validation.logistic import Floats
from fedsim.validation.measures import Value
from fedsim.validation.rows import Frozen, Rows, folds_of

Row = dict[str, Any]


def spread(frozen: Frozen) -> list[Row]:
    """Mean and deviation of the linear predictor, regions' training rows against the site's."""
    trained = [region.train for region in frozen.regions]
    centre = float(np.mean([rows.lp.mean() for rows in trained]))
    development = case_mix.sums([rows.lp for rows in trained], centre)
    outside = case_mix.sums([frozen.site.lp], centre)
    found: list[Row] = []
    for quantity, value in case_mix.spread(development, outside).items():
        a, b = (
            (development.mean, outside.mean)
            if quantity == "mean_difference"
            else (_root(development.variance), _root(outside.variance))
        )
        label = f"linear predictor, {'mean' if quantity == 'mean_difference' else 'deviation (ratio)'}"
        found.append(compared(label, a, b, value))
    return found


def membership(frozen: Frozen, plan: ValidationPlan) -> Row:
    """How well features tell who is from outside, cross-fitted; together with the outcome, where it has two
    classes: times to an event tell how long a place follows its patients."""
    parts = [*(region.train for region in frozen.regions), frozen.site]
    columns = [rows.x if rows.time is not None else np.column_stack([rows.x, rows.y]) for rows in parts]
    folds = [
        folds_of(rows, plan.folds, generator(plan.seed, "validation", "membership", rows.name))
        for rows in parts
    ]
    outside = [False] * (len(parts) - 1) + [True]
    told = case_mix.membership(_standardised(columns), outside, folds)
    return compared("membership (auroc)", None, None, tuple(told))


def compared(quantity: str, development: Value, outside: Value, told: Sequence[Value]) -> Row:
    value, low, high = told
    sides = {"quantity": quantity, "development": development, "outside": outside}
    return sides | {"value": value, "low": low, "high": high}


def _root(variance: Value) -> Value:
    return None if variance is None else float(np.sqrt(variance))


def _standardised(columns: Sequence[Floats]) -> list[Floats]:
    """Columns by the mean and deviation of all rows together, which follow from sites' sums."""
    n = sum(len(part) for part in columns)
    mean = np.sum([part.sum(axis=0) for part in columns], axis=0) / n
    deviation = np.sqrt(np.sum([np.square(part - mean).sum(axis=0) for part in columns], axis=0) / n)
    return [(part - mean) / np.where(deviation > 1e-9 * np.abs(mean), deviation, 1.0) for part in columns]


def patients(parts: Sequence[Rows]) -> Any:
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


def features(frozen: Frozen) -> list[Row]:
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
