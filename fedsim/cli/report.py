"""fedsim report: one HTML page of a sweep, from stored rows; --decision: what a board asks of it."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

from fedsim.base import INCOMPLETE, SUCCESS, require
from fedsim.cli import decision, requested
from fedsim.cli.arguments import Options, Parser, add_json, add_name, add_quiet
from fedsim.cli.requested import Request

WATTS = 100.0  # what a device is taken to draw; no device's data sheet


def describe(parser: Parser) -> None:
    add_name(parser)
    parser.add_argument("--to", default="", help="file to write; default: report.html beside its tables")
    parser.add_argument(
        "--watts", type=float, default=WATTS, help=f"power of a device for the energy estimate ({WATTS:g})"
    )
    parser.add_argument(
        "--decision", action="store_true", help="the question in decision.yaml: gain, privacy, cost, sureness"
    )
    parser.add_argument(
        "--language", choices=("both", "en", "sv"), default="both", help="of --decision; default: both"
    )
    add_json(parser)
    add_quiet(parser)


def main(options: Options) -> int:
    require(0 < options.watts < float("inf"), f"--watts must be > 0 and finite, got {options.watts:g}")
    for given, flag in ((options.json, "--json"), (options.language != "both", "--language")):
        require(options.decision or not given, f"{flag} goes with --decision; add it, or leave {flag} out")
    request = requested.by_name(options)
    if options.decision:
        return decision.write(request, options, _commands(request, options))
    folder = request.sweep.folder
    assert folder is not None
    spec = folder / "tables.yaml"
    require(spec.is_file(), f"{request.sweep.name} has no tables.yaml in {folder}; declare its tables there")
    from fedsim import __version__, report

    path = Path(options.to) if options.to else request.out / "report.html"
    lead = _lead(folder / "README.md")
    title = request.sweep.name + (" (reduced)" if request.reduced else "")
    about = report.About(title, lead, _commands(request, options), __version__, options.watts)
    arguments = (request.store, spec, path, request.labels, request.report_stale, request.axes)
    rows = report.write_page(request.sweep.name, about, *arguments)
    if not options.quiet:
        print(path, file=options.out)
    gone = len(rows.missing) + sum(not run.done and not run.diverged for run in rows.runs)
    if gone:
        print(f"fedsim: {gone} of {len(request.cells)} cells are not done", file=sys.stderr)
    return INCOMPLETE if gone else SUCCESS


def _lead(readme: Path) -> str:
    """The first paragraph below the heading."""
    if not readme.is_file():
        return ""
    paragraphs = readme.read_text(encoding="utf-8").split("\n\n")
    return next((p.strip() for p in paragraphs if p.strip() and not p.startswith("#")), "")


def _commands(request: Request, options: Options) -> list[str]:
    """What makes the runs, and then this page."""
    asked = [options.name, *["--reduced"] * request.reduced, *options.overrides]
    asked += [word for module in options.modules for word in ("--with", module)]
    watts = [] if options.watts == WATTS else ["--watts", f"{options.watts:g}"]
    decided = ["--decision"] * options.decision
    report = ["fedsim", "report", *asked, *decided, *watts]
    return [shlex.join(["fedsim", "sweep", *asked]), shlex.join(report)]
