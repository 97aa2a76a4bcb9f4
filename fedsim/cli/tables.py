"""fedsim tables: a sweep's tables and figures from stored rows; nothing is trained."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import IO

from fedsim.base import FAILED, INCOMPLETE, SUCCESS, require
from fedsim.cli import requested
from fedsim.cli.arguments import Options, Parser, add_name, add_quiet
from fedsim.cli.requested import Request

COMMITTED = Path("results", "tables")  # the reduced tables, one folder per experiment


def describe(parser: Parser) -> None:
    add_name(parser)
    parser.add_argument(
        "--check",
        action="store_true",
        help="write nothing; fail if the tables in the repository are not what the stored rows give",
    )
    add_quiet(parser)


def main(options: Options) -> int:
    request = requested.by_name(options)
    require(
        _spec(request).is_file(),
        f"{request.sweep.name} has no tables.yaml in {request.sweep.folder}; declare its tables there",
    )
    from fedsim.store import ResultStore

    states = ResultStore(request.store).states(request.cells)
    missing = sum(state in ("missing", "failed") for state in states.values())
    if missing:
        again = f"fedsim sweep {options.name}{' --reduced' * options.reduced}"
        print(f"fedsim: {missing} of {len(states)} cells are not done; run: {again}", file=sys.stderr)
    if options.check:
        return _check(request, options.out) or (INCOMPLETE if missing else SUCCESS)
    write(request, options.out, show=not options.quiet)
    if request.reduced:
        _commit(request)
    return INCOMPLETE if missing else SUCCESS


def written(request: Request) -> bool:
    """Whether there is nothing to write, or it has been written before."""
    return not _spec(request).is_file() or any((request.out / "tables").glob("*.md"))


def require_declared(request: Request) -> None:
    """Raises RequestError for a tables.yaml that no runs could make right."""
    if _spec(request).is_file():
        from fedsim import report

        report.require_declared(request.sweep.name, _spec(request), request.axes)


def write(request: Request, out: IO[str], show: bool) -> None:
    """Write what tables.yaml declares, if there is one, and show the tables."""
    if not _spec(request).is_file():
        return
    from fedsim import report

    without_runs: list[str] = []
    files = report.write(
        request.sweep.name,
        request.store,
        _spec(request),
        request.out,
        request.labels,
        stale=request.report_stale,
        without_runs=without_runs,
        axes=request.axes,
        again=_command(request),
    )
    for what in without_runs:  # of other values of the axes, or whose runs failed
        print(f"left out: {what}", file=out)
    if show:
        for path in files:
            if path.suffix == ".md":
                print(f"\n{path.read_text(encoding='utf-8').rstrip()}", file=out)
        print(f"\n{len(files)} files in {request.out}", file=out)


def _check(request: Request, out: IO[str]) -> int:
    from fedsim import report

    drifts = report.check(
        request.sweep.name,
        request.store,
        _spec(request),
        _reference(request),
        request.labels,
        stale=request.report_stale,
        axes=request.axes,
    )
    for drift in drifts:
        print(drift, file=out)
    if not drifts:
        print(f"{request.sweep.name}: the tables in {_reference(request)} are what the rows give", file=out)
    return FAILED if drifts else SUCCESS


def _spec(request: Request) -> Path:
    assert request.sweep.folder is not None
    return request.sweep.folder / "tables.yaml"


def _command(request: Request) -> str:
    return f"fedsim tables {request.sweep.name}{' --reduced' * request.reduced}"


def _reference(request: Request) -> Path:
    return COMMITTED / request.sweep.name if request.reduced else request.out / "tables"


def _commit(request: Request) -> None:
    """Copy the reduced tables to where the repository keeps them."""
    from fedsim.report.files import publish

    made = (request.out / "tables").iterdir()
    target = COMMITTED / request.sweep.name
    files = {target / path.name: path.read_bytes() for path in made if path.suffix in (".md", ".csv")}
    publish(files, _command(request), f"make {target} a folder that can be written")
