"""What is asked of many runs at once: their manifests' few lines, kept together in one file.

The file, `.summaries.json`, is never trusted over the runs' folders. An entry counts only while the
manifest it was read from is the same file, of the same size and time, as it was then; all others are
read again, and the file is written anew. It may be removed at any time.
"""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

KEPT = ("status", "source", "modules", "error", "seconds", "cell")
_FILE = ".summaries.json"
_VERSION = 3  # of the file's form
_FEW = 64  # runs that are faster read than looked up, and fresh ones that are not worth writing it

Stamp = list[int]
Entries = dict[str, tuple[Stamp, dict[str, Any]]]


def read(
    root: Path, runs: Iterable[str], manifest: Callable[[str], dict[str, Any] | None]
) -> dict[str, dict[str, Any]]:
    """Run -> the `KEPT` values of its manifest, its split's name and its data's seed, of those `runs` that
    are stored; `manifest` reads one."""
    asked = list(runs)
    if len(asked) < _FEW:
        return {run: _few(found) for run in asked if (found := manifest(run)) is not None}
    known = _load(root / _FILE)
    fresh: Entries = {}
    summaries: dict[str, dict[str, Any]] = {}
    for run in asked:
        now = stamp(f"{root}/{run}/manifest.json")
        if now is None:
            continue
        before = known.get(run)
        if before is not None and before[0] == now:
            summaries[run] = before[1]
        elif (found := manifest(run)) is not None:
            summaries[run] = _few(found)
            # Replaced while it was read, it would have the new one's contents under the old one's stamp.
            if stamp(f"{root}/{run}/manifest.json") == now:
                fresh[run] = now, summaries[run]
    if len(fresh) >= _FEW:
        _save(root / _FILE, known | fresh)
    return summaries


def _few(manifest: Mapping[str, Any]) -> dict[str, Any]:
    experiment = manifest.get("experiment") or {}
    split, data = (experiment.get(group) or {} for group in ("split", "data"))
    found = {name: manifest.get(name) for name in KEPT}
    return found | {"split": split.get("name"), "data_seed": data.get("seed")}


def stamp(path: str) -> Stamp | None:
    try:
        there = os.stat(path)
    except OSError:
        return None
    return [there.st_ino, there.st_size, there.st_mtime_ns]


def _load(path: Path) -> Entries:
    try:
        found = json.loads(path.read_bytes())
        return dict(found["runs"]) if found["version"] == _VERSION else {}
    except (OSError, ValueError, TypeError, KeyError):
        return {}


def _save(path: Path, entries: Entries) -> None:
    """Write aside and rename; a folder that may not be written is only read more slowly."""
    aside = path.with_name(f"{path.name}.{uuid.uuid4().hex}")
    with suppress(OSError):
        try:
            aside.write_text(json.dumps({"version": _VERSION, "runs": entries}))
            aside.replace(path)
        finally:
            aside.unlink(missing_ok=True)
