"""Features at the index date.

All that they are made of comes from the tables `past_TABLE`, which hold nothing dated after the index date
(or, with same_day=exclude, on it): one function makes them all, so that there is one place to look at.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from fedsim.base import RequestError
from fedsim.omop.definition import Feature, Measurement
from fedsim.omop.read import Site
from fedsim.omop.terms import Term, Terms
from fedsim.omop.vocabulary import BELOW, FEMALE, MALE, unit_key, unit_of

TABLE = {
    "visit": "visit_occurrence",
    "condition": "condition_occurrence",
    "drug": "drug_exposure",
    "device": "device_exposure",
    "measurement": "measurement",
    "observation": "observation",
}
# Table -> when a row becomes known, and what else of it is used.
_DATED = {
    "visit": ("t.visit_start_date", ()),
    "condition": ("t.condition_start_date", ()),
    # Whether it went on after the index date is not known on it.
    "drug": (
        "t.drug_exposure_start_date",
        ("least(coalesce(t.drug_exposure_end_date, t.drug_exposure_start_date), c.seen) - c.day AS until",),
    ),
    "device": ("t.device_exposure_start_date", ()),
    "measurement": (
        "t.measurement_date",
        (
            "t.measurement_id AS id",
            "t.value_as_number AS value",
            f"coalesce(t.operator_concept_id IN {BELOW}, false) AS below",
        ),
    ),
    "observation": (
        "t.observation_date",
        ("t.observation_id AS id", "t.value_as_number AS value", "t.value_as_string AS text"),
    ),
}
# What a visit or a drug cost is known when the visit ends, or the drug is dispensed.
_COSTS = """(
  SELECT v.person_id, v.visit_end_date AS date, x.total_cost AS amount
  FROM cost x JOIN visit_occurrence v ON x.cost_event_id = v.visit_occurrence_id
  WHERE x.cost_domain_id = 'Visit'
  UNION ALL
  SELECT d.person_id, d.drug_exposure_start_date, x.total_cost
  FROM cost x JOIN drug_exposure d ON x.cost_event_id = d.drug_exposure_id WHERE x.cost_domain_id = 'Drug'
)"""
# Later rows win; of one day's the one with the higher number.
_ORDER = "days::BIGINT * 4294967296 + id"
# Exact, so that a sum does not depend on the order of rows.
_EXACT = "TRY_CAST({} AS DECIMAL(28, 6))"


class Features:
    """Columns of one region's `cohort`, one after another."""

    def __init__(
        self,
        site: Site,
        terms: dict[str, Terms],
        measurements: dict[str, Measurement],
        harmonise: bool,
        unknown_units: str,
        below: str,
    ) -> None:
        self.site, self.terms, self.measurements = site, terms, measurements
        self.harmonise, self.unknown_units, self.below = harmonise, unknown_units, below
        self.rows: int = site.sql("SELECT count(*) FROM cohort").fetchall()[0][0]
        self.notes: dict[str, dict[str, Any]] = {}
        self._factors: dict[str, dict[int, float]] = {}
        self._made: set[str] = set()

    def column(self, name: str, one: Feature) -> np.ndarray:
        """float64[rows]; NaN where there is no value. RequestError for a table that is not there, or a unit
        that nobody can convert."""
        if one.table == "person":
            return self._person(one)
        if one.table == "index":
            return self._index(one)
        needed = ["cost"] if one.table == "cost" else [TABLE[one.table]]
        self.site.need(needed, f"feature {name}")
        self._past(one.table)
        if one.table == "measurement":
            found = self._measurement(one)
        elif one.table == "cost":
            query = "SELECT row, sum(amount)::DOUBLE FROM past_cost"
            found = self._scattered(f"{query} WHERE {_window(one)} GROUP BY row", 0.0)
        elif one.table == "observation":
            found = self._observation(one)
        else:
            found = self._coded(one)
        if one.log:
            with np.errstate(divide="ignore", invalid="ignore"):
                found = np.where(found > 0, np.log(found), np.nan)
        return found

    def _past(self, table: str) -> None:
        """Make `past_TABLE`: rows of the cohort's patients up to the last day that may be seen. days, since:
        days from the index date, and from the first day of the index visit."""
        if table in self._made:
            return
        self._made.add(table)
        if table == "cost":
            date, source = "t.date", f"{_COSTS} t"
            more: tuple[str, ...] = (f"{_EXACT.format('t.amount')} AS amount",)
        else:
            date, more = _DATED[table]
            known = self.terms[TABLE[table]]
            more = ("k.term", *more)
            source = f"{TABLE[table]} t JOIN term_{TABLE[table]} k ON {known.join}"
        columns = ", ".join(["c.row", f"{date} - c.day AS days", f"{date} - c.start AS since", *more])
        self.site.sql(
            f"CREATE OR REPLACE TEMP TABLE past_{table} AS SELECT {columns} "
            f"FROM {source} JOIN cohort c ON c.person_id = t.person_id WHERE {date} <= c.seen"
        )

    def _person(self, one: Feature) -> np.ndarray:
        if one.take == "age":
            day = "start" if one.from_start else "day"
            return self._scattered(f"SELECT row, ({day} - birth) / 365.25::DOUBLE FROM cohort", np.nan)
        found = self._scattered(
            f"SELECT row, CASE gender WHEN {MALE} THEN 1 WHEN {FEMALE} THEN 0 END FROM cohort", np.nan
        )
        if unknown := int(np.isnan(found).sum()):
            self.notes["unknown_sex"] = {"patients": unknown}
        return found

    def _index(self, one: Feature) -> np.ndarray:
        value = {
            "year": "2000 + (day - DATE '2000-01-01') / 365.25::DOUBLE",
            "inpatient": "inpatient::INT",
            "length_of_stay": "day - start",
        }[one.take]
        return self._scattered(f"SELECT row, {value} FROM cohort", np.nan)

    def _coded(self, one: Feature) -> np.ndarray:
        terms = self.terms[TABLE[one.table]].matching(one.codes, one.concepts)
        at = "since" if one.from_start else "days"
        take, otherwise = {
            "any": ("1", 0.0),
            "count": ("count(*)", 0.0),
            "days_since": (f"-max({at})", np.nan),
            "days_since_first": (f"-min({at})", np.nan),
        }[one.take]
        return self._scattered(
            f"SELECT row, {take} FROM past_{one.table} WHERE term IN ({_list(terms)}) AND {_window(one)} "
            "GROUP BY row",
            otherwise,
        )

    def _observation(self, one: Feature) -> np.ndarray:
        terms = self.terms["observation"].matching(one.codes, one.concepts)
        value = one.value.replace("'", "''") if one.value is not None else ""
        take, of = {
            "last": (f"arg_max(value, {_ORDER})", "value IS NOT NULL AND isfinite(value)"),
            "is": (f"(arg_max(text, {_ORDER}) = '{value}')::INT", "text IS NOT NULL"),
            "any": ("1", "true"),
        }[one.take]
        return self._scattered(
            f"SELECT row, {take} FROM past_observation "
            f"WHERE term IN ({_list(terms)}) AND {_window(one)} AND {of} GROUP BY row",
            0.0 if one.take == "any" else np.nan,
        )

    def _measurement(self, one: Feature) -> np.ndarray:
        assert one.measurement is not None
        factors = self._units(one.measurement)
        at = "since" if one.from_start else "days"
        value = "value * f.factor"
        if self.below == "half":
            value = f"({value} * CASE WHEN below THEN 0.5::DOUBLE ELSE 1 END)"
        take, otherwise = {
            "last": (f"arg_max({value}, {_ORDER})", np.nan),
            "first": (f"arg_min({value}, {_ORDER})", np.nan),
            "mean": (f"sum({_EXACT.format(value)})::DOUBLE / count({_EXACT.format(value)})", np.nan),
            "minimum": (f"min({value})", np.nan),
            "maximum": (f"max({value})", np.nan),
            "count": ("count(*)", 0.0),
            "any": ("1", 0.0),
            "missing": ("0", 1.0),
            "below": (f"arg_max(below, {_ORDER})::INT", 0.0),
            "days_since": (f"-max({at})", np.nan),
        }[one.take]
        pairs = ", ".join(f"({term}, {factor!r}::DOUBLE)" for term, factor in factors.items())
        return self._scattered(
            f"SELECT row, {take} FROM past_measurement "
            f"JOIN (VALUES {pairs or '(-1, 1::DOUBLE)'}) f(number, factor) ON f.number = term "
            f"WHERE {_window(one)} AND value IS NOT NULL AND isfinite(value) GROUP BY row",
            otherwise,
        )

    def _units(self, name: str) -> dict[int, float]:
        """Term -> what its values are multiplied by, of a measurement's terms whose unit is known.

        Raises:
          RequestError: values in a unit that nobody can convert, and unknown_units=refuse.
        """
        if name in self._factors:
            return self._factors[name]
        wanted, known = self.measurements[name], self.terms["measurement"]
        factors = wanted.factors()
        terms = known.matching(wanted.codes, wanted.concepts)
        counted = self.site.sql(
            "SELECT term, count(*), count(*) FILTER (WHERE below), "
            "count(*) FILTER (WHERE value IS NULL OR NOT isfinite(value)) "
            f"FROM past_measurement WHERE term IN ({_list(terms)}) GROUP BY term ORDER BY term"
        ).fetchall()
        found: dict[int, float] = {}
        units: dict[str, int] = {}
        unknown: dict[str, int] = {}
        noted: dict[str, Any] = {}
        for term, rows, below, empty in counted:
            unit = _unit(known.all[term])
            if not self.harmonise:
                found[term] = 1.0
            elif unit_key(unit) in factors:
                found[term] = factors[unit_key(unit)]
            else:
                unknown[unit or "none"] = unknown.get(unit or "none", 0) + rows
                continue
            units[unit or "none"] = units.get(unit or "none", 0) + rows
            for key, n in (("below_limit", below), ("without_value", empty)):
                if n:
                    noted[key] = noted.get(key, 0) + n
        if unknown and self.unknown_units == "refuse":
            unit, rows = max(unknown.items(), key=lambda item: (item[1], item[0]))
            raise RequestError(
                f"data.path: measurement {name} has {rows} values in unit {unit!r} in "
                f"{self.site.where('measurement')}, and there is no conversion to {wanted.unit}; add one to "
                "its conversions, or set data.unknown_units=missing to leave such values out"
            )
        if unknown:
            noted["unknown_units"] = unknown
        if len(units) > 1 or any(unit_key(unit) != unit_key(wanted.unit) for unit in units):
            noted["units"] = units
        if noted:
            self.notes.setdefault("measurements", {})[name] = noted
        self._factors[name] = found
        return found

    def _scattered(self, query: str, otherwise: float) -> np.ndarray:
        """Values by row; `otherwise` for rows without one."""
        answer = self.site.sql(query).fetchnumpy()
        rows, values = answer.values()
        found = np.full(self.rows, otherwise)
        values = np.ma.filled(np.ma.asarray(values).astype(np.float64), np.nan)
        found[np.asarray(rows).astype(np.int64)] = values
        return found


def _unit(term: Term) -> str:
    """As the record writes it, or as its concept says."""
    return term.unit or unit_of(term.unit_concept)


def _window(one: Feature) -> str:
    """The SQL of which rows are in a feature's window."""
    at = "since" if one.from_start else "days"
    first, last = one.window
    if one.table == "drug":  # in the window where any day of it is
        bounds = [f"{at} <= {last}", f"until - days + {at} >= {first}" if first is not None else ""]
    else:
        bounds = [f"{at} <= {last}", f"{at} >= {first}" if first is not None else ""]
    return " AND ".join(bound for bound in bounds if bound)


def _list(numbers: list[int]) -> str:
    return ", ".join(map(str, numbers)) or "NULL"
