"""What a run leaves behind, and the files that it becomes: config.yaml, manifest.json, one Parquet file per
table and model.safetensors."""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from datetime import UTC, datetime
from pathlib import Path
from textwrap import indent
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from fedsim import config, custom
from fedsim.store import arrays, identity

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

TABLES = ("rounds", "clients", "predictions", "tuning", "timeline")
SCHEMA = 2  # of a run's folder; 1 had no number, and is read as it is
_MANY = 5_000  # rows of a long table
FINISHED = ("done", "diverged")  # not run again while their source is the current one


@dataclass(frozen=True, kw_only=True)
class RunResult:
    """What a run leaves behind.

    cell: the sweep's labels of this run, such as {"method": "fedavg"}.
    error: one sentence, for a failed or diverged run.
    rounds, clients, predictions, tuning, timeline: column -> values [rows] (or [rows, n] for a list per row).
      NaN means undefined and is stored as null. Or an Arrow table, which is stored as it is.
    model: name -> array.
    manifest: seconds, compile_seconds, device_kind, bytes, privacy ... (plain data).
    """

    experiment: config.Experiment
    status: Literal["done", "diverged", "failed"]
    cell: Mapping[str, Any] = field(default_factory=dict)
    error: str | None = None
    rounds: Mapping[str, Any] | pa.Table | None = None
    clients: Mapping[str, Any] | pa.Table | None = None
    predictions: Mapping[str, Any] | pa.Table | None = None
    tuning: Mapping[str, Any] | pa.Table | None = None
    timeline: Mapping[str, Any] | pa.Table | None = None
    model: Mapping[str, np.ndarray] | None = None
    manifest: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.status not in (*FINISHED, "failed"):
            raise ValueError(f"status must be done, diverged or failed, got {self.status!r}")


def fill(
    folder: Path, run_id: str, result: RunResult, source: str
) -> tuple[dict[str, Any], dict[str, pa.Table]]:
    """Write a run's files into `folder`; its manifest and its tables. Raises OSError."""
    import pyarrow as pa

    from fedsim.store.columns import table

    told = _told(result.experiment)
    _write(folder / "config.yaml", told.yaml)
    given = {name: rows for name in TABLES if (rows := getattr(result, name)) is not None}
    tables = {name: rows if isinstance(rows, pa.Table) else table(rows) for name, rows in given.items()}
    for name, rows in tables.items():
        _write(folder / f"{name}.parquet", _parquet(rows))
    if result.model is not None:
        arrays.write(folder / "model.safetensors", result.model, {"run": run_id})
    said = identity.as_json(
        {
            **result.manifest,
            "run": run_id,
            "schema": SCHEMA,
            "status": result.status,
            "error": result.error,
            "cell": result.cell,
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
    # The experiment once more, since reading thousands of YAML files is slow.
    _write(folder / "manifest.json", f'{said[:-1]}, "experiment": {told.json}}}'.encode())
    return json.loads(said) | {"experiment": told.plain}, tables


def tabulated(results: Sequence[RunResult]) -> list[RunResult]:
    """Results with Arrow's tables for columns, but for long ones, of which one at a time is enough in memory.

    Raises ValueError where columns of one differ in length.
    """
    from fedsim.store.columns import tables

    found: list[dict[str, pa.Table]] = [{} for _ in results]
    for name in TABLES:
        given = [getattr(result, name) for result in results]
        short = [i for i, rows in enumerate(given) if isinstance(rows, Mapping) and _length(rows) <= _MANY]
        for i, table in zip(short, tables([given[i] for i in short]), strict=True):
            found[i][name] = table
    return [replace(result, **made) for result, made in zip(results, found, strict=True)]


def _length(columns: Mapping[str, Any]) -> int:
    return len(next(iter(columns.values()), ()))


def _write(path: Path, data: Any) -> None:
    with open(path, "wb") as file:
        file.write(data)


class _Told(NamedTuple):
    """An experiment, or part of one: in plain data, not to be changed, and as text."""

    plain: dict[str, Any]
    yaml: bytes
    json: str


def _told(experiment: config.Experiment) -> _Told:
    """What runs of a sweep share is written out only once."""
    parts = [_part(f.name, getattr(experiment, f.name)) for f in fields(experiment)]
    return _Told(
        {name: value for part in parts for name, value in part.plain.items()},
        b"".join(part.yaml for part in parts),
        f"{{{', '.join(part.json[1:-1] for part in parts)}}}",
    )


def _part(name: str, value: Any) -> _Told:
    key = name, id(value)
    if known := _PARTS.get(key):
        return known[1]
    if len(_PARTS) >= _MOST_PARTS:
        _PARTS.clear()
    text = identity.as_json({name: value})
    plain = json.loads(text)  # of no type that only looks like one of these
    told = _Told(plain, _yaml(plain).encode(), text)
    _PARTS[key] = value, told
    return told


def _yaml(plain: Mapping[str, Any]) -> str:
    """A mapping as YAML; of one that differs from those before in a seed, no more is made anew."""
    found = []
    for name, value in plain.items():
        if isinstance(value, dict) and value:
            found.append(_entry(name, "null").removesuffix(" null\n") + "\n" + indent(_yaml(value), "  "))
        else:
            found.append(_entry(name, json.dumps(value)))
    return "".join(found)


@functools.lru_cache(4096)
def _entry(name: str, value: str) -> str:
    """One name and its value, which is JSON, as YAML."""
    import yaml

    dumper = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
    text: str = yaml.dump({name: json.loads(value)}, Dumper=dumper, sort_keys=False, allow_unicode=True)
    return text


# By the identities of their values, which are kept, so that no identity is used again.
_PARTS: dict[tuple[str, int], tuple[Any, _Told]] = {}
_MOST_PARTS = 4096


def _parquet(table: pa.Table) -> pa.Buffer:
    import pyarrow as pa
    import pyarrow.parquet as pq

    # In memory first: one write per file, and a full disk is an ordinary OSError.
    sink = pa.BufferOutputStream()
    # Dictionaries cost more than they save where rows are few, in bytes, too.
    pq.write_table(table, sink, write_statistics=False, use_dictionary=table.num_rows > _MANY)
    return sink.getvalue()
