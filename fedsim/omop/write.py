"""Records as the tables of an OMOP CDM 5.4 subset: Parquet files in a folder, or one DuckDB database."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from fedsim.base import FedsimError, require
from fedsim.cohort import codes
from fedsim.cohort.records import EPOCH, Records
from fedsim.omop import vocabulary as v
from fedsim.omop.tables import TABLES

Format = Literal["parquet", "duckdb"]
Columns = dict[str, Any]

ARROW = {
    "INTEGER": pa.int32(),
    "DOUBLE": pa.float64(),
    "VARCHAR": pa.string(),
    "DATE": pa.date32(),
    "TIMESTAMP": pa.timestamp("us"),
}
DAYS_1970 = int(EPOCH.astype(np.int64))
CURRENCY = "SEK"


def write(records: Records | Iterable[Records], folder: Path, form: Format = "parquet") -> Path:
    """Write one region to `folder`/REGION, a folder of Parquet files, or `folder`/REGION.duckdb.

    Written aside and renamed when whole. Persons, visits and events are numbered from 1.

    Args:
      records: of one region, or pieces of it, one after another: what does not fit into memory at once.

    Returns:
      The folder or database.

    Raises:
      RequestError: it is there already, there are no records, or pieces of several regions.
      FedsimError: it cannot be written.
    """
    pieces = iter([records] if isinstance(records, Records) else records)
    first = next(pieces, None)
    require(first is not None, "there are no records to write; name at least one region with patients")
    assert first is not None
    path = folder / (first.region if form == "parquet" else f"{first.region}.duckdb")
    require(not path.exists(), f"{path} exists; remove it, or name another folder")
    aside = folder / f".{first.region}.part"
    try:
        shutil.rmtree(aside, ignore_errors=True)
        aside.mkdir(parents=True)
        _parquet(first, pieces, aside)
        if form == "parquet":
            aside.replace(path)
        else:
            _database(aside, aside / "region.duckdb")
            (aside / "region.duckdb").replace(path)
    except OSError as error:
        raise FedsimError(
            f"{path} could not be written ({error.strerror or error}); free space there, or name another "
            "folder"
        ) from error
    finally:
        with suppress(OSError):
            shutil.rmtree(aside)
    return path


def _parquet(first: Records, others: Iterator[Records], folder: Path) -> None:
    schemas = {
        table: pa.schema([(name, ARROW[kind]) for name, kind in columns.items()])
        for table, columns in TABLES.items()
    }
    # Without Arrow's own schema in the file, a text read back is a text, however it was held here.
    writers = {
        table: pq.ParquetWriter(folder / f"{table}.parquet", schema, store_schema=False)
        for table, schema in schemas.items()
    }
    written = dict.fromkeys(TABLES, 0)
    try:
        records: Records | None = first
        while records is not None:
            require(
                records.region == first.region,
                f"records of {records.region} follow those of {first.region}; write regions one by one",
            )
            for table, columns in converted(records, written).items():
                rows = len(next(iter(columns.values())))
                writers[table].write_table(_completed(columns, rows, schemas[table]))
                written[table] += rows
            records = next(others, None)
        source = _source(first.region)
        writers["cdm_source"].write_table(_completed(source, 1, schemas["cdm_source"]))
    finally:
        for writer in writers.values():
            writer.close()


def _completed(columns: Columns, rows: int, schema: pa.Schema) -> pa.Table:
    """All columns of a table; those not given are null."""
    unknown = columns.keys() - set(schema.names)
    assert not unknown, f"no columns of this table: {unknown}"
    arrays = []
    for field in schema:
        value = columns.get(field.name)
        if value is None:
            arrays.append(pa.nulls(rows, field.type))
        elif np.ndim(value) == 0 and not isinstance(value, pa.Array):
            arrays.append(pa.repeat(pa.scalar(value, field.type), rows))
        else:
            arrays.append(value if isinstance(value, pa.Array) else pa.array(value))
            arrays[-1] = arrays[-1].cast(field.type)
    return pa.table(arrays, schema=schema)


def _database(folder: Path, path: Path) -> None:
    import duckdb

    with duckdb.connect(str(path)) as connection:
        for table in TABLES:
            source = str(folder / f"{table}.parquet").replace("'", "''")
            connection.execute(f"CREATE TABLE {table} AS SELECT * FROM read_parquet('{source}')")


# --- one piece -------------------------------------------------------------------------------


def converted(records: Records, before: dict[str, int]) -> dict[str, Columns]:
    """OMOP tables of a piece, by column; columns of one value are scalars but for the first.

    before: rows of each table that were written already.
    """
    persons, visits = before["person"] + 1, before["visit_occurrence"] + 1
    visit = records.visit

    def visit_of(numbers: np.ndarray) -> pa.Array:
        return pa.array(numbers + visits, pa.int32(), mask=numbers < 0)

    def numbered(table: str, rows: np.ndarray) -> np.ndarray:
        return np.arange(1, len(rows) + 1, dtype=np.int32) + before[table]

    found: dict[str, Columns] = {"person": _person(records, persons)}
    period = records.observation_period
    found["observation_period"] = {
        "observation_period_id": numbered("observation_period", period["person"]),
        "person_id": period["person"] + persons,
        "observation_period_start_date": _dates(period["start"]),
        "observation_period_end_date": _dates(period["end"]),
        "period_type_concept_id": v.EHR,
    }
    found["visit_occurrence"] = {
        "visit_occurrence_id": visit["id"] + visits,
        "person_id": visit["person"] + persons,
        "visit_concept_id": _concepts(visit["kind"], codes.VISIT, v.VISITS),
        "visit_start_date": _dates(visit["start"]),
        "visit_end_date": _dates(visit["end"]),
        "visit_type_concept_id": v.EHR,
        "visit_source_value": _texts(visit["kind"], codes.VISIT),
        "admitted_from_source_value": _texts(visit["planned"].astype(np.int8), ("unplanned", "planned")),
    }
    rows = records.condition
    main = np.zeros(len(rows["code"]), bool)
    inside = rows["visit"] >= 0
    main[inside] = rows["code"][inside] == visit["diagnosis"][rows["visit"][inside]]
    found["condition_occurrence"] = {
        "condition_occurrence_id": numbered("condition_occurrence", rows["person"]),
        "person_id": rows["person"] + persons,
        "condition_concept_id": _concepts(rows["code"], codes.ICD, v.CONDITIONS),
        "condition_start_date": _dates(rows["day"]),
        "condition_type_concept_id": v.EHR,
        "condition_status_concept_id": np.where(main, v.PRIMARY, v.NO_CONCEPT),
        "visit_occurrence_id": visit_of(rows["visit"]),
        "condition_source_value": _texts(rows["code"], codes.ICD),
        "condition_status_source_value": pa.array(np.where(main, "main", ""), mask=~main),
    }
    rows = records.drug
    found["drug_exposure"] = {
        "drug_exposure_id": numbered("drug_exposure", rows["person"]),
        "person_id": rows["person"] + persons,
        "drug_concept_id": _concepts(rows["code"], codes.ATC, v.DRUGS),
        "drug_exposure_start_date": _dates(rows["start"]),
        "drug_exposure_end_date": _dates(rows["end"]),
        "drug_type_concept_id": v.EHR,
        "drug_source_value": _texts(rows["code"], codes.ATC),
    }
    rows = records.device
    found["device_exposure"] = {
        "device_exposure_id": numbered("device_exposure", rows["person"]),
        "person_id": rows["person"] + persons,
        "device_concept_id": np.zeros(len(rows["person"]), np.int32),
        "device_exposure_start_date": _dates(rows["day"]),
        "device_type_concept_id": v.EHR,
        "visit_occurrence_id": visit_of(rows["visit"]),
        "device_source_value": _texts(rows["code"], codes.DEVICE),
    }
    found["measurement"] = _measurement(records.measurement, numbered, persons, visit_of)
    found["observation"] = _observation(records, persons, before["observation"])
    found["death"] = {
        "person_id": records.death["person"] + persons,
        "death_date": _dates(records.death["day"]),
        "death_type_concept_id": v.EHR,
        "cause_source_value": _texts(
            records.death["cardiovascular"].astype(np.int8), ("not cardiovascular", "cardiovascular")
        ),
    }
    found["cost"] = {
        "cost_id": numbered("cost", visit["id"]),
        "cost_event_id": visit["id"] + visits,
        "cost_domain_id": "Visit",
        "cost_type_concept_id": v.EHR,
        "total_cost": visit["cost"].astype(np.float64),
    }
    return found


def _person(records: Records, first: int) -> Columns:
    person = records.person
    birth = EPOCH + person["birth_day"].astype("timedelta64[D]")
    month = birth.astype("datetime64[M]")
    return {
        "person_id": person["id"] + first,
        "gender_concept_id": np.where(person["male"], v.MALE, v.FEMALE),
        "year_of_birth": birth.astype("datetime64[Y]").astype(np.int64) + 1970,
        "month_of_birth": month.astype(np.int64) % 12 + 1,
        "day_of_birth": (birth - month).astype(np.int64) + 1,
        "birth_datetime": birth.astype("datetime64[us]"),
        "race_concept_id": v.NO_CONCEPT,
        "ethnicity_concept_id": v.NO_CONCEPT,
        "person_source_value": (person["id"] + (first - 1)).astype(np.str_),
        "gender_source_value": _texts(person["male"].astype(np.int8), ("female", "male")),
    }


def _measurement(rows: dict[str, np.ndarray], numbered: Any, persons: int, visit_of: Any) -> Columns:
    concepts = np.zeros((len(codes.MEASUREMENT), len(codes.UNIT)), np.int32)
    for (name, unit), concept in v.MEASUREMENTS.items():
        concepts[codes.MEASUREMENT.index(name), codes.UNIT.index(unit)] = concept
    return {
        "measurement_id": numbered("measurement", rows["person"]),
        "person_id": rows["person"] + persons,
        "measurement_concept_id": concepts[rows["code"], rows["unit"]],
        "measurement_date": _dates(rows["day"]),
        "measurement_type_concept_id": v.EHR,
        "operator_concept_id": _concepts(rows["operator"], codes.OPERATOR, v.OPERATORS),
        "value_as_number": _as_written(rows["value"]),
        "unit_concept_id": _concepts(rows["unit"], codes.UNIT, v.UNITS),
        "visit_occurrence_id": visit_of(rows["visit"]),
        "measurement_source_value": _texts(rows["code"], codes.MEASUREMENT),
        "unit_source_value": _texts(rows["unit"], codes.UNIT),
    }


def _observation(records: Records, persons: int, before: int) -> Columns:
    """What is known of a person: from the first day observed on; smoking as of the index visit."""
    person, start = records.person, np.zeros(len(records.person["id"]), np.int32)
    period = records.observation_period
    start[period["person"][::-1]] = period["start"][::-1]  # the first of several
    index = start.copy()
    heart = [codes.ICD.index(code) for code in codes.HEART_FAILURE]
    rows = np.flatnonzero(np.isin(records.condition["code"], heart) & (records.condition["visit"] >= 0))
    day = records.visit["start"][records.condition["visit"][rows]]
    order = np.argsort(-day, kind="stable")  # the earliest is set last
    index[records.condition["person"][rows][order]] = day[order]

    parts: list[dict[str, Any]] = []
    levels = {"education": codes.EDUCATION, "smoking": codes.SMOKING}
    for name in ("deprivation", "living_alone", "education", "smoking"):
        values = person[name].astype(np.int32)
        some = np.flatnonzero(values >= 0) if name in levels else np.arange(len(values))
        words = np.array(levels.get(name, ("",)), dtype=object)
        parts.append(
            {
                "person": some,
                "name": np.full(len(some), name, dtype=object),
                "day": (index if name == "smoking" else start)[some],
                "number": values[some].astype(np.float64),
                "text": words[values[some]] if name in levels else np.full(len(some), None, dtype=object),
            }
        )
    whole = {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}
    order = np.argsort(whole["person"], kind="stable")
    rows_of = {key: values[order] for key, values in whole.items()}
    return {
        "observation_id": np.arange(1, len(order) + 1, dtype=np.int32) + before,
        "person_id": rows_of["person"] + persons,
        "observation_concept_id": np.zeros(len(order), np.int32),
        "observation_date": _dates(rows_of["day"]),
        "observation_type_concept_id": v.EHR,
        "value_as_number": rows_of["number"],
        "value_as_string": pa.array(rows_of["text"], pa.string()),
        "observation_source_value": pa.array(rows_of["name"], pa.string()),
    }


def _source(region: str) -> Columns:
    today = np.array([EPOCH.astype(object)])
    return {
        "cdm_source_name": pa.array([f"fedsim: {region}"]),
        "cdm_source_abbreviation": region,
        "cdm_holder": region,
        "source_description": "Heart-failure patients who do not exist, made by fedsim's cohort simulator. "
        f"Costs are in {CURRENCY}. All dates of release are fixed, so that equal records are equal files.",
        "source_release_date": pa.array(today, pa.date32()),
        "cdm_release_date": pa.array(today, pa.date32()),
        "cdm_version": "5.4",
        "cdm_version_concept_id": v.CDM_5_4,
        "vocabulary_version": "concepts of fedsim.omop.vocabulary only",
    }


# --- columns ---------------------------------------------------------------------------------


def _dates(days: np.ndarray) -> pa.Array:
    """Dates of days since 2000-01-01."""
    return pa.array((days + DAYS_1970).astype(np.int32)).view(pa.date32())


def _as_written(values: np.ndarray) -> np.ndarray:
    """float64 of float32 values that had few decimals: 4.1, not 4.099999904632568."""
    return np.round(values.astype(np.float64), 4)


def _texts(positions: np.ndarray, vocabulary: tuple[str, ...]) -> pa.Array:
    indices = pa.array(positions.astype(np.int16))
    return pa.DictionaryArray.from_arrays(indices, pa.array(vocabulary, pa.string()))


def _concepts(positions: np.ndarray, vocabulary: tuple[str, ...], known: dict[str, int]) -> np.ndarray:
    """Standard concepts of codes, 0 for those without one."""
    return np.array([known.get(code, v.NO_CONCEPT) for code in vocabulary], np.int32)[positions]
