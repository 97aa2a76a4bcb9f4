"""The decision of an experiment, from stored rows to its numbers and its page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fedsim.base import require
from fedsim.report.decision import spec
from fedsim.report.decision.document import Document, document
from fedsim.report.decision.page import page
from fedsim.report.decision.words import LANGUAGES
from fedsim.report.known import Axes, require_arms
from fedsim.report.rows import Rows, read
from fedsim.report.tables import sources
from fedsim.store import ResultStore

__all__ = ["LANGUAGES", "numbers", "page"]


def numbers(
    name: str,
    store: Path,
    path: Path,
    runs: Mapping[str, Mapping[str, Any]],
    commands: Sequence[str],
    stale: str = "refuse",
    axes: Axes | None = None,
) -> tuple[Document, Rows]:
    """Everything that a decision's page says in numbers, and the rows behind it.

    Args:
      name: the experiment's; store: the result store's folder; path: its decision.yaml.
      runs: ids of the plan's cells with their labels.
      commands: what makes the runs, and then this report.
      stale: `keep` takes runs of several versions of the code together.
      axes: {choice of the sweep: every label that it declares}; where given, a value in decision.yaml that is
        none of them is an error, and not an arm without runs.

    Raises:
      RequestError: decision.yaml is wrong, or runs that it needs are missing or of several versions.
    """
    decision = spec.load(path)
    if axes is not None:
        require_arms(decision, axes)
    # Asked first, for a message that says what to run.
    require(
        ResultStore(store).about(list(runs)),
        f"none of the {len(runs)} runs asked for is in {store}; run: {commands[0]}",
    )
    rows = read(store, runs, [], [])
    sources(rows, stale)
    about = {"name": name, "store": str(store), "commands": list(commands)}
    return about | document(rows, decision, commands[0]), rows
