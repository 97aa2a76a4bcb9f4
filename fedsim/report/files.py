"""Files that are written together: an interruption leaves the old ones or the new ones whole."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from fedsim.base import FedsimError, not_written

_ASIDE = re.compile(r"\.(?P<name>.+)\.(?P<pid>\d+)\.part")


def publish(
    files: Mapping[Path, bytes],
    again: str = "",
    elsewhere: str = "set results=... to a folder that can be written",
) -> None:
    """Write every file beside its place, then rename all.

    A full disk or Ctrl-C before the first rename leaves the old files as they were, and nothing beside
    them; what a killed process left beside them goes with the next call.

    Args:
      again: the command that writes them, for messages; elsewhere: as in `not_written`.

    Raises:
      FedsimError: the disk is full or cannot be written.
    """
    asides: dict[Path, Path] = {}
    place, kept = Path(), True
    try:
        for place, content in files.items():
            if place.parent not in {p.parent for p in asides}:
                place.parent.mkdir(parents=True, exist_ok=True)
                _clear(place.parent)
            asides[place] = place.with_name(f".{place.name}.{os.getpid()}.part")
            asides[place].write_bytes(content)
        for place, aside in asides.items():
            os.replace(aside, place)
            kept = False
    except OSError as error:
        run = f", then run {again} again" if again else ""
        rest = ": what was there before was kept" if kept else ""
        raise FedsimError(f"{not_written(place, error, elsewhere)}{run}{rest}") from error
    finally:
        for aside in asides.values():
            aside.unlink(missing_ok=True)  # gone already if it was renamed


def _clear(folder: Path) -> None:
    """Remove what processes that are gone left unfinished."""
    for path in folder.iterdir():
        if (aside := _ASIDE.fullmatch(path.name)) and not Path("/proc", aside["pid"]).exists():
            with suppress(OSError):
                path.unlink()
