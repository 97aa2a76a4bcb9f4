"""What a validation found, and what has to be said of the rows behind it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from fedsim.validation import measures
from fedsim.validation.logistic import Floats
from fedsim.validation.measures import Value
from fedsim.validation.rows import Frozen, Rows
from fedsim.validation.updates import Choice, Updated

ENOUGH = 100  # events, and as many without, for a validation (Collins et al., Statistics in Medicine 2016)

Row = dict[str, Any]


@dataclass(frozen=True)
class Outcome:
    """What a validation found. Tables are lists of mappings of one set of keys.

    metrics: update, fitted (`frozen` model, or `crossed`: every patient judged by an update fitted without
      them), metric, value, low, high. updates: update, term, frozen, value, low, high, estimated.
    case_mix: quantity, development, outside, value (a difference if nothing else is said), low, high.
    subgroups: group (`subgroup`, or `gap` of a column's), name, n, events, and the columns of `metrics`; of
      the frozen model, the update that was chosen, and of treating everybody.
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
    subgroups: list[Row]
    adaptation: list[Row]
    unknown: dict[str, int]
    warnings: list[str]


class Judged(NamedTuple):
    """A metric of a model or an update. again: f64[replicates], nan where undefined; None: not judged."""

    update: str
    fitted: str
    metric: str
    value: Value = None
    again: Floats | None = None

    def row(self) -> Row:
        head = {"update": self.update, "fitted": self.fitted}
        return head | measured(self.metric, self.value, self.again)


def measured(metric: str, value: Value = None, again: Floats | None = None) -> Row:
    """A metric with its interval. again: f64[replicates]."""
    low, high = (None, None) if again is None else measures.ends(again)
    return {"metric": metric, "value": value, "low": low, "high": high}


def of_rows(frozen: Frozen) -> list[str]:
    """Warnings of features and categories that the site has otherwise than the regions."""
    site = frozen.site
    found: list[str] = []
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
    return found


def of_folds(fitted: Sequence[Updated], crossed: Mapping[str, Floats | None]) -> list[str]:
    """A warning for each update that can be fitted to the site and not without one of its folds."""
    return [
        f"{update.name} has no maximum of the likelihood without one fold of the patients, so that it is not "
        "judged; the site has too few for it"
        for update in fitted[1:]
        if crossed[update.name] is None and not update.separated
    ]


def of_patients(site: Rows) -> list[str]:
    """A warning where rows are not independent."""
    if site.patient is None or np.unique(site.patient).size == site.y.size:
        return []
    return [
        "patients have several rows: intervals draw patients, but the closed test takes rows for "
        "independent, and rejects too often"
    ]


def of_tests(frozen: Frozen, also: str = "") -> list[str]:
    """A warning where some region trained on all its rows. also: what else comes of it."""
    if all(region.test is not None for region in frozen.regions):
        return []
    return [
        "the run held no rows back (split.test), so the development's c statistic is of training rows, "
        f"and too high{also}"
    ]
