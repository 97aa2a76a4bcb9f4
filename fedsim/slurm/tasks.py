"""Which cells each task has: a plain file, one cell a line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from fedsim.base import RequestError, require


def text(tasks: Sequence[Sequence[str]], labels: Mapping[str, str]) -> str:
    """Lines of task, run id and the cell's labels, under a comment.

    Args:
      tasks: run ids of each task.
      labels: run id -> what a reader calls it.
    """
    lines = [f"{i} {run} {labels[run]}".rstrip() for i, runs in enumerate(tasks) for run in runs]
    return "\n".join(["# task, run, cell", *lines]) + "\n"


def read(path: Path) -> dict[int, list[str]]:
    """Task -> its run ids.

    Raises:
      RequestError: the file cannot be read, or a line of it does not say a task and a run.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or error
        raise RequestError(f"tasks {path} cannot be read ({why}); submit the sweep again") from error
    found: dict[int, list[str]] = {}
    for number, line in enumerate(lines, 1):
        if not line.strip() or line.startswith("#"):
            continue
        words = line.split()
        require(
            len(words) >= 2 and words[0].isdigit(),
            f"{path}, line {number}: expected the number of a task and the id of a run, got {line!r}",
        )
        found.setdefault(int(words[0]), []).append(words[1])
    return found


def of(where: str) -> list[str]:
    """Run ids of one task, given as FILE#TASK. Raises RequestError as `read`, or where there is no such."""
    path, _, task = where.rpartition("#")
    require(path and task.isdigit(), f"--cells must be FILE#TASK, such as tasks.txt#0, got {where!r}")
    found = read(Path(path))
    require(int(task) in found, f"{path} has no task {task}, only 0 to {max(found, default=-1)}")
    return found[int(task)]
