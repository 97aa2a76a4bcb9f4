"""fedsim status: which cells of a sweep are done, which run, where and how fast, and what is left."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from statistics import mean
from typing import IO, Any

from fedsim.base import INCOMPLETE, SUCCESS, RequestError, require
from fedsim.cli import output, requested
from fedsim.cli.arguments import Options, Parser, add_json, add_name, add_quiet
from fedsim.cli.requested import Request

STATES = ("done", "diverged", "running", "queued", "failed", "stale", "missing")
# What is read first comes last, where the terminal stands; those that need no attention are cut short.
_SHOWN = ("done", "missing", "queued", "stale", "diverged", "failed", "running")
_MOST = 20  # cells of one state that are listed
_WATCH_SECONDS = 2.0


@dataclass(frozen=True, kw_only=True)
class Standing:
    """One cell. where: machine and job, of one that runs or is queued; seconds: since it was claimed;
    rounds: of all its folds and candidates; error: the last line of it."""

    run: str
    state: str
    labels: Mapping[str, Any]
    where: str | None = None
    seconds: float | None = None
    rounds_done: float | None = None
    rounds: float | None = None
    rounds_per_second: float | None = None
    seconds_left: float | None = None
    error: str | None = None


def describe(parser: Parser) -> None:
    add_name(parser)
    parser.add_argument("--watch", action="store_true", help="look again every 2 s until all is done")
    add_json(parser)
    add_quiet(parser)


def main(options: Options) -> int:
    require(not (options.watch and options.json), "--watch shows, --json is for programs; choose one")
    request = requested.by_name(options)

    from fedsim.store import Claims

    claims = Claims(request.store)  # one for all looks: it counts the beats of silent holders
    before = None
    while True:
        cells, seconds_left = _look(request, claims)
        left = [cell for cell in cells if cell.state not in request.finished]
        if options.watch and options.out.isatty():
            _draw(options, request, cells, seconds_left)
        elif (found := (cells, seconds_left)) != before:
            _print(options, request, cells, seconds_left)
            before = found
        if not options.watch or not left:
            return INCOMPLETE if left else SUCCESS
        time.sleep(_WATCH_SECONDS)


def _look(request: Request, claims: Any) -> tuple[list[Standing], float | None]:
    """Every cell, in the plan's order, and the seconds that the rest takes; None if nothing tells."""
    from fedsim.store import ResultStore

    stored = ResultStore(request.store).summaries(request.cells)
    open_runs = [
        run
        for run in request.cells
        if (stored[run]["state"] if run in stored else "missing") not in request.finished
    ]
    holders, queue = claims.holders(open_runs), _queued(request) if open_runs else {}
    cells = []
    for run, cell in request.cells.items():
        if run in holders:
            cells.append(
                Standing(run=run, state="running", labels=cell.labels, **_progress(run, holders[run]))
            )
        elif run in queue:
            cells.append(Standing(run=run, state="queued", labels=cell.labels, where=queue[run]))
        elif run in stored:
            said = stored[run]
            error = _last_line(said["error"])
            cells.append(Standing(run=run, state=said["state"], labels=cell.labels, error=error))
        else:
            cells.append(Standing(run=run, state="missing", labels=cell.labels))
    took = [
        float(said["seconds"])
        for said in stored.values()
        if said["state"] == "done" and said["seconds"] is not None
    ]
    if not open_runs:
        return cells, 0.0
    return cells, round(len(open_runs) * mean(took), 1) if took else None


def _queued(request: Request) -> dict[str, str]:
    """Run -> the task of SLURM that will see to it, such as "job 12_3, pending"; none without SLURM."""
    from fedsim import slurm

    with suppress(RequestError):
        found = slurm.queued(request.out / slurm.FOLDER)
        return {run: f"job {task.job}_{task.task}, {task.state.lower()}" for run, task in found.items()}
    return {}


def _progress(run: str, owner: Any) -> dict[str, Any]:
    """What the holder of a claim says of this run; the runs of a pack train side by side."""
    said = owner.progress
    job = owner.job.get("job")
    found = {"where": f"{owner.host}, job {job}" if job else owner.host, "seconds": said.get("seconds")}
    if run not in said.get("runs", ()):
        return found  # claimed, and not yet begun
    share = 1 / len(said["runs"])
    rate = said["rounds_per_second"]
    found |= {"rounds_done": round(said["done"] * share), "rounds": round(said["total"] * share)}
    if rate:
        left = max(said["total"] - said["done"], 0) / rate
        found |= {"rounds_per_second": rate * share, "seconds_left": round(left, 1)}
    return found


def _last_line(error: str | None) -> str | None:
    return next((line.strip() for line in reversed((error or "").splitlines()) if line.strip()), None)


# --- shown -----------------------------------------------------------------------------------


def _print(options: Options, request: Request, cells: list[Standing], seconds_left: float | None) -> None:
    if options.json:
        count = {state: sum(cell.state == state for cell in cells) for state in STATES}
        found = {"name": request.sweep.name, "reduced": request.reduced, "total": len(cells), "counts": count}
        listed = [asdict(cell) for cell in cells]
        output.document(options.out, found | {"seconds_left": seconds_left, "cells": listed})
        return
    print(_summary(request, cells, seconds_left), file=options.out, flush=True)
    if not options.quiet:
        _list(options.out, cells)


def _draw(options: Options, request: Request, cells: list[Standing], seconds_left: float | None) -> None:
    """Fill the terminal, in place of what stood there."""
    import io

    page = io.StringIO()
    if not options.quiet:
        _list(page, cells)
    width, height = shutil.get_terminal_size()
    lines = [_summary(request, cells, seconds_left), *page.getvalue().splitlines()]
    # What runs comes last in the list, and is what a watcher looks at.
    kept = lines[:1] + lines[1:][-(height - 3) :] if len(lines) > height - 2 else lines
    shown = "\n".join(line[:width] for line in kept)
    print(f"\x1b[H\x1b[2J{shown}\n\nCtrl-C ends the watch, not the sweep", file=options.out, flush=True)


def _summary(request: Request, cells: list[Standing], seconds_left: float | None) -> str:
    count = {state: sum(cell.state == state for cell in cells) for state in STATES}
    shown = ", ".join(f"{n} {state}" for state, n in count.items() if n or state == "done")
    left = f", about {output.duration(seconds_left)} left" if seconds_left else ""
    return f"{request.sweep.name}: {len(cells)} cells: {shown}{left}"


def _list(out: IO[str], cells: Iterable[Standing]) -> None:
    """A block for each state that occurs, with what there is to say of it."""
    by_state: dict[str, list[Standing]] = {}
    for cell in cells:
        by_state.setdefault(cell.state, []).append(cell)
    for state in (state for state in _SHOWN if state in by_state):
        found = by_state[state]
        axes = list(found[0].labels)
        header, row = ["state", "run", *axes, *_COLUMNS.get(state, {})], _COLUMNS.get(state, {}).values()
        rows = [
            [cell.state, cell.run, *(cell.labels[axis] for axis in axes), *(say(cell) for say in row)]
            for cell in found[:_MOST]
        ]
        output.columns(out, rows, header)
        if len(found) > _MOST:
            print(f"... and {len(found) - _MOST} more {state}; --json lists all", file=out)


def _duration(seconds: float | None) -> str | None:
    return None if seconds is None else output.duration(seconds)


def _rounds(cell: Standing) -> str | None:
    return None if cell.rounds is None else f"{cell.rounds_done:g} of {cell.rounds:g}"


_COLUMNS: dict[str, dict[str, Any]] = {
    "running": {
        "where": lambda cell: cell.where,
        "for": lambda cell: _duration(cell.seconds),
        "rounds": _rounds,
        "rounds/s": lambda cell: cell.rounds_per_second and f"{cell.rounds_per_second:.3g}",
        "left": lambda cell: _duration(cell.seconds_left),
    },
    "queued": {"where": lambda cell: cell.where},
    "failed": {"error": lambda cell: cell.error},
    "diverged": {"error": lambda cell: cell.error},
}
