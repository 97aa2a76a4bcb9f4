"""Where files lie: those that come with fedsim (`configs`, `experiments`), and those it keeps for later."""

from __future__ import annotations

import os
from pathlib import Path

from fedsim.base import FedsimError

FOLDERS = ("configs", "experiments")
_PACKAGE = Path(__file__).resolve().parent


def folder(name: str) -> Path:
    """The folder `name`: inside the package where it came as a wheel, beside it in a source tree.

    Raises:
      ValueError: `name` is not one of FOLDERS.
      FedsimError: this installation lacks the folder.
    """
    if name not in FOLDERS:
        raise ValueError(f"fedsim ships {' and '.join(FOLDERS)}, not {name!r}")
    for place in (_PACKAGE / name, _PACKAGE.parent / name):
        if place.is_dir():
            return place
    raise FedsimError(f"this installation of fedsim has no folder {name} in {_PACKAGE}; install it again")


def file(path: str) -> Path:
    """A file that comes with fedsim beside those folders, such as slurm/task.sh.

    Raises:
      FedsimError: this installation lacks it.
    """
    for place in (_PACKAGE, _PACKAGE.parent):
        if (place / path).is_file():
            return place / path
    raise FedsimError(f"this installation of fedsim has no {path} in {_PACKAGE}; install it again")


def cache() -> Path:
    """Where what can be made again is kept between processes; XDG_CACHE_HOME moves it."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "fedsim"
