"""What is asked of thousands of runs at once, kept together in few files: opening 10,000 takes seconds.

A segment, `.kept/FILE-RANDOM.arrow`, has what that FILE of some runs says, one run's rows after another's.
Whoever stores runs writes one for every few dozen; a reader writes what it had to read itself, and makes
one of many. It is never trusted over the runs' folders: a run's rows count only while its own file is the
same, of the same size and time, as when they were read. Segments are not changed once they have their
name, and any of them may be removed at any time.
"""

from __future__ import annotations

import json
import os
import shutil
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from fedsim.store import aside
from fedsim.store.columns import NONE, ints, numbers
from fedsim.store.files import SCHEMA
from fedsim.store.summaries import FEW

FOLDER = ".kept"
_MANY = 8  # segments that are not yet made one
_ROWS = 100_000  # of runs being stored, that wait to be written
_MOST_ROWS = 5_000_000  # of a segment
# Of a segment's form and of what `summaries` keeps of a manifest, and of runs: who refuses those of a newer
# fedsim must not take its word for them.
_VERSION = [1, SCHEMA]
_ABOUT = b"fedsim"

Stamp = list[int]


class Entry(NamedTuple):
    """A run in a segment. stamp: of its file; columns: that the file has; rows: how many."""

    run: str
    stamp: Stamp | None
    columns: tuple[str, ...]
    rows: int


@dataclass(frozen=True)
class Segment:
    """Rows of the runs in `entries`, in this order."""

    rows: pa.Table
    entries: Sequence[Entry]


def stamp(path: str) -> Stamp | None:
    """What tells a file from its successors; None if there is none."""
    try:
        there = os.stat(path)
    except OSError:
        return None
    return [there.st_ino, there.st_size, there.st_mtime_ns]


# --- read ------------------------------------------------------------------------------------


def read(
    root: Path, file: str, runs: Sequence[str], one: Callable[[Path], pa.Table]
) -> tuple[pa.Table, list[str]]:
    """All rows of `file` of `runs`, in their order, and the columns that these runs' files have.

    Column `run` is the position in `runs`, which differ; `one` reads one run's file.
    """
    place = {run: i for i, run in enumerate(runs)}
    if len(runs) < FEW:
        return _gather([(_read(root, file, {run: None for run in runs}, one), list(place.values()))])
    now = {run: stamp(f"{root}/{run}/{file}") for run in runs}
    parts: list[tuple[Segment, list[int]]] = []
    loaded = _load(root / FOLDER, file)
    covered: set[str] = set()
    for segment in filter(None, loaded.values()):
        places = [-1] * len(segment.entries)
        for i, (run, mark, *_) in enumerate(segment.entries):
            if mark and run in place and run not in covered and mark == now[run]:
                places[i] = place[run]
                covered.add(run)
        parts.append((segment, places))
    left = {run: mark for run, mark in now.items() if run not in covered}
    parts.append((_read(root, file, left, one), [place[run] for run in left]))
    if len(left) >= FEW or len(loaded) > _MANY:
        with suppress(OSError, pa.ArrowInvalid, pa.ArrowTypeError):  # it is only read more slowly without
            _compact(root, file, parts, now, list(loaded))
    return _gather(parts)


def _read(
    root: Path, file: str, marks: Mapping[str, Stamp | None], one: Callable[[Path], pa.Table]
) -> Segment:
    """The files of these runs. A run that was replaced meanwhile has no stamp: one's rows might stand under
    the other's."""
    tables = {run: _text(one(root / run / file)) for run in marks}
    same = (mark if mark and stamp(f"{root}/{run}/{file}") == mark else None for run, mark in marks.items())
    return _segment(tables, dict(zip(marks, same, strict=True)))


def _segment(tables: Mapping[str, pa.Table], marks: Mapping[str, Stamp | None]) -> Segment:
    parts = list(tables.values())
    rows = pa.concat_tables(parts, promote_options="permissive") if parts else NONE.select([])
    entries: list[Entry] = []
    schema, names = None, tuple[str, ...]()
    for run, table in tables.items():
        if schema is None or table.schema != schema:  # names take longer than to compare
            schema, names = table.schema, tuple(table.column_names)
        entries.append(Entry(run, marks[run], names, table.num_rows))
    return Segment(rows, entries)


def _text(table: pa.Table) -> pa.Table:
    """Text as text: some writers store dictionaries, of which each file has its own."""
    for i, column in enumerate(table.schema):
        if pa.types.is_dictionary(column.type):
            table = table.set_column(i, column.name, table.column(i).cast(pa.string()))
    return table


def _gather(parts: Iterable[tuple[Segment, Sequence[int]]]) -> tuple[pa.Table, list[str]]:
    """Rows of the runs that have a place, which is not negative, by place, and the columns of these runs."""
    tables, names = [NONE], dict[str, None]()
    for segment, places in parts:
        kinds = dict.fromkeys(e.columns for e, at in zip(segment.entries, places, strict=True) if at >= 0)
        used = dict.fromkeys(column for columns in kinds for column in columns)
        names |= used
        run = np.repeat(np.array(places, np.int64), [entry.rows for entry in segment.entries])
        if used:
            rows = segment.rows.select(list(used)).append_column("run", ints(run))
            tables.append(rows if (run >= 0).all() else rows.take(ints(np.flatnonzero(run >= 0))))
    table = pa.concat_tables(tables, promote_options="permissive").combine_chunks()
    run = numbers(table["run"])
    if (run[1:] < run[:-1]).any():
        table = table.take(ints(np.argsort(run, kind="stable")))
    return table.select([*names, "run"]), list(names)


# --- segments on the disk --------------------------------------------------------------------


def _load(folder: Path, file: str) -> dict[Path, Segment | None]:
    """The segments of `file`, in order of their names; None for one that cannot be read."""
    try:
        with os.scandir(folder) as found:
            names = sorted(
                e.name for e in found if e.name.startswith(f"{file}-") and e.name.endswith(".arrow")
            )
    except OSError:
        return {}
    return {folder / name: _open(folder / name) for name in names}


def _open(path: Path) -> Segment | None:
    try:
        return _checked(path)
    except (OSError, ValueError, LookupError, TypeError):
        return None  # half of one, another's, of another version, or removed by now


def _checked(path: Path) -> Segment:
    # Read, not mapped: pages of a file that another machine removes are gone, and who touches them is killed.
    rows = pa.ipc.open_file(pa.BufferReader(path.read_bytes())).read_all()
    about = json.loads(rows.schema.metadata[_ABOUT])
    if about["version"] != _VERSION:
        raise ValueError("another version")
    columns = [tuple(names) for names in about["columns"]]
    entries = [Entry(str(run), mark, columns[of], int(count)) for run, mark, of, count in about["runs"]]
    counts = [entry.rows for entry in entries]
    named = {name for names in columns for name in names}
    if min(counts, default=0) < 0 or sum(counts) != rows.num_rows or not named <= {*rows.column_names}:
        raise ValueError("not what it says it is")
    rows.validate()
    return Segment(rows.replace_schema_metadata(), entries)


def _save(folder: Path, file: str, segment: Segment) -> Path | None:
    """Write aside and rename. None where it would be too large. Raises OSError."""
    if segment.rows.num_rows > _MOST_ROWS:
        return None
    columns = {names: i for i, names in enumerate(dict.fromkeys(e.columns for e in segment.entries))}
    runs = [(e.run, e.stamp, columns[e.columns], e.rows) for e in segment.entries]
    about = json.dumps({"version": _VERSION, "columns": list(columns), "runs": runs}).encode()
    rows = segment.rows.combine_chunks().replace_schema_metadata({_ABOUT: about})
    mine, path = aside.name(folder.parent), folder / f"{file}-{uuid.uuid4().hex}.arrow"
    try:
        folder.mkdir(exist_ok=True)
        mine.mkdir()
        with pa.OSFile(str(mine / path.name), "wb") as sink, pa.ipc.new_file(sink, rows.schema) as writer:
            writer.write_table(rows)
        (mine / path.name).replace(path)
    finally:
        shutil.rmtree(mine, ignore_errors=True)
    return path


def _compact(
    root: Path,
    file: str,
    parts: Sequence[tuple[Segment, Sequence[int]]],
    now: Mapping[str, Stamp | None],
    old: Sequence[Path],
) -> None:
    """Make one segment of what `parts` have that is still so, runs that were not asked for too, and remove
    the `old` ones. Who does it at the same time leaves another with the same in it, for the next to merge."""
    entries: list[Entry] = []
    taken: set[str] = set()
    chosen = []
    for segment, places in parts:
        mine = [-1] * len(segment.entries)
        for i, (entry, at) in enumerate(zip(segment.entries, places, strict=True)):
            if entry.stamp is None or entry.run in taken:
                continue
            # Those that were asked for and have no place are replaced.
            if at >= 0 or (entry.run not in now and stamp(f"{root}/{entry.run}/{file}") == entry.stamp):
                mine[i] = len(entries)
                taken.add(entry.run)
                entries.append(entry)
        chosen.append((segment, mine))
    rows, _ = _gather(chosen)
    if _save(root / FOLDER, file, Segment(rows.drop_columns("run"), entries)) is not None:
        for path in old:
            path.unlink(missing_ok=True)


# --- written while runs are stored -----------------------------------------------------------


@dataclass
class Fresh:
    """Rows of runs that are being stored, to be kept together. A folder that cannot be written is no error:
    the runs are stored."""

    root: Path
    _tables: dict[str, dict[str, pa.Table]] = field(default_factory=dict)
    _stamps: dict[str, dict[str, Stamp | None]] = field(default_factory=dict)
    _rows: int = 0

    def add(self, run: str, folder: Path, tables: Mapping[str, pa.Table]) -> None:
        """What the files in `folder` hold, which is about to become the run's: a file keeps its stamp when
        its folder is renamed, and nobody can have replaced it yet."""
        for file, table in tables.items():
            self._tables.setdefault(file, {})[run] = table
            self._stamps.setdefault(file, {})[run] = stamp(f"{folder}/{file}")
            self._rows += table.num_rows
        if self._rows >= _ROWS or max(map(len, self._tables.values()), default=0) >= FEW:
            self.save()

    def save(self) -> None:
        """Write what came since the last time; to be called once more after the last run."""
        for file, tables in self._tables.items():
            if len(tables) > 1:  # one alone is read as fast from its own file
                with suppress(OSError, pa.ArrowInvalid, pa.ArrowTypeError):
                    _save(self.root / FOLDER, file, _segment(tables, self._stamps[file]))
        self._tables, self._stamps, self._rows = {}, {}, 0
