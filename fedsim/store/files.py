"""What a run leaves behind, and the files that it becomes: config.yaml, manifest.json, one Parquet file per
table and model.safetensors."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
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
    from fedsim.store.columns import table

    experiment, text = _told(result.experiment)
    _write(folder / "config.yaml", text)
    tables = {name: table(columns) for name in TABLES if (columns := getattr(result, name)) is not None}
    for name, rows in tables.items():
        _write(folder / f"{name}.parquet", _parquet(rows))
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
            "rows": {name: rows.num_rows for name, rows in tables.items()},
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


def _told(experiment: config.Experiment) -> tuple[dict[str, Any], bytes]:
    """An experiment in plain data, not to be changed, and as YAML; what runs of a sweep share only once."""
    told = [_part(f.name, getattr(experiment, f.name)) for f in fields(experiment)]
    return {name: plain for name, plain, _ in told}, b"".join(text for *_, text in told)


def _part(name: str, value: Any) -> _Part:
    key = name, id(value)
    if known := _PARTS.get(key):
        return known[1]
    import yaml

    if len(_PARTS) >= _MOST_PARTS:
        _PARTS.clear()
    dumper = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
    plain = json.loads(json.dumps(identity.plain(value)))  # of no type that only looks like one of these
    text = yaml.dump({name: plain}, Dumper=dumper, sort_keys=False, allow_unicode=True, encoding="utf-8")
    _PARTS[key] = value, (name, plain, text)
    return name, plain, text


_Part = tuple[str, Any, bytes]  # a field's name, its value in plain data, both as YAML
# By the identities of their values, which are kept, so that no identity is used again.
_PARTS: dict[tuple[str, int], tuple[Any, _Part]] = {}
_MOST_PARTS = 4096


def _parquet(table: pa.Table) -> pa.Buffer:
    import pyarrow as pa
    import pyarrow.parquet as pq

    # In memory first: one write per file, and a full disk is an ordinary OSError.
    sink = pa.BufferOutputStream()
    # Dictionaries cost more than they save where rows are few, in bytes, too.
    pq.write_table(table, sink, write_statistics=False, use_dictionary=table.num_rows > _MANY)
    return sink.getvalue()
