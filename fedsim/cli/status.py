"""fedsim status: which cells of a sweep are done, and how long the rest will take."""

from __future__ import annotations

from collections.abc import Iterable
from statistics import mean
from typing import Any

from fedsim.base import INCOMPLETE, SUCCESS
from fedsim.cli import output, requested
from fedsim.cli.arguments import Options, Parser, add_json, add_name, add_quiet

STATES = ("done", "diverged", "running", "failed", "stale", "missing")


def describe(parser: Parser) -> None:
    add_name(parser)
    add_json(parser)
    add_quiet(parser)


def main(options: Options) -> int:
    request = requested.by_name(options)

    from fedsim.store import Claims, ResultStore

    store = ResultStore(request.store)
    states: dict[str, str] = dict(store.states(request.cells))
    left = [run for run, state in states.items() if state not in request.finished]
    states |= dict.fromkeys(Claims(request.store).holders(left), "running")
    count = {state: list(states.values()).count(state) for state in STATES}
    seconds_left = _left(store, states, len(left))

    if options.json:
        cells = [
            {"run": run, "state": states[run], "labels": cell.labels} for run, cell in request.cells.items()
        ]
        found = {"name": request.sweep.name, "reduced": request.reduced, "total": len(cells), "counts": count}
        output.document(options.out, found | {"seconds_left": seconds_left, "cells": cells})
    else:
        left_text = f", about {output.duration(seconds_left)} left" if seconds_left else ""
        shown = ", ".join(f"{n} {state}" for state, n in count.items() if n or state == "done")
        print(f"{request.sweep.name}: {len(states)} cells: {shown}{left_text}", file=options.out)
        if not options.quiet:
            axes = list(next(iter(request.cells.values())).labels)
            rows = [
                [states[run], run, *(cell.labels[axis] for axis in axes)]
                for run, cell in request.cells.items()
            ]
            output.columns(options.out, rows, ["state", "run", *axes])
    return INCOMPLETE if left else SUCCESS


def _left(store: Any, states: dict[str, str], left: int) -> float | None:
    """Seconds, if the rest takes as long as what is done; None if nothing tells."""
    if not left:
        return 0.0
    took = list(_seconds(store, (run for run, state in states.items() if state == "done")))
    return round(left * mean(took), 1) if took else None


def _seconds(store: Any, runs: Iterable[str]) -> Iterable[float]:
    for run in runs:
        seconds = store.manifest(run).get("seconds")
        if seconds is not None:
            yield float(seconds)
