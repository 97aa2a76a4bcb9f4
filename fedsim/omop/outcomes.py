"""What became of the patients of a region after their index date.

Deaths and admissions count up to the end of the observation period that holds the index date. Whom nobody
observed for the whole horizon, and who had no event before, is left out, and counted.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from fedsim.omop.definition import Outcome
from fedsim.omop.index import INSIDE
from fedsim.omop.read import Site

NOTHING = np.iinfo(np.int64).max


class Outcomes(NamedTuple):
    """y: float64[rows], NaN for those left out. time: float64[rows] in days, for a time to an event; else
    None. excluded: reason -> patients left out for it."""

    y: np.ndarray
    time: np.ndarray | None
    excluded: dict[str, int]


def outcomes(site: Site, outcome: Outcome) -> Outcomes:
    """Of all rows of the table `cohort`, in their order."""
    if outcome.event == "stay":
        return _stay(site)
    if outcome.event == "cost":
        return _cost(site, outcome)
    death, follow, first = _days(site, outcome)
    excluded: dict[str, int] = {}
    if outcome.event == "death":
        event, other = death, np.full_like(death, NOTHING)
    else:
        event, other = first, np.where(death < first, death, NOTHING)
        if outcome.competing == "event":
            event, other = np.minimum(event, other), np.full_like(death, NOTHING)
    if outcome.horizon is None:
        # Days are whole: what happens on the index day happens half a day after.
        time = np.minimum(np.minimum(event, other), follow).astype(np.float64)
        y = ((event <= other) & (event <= follow)).astype(np.float64)
        lost = (y == 0) & (time == 0)
        time = np.where(time == 0, 0.5, time)
        gone = other < event
    else:
        time = None
        happened = event <= outcome.horizon
        y = happened.astype(np.float64)
        gone = ~happened & (other <= outcome.horizon)
        lost = ~happened & (death == NOTHING) & (follow < outcome.horizon)
    if outcome.competing == "exclude":
        y, excluded["competing_death"] = np.where(gone, np.nan, y), int(gone.sum())
    y, excluded["not_followed"] = np.where(lost, np.nan, y), int(lost.sum())
    return Outcomes(y, time, {key: n for key, n in excluded.items() if n})


def _days(site: Site, outcome: Outcome) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Days to death, to the end of observation and to the first unplanned admission; `NOTHING` for none."""
    first = "SELECT NULL AS row, NULL AS start WHERE false"
    if outcome.event == "admission":
        first = f"""SELECT c.row, min(v.visit_start_date) AS start
        FROM cohort c JOIN visit_occurrence v ON v.person_id = c.person_id
        WHERE v.{INSIDE} AND v.admitted_from_source_value IS DISTINCT FROM 'planned'
          AND v.visit_start_date > c.day AND v.visit_start_date <= c.last GROUP BY c.row"""
    rows = site.sql(
        f"""SELECT coalesce(c.death - c.day, {NOTHING}) AS death, c.last - c.day AS follow,
          coalesce(a.start - c.day, {NOTHING}) AS first
        FROM cohort c LEFT JOIN ({first}) a ON a.row = c.row ORDER BY c.row"""
    ).fetchnumpy()
    death, follow, found = (np.asarray(values).astype(np.int64) for values in rows.values())
    return death, follow, found


def _stay(site: Site) -> Outcomes:
    rows = site.sql(
        "SELECT CASE WHEN NOT inpatient THEN 0 WHEN stop >= start THEN least(stop, last) - start END::DOUBLE "
        "AS y FROM cohort ORDER BY row"
    ).fetchnumpy()
    y = np.ma.filled(np.ma.asarray(rows["y"]), np.nan)
    unknown = int(np.isnan(y).sum())
    return Outcomes(y, None, {"no_discharge": unknown} if unknown else {})


def _cost(site: Site, outcome: Outcome) -> Outcomes:
    horizon = outcome.horizon
    rows = site.sql(
        f"""WITH events AS (
          SELECT v.person_id, v.visit_start_date AS date, x.total_cost AS amount
          FROM cost x JOIN visit_occurrence v ON x.cost_event_id = v.visit_occurrence_id
          WHERE x.cost_domain_id = 'Visit'
        ), spent AS (
          SELECT c.row, sum(TRY_CAST(e.amount AS DECIMAL(28, 6)))::DOUBLE AS y
          FROM cohort c JOIN events e ON e.person_id = c.person_id
          WHERE e.date >= c.day AND e.date < c.day + {horizon} AND e.date <= c.last GROUP BY c.row
        )
        SELECT coalesce(s.y, 0) AS y, c.death IS NOT NULL OR c.last - c.day >= {horizon} AS known
        FROM cohort c LEFT JOIN spent s ON s.row = c.row ORDER BY c.row"""
    ).fetchnumpy()
    known = np.asarray(rows["known"]).astype(bool)
    lost = int((~known).sum())
    y = np.where(known, np.asarray(rows["y"]).astype(np.float64), np.nan)
    return Outcomes(y, None, {"not_followed": lost} if lost else {})
