"""A progress bar with an estimate of the time left; notes alone where nobody watches."""

from __future__ import annotations

import sys
from typing import Any


class Bar:
    """fedsim.run's progress on standard error, for a terminal."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            Progress,
            TaskProgressColumn,
            TextColumn,
            TimeElapsedColumn,
            TimeRemainingColumn,
        )

        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TaskProgressColumn(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=Console(stderr=True),
        )
        self._task: Any = None

    def start(self, total_work: float, description: str) -> None:
        self._task = self._progress.add_task(description, total=total_work)
        self._progress.start()

    def advance(self, amount: float) -> None:
        self._progress.advance(self._task, amount)

    def note(self, text: str) -> None:
        self._progress.console.print(text, markup=False, highlight=False)

    def close(self) -> None:
        self._progress.stop()


class Notes:
    """Notes alone, on standard error: for files, such as those that tasks on a cluster write."""

    def start(self, total_work: float, description: str) -> None: ...

    def advance(self, amount: float) -> None: ...

    def note(self, text: str) -> None:
        print(text, file=sys.stderr, flush=True)

    def close(self) -> None: ...


def watch(quiet: bool) -> Bar | Notes | None:
    """A bar on a terminal, notes elsewhere, nothing under --quiet."""
    if quiet:
        return None
    return Bar() if sys.stderr.isatty() else Notes()
