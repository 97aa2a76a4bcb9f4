"""fedsim sweep: plan an experiment, run what the store lacks, write its tables."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import IO, TYPE_CHECKING

from fedsim import plan
from fedsim.base import FAILED, SUCCESS, require
from fedsim.cli import output, progress, requested, stopping, tables, tasks
from fedsim.cli.arguments import Options, Parser, add_name, add_quiet
from fedsim.cli.requested import Request

if TYPE_CHECKING:
    from fedsim.run import Outcome

MOST_NAMED = 10  # cells named in a message


def describe(parser: Parser) -> None:
    add_name(parser)
    parser.add_argument("--dry-run", action="store_true", help="say what would run, and run nothing")
    parser.add_argument(
        "--cells",
        metavar="FILE#TASK",
        help="one task's cells, as fedsim submit lists them; no tables",
    )
    parser.add_argument(
        "--processes",
        type=int,
        default=1,
        metavar="N",
        help="share the cells between so many processes of this machine; brief runs keep one thread busy",
    )
    add_quiet(parser)


def main(options: Options) -> int:
    require(options.processes >= 1, f"--processes must be >= 1, got {options.processes}")
    request = requested.by_name(options)
    if options.cells:
        request = _only(request, options.cells, options.name)
    else:
        tables.require_declared(request)

    from fedsim.store import ResultStore

    store = ResultStore(request.store)
    states = store.states(request.cells)
    finished = request.finished
    left = [run for run, state in states.items() if state not in finished]
    doing = f"{len(left)} to run" if left else "nothing to do"
    summary = f"{len(states)} cells: {output.counts(s for s in states.values() if s != 'missing')}, {doing}"
    print(summary.replace(": none, ", ": "), file=options.out, flush=True)
    if options.dry_run:
        _show_plan(options.out, request)
        return SUCCESS

    errors: Mapping[str, str] = {}
    if left:
        if options.processes > 1 and len(left) > 1:
            begin = time.perf_counter()
            tasks.share(options, request, left, options.processes)
            seconds = time.perf_counter() - begin
        else:
            outcome = _run(options, request, left)
            errors, seconds = outcome.errors, outcome.seconds
        states = store.states(request.cells)
        counted = output.counts(states.values())
        print(f"{len(states)} cells: {counted}, in {output.duration(seconds)}", file=options.out)
    wrong = {run: state for run, state in states.items() if state not in finished - {"diverged"}}
    for run, state in list(wrong.items())[:MOST_NAMED]:
        error = errors.get(run) or (store.manifest(run)["error"] if state != "missing" else None)
        said = ": ".join(filter(None, [f"{state}: {requested.named(request.cells[run])} ({run})", error]))
        print(said, file=options.out)
    if len(wrong) > MOST_NAMED:
        print(f"... and {len(wrong) - MOST_NAMED} more; see fedsim status {options.name}", file=options.out)
    # Nothing new: the tables are there, and drawing figures takes longer than all of the above.
    if (
        options.cells is None
        and (left or not tables.written(request))
        and any(s in finished for s in states.values())
    ):
        tables.write(request, options.out, show=not options.quiet)
    return FAILED if wrong else SUCCESS


def _run(options: Options, request: Request, left: Sequence[str]) -> Outcome:
    """Run the cells `left` in this process."""
    from fedsim.run import run_experiments
    from fedsim.slurm import Slurm

    with stopping.listening() as stopped:
        return run_experiments(
            [request.cells[run] for run in left],
            request.store,
            rerun_stale=request.stale != "keep",
            progress=progress.watch(options.quiet),
            modules=request.modules,
            scheduler=Slurm(),
            stopped=stopped,
        )


def _only(request: Request, where: str, name: str) -> Request:
    """The request for one task's cells. Raises RequestError where some are none of the sweep's any more."""
    from fedsim.slurm import tasks

    runs = tasks.of(where)
    other = [run for run in runs if run not in request.cells]
    require(
        not other,
        f"{len(other)} of {len(runs)} cells of {where} are none of the sweep's any more, {other[:1]} first; "
        "its options or data have changed: submit it again",
    )
    return replace(request, cells={run: request.cells[run] for run in runs})


def _show_plan(out: IO[str], request: Request) -> None:
    from fedsim.cli.compose import parse

    for axis in next(iter(request.cells.values())).labels:
        values = dict.fromkeys(str(cell.labels[axis]) for cell in request.cells.values())
        print(f"  {axis}: {', '.join(values)}", file=out)
    for reason, count in Counter(reason for _, reason in plan.excluded(request.sweep, parse)).items():
        print(f"  {count} cells excluded: {reason}", file=out)
