"""Small OMOP regions, written by hand: rows as dicts, days counted from 2020-01-01."""

import datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from fedsim.omop import Reading, extract, read
from fedsim.omop.definition import parsed
from fedsim.omop.tables import TABLES
from fedsim.omop.write import ARROW

START = datetime.date(2020, 1, 1)
INDEX = 100  # day on which everyone of `base` is diagnosed


def day(n):
    return START + datetime.timedelta(days=n)


def put(folder: Path, tables: dict, name: str = "lund") -> Path:
    """Write a region's tables; columns that no row has are null."""
    path = folder / name
    path.mkdir(parents=True)
    for table, rows in tables.items():
        columns = {
            column: pa.array([row.get(column) for row in rows], ARROW[kind])
            for column, kind in TABLES[table].items()
        }
        for row in rows:
            assert row.keys() <= columns.keys(), (table, row)
        pq.write_table(pa.table(columns), path / f"{table}.parquet")
    return path


def person(i, **more):
    return {"person_id": i, "gender_concept_id": 8507, "year_of_birth": 1950, "month_of_birth": 1} | more


def period(i, first=-2000, last=2000):
    return {
        "person_id": i,
        "observation_period_start_date": day(first),
        "observation_period_end_date": day(last),
    }


def visit(number, i, first, last=None, kind="outpatient", planned="unplanned"):
    concept = {"inpatient": 9201, "outpatient": 9202, "emergency": 9203}[kind]
    return {
        **{"visit_occurrence_id": number, "person_id": i, "visit_concept_id": concept},
        **{"visit_start_date": day(first), "visit_end_date": day(first if last is None else last)},
        **{"visit_source_value": kind, "admitted_from_source_value": planned},
    }


def condition(i, n, code="I50.9", number=None, concept=0):
    return {
        **{"person_id": i, "condition_start_date": day(n), "condition_source_value": code},
        **{"condition_concept_id": concept, "visit_occurrence_id": number},
    }


def drug(number, i, first, last, code="C07AB02"):
    return {
        **{"drug_exposure_id": number, "person_id": i, "drug_concept_id": 0, "drug_source_value": code},
        **{"drug_exposure_start_date": day(first), "drug_exposure_end_date": day(last)},
    }


def device(i, n, code="ICD"):
    return {
        **{"person_id": i, "device_concept_id": 0, "device_source_value": code},
        "device_exposure_start_date": day(n),
    }


def lab(number, i, n, value, unit="mmol/L", code="potassium", operator="=", **more):
    return {
        **{"measurement_id": number, "person_id": i, "measurement_date": day(n), "value_as_number": value},
        **{"measurement_concept_id": 0, "measurement_source_value": code, "unit_source_value": unit},
        "operator_concept_id": {"=": 4172703, "<": 4171756, ">": 4172704}[operator],
    } | more


def observation(number, i, n, code, value=None, text=None):
    return {
        **{"observation_id": number, "person_id": i, "observation_date": day(n)},
        **{"observation_concept_id": 0, "observation_source_value": code},
        **{"value_as_number": value, "value_as_string": text},
    }


def death(i, n):
    return {"person_id": i, "death_date": day(n)}


def cost(number, event, amount, domain="Visit"):
    return {"cost_id": number, "cost_event_id": event, "cost_domain_id": domain, "total_cost": amount}


def base(persons=1, **more) -> dict:
    """Persons 1, 2, ... diagnosed at a clinic on day `INDEX` (visit 1000 + person), observed for long.
    more: rows of further tables, or further rows of these."""
    ids = range(1, persons + 1)
    tables: dict = {table: [] for table in TABLES if table != "cdm_source"}
    tables["person"] = [person(i) for i in ids]
    tables["observation_period"] = [period(i) for i in ids]
    tables["visit_occurrence"] = [visit(1000 + i, i, INDEX) for i in ids]
    tables["condition_occurrence"] = [condition(i, INDEX, number=1000 + i) for i in ids]
    for table, rows in more.items():
        tables[table] = tables[table] + rows
    return tables


OUTCOMES: dict[str, dict] = {
    "death_1y": {"event": "death", "horizon": 365},
    "survival": {"event": "death"},
    "readmission_30": {"event": "admission", "index": "discharge", "horizon": 30},
    "readmission_time": {"event": "admission", "index": "discharge"},
    "either_30": {"event": "admission", "index": "discharge", "horizon": 30, "competing": "event"},
    "alive_30": {"event": "admission", "index": "discharge", "horizon": 30, "competing": "exclude"},
    "length_of_stay": {"event": "stay"},
    "cost": {"event": "cost", "horizon": 365},
}
MEASUREMENTS: dict[str, dict] = {
    "potassium": {"codes": ["potassium"], "unit": "mmol/L", "conversions": {"mg/dL": 0.25}},
    "lvef": {"codes": ["lvef"], "unit": "%"},
}
AGE: dict[str, dict] = {"age": {"table": "person", "take": "age"}}


def definition(features=None, index=None, outcomes=None):
    return parsed(
        {
            "index": index or {"codes": ["I50", "I11.0"]},
            "features": {name: dict(one) for name, one in (features or AGE).items()},
            "measurements": {name: dict(one) for name, one in MEASUREMENTS.items()},
            "outcomes": {name: dict(one) for name, one in (outcomes or OUTCOMES).items()},
        }
    )


def found(path, features=None, outcome="death_1y", index=None, **reading):
    """What is extracted of a region."""
    site = read(path)
    try:
        return extract(site, definition(features, index), Reading(outcome=outcome, **reading))
    finally:
        site.close()
