"""Files that are written together: an interruption leaves the old ones or the new ones whole."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from fedsim.base import FedsimError

_ASIDE = re.compile(r"\.(?P<name>.+)\.(?P<pid>\d+)\.part")


def publish(files: Mapping[Path, bytes]) -> None:
    """Write every file beside its place, then rename all.

    A full disk or Ctrl-C before the first rename leaves the old files as they were, and nothing beside
    them; what a killed process left beside them goes with the next call.

    Raises:
      FedsimError: the disk is full or cannot be written.
    """
    asides: dict[Path, Path] = {}
    try:
        for path, content in files.items():
            if path.parent not in {p.parent for p in asides}:
                path.parent.mkdir(parents=True, exist_ok=True)
                _clear(path.parent)
            asides[path] = path.with_name(f".{path.name}.{os.getpid()}.part")
            asides[path].write_bytes(content)
        for path, aside in asides.items():
            os.replace(aside, path)
    except OSError as error:
        raise FedsimError(
            f"{error.filename or 'the tables'} could not be written ({error.strerror or error}); free space "
            "there, then run fedsim tables again: what was there before was kept"
        ) from error
    finally:
        for aside in asides.values():
            aside.unlink(missing_ok=True)  # gone already if it was renamed


def _clear(folder: Path) -> None:
    """Remove what processes that are gone left unfinished."""
    for path in folder.iterdir():
        if (aside := _ASIDE.fullmatch(path.name)) and not Path("/proc", aside["pid"]).exists():
            with suppress(OSError):
                path.unlink()
