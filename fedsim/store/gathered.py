"""One table of thousands of runs, kept together in one file: opening 10,000 files takes seconds.

The file, `.gathered-TABLE.arrow`, is never trusted over the runs' folders: a run's rows count only while
its own file is the same, of the same size and time, as when they were read. It may be removed at any time.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from fedsim.store.summaries import stamp

_FEW = 64  # runs that are faster read one by one, and fresh ones that are not worth writing the file
_MOST_ROWS = 5_000_000  # of a file
_ABOUT = b"fedsim"


def read(
    root: Path, name: str, runs: Sequence[str], one: Callable[[Path], pa.Table]
) -> tuple[pa.Table, list[str]]:
    """All rows of the table `name` of `runs`, in their order, and the columns that these runs have.

    Column `run` is the position in `runs`; `one` reads one run's file.
    """
    paths = {run: root / run / f"{name}.parquet" for run in runs}
    if len(runs) < _FEW:
        return _together(list(runs), {run: one(path) for run, path in paths.items()}, None, {})
    file = root / f".gathered-{name}.arrow"
    kept, about = _load(file)
    now = {run: stamp(str(path)) for run, path in paths.items()}
    valid = {run: entry for run, entry in about.items() if run not in now or entry[0] == now[run]}
    fresh = {run: one(path) for run, path in paths.items() if run not in valid}
    if len(fresh) >= _FEW:
        with suppress(OSError, pa.ArrowInvalid, pa.ArrowTypeError):  # as it is only read more slowly without
            # Replaced while it was read, it would have one's rows under the other's stamp.
            whole = {run: table for run, table in fresh.items() if stamp(str(paths[run])) == now[run]}
            _save(file, kept, valid, whole, now)
    return _together(list(runs), fresh, kept, valid)


def _together(
    runs: list[str], fresh: dict[str, pa.Table], kept: pa.Table | None, about: dict[str, Any]
) -> tuple[pa.Table, list[str]]:
    place = {run: i for i, run in enumerate(runs)}
    names = dict.fromkeys(c for table in fresh.values() for c in table.column_names)
    parts = [table.append_column("run", _constant(place[run], table)) for run, table in fresh.items()]
    if kept is not None and (old := [run for run in runs if run in about and run not in fresh]):
        names |= dict.fromkeys(c for run in old for c in about[run][1])
        # Rows name their run by a number of the file.
        numbers = kept["run"].to_numpy()
        positions = np.full(max([*numbers[-1:], *(about[run][2] for run in old)]) + 1, -1, np.int64)
        positions[[about[run][2] for run in old]] = [place[run] for run in old]
        at = positions[numbers]
        rows = kept.filter(pa.array(at >= 0)).select([c for c in names if c in kept.column_names])
        parts.append(rows.append_column("run", pa.array(at[at >= 0])))
    if not parts:
        return pa.table({"run": pa.array([], pa.int64())}), []
    table = pa.concat_tables(parts, promote_options="permissive")
    if len(parts) > 1:
        table = table.take(pa.array(np.argsort(table["run"].to_numpy(), kind="stable")))
    return table, list(names)


def _constant(value: int, table: pa.Table) -> pa.Array:
    return pa.array(np.full(table.num_rows, value, np.int64))


def _load(file: Path) -> tuple[pa.Table | None, dict[str, Any]]:
    """What was kept, and run -> (stamp of its file, its columns, its number in column `run`)."""
    try:
        with pa.memory_map(str(file)) as source:
            table = pa.ipc.open_file(source).read_all()
        about = json.loads(table.schema.metadata[_ABOUT])
        return table, {run: (mark, about["columns"][of], i) for run, (mark, of, i) in about["runs"].items()}
    except (OSError, ValueError, KeyError, TypeError, pa.ArrowInvalid):
        return None, {}


def _save(
    file: Path,
    kept: pa.Table | None,
    valid: dict[str, Any],
    fresh: dict[str, pa.Table],
    marks: dict[str, Any],
) -> None:
    """Write aside and rename."""
    columns: list[list[str]] = []
    said: dict[str, Any] = {}
    table, _ = _together([*valid, *fresh], fresh, kept, valid)
    if table.num_rows > _MOST_ROWS:
        return
    names = {run: entry[1] for run, entry in valid.items()} | {r: t.column_names for r, t in fresh.items()}
    for i, run in enumerate([*valid, *fresh]):
        if names[run] not in columns:
            columns.append(names[run])
        mark = valid[run][0] if run in valid else marks[run]
        said[run] = [mark, columns.index(names[run]), i]
    about = json.dumps({"columns": columns, "runs": said}).encode()
    table = table.combine_chunks().replace_schema_metadata({_ABOUT: about})
    aside = file.with_name(f"{file.name}.{uuid.uuid4().hex}")
    try:
        with pa.OSFile(str(aside), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
            writer.write_table(table)
        aside.replace(file)
    finally:
        aside.unlink(missing_ok=True)
