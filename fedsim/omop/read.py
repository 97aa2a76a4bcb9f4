"""A region's OMOP tables, opened with DuckDB: which there are, with which columns, of which types."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb

from fedsim.base import RequestError, require
from fedsim.omop.tables import READ, TABLES

ALWAYS = ("person", "observation_period", "visit_occurrence", "condition_occurrence", "death")
INTEGERS = ("TINYINT", "SMALLINT", "INTEGER", "BIGINT", "UTINYINT", "USMALLINT", "UINTEGER")
# Type of a column -> the beginnings of those it may have.
ACCEPTED = {
    "INTEGER": INTEGERS,
    "DOUBLE": (*INTEGERS, "FLOAT", "DOUBLE", "DECIMAL"),
    "VARCHAR": ("VARCHAR", "ENUM", *INTEGERS),
    "DATE": ("DATE", "TIMESTAMP"),
    "TIMESTAMP": ("DATE", "TIMESTAMP"),
}


@dataclass(frozen=True)
class Site:
    """One region: its name, its folder of Parquet files or its database, and a connection with a view of
    every table in `tables`, of the columns that are read."""

    name: str
    path: Path
    connection: duckdb.DuckDBPyConnection
    tables: frozenset[str]

    def sql(self, text: str) -> duckdb.DuckDBPyConnection:
        """Run a statement; RequestError where the data do not let it."""
        try:
            return self.connection.execute(text)
        except (duckdb.DataError, duckdb.OperationalError, duckdb.InvalidInputException) as error:
            said = str(error).splitlines()[0]
            raise RequestError(f"data.path: the tables of {self.name} ({self.path}): {said}") from error

    def where(self, table: str) -> str:
        """A table as errors name it."""
        file = self.path / f"{table}.parquet" if self.path.is_dir() else self.path
        return f"table {table} of {self.name} ({file})"

    def need(self, tables: Iterable[str], what: str) -> None:
        """RequestError unless all tables are there."""
        for table in tables:
            require(table in self.tables, f"data.path: there is no {self.where(table)}, which {what} needs")

    def close(self) -> None:
        self.connection.close()


def sites(path: str) -> dict[str, Path]:
    """Region -> its folder or database, in name order, of all in a folder.

    Raises:
      RequestError: no folder, no region in it, or two of one name.
    """
    folder = Path(path)
    require(
        folder.is_dir(),
        f"data.path: no folder {path!r}; data=omop needs one with a folder of Parquet files or a .duckdb "
        "file per region",
    )
    found: dict[str, Path] = {}
    for entry in sorted(folder.iterdir()):
        whole = entry.is_dir() and (entry / "person.parquet").is_file()
        if entry.name.startswith(".") or not (whole or entry.suffix == ".duckdb"):
            continue
        name = unicodedata.normalize("NFC", entry.name.removesuffix(".duckdb"))
        require(name not in found, f"data.path: region {name} is there twice in {path}; remove one")
        found[name] = entry
    require(
        found,
        f"data.path: {path} has no region: neither a folder with person.parquet in it nor a .duckdb file",
    )
    return dict(sorted(found.items()))


def read(path: Path) -> Site:
    """Open a region's folder of Parquet files, or its .duckdb file (read-only).

    Raises:
      RequestError: a file that cannot be read, a table that is always needed and is not there, a column that
        is not there or of a wrong type; the message names table, column and file.
    """
    name = unicodedata.normalize("NFC", path.name.removesuffix(".duckdb"))
    connection = duckdb.connect()
    try:
        made = _views(connection, name, path)
    except BaseException:
        connection.close()
        raise
    site = Site(name, path, connection, frozenset(made))
    site.need(ALWAYS, "data=omop")
    twice = site.sql("SELECT person_id FROM person GROUP BY 1 HAVING count(*) > 1 LIMIT 1").fetchone()
    require(
        twice is None, f"data.path: person_id {twice and twice[0]} is there twice in {site.where('person')}"
    )
    return site


def _views(connection: duckdb.DuckDBPyConnection, name: str, path: Path) -> list[str]:
    """Make a view of every table that is there."""
    try:
        if path.is_dir():
            sources = {
                table: f"read_parquet({_quoted(path / f'{table}.parquet')})"
                for table in READ
                if (path / f"{table}.parquet").is_file()
            }
        else:
            connection.execute(f"ATTACH {_quoted(path)} AS site (READ_ONLY)")
            rows = connection.execute(
                "SELECT schema_name, table_name FROM duckdb_tables() WHERE database_name = 'site'"
            ).fetchall()
            sources = {table.lower(): f'site."{schema}"."{table}"' for schema, table in rows}
    except duckdb.Error as error:
        raise RequestError(
            f"data.path: {path} is no readable DuckDB database: {str(error).splitlines()[0]}"
        ) from None
    made = []
    for table in READ:
        if table not in sources:
            continue
        file = path / f"{table}.parquet" if path.is_dir() else path
        where = f"table {table} of {name} ({file})"
        try:
            described = connection.execute(f"DESCRIBE SELECT * FROM {sources[table]}").fetchall()
        except duckdb.Error as error:
            raise RequestError(f"data.path: {where} cannot be read: {str(error).splitlines()[0]}") from None
        types = {column.lower(): kind for column, kind, *_ in described}
        columns = [_column(table, column, types, where) for column in READ[table]]
        connection.execute(f"CREATE VIEW {table} AS SELECT {', '.join(columns)} FROM {sources[table]}")
        made.append(table)
    return made


def _column(table: str, column: str, types: dict[str, Any], where: str) -> str:
    """The SQL of one column of a view."""
    name, wanted = column.removesuffix("?"), TABLES[table][column.removesuffix("?")]
    if name not in types:
        require(column.endswith("?"), f"data.path: no column {name} in {where}")
        return f"NULL::{wanted} AS {name}"
    found = str(types[name])
    # A Parquet column of nulls only may have any type.
    fits = found.startswith(ACCEPTED[wanted]) or found == '"NULL"'
    require(fits, f"data.path: column {name} in {where} must be {wanted}, got {found}")
    return f"{name}::{'BIGINT' if wanted == 'INTEGER' else wanted} AS {name}"


def _quoted(path: Path) -> str:
    return "'" + str(path).replace("'", "''") + "'"
