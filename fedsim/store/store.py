"""The result store: one folder per run, written aside, renamed when whole, never changed after.

A folder holds config.yaml, manifest.json, one Parquet file per table and model.safetensors. Killing
a process at any moment leaves no part of a run visible. Replacing a stale or failed run takes two
renames; killed between them, the run is missing and is run again.
"""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
from collections.abc import Collection, Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from fedsim import config, custom
from fedsim.base import FedsimError, RequestError, nearest, require
from fedsim.store import arrays, aside, identity, query, summaries
from fedsim.store.files import FINISHED, SCHEMA, TABLES, RunResult, fill, tabulated

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

    from fedsim.store.kept import Fresh

State = Literal["done", "diverged", "failed", "stale", "missing"]
_TOGETHER = ("rounds", "clients")  # are read of many runs, and kept together when they are stored


class ResultStore:
    """Runs under `root`. source: the code that counts as current; the installed one by default."""

    def __init__(self, root: str | os.PathLike[str], source: str | None = None) -> None:
        self.root = Path(root).absolute()
        self.source = source or identity.source()

    # --- writing ---

    def check_writable(self) -> None:
        """Make the folder, write into it, and clear away what dead processes left unfinished.

        Raises:
          RequestError: it cannot be written; to be asked before anything runs.
        """
        probe = aside.name(self.root)
        try:
            probe.mkdir(parents=True)
            (probe / "probe").write_bytes(b"0")
        except OSError as error:
            raise RequestError(
                f"results folder {self.root} cannot be written ({error.strerror or error}); "
                "set results=... to a folder that can"
            ) from error
        finally:
            shutil.rmtree(probe, ignore_errors=True)
        self.clean()

    def fresh(self) -> Fresh:
        """What `write` keeps together of many runs, so that they are read fast from the first time on."""
        from fedsim.store.kept import Fresh

        return Fresh(self.root)

    def write(self, run_id: str, result: RunResult, fresh: Fresh | None = None) -> dict[str, Any]:
        """Store a run and return its manifest; a finished run of the current source is left alone.

        Manifests share what their runs do, and are not to be changed.

        fresh: where its rows are to be kept together with those of others.

        Raises:
          FedsimError: the disk is full or cannot be written; nothing of the run is kept.
        """
        target = self._folder(run_id)
        if self.state(run_id) in FINISHED:
            return self.manifest(run_id)
        folder, mine = aside.name(self.root), False
        try:
            folder.mkdir(parents=True)
            manifest, tables = fill(folder, run_id, result, self.source)
            if fresh is not None:
                rows = {f"{name}.parquet": tables[name] for name in _TOGETHER if name in tables}
                fresh.add(run_id, folder, rows | {summaries.FILE: summaries.line(manifest)})
            mine = self._publish(folder, target)
        except OSError as error:
            raise FedsimError(
                f"run {run_id} could not be stored in {self.root} ({error.strerror or error}); free space "
                "there or set results=... to another folder, then run again: nothing of this run was kept"
            ) from error
        finally:
            if not mine:
                shutil.rmtree(folder, ignore_errors=True)
        return manifest if mine else self.manifest(run_id)

    def write_all(self, results: Mapping[str, RunResult], fresh: Fresh | None = None) -> None:
        """`write` runs, by id, that ended together: faster than each alone.

        Raises:
          FedsimError: as `write`; the runs before are stored.
        """
        for run_id, result in zip(results, tabulated(list(results.values())), strict=True):
            self.write(run_id, result, fresh)

    def _publish(self, folder: Path, target: Path) -> bool:
        """Put a run's folder in its place; False if another process was faster."""
        replaced: list[Path] = []
        try:
            while True:
                try:
                    os.rename(folder, target)
                    return True
                except OSError as error:
                    if error.errno not in (errno.EEXIST, errno.ENOTEMPTY):
                        raise
                if self.state(target.name) in FINISHED:
                    return False
                old = aside.name(self.root)
                with suppress(FileNotFoundError):  # another process is replacing it too
                    os.rename(target, old)
                    replaced.append(old)
        except BaseException:
            if replaced:
                with suppress(OSError):
                    os.rename(replaced[-1], target)
            raise
        finally:
            for old in replaced:
                shutil.rmtree(old, ignore_errors=True)

    def clean(self) -> None:
        """Remove unfinished folders whose process, on this host, is gone."""
        aside.clean(self.root, self._names())

    # --- reading ---

    def ids(self) -> list[str]:
        """Every stored run, of any state, in order of id."""
        return sorted(n for n in self._names() if not n.startswith(".") and self._manifest(n) is not None)

    def state(self, run_id: str) -> State:
        """done, diverged, failed; missing if not stored; stale if finished by another source, or by a
        user's module that has changed since."""
        return self.state_of(self._manifest(run_id))

    def states(self, ids: Iterable[str]) -> dict[str, State]:
        """`state` of many runs."""
        asked = list(ids)
        found = self.summaries(asked)
        return {run: found[run]["state"] if run in found else "missing" for run in asked}

    def about(self, ids: Iterable[str]) -> dict[str, dict[str, Any]]:
        """Of those runs that are stored what `store.summaries` keeps of manifests. Made for thousands."""
        present = set(self._names())
        return summaries.read(self.root, [run for run in ids if run in present], self._manifest)

    def summaries(self, ids: Iterable[str]) -> dict[str, dict[str, Any]]:
        """Of those runs that are stored: state, error and seconds. Made for thousands of runs."""
        found = self.about(ids)
        return {
            run: {"state": self.state_of(kept), "error": kept["error"], "seconds": kept["seconds"]}
            for run, kept in found.items()
        }

    def manifest(self, run_id: str) -> dict[str, Any]:
        """The run's manifest. Raises RequestError if it is not stored."""
        manifest = self._manifest(run_id)
        if manifest is None:
            raise RequestError(f"no run {run_id} in {self.root}; run it, or set results=... to its folder")
        return manifest

    def experiment(self, run_id: str) -> config.Experiment:
        """The experiment the run was made from. Raises RequestError if it is not stored."""
        return config.experiment(self.manifest(run_id)["experiment"])

    def options(self, run_id: str) -> dict[str, Any]:
        """Every option of the run by its path, as `runs` names them. Raises RequestError as `experiment`."""
        return query.flat(self.manifest(run_id)["experiment"])

    def model(self, run_id: str) -> dict[str, np.ndarray]:
        """The run's model, name -> array.

        Raises:
          RequestError: the run, or a model of it, is not stored.
          FedsimError: the file is damaged.
        """
        stored = self.manifest(run_id)["model_sha256"]
        require(stored is not None, f"run {run_id} has no model")
        path = self._folder(run_id) / "model.safetensors"
        try:
            found, _ = arrays.read(path)
        except (OSError, ValueError) as error:
            raise _damaged(path, error) from error
        if arrays.sha256(found) != stored:
            raise _damaged(path, "its checksum does not match its contents")
        return found

    def read(self, run_id: str, name: str, columns: Iterable[str] | None = None) -> pa.Table:
        """One table of one run, all columns or those named.

        Raises:
          RequestError: the run, the table or a column is not stored.
          FedsimError: the file is damaged.
        """
        stored = self.manifest(run_id)["rows"]
        require(name in stored, f"run {run_id} has no table {name!r}; {nearest(name, stored)}")
        wanted = None if columns is None else list(columns)
        table, known = self._read(run_id, name, wanted)
        _require_columns(name, wanted, known)
        return table

    def read_all(self, ids: Iterable[str], name: str, columns: Iterable[str] | None = None) -> pa.Table:
        """One table of many runs, one after another, with a first column `run`.

        Runs without this table give no rows; a column that only some runs have is null in the others.

        Raises:
          RequestError: a run is not stored, or a column is in none of them.
          FedsimError: a file is damaged.
        """
        import pyarrow as pa

        require(name in TABLES, f"no table {name!r}; {nearest(name, TABLES)}")
        wanted = None if columns is None else list(columns)
        parts, known = [], set()
        for run_id in ids:
            if name in self.manifest(run_id)["rows"]:
                part, names = self._read(run_id, name, wanted)
                parts.append(part.add_column(0, "run", pa.repeat(run_id, part.num_rows)))
                known |= set(names)
        if not parts:
            return pa.table({"run": pa.array([], pa.string())})
        _require_columns(name, wanted, known)
        return pa.concat_tables(parts, promote_options="permissive")

    def runs(self, ids: Iterable[str] | None = None) -> pa.Table:
        """One row per stored run: run, state, every option by its path, and the manifest.

        Options are named as on the command line: "algorithm" is its name, "algorithm.mu" a number
        of it. The manifest's nested values are named likewise: "cell.method", "rows.clients".
        """
        return query.runs(self, self.ids() if ids is None else ids)

    def query(self, sql: str) -> pa.Table:
        """Answer SQL over the views `runs` (see `runs`) and `rounds`, `clients`, `predictions`, `tuning`,
        `timeline` (each with a column `run`), of every stored run, stale ones too.

        Raises:
          RequestError: DuckDB is not installed, or refuses the statement.
        """
        return query.query(self, sql)

    def _names(self) -> list[str]:
        try:
            with os.scandir(self.root) as entries:
                return [entry.name for entry in entries]
        except (FileNotFoundError, NotADirectoryError):
            return []
        except OSError as error:
            raise RequestError(f"results folder {self.root} cannot be read ({error.strerror})") from error

    def _folder(self, run_id: str) -> Path:
        require(
            re.fullmatch(r"\w[\w.-]*", run_id),
            f"a run id is letters, digits, '.', '_' and '-', got {run_id!r}",
        )
        return self.root / run_id

    def _manifest(self, run_id: str) -> dict[str, Any] | None:
        try:
            with open(f"{self.root}/{run_id}/manifest.json", "rb") as file:
                manifest = json.load(file)
        except (FileNotFoundError, NotADirectoryError, ValueError):
            return None  # cut short by a power loss: as good as missing
        # Another run's folder under this name, or nobody's, is none of ours.
        if not isinstance(manifest, dict) or "status" not in manifest or manifest.get("run") != run_id:
            return None
        schema = manifest.get("schema", 1)
        whole = type(schema) is int  # true is a number, too
        require(
            not whole or schema <= SCHEMA,
            f"run {run_id} in {self.root} was stored by a newer fedsim (schema {schema}, this one reads "
            f"up to {SCHEMA}); update fedsim, or set results=... to another folder",
        )
        require(
            whole and schema >= 1,
            f"run {run_id} in {self.root} has schema {schema!r}, which no fedsim has written (this one reads "
            f"1 to {SCHEMA}); move {self.root / run_id} away, or set results=... to another folder",
        )
        return manifest

    def state_of(self, manifest: dict[str, Any] | None) -> State:
        """`state` of the run that this is the manifest of, or what `about` keeps of it."""
        if manifest is None:
            return "missing"
        status: State = manifest["status"]
        other = manifest.get("source") != self.source or custom.changed(manifest.get("modules") or {})
        return "stale" if status in FINISHED and other else status

    def _read(self, run_id: str, name: str, columns: list[str] | None) -> tuple[pa.Table, list[str]]:
        """Those of `columns` that are there, and the names of all that are."""
        import pyarrow.parquet as pq

        path = self._folder(run_id) / f"{name}.parquet"
        try:
            with pq.ParquetFile(path) as file:
                known = file.schema_arrow.names
                return file.read(None if columns is None else [c for c in columns if c in known]), known
        except (OSError, ValueError) as error:
            raise _damaged(path, error) from error


def _require_columns(table: str, wanted: Iterable[str] | None, known: Collection[str]) -> None:
    for column in wanted or ():
        require(column in known, f"{table} has no column {column!r}; {nearest(column, known)}")


def _damaged(path: Path, reason: object) -> FedsimError:
    return FedsimError(f"{path} is damaged ({reason}); remove its folder and run the sweep again")
