"""What is written is what the records hold, in the columns and types of CDM 5.4, in one piece or several."""

import duckdb
import numpy as np
import pyarrow.parquet as pq
import pytest

from fedsim.base import FedsimError, RequestError
from fedsim.cohort import SCHEMA, Cohort, Records, codes, records
from fedsim.cohort.records import date, decoded
from fedsim.config import HeartFailure
from fedsim.omop import write
from fedsim.omop.tables import TABLES
from fedsim.omop.vocabulary import KNOWN
from fedsim.omop.write import ARROW


@pytest.fixture(scope="module")
def cohort():
    # A region with a second unit, so that both are in the tables.
    return Cohort(HeartFailure(regions="karolinska", patients=120, external=()))


@pytest.fixture(scope="module")
def made(cohort):
    return records(cohort, 0)


@pytest.fixture(scope="module")
def read(made, tmp_path_factory):
    path = write(made, tmp_path_factory.mktemp("whole"))
    return {table: pq.read_table(path / f"{table}.parquet") for table in TABLES}


def test_columns_and_types_are_those_of_the_model(read):
    # Numbers of fields of CDM 5.4, in the order in which the tables stand in TABLES.
    assert [len(columns) for columns in TABLES.values()] == [18, 5, 17, 16, 23, 19, 23, 21, 7, 22, 11]
    for table, columns in TABLES.items():
        schema = read[table].schema
        assert schema.names == list(columns)
        assert [field.type for field in schema] == [ARROW[kind] for kind in columns.values()], table


def test_every_row_and_value_comes_back(read, made):
    def values(table, column):
        return read[table][column].to_numpy(zero_copy_only=False)

    def check(table, mine, **theirs):
        columns = getattr(made, mine)
        assert read[table].num_rows == len(next(iter(columns.values())))
        for name, (column, meaning) in theirs.items():
            found, wanted = values(table, column), columns[name]
            if meaning == "date":
                assert np.array_equal(found.astype("datetime64[D]"), date(wanted)), column
            elif meaning == "code":
                assert found.tolist() == decoded(mine, name, wanted).tolist(), column
            elif meaning == "number":
                np.testing.assert_allclose(found, wanted, rtol=1e-6)
            else:  # numbered from 1; -1 is null
                assert [(-1 if v is None or v != v else int(v) - 1) for v in found] == wanted.tolist()

    whose, filed = ("person_id", "id"), ("visit_occurrence_id", "id")
    check("person", "person", id=whose, birth_day=("birth_datetime", "date"))
    assert (values("person", "gender_source_value") == np.where(made.person["male"], "male", "female")).all()
    birth = date(made.person["birth_day"]).astype(object)
    for part in ("year", "month", "day"):
        assert values("person", f"{part}_of_birth").tolist() == [getattr(b, part) for b in birth]
    check(
        "observation_period", "observation_period", person=whose,
        start=("observation_period_start_date", "date"), end=("observation_period_end_date", "date"),
    )  # fmt: skip
    check(
        "visit_occurrence", "visit", id=filed, person=whose, kind=("visit_source_value", "code"),
        start=("visit_start_date", "date"), end=("visit_end_date", "date"),
    )  # fmt: skip
    check("cost", "visit", id=("cost_event_id", "id"), cost=("total_cost", "number"))
    planned = values("visit_occurrence", "admitted_from_source_value") == "planned"
    assert np.array_equal(planned, made.visit["planned"])
    check(
        "condition_occurrence", "condition", person=whose, visit=filed,
        code=("condition_source_value", "code"), day=("condition_start_date", "date"),
    )  # fmt: skip
    check(
        "drug_exposure", "drug", person=whose, code=("drug_source_value", "code"),
        start=("drug_exposure_start_date", "date"), end=("drug_exposure_end_date", "date"),
    )  # fmt: skip
    check(
        "device_exposure", "device", person=whose, visit=filed, code=("device_source_value", "code"),
        day=("device_exposure_start_date", "date"),
    )  # fmt: skip
    check(
        "measurement", "measurement", person=whose, visit=filed, code=("measurement_source_value", "code"),
        unit=("unit_source_value", "code"), day=("measurement_date", "date"),
        value=("value_as_number", "number"),
    )  # fmt: skip
    check("death", "death", person=whose, day=("death_date", "date"))
    cause = values("death", "cause_source_value") == "cardiovascular"
    assert np.array_equal(cause, made.death["cardiovascular"])


def test_main_diagnoses_are_marked(read, made):
    status = read["condition_occurrence"]["condition_status_concept_id"].to_numpy() == 32902
    visits = made.condition["visit"]
    main = (visits >= 0) & (made.condition["code"] == made.visit["diagnosis"][visits])
    assert np.array_equal(status, main) and 0 < main.sum() < len(main)


def test_what_is_known_of_persons_is_observed_when_it_was_known(read, made):
    rows = read["observation"].to_pylist()
    person, heart = made.person, {codes.ICD.index(code) for code in codes.HEART_FAILURE}
    found = {(row["person_id"] - 1, row["observation_source_value"]): row for row in rows}
    assert len(found) == len(rows) == 3 * len(person["id"]) + (person["smoking"] >= 0).sum()
    for i in range(len(person["id"])):
        first = made.observation_period["start"][i]
        for name in ("deprivation", "living_alone", "education"):
            row = found[i, name]
            assert row["value_as_number"] == person[name][i]
            assert row["observation_date"] == date(first).astype(object)
        assert found[i, "education"]["value_as_string"] == codes.EDUCATION[person["education"][i]]
        if person["smoking"][i] >= 0:
            mine = (made.condition["person"] == i) & (made.condition["visit"] >= 0)
            mine &= np.isin(made.condition["code"], list(heart))
            index = made.visit["start"][made.condition["visit"][mine]].min()
            assert found[i, "smoking"]["observation_date"] == date(index).astype(object)
            assert found[i, "smoking"]["value_as_string"] == codes.SMOKING[person["smoking"][i]]


def test_standard_concepts_stand_beside_source_values(read):
    for table, source, concept in (
        ("condition_occurrence", "condition_source_value", "condition_concept_id"),
        ("drug_exposure", "drug_source_value", "drug_concept_id"),
        ("visit_occurrence", "visit_source_value", "visit_concept_id"),
    ):
        pairs = set(zip(*(read[table][name].to_pylist() for name in (source, concept)), strict=True))
        assert pairs <= set(KNOWN[table].items()) and len(pairs) > 3
    columns = ("measurement_source_value", "unit_source_value", "measurement_concept_id", "unit_concept_id")
    rows = set(zip(*(read["measurement"][name].to_pylist() for name in columns), strict=True))
    assert ("creatinine", "mg/dL", 3016723, 8840) in rows and ("nt_probnp", "ng/L", 3029187, 8725) in rows
    # A concept means one code, within a table.
    for known in KNOWN.values():
        used = [concept for concept in known.values() if concept]
        assert len(used) == len(set(used))


def test_pieces_are_the_whole_and_a_database_holds_what_files_do(cohort, read, tmp_path):
    pieces = (records(cohort, 0, a, min(a + 50, 120)) for a in range(0, 120, 50))
    path = write(pieces, tmp_path, "duckdb")
    assert [file.name for file in tmp_path.iterdir()] == ["karolinska.duckdb"]
    with duckdb.connect(str(path), read_only=True) as connection:
        for table in TABLES:
            assert connection.sql(f"FROM {table}").to_arrow_table().to_pydict() == read[table].to_pydict(), (
                table
            )


def test_equal_records_are_equal_files(made, tmp_path):
    first, second = write(made, tmp_path / "a"), write(made, tmp_path / "b")
    for file in first.iterdir():
        assert file.read_bytes() == (second / file.name).read_bytes()


def test_a_region_without_a_death_or_a_device_is_whole(made, tmp_path):
    tables = made.tables()
    for table in ("death", "device", "drug"):
        tables[table] = {name: values[:0] for name, values in tables[table].items()}
    path = write(Records(region="malmö", **tables), tmp_path)
    assert pq.read_table(path / "death.parquet").num_rows == 0
    assert len(list(path.iterdir())) == len(TABLES) and set(SCHEMA) == set(tables)


def test_what_is_there_is_not_overwritten_and_nothing_half_done_is_left(made, tmp_path):
    write(made, tmp_path)
    with pytest.raises(RequestError, match=r"karolinska exists; remove it, or name another folder"):
        write(made, tmp_path)
    with pytest.raises(RequestError, match="there are no records to write"):
        write([], tmp_path)

    def breaking():
        yield made
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write(breaking(), tmp_path, "duckdb")
    other = Records(region="lund", **made.tables())
    with pytest.raises(RequestError, match="records of lund follow those of karolinska"):
        write([made, other], tmp_path, "duckdb")
    assert [file.name for file in tmp_path.iterdir()] == ["karolinska"]
    (tmp_path / "file").write_text("")
    with pytest.raises(FedsimError, match="could not be written"):
        write(made, tmp_path / "file" / "below")
