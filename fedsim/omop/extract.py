"""One row per patient of a region, from its OMOP tables: features at the index date, and an outcome."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np

from fedsim.base import require
from fedsim.omop import index
from fedsim.omop.definition import DISCHARGE, Definition
from fedsim.omop.features import TABLE, Features
from fedsim.omop.outcomes import outcomes
from fedsim.omop.read import Site
from fedsim.omop.terms import Terms


@dataclass(frozen=True, kw_only=True)
class Reading:
    """What may be chosen about a definition without another one.

    index: another index event than the outcome's. harmonise: false: measurements stay in the units they have.
    unknown_units: of values in a unit without conversion: refuse, or leave out. below: what a value below its
      detection limit is: that limit, or half of it. same_day: whether what is dated on the index day is seen.
    history: days that a patient must have been observed before the index date. drop: features left out.
    """

    outcome: str
    index: Literal["first_diagnosis", "discharge"] | None = None
    harmonise: bool = True
    unknown_units: Literal["refuse", "missing"] = "refuse"
    below: Literal["limit", "half"] = "limit"
    same_day: Literal["include", "exclude"] = "include"
    history: int = 0
    drop: tuple[str, ...] = ()


class Extract(NamedTuple):
    """Rows in order of person_id.

    person: int64[n]. day: int64[n], the index date, in days since 1970. x: float32[n, features], NaN where
    there is no value. y: float32[n]. time: float32[n] of days, for a time to an event; else None. notes: what
    was left out and why, units, unknown codes.
    """

    person: np.ndarray
    day: np.ndarray
    x: np.ndarray
    y: np.ndarray
    time: np.ndarray | None
    features: tuple[str, ...]
    notes: dict[str, Any]


def extract(site: Site, definition: Definition, reading: Reading) -> Extract:
    """Rows of a region's patients whose index date and outcome can be used.

    Raises:
      RequestError: an unknown outcome or feature, a table that is not there, units that cannot be converted.
    """
    outcome = definition.outcome(reading.outcome)
    event = reading.index or outcome.index
    require(
        outcome.event != "stay" or event != DISCHARGE,
        f"data.outcome={reading.outcome} is known at discharge; use data.index=first_diagnosis",
    )
    chosen = definition.feature(event, reading.drop)
    if outcome.event == "cost":
        site.need(["cost"], f"data.outcome={reading.outcome}")
    tables = {"condition_occurrence"} | {TABLE[f.table] for f in chosen.values() if f.table in TABLE}
    for table in sorted(tables):
        asking = next((name for name, f in chosen.items() if TABLE.get(f.table) == table), "")
        site.need([table], f"feature {asking}, or leave it out with data.drop,")
    terms = {table: Terms(site, table) for table in sorted(tables)}
    excluded = index.make(
        site,
        definition.index,
        event,
        terms["condition_occurrence"],
        reading.same_day == "include",
        reading.history,
    )
    found = outcomes(site, outcome)
    made = Features(
        site, terms, definition.measurements, reading.harmonise, reading.unknown_units, reading.below
    )
    x = np.empty((made.rows, len(chosen)), np.float32)
    for j, (name, feature) in enumerate(chosen.items()):
        x[:, j] = made.column(name, feature)
    who = site.sql("SELECT person_id, day - DATE '1970-01-01' AS day FROM cohort ORDER BY row").fetchnumpy()
    person, day = (np.asarray(who[name]).astype(np.int64) for name in ("person_id", "day"))
    known = ~np.isnan(found.y)
    notes = _notes(site, excluded | found.excluded, terms, made, tuple(chosen), x[known])
    return Extract(
        person[known],
        day[known],
        x[known],
        found.y[known].astype(np.float32),
        None if found.time is None else found.time[known].astype(np.float32),
        tuple(chosen),
        notes,
    )


def _notes(
    site: Site,
    excluded: dict[str, int],
    terms: dict[str, Terms],
    made: Features,
    features: tuple[str, ...],
    x: np.ndarray,
) -> dict[str, Any]:
    patients, unseen = site.sql(
        "SELECT (SELECT count(*) FROM person), (SELECT count(*) FROM cohort WHERE unseen_death)"
    ).fetchall()[0]
    notes: dict[str, Any] = {"patients": patients}
    if excluded:
        notes["excluded"] = excluded
    if unseen:
        notes["deaths_after_observation"] = unseen
    unknown = {table: found for table, own in terms.items() if (found := own.unknown()) is not None}
    if unknown:
        notes["unknown_codes"] = unknown
    notes |= made.notes
    empty = [name for name, column in zip(features, x.T, strict=True) if np.isnan(column).all()]
    if empty and len(x):
        notes["empty"] = empty
    if late := excluded.get("index_after_death", 0):
        warnings.warn(
            f"{site.name}: {late} of {patients} patients have an index date after their death and are left "
            "out; their dates need a look",
            stacklevel=2,
        )
    return notes
