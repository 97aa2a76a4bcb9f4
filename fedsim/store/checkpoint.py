"""Checkpoints that survive SIGKILL and a damaged file: checksummed, renamed when whole, two kept."""

from __future__ import annotations

import hashlib
import json
import os
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from fedsim.base import FedsimError, digest
from fedsim.store import arrays as files
from fedsim.store.identity import plain

FOLDER = ".checkpoints"  # in the store
PHASES = ("tune", "final")
Stem = str | os.PathLike[str]


def save(stem: Stem, arrays: Mapping[str, np.ndarray], meta: Mapping[str, Any]) -> None:
    """Make `arrays` and `meta` (plain data) the newest checkpoint at `stem`, and keep the one before.

    One writer at a time. Killed at any moment, `load` finds this checkpoint or the one before.

    Raises:
      FedsimError: the disk is full or cannot be written; earlier checkpoints are untouched.
    """
    newest, pending, previous = _paths(stem)
    text = json.dumps(plain(meta))
    try:
        newest.parent.mkdir(parents=True, exist_ok=True)
        files.write(pending, arrays, {"meta": text, "sha256": _checksum(arrays, text)}, sync=True)
        with suppress(FileNotFoundError):
            os.replace(newest, previous)
        os.replace(pending, newest)
        _sync(newest.parent)
    except OSError as error:
        # A whole file between the two renames is the newest checkpoint there is.
        if newest.exists():
            with suppress(OSError):
                pending.unlink()
        raise FedsimError(
            f"checkpoint {newest} could not be written ({error.strerror or error}); "
            "free space there, then run again: it goes on from the checkpoint before"
        ) from error


def load(
    stem: Stem, notice: Callable[[str], object] = warnings.warn
) -> tuple[dict[str, np.ndarray], dict[str, Any]] | None:
    """The newest whole checkpoint at `stem` as (arrays, meta), or None.

    `notice` is told, in one sentence, of damaged files and what is used instead.
    """
    newest, pending, previous = _paths(stem)
    damaged: list[str] = []
    found = None
    # `pending` is whole only when a process died before its rename, and then it is newer than `previous`.
    for path in (newest, pending, previous):
        try:
            found = _whole(path)
        except FileNotFoundError:
            continue
        except (OSError, ValueError) as error:
            if path != pending:  # cut short by a kill, as expected
                damaged.append(f"{path} ({error})")
            continue
        break
    if damaged:
        then = f"going on from {path.name}" if found else "no earlier one is whole, starting over"
        notice(f"damaged checkpoint {', '.join(damaged)}; {then}")
    return found


def stem_of(root: str | os.PathLike[str], runs: Sequence[str], phase: str) -> Path:
    """Where the store at `root` keeps the checkpoints of runs that train side by side, in this order."""
    return Path(root) / FOLDER / f"{digest(list(runs))}-{phase}"


def begun(root: str | os.PathLike[str], runs: Sequence[str]) -> bool:
    """Whether these runs, side by side in this order, have a checkpoint in the store at `root`."""
    return any(path.exists() for phase in PHASES for path in _paths(stem_of(root, runs, phase)))


def discard(stem: Stem) -> None:
    """Remove every file of the checkpoint at `stem`."""
    for path in _paths(stem):
        path.unlink(missing_ok=True)


def _paths(stem: Stem) -> tuple[Path, Path, Path]:
    stem = os.fspath(stem)
    return (
        Path(f"{stem}.safetensors"),
        Path(f"{stem}.pending.safetensors"),
        Path(f"{stem}.previous.safetensors"),
    )


def _whole(path: Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    arrays, metadata = files.read(path)
    text = str(metadata.get("meta"))
    if metadata.get("sha256") != _checksum(arrays, text):
        raise ValueError("its checksum does not match its contents")
    return arrays, json.loads(text)


def _checksum(arrays: Mapping[str, np.ndarray], meta: str) -> str:
    return hashlib.sha256(f"{files.sha256(arrays)} {meta}".encode()).hexdigest()


def _sync(folder: Path) -> None:
    """Put the folder's names on the disk."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
