"""What a run is called, and which code, versions and machine made it."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import math
import operator
import os
import platform
import subprocess
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

from fedsim import topology, world
from fedsim.base import RequestError, digest, to_dict
from fedsim.config import APART, Experiment, SystemConfig, TracedSystem

PACKAGE = Path(__file__).resolve().parents[1]
NUMERIC = ("jax", "jaxlib", "flax", "optax", "numpy")  # their versions decide bits
OTHERS = ("fedsim-regions", "ray", "hydra-core", "pyarrow", "duckdb", "dp-accounting", "safetensors")


def run_id(experiment: Experiment, fingerprint: str) -> str:
    """16 hexadecimal digits for an experiment on data with this fingerprint.

    Where the work happens (`executor`) and where rows are kept (`results`, `sinks`) are left out. Equal
    experiments have equal ids: 1 and 1.0 are the same number. A file that the world, the
    system or the topology reads counts by what it holds. Raises RequestError where it cannot be read.
    """
    return RunIds()(experiment, fingerprint)


class RunIds:
    """`run_id` of many experiments: what is shared by all but the seed, as one object, is hashed once."""

    def __init__(self) -> None:
        # By the identities of what they are made of, which is kept, so that no identity is used again.
        self._begun: dict[tuple[Any, ...], tuple[Any, hashlib._Hash, bytes]] = {}
        self._texts: dict[int, tuple[Any, str]] = {}

    def __call__(self, experiment: Experiment, fingerprint: str) -> str:
        shared = _shared(experiment)
        key = (fingerprint, *map(id, shared))
        if key not in self._begun:
            self._begun[key] = (shared, *self._begin(experiment, fingerprint))
        _, head, tail = self._begun[key]
        total = head.copy()
        total.update(b"%d" % experiment.seed)
        total.update(tail)
        return total.hexdigest()[:16]

    def _begin(self, experiment: Experiment, fingerprint: str) -> tuple[hashlib._Hash, bytes]:
        """The hash of what comes before the seed's value, and what comes after, as `digest` has it."""
        files = "".join(f",{_json(file)}" for file in _files(experiment))
        before, after = (
            ",".join(f'"{name}":{self._text(getattr(experiment, name))}' for name in names)
            for names in ([f for f in _SHARED if f < "seed"], [f for f in _SHARED if f > "seed"])
        )
        return hashlib.sha256(
            f'[{{{before},"seed":'.encode()
        ), f",{after}}},{_json(fingerprint)}{files}]".encode()

    def _text(self, value: Any) -> str:
        if id(value) not in self._texts:
            self._texts[id(value)] = value, _json(value)
        return self._texts[id(value)][1]


_SHARED = sorted({f.name for f in dataclasses.fields(Experiment)} - {*APART, "seed"})
_shared = operator.attrgetter(*_SHARED)


def _json(value: Any) -> str:
    """As `fedsim.base.digest` writes it."""
    return json.dumps(_canonical(plain(value)), sort_keys=True, separators=(",", ":"))


def _files(experiment: Experiment) -> list[str]:
    """What the files hold that an experiment reads beside its data."""
    beside = topology.fingerprint(experiment.topology)
    return [*world.fingerprint(experiment.world), *_machines(experiment.system), *beside]


def _machines(cfg: SystemConfig) -> list[str]:
    if not isinstance(cfg, TracedSystem):
        return []
    try:
        return [hashlib.sha256(Path(cfg.path).read_bytes()).hexdigest()]
    except OSError as error:
        raise RequestError(
            f"system.path={cfg.path} cannot be read ({error.strerror}); give a CSV file with the columns "
            "client, flops_per_second, up and down"
        ) from error


def _canonical(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _canonical(v) for k, v in value.items()}
    if isinstance(value, list):
        return [_canonical(v) for v in value]
    # Not the other way round: a large seed has no exact float.
    return int(value) if isinstance(value, float) and value.is_integer() else value


def plain(value: Any) -> Any:
    """`value` in strict JSON's types: dataclasses are mappings, arrays lists, NaN null, infinity "inf"."""
    if value is None or type(value) in (str, int, bool):  # most of what there is
        return value
    if type(value) is float and math.isfinite(value):
        return value
    if isinstance(value, Mapping):
        return {str(k): plain(v) for k, v in value.items()}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return plain(to_dict(value))
    if hasattr(value, "tolist"):  # NumPy's scalars too, some of which are Python floats
        value = value.tolist()
    if isinstance(value, list | tuple):
        return [plain(v) for v in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None if math.isnan(value) else str(value)
    return str(value) if isinstance(value, os.PathLike) else value


def as_json(value: Any) -> str:
    """`plain` as text."""
    try:
        return json.dumps(value, allow_nan=False, default=plain)
    except (TypeError, ValueError):  # NaN, or a key that is no text
        return json.dumps(plain(value), allow_nan=False)


@functools.cache
def source() -> str:
    """16 hexadecimal digits for the code that runs: this package's files and the numeric packages."""
    return hash_source(PACKAGE, {name: _version(name) for name in NUMERIC})


def hash_source(folder: Path, packages: Mapping[str, str | None]) -> str:
    """Hash of every .py file under `folder`, by relative path, and of the packages' versions."""
    files = {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*.py")
    }
    return digest([files, packages])


@functools.cache
def commit() -> str | None:
    """Commit of the checkout this package runs from, with "-dirty" if tracked files differ from it.

    $FEDSIM_COMMIT comes first, for images without git; None for an installed package.
    """
    if given := os.environ.get("FEDSIM_COMMIT"):
        return given
    checkout = PACKAGE.parent
    if not (checkout / ".git").exists():  # never the repository that a virtual environment lies in
        return None
    # A hook's GIT_DIR would point elsewhere; a read must not wait for, or hold, the index.
    env = {k: v for k, v in os.environ.items() if not k.startswith("GIT_")} | {"GIT_OPTIONAL_LOCKS": "0"}
    command = ["git", "-C", str(checkout), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=5, env=env, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip() or None


@functools.cache
def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


@functools.cache
def versions() -> dict[str, str]:
    """Versions of Python and of the packages that are installed, read without importing them."""
    found = {name: _version(name) for name in (*NUMERIC, *OTHERS)}
    return {"python": platform.python_version()} | {k: v for k, v in found.items() if v is not None}


@functools.cache
def host() -> dict[str, Any]:
    """This machine, by what timings depend on: name, system, machine, processor, usable cores."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {
        "name": platform.node(),
        "system": f"{platform.system()} {platform.release()}",
        "machine": platform.machine(),
        "processor": _processor(),
        "cores": cores,
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "")
