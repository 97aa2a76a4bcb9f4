"""Tables that are not what they should be are named: table, column, file."""

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fedsim.base import RequestError
from fedsim.omop import read, sites
from tests.omop.made import base, found, put


@pytest.fixture
def lund(tmp_path):
    return put(tmp_path, base(2))


def change(path, table, made):
    file = path / f"{table}.parquet"
    pq.write_table(made(pq.read_table(file)), file)


def test_a_column_that_is_not_there_is_named(lund):
    change(lund, "condition_occurrence", lambda t: t.drop_columns(["condition_start_date"]))
    said = r"no column condition_start_date in table condition_occurrence of lund \(.*rrence.parquet\)"
    with pytest.raises(RequestError, match=said):
        read(lund)


def test_a_column_of_another_type_is_named(lund):
    def as_text(table):
        at = table.schema.names.index("death_date")
        return table.set_column(at, "death_date", pa.array([], pa.string()))

    change(lund, "death", as_text)
    with pytest.raises(
        RequestError, match=r"column death_date in table death of lund .* must be DATE, got VARCHAR"
    ):
        read(lund)


def test_columns_that_nobody_needs_may_be_absent_and_capitals_do_not_matter(lund):
    whole = found(lund)
    change(
        lund,
        "person",
        lambda t: t.select(["person_id", "gender_concept_id", "year_of_birth", "month_of_birth"]),
    )
    change(lund, "visit_occurrence", lambda t: t.rename_columns([name.upper() for name in t.schema.names]))
    assert found(lund).x.tolist() == whole.x.tolist()


@pytest.mark.parametrize("table", ["person", "death", "observation_period"])
def test_a_table_that_is_always_needed_is_missed_by_name(lund, table):
    (lund / f"{table}.parquet").unlink()
    with pytest.raises(
        RequestError, match=rf"no table {table} of lund \(.*{table}.parquet\), which data=omop needs"
    ):
        read(lund)


def test_a_file_that_is_no_table_is_named(lund, tmp_path):
    (lund / "death.parquet").write_bytes(b"something")
    with pytest.raises(RequestError, match=r"table death of lund \(.*death.parquet\) cannot be read"):
        read(lund)
    (tmp_path / "malmö.duckdb").write_bytes(b"something" * 2000)
    with pytest.raises(RequestError, match=r"malmö.duckdb is no readable DuckDB database"):
        read(tmp_path / "malmö.duckdb")


def test_a_person_who_is_there_twice_is_refused(lund):
    change(lund, "person", lambda t: pa.concat_tables([t, t.slice(1)]))
    with pytest.raises(RequestError, match=r"person_id 2 is there twice in table person of lund"):
        read(lund)


def test_a_value_that_cannot_be_is_said_with_its_region(lund):
    def thirteenth(table):
        at = table.schema.names.index("month_of_birth")
        return table.set_column(at, "month_of_birth", pa.array([13, 1], pa.int32()))

    change(lund, "person", thirteenth)
    with pytest.raises(RequestError, match=r"data.path: the tables of lund \(.*\): .*[Dd]ate out of range"):
        found(lund)


def test_a_database_of_another_schema_is_found(lund, tmp_path):
    path = tmp_path / "umeå.duckdb"
    with duckdb.connect(str(path)) as connection:
        connection.execute("CREATE SCHEMA cdm")
        for file in lund.iterdir():
            connection.execute(f"CREATE TABLE cdm.{file.stem} AS FROM read_parquet('{file}')")
    assert found(path).x.tolist() == found(lund).x.tolist()
    assert list(sites(str(tmp_path))) == ["lund", "umeå"]


def test_folders_without_a_region_are_refused(tmp_path, lund):
    with pytest.raises(
        RequestError, match=r"no folder 'nowhere'; data=omop needs one with a folder of Parquet"
    ):
        sites("nowhere")
    with pytest.raises(RequestError, match=r"has no region: neither a folder with person.parquet"):
        sites(str(lund))
    (tmp_path / "lund.duckdb").write_bytes(b"")
    (tmp_path / ".umeå.part").mkdir()
    with pytest.raises(RequestError, match=r"region lund is there twice"):
        sites(str(tmp_path))
