"""A run's value over its last rounds, where one round would say too little: how good, or how steady."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from fedsim.base import require
from fedsim.report.rows import Key, Rows, Value
from fedsim.report.spec import Over, TableSpec
from fedsim.report.values import observe

WORDS = {"mean": "mean", "spread": "standard deviation"}


def observe_over(
    rows: Rows, spec: TableSpec, over: Over, dimensions: Sequence[str]
) -> dict[Key, dict[Value, float]]:
    """As `observe`, each value taken over the last rounds in which the run was evaluated.

    Raises:
      RequestError: as `observe`; a spread of a run that was evaluated once.
    """
    by_round = observe(
        rows,
        level=spec.level,
        metrics=spec.metrics,
        dimensions=(*dimensions, "round"),
        where=spec.where,
        at="all",
    )
    series: dict[tuple[Key, Value], dict[int, float]] = {}
    for key, values in by_round.items():
        for seed, value in values.items():
            series.setdefault((key[:-1], seed), {})[int(key[-1] or 0)] = value
    found: dict[Key, dict[Value, float]] = {}
    for (key, seed), curve in series.items():
        last = [curve[r] for r in sorted(curve)[-over.rounds :]]
        require(
            over.take == "mean" or len(last) > 1,
            f"over: a spread needs runs that are evaluated more than once, and {key} was not; "
            "set evaluate.every",
        )
        found.setdefault(key, {})[seed] = float(
            np.mean(last) if over.take == "mean" else np.std(last, ddof=1)
        )
    return found


def note(over: Over) -> str:
    """What stands below such a table."""
    steady = " Lower is steadier." if over.take == "spread" else ""
    rounds = f"its last {over.rounds} evaluated rounds at most"
    return f"A run's value is the {WORDS[over.take]} over {rounds}.{steady}"
