"""What a run leaves behind, and the files that it becomes: config.yaml, manifest.json, one Parquet file per
table and model.safetensors."""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from fedsim import config, custom
from fedsim.store import arrays, identity

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

TABLES = ("rounds", "clients", "predictions", "tuning", "timeline")
SCHEMA = 2  # of a run's folder; 1 had no number, and is read as it is
_MANY = 5_000  # rows
FINISHED = ("done", "diverged")  # not run again while their source is the current one


@dataclass(frozen=True, kw_only=True)
class RunResult:
    """What a run leaves behind.

    cell: the sweep's labels of this run, such as {"method": "fedavg"}.
    error: one sentence, for a failed or diverged run.
    rounds, clients, predictions, tuning, timeline: column -> values [rows] (or [rows, n] for a list per row).
      NaN means undefined and is stored as null.
    model: name -> array.
    manifest: seconds, compile_seconds, device_kind, bytes, privacy ... (plain data).
    """

    experiment: config.Experiment
    status: Literal["done", "diverged", "failed"]
    cell: Mapping[str, Any] = field(default_factory=dict)
    error: str | None = None
    rounds: Mapping[str, Any] | None = None
    clients: Mapping[str, Any] | None = None
    predictions: Mapping[str, Any] | None = None
    tuning: Mapping[str, Any] | None = None
    timeline: Mapping[str, Any] | None = None
    model: Mapping[str, np.ndarray] | None = None
    manifest: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.status not in (*FINISHED, "failed"):
            raise ValueError(f"status must be done, diverged or failed, got {self.status!r}")


def fill(
    folder: Path, run_id: str, result: RunResult, source: str
) -> tuple[dict[str, Any], dict[str, pa.Table]]:
    """Write a run's files into `folder`; its manifest and its tables. Raises OSError."""
    experiment = identity.plain(result.experiment)
    _write(folder / "config.yaml", _yaml(experiment))
    tables = {name: _table(columns) for name in TABLES if (columns := getattr(result, name)) is not None}
    for name, table in tables.items():
        _write(folder / f"{name}.parquet", _parquet(table))
    if result.model is not None:
        arrays.write(folder / "model.safetensors", result.model, {"run": run_id})
    manifest: dict[str, Any] = identity.plain(
        {
            **result.manifest,
            "run": run_id,
            "schema": SCHEMA,
            "status": result.status,
            "error": result.error,
            "cell": result.cell,
            "experiment": None,
            "rows": {name: table.num_rows for name, table in tables.items()},
            "model_sha256": None if result.model is None else arrays.sha256(result.model),
            "source": source,
            "modules": custom.behind(result.experiment),
            "commit": identity.commit(),
            "versions": identity.versions(),
            "host": identity.host(),
            "written": datetime.now(UTC).isoformat(timespec="seconds"),
        }
    )
    manifest["experiment"] = experiment  # once more, since reading thousands of YAML files is slow
    _write(folder / "manifest.json", json.dumps(manifest, allow_nan=False).encode())
    return manifest, tables


def _write(path: Path, data: Any) -> None:
    with open(path, "wb") as file:
        file.write(data)


def _yaml(values: dict[str, Any]) -> bytes:
    """As YAML, entry by entry: a sweep's runs share most of theirs."""
    return b"".join(_entry(json.dumps(entry)) for entry in values.items())


@functools.lru_cache(4096)
def _entry(text: str) -> bytes:
    import yaml

    name, value = json.loads(text)
    dumper = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
    return yaml.dump({name: value}, Dumper=dumper, sort_keys=False, allow_unicode=True, encoding="utf-8")


def _table(columns: Mapping[str, Any]) -> pa.Table:
    """An Arrow table whose undefined numbers are null."""
    import pyarrow as pa

    from fedsim.store.columns import column

    return pa.table({name: column(values) for name, values in columns.items()})


def _parquet(table: pa.Table) -> pa.Buffer:
    import pyarrow as pa
    import pyarrow.parquet as pq

    # In memory first: one write per file, and a full disk is an ordinary OSError.
    sink = pa.BufferOutputStream()
    # Dictionaries cost more than they save where rows are few, in bytes, too.
    pq.write_table(table, sink, write_statistics=False, use_dictionary=table.num_rows > _MANY)
    return sink.getvalue()
