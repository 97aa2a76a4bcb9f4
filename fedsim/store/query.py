"""Stored runs as tables: one row per run, and SQL over all of them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from fedsim.base import RequestError, require
from fedsim.store.files import TABLES

if TYPE_CHECKING:
    import pyarrow as pa

    from fedsim.store.store import ResultStore


def runs(store: ResultStore, ids: Iterable[str]) -> pa.Table:
    """`ResultStore.runs`."""
    import pyarrow as pa

    rows = []
    for run_id in ids:
        manifest = store.manifest(run_id)
        options = flat(manifest.pop("experiment"))
        # Options come first, and win: "privacy.epsilon" is the one asked for, where that is an option;
        # what was accounted for is "accounted.epsilon".
        stated = flat({"accounted": manifest.get("privacy") or {}})
        found = {"run": run_id, "state": store.state_of(manifest)} | options | flat(manifest) | stated
        rows.append(found | options)
    names = dict.fromkeys(name for row in rows for name in row) or {"run": None, "state": None}
    return pa.table({name: _mixed([row.get(name) for row in rows]) for name in names})


def query(store: ResultStore, sql: str) -> pa.Table:
    """`ResultStore.query`."""
    try:
        import duckdb
    except ImportError:
        raise RequestError("queries need DuckDB; install it with: pip install duckdb") from None
    with duckdb.connect() as connection:
        try:
            for name in (n for n in ("runs", *TABLES) if re.search(rf"\b{n}\b", sql, re.IGNORECASE)):
                _view(store, connection, name)
            answer = connection.sql(sql)
            require(answer is not None, f"a query must return rows, got {sql!r}")
            return answer.to_arrow_table()
        except duckdb.Error as error:
            raise RequestError(f"query refused: {error}") from error


def _view(store: ResultStore, connection: Any, name: str) -> None:
    if name == "runs":
        connection.register("runs", store.runs())
        return
    paths = [store.root / run_id / f"{name}.parquet" for run_id in store.ids()]
    found = [str(path) for path in paths if path.exists()]
    if not found:
        connection.execute(f"CREATE VIEW {name} AS SELECT ''::VARCHAR AS run WHERE false")
        return
    files = connection.read_parquet(found, union_by_name=True, filename=True)
    run = "parse_filename(parse_dirpath(filename)) AS run"
    files.project(f"{run}, * EXCLUDE (filename)").create_view(name)


def flat(values: Mapping[str, Any], path: str = "") -> dict[str, Any]:
    """Nested plain data by dotted paths; a choice's name stands under the choice's own path."""
    found: dict[str, Any] = {}
    for key, value in values.items():
        where = path if key == "name" and path else f"{path}.{key}" if path else key
        if isinstance(value, Mapping):
            found |= flat(value, where)
        elif isinstance(value, list):
            found[where] = json.dumps(value)
        else:
            found[where] = float(value) if value in ("inf", "-inf") else value
    return found


def _mixed(values: list[Any]) -> pa.Array:
    """A column; as text where its values have no common type."""
    import pyarrow as pa

    try:
        return pa.array(values)
    except (pa.ArrowInvalid, pa.ArrowTypeError):
        return pa.array([None if v is None else str(v) for v in values])
