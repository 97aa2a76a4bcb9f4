"""The index date of every patient of a region, and why others have none that can be used.

The table `cohort` has a row per patient with one: row 0, 1, ... in order of person_id; person_id; day, the
index date; start, the first day of its visit; stop, its last one; seen, the last day that features may see;
inpatient; birth; gender; last, the end of the observation period that holds the index date; death, if
within it.
"""

from __future__ import annotations

from fedsim.omop.definition import DISCHARGE, Index
from fedsim.omop.read import Site
from fedsim.omop.terms import Terms
from fedsim.omop.vocabulary import INPATIENT

INSIDE = f"visit_concept_id IN {INPATIENT}"
_BIRTH = (
    "coalesce(birth_datetime::DATE, "
    "make_date(year_of_birth, coalesce(month_of_birth, 7), coalesce(day_of_birth, 1)))"
)


def make(
    site: Site, index: Index, event: str, conditions: Terms, same_day: bool, history: int
) -> dict[str, int]:
    """Make the tables `candidate` and `cohort`; a reason -> patients left out for it, none of them zero.

    The index date is the day on which the first condition of `index` was recorded, or with `discharge` the
    last day of the first inpatient visit during which one was.
    """
    terms = conditions.matching(index.codes, index.concepts)
    if event == DISCHARGE:
        join, ordered = "JOIN", "v.visit_start_date, v.visit_occurrence_id"
        dates = "v.visit_end_date AS day, v.visit_start_date AS start"
        # What is recorded later, though filed under the visit, was not known at its end.
        which = f"v.{INSIDE} AND (v.visit_end_date IS NULL OR c.condition_start_date <= v.visit_end_date)"
    else:
        join = "JOIN" if index.within_visit else "LEFT JOIN"
        # Of visits on one day the one to a ward.
        ordered = f"c.condition_start_date, coalesce(v.{INSIDE}, false) DESC, v.visit_occurrence_id"
        dates = (
            "c.condition_start_date AS day, "
            "least(c.condition_start_date, coalesce(v.visit_start_date, c.condition_start_date)) AS start"
        )
        which = "true"
    site.sql(
        f"""CREATE OR REPLACE TEMP TABLE event AS
        SELECT c.person_id, {dates}, v.visit_end_date AS stop, coalesce(v.{INSIDE}, false) AS inpatient
        FROM condition_occurrence c
        JOIN term_condition_occurrence k ON {conditions.join}
        {join} visit_occurrence v
          ON v.visit_occurrence_id = c.visit_occurrence_id AND v.person_id = c.person_id
        WHERE k.term IN ({_list(terms)}) AND c.condition_start_date IS NOT NULL AND {which}
        QUALIFY row_number() OVER (PARTITION BY c.person_id ORDER BY {ordered}) = 1"""
    )
    late = "death <= day" if event == DISCHARGE else "death < day"
    dying = "died_before_discharge" if event == DISCHARGE else "index_after_death"
    site.sql(
        f"""CREATE OR REPLACE TEMP TABLE candidate AS
        WITH died AS (SELECT person_id, min(death_date) AS death FROM death GROUP BY person_id),
        observed AS (
          SELECT e.person_id, min(o.observation_period_start_date) AS first,
            max(o.observation_period_end_date) AS last
          FROM event e JOIN observation_period o
            ON o.person_id = e.person_id
            AND e.day BETWEEN o.observation_period_start_date AND o.observation_period_end_date
          GROUP BY e.person_id
        ),
        every AS (
          SELECT p.person_id, p.gender_concept_id AS gender, {_BIRTH} AS birth, e.day, e.start, e.stop,
            e.inpatient, e.person_id IS NOT NULL AS found, d.death, o.first, o.last
          FROM person p
          LEFT JOIN event e USING (person_id) LEFT JOIN died d USING (person_id)
          LEFT JOIN observed o USING (person_id)
        )
        SELECT *, CASE
          WHEN NOT found THEN 'no_index'
          WHEN day IS NULL OR start IS NULL THEN 'no_discharge'
          WHEN day < start THEN 'discharge_before_admission'
          WHEN death < start THEN 'index_after_death'
          WHEN {late} THEN '{dying}'
          WHEN birth > start THEN 'index_before_birth'
          WHEN last IS NULL THEN 'index_outside_observation'
          WHEN day - first < {history} THEN 'short_history'
        END AS reason FROM every"""
    )
    site.sql(
        f"""CREATE OR REPLACE TEMP TABLE cohort AS
        SELECT row_number() OVER (ORDER BY person_id) - 1 AS row, person_id, day, start, stop,
          day - {0 if same_day else 1} AS seen, inpatient, birth, gender, last,
          CASE WHEN death <= last THEN death END AS death, coalesce(death > last, false) AS unseen_death
        FROM candidate WHERE reason IS NULL"""
    )
    counted = site.sql(
        "SELECT reason, count(*) FROM candidate WHERE reason IS NOT NULL GROUP BY 1 ORDER BY 1"
    )
    return dict(counted.fetchall())


def _list(numbers: list[int]) -> str:
    return ", ".join(map(str, numbers)) or "NULL"
