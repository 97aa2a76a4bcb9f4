"""fedsim compare: paired differences of a sweep's runs against a baseline, from stored rows."""

from __future__ import annotations

import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from fedsim.base import INCOMPLETE, SUCCESS, RequestError, require
from fedsim.cli import output, requested
from fedsim.cli.arguments import Options, Parser, add_json, add_name, add_quiet
from fedsim.metrics import direction

if TYPE_CHECKING:
    from fedsim.report.paired import Difference

INTERVALS = ("seeds", "patients", "both")
LEVELS = ("pooled", "mean", "weighted_mean", "worst", "site", "client", "subgroup", "gap")


def describe(parser: Parser) -> None:
    add_name(parser)
    parser.add_argument(
        "--baseline", required=True, metavar="METHOD", help="what all others are held against"
    )
    parser.add_argument("--axis", default="algorithm", help="the choice that is compared (algorithm)")
    parser.add_argument(
        "--metric", action="append", metavar="METRIC", help="may be given again; the tables' first by default"
    )
    parser.add_argument("--from", dest="level", choices=LEVELS, default="pooled", help="whose predictions")
    parser.add_argument(
        "--interval", choices=INTERVALS, default="seeds", help="what intervals and p are over (seeds)"
    )
    parser.add_argument(
        "--ends",
        choices=("percentile", "bca"),
        default="percentile",
        help="of intervals over patients: percentiles of resamples, or corrected for bias and skewness",
    )
    add_json(parser)
    add_quiet(parser)


def main(options: Options) -> int:
    request = requested.by_name(options)
    try:
        return _compared(request, options)
    except RequestError as error:
        raise RequestError(f"{request.sweep.name}: {error}") from None


def _compared(request: requested.Request, options: Options) -> int:
    from fedsim import report
    from fedsim.report import few, paired, patients
    from fedsim.report.spec import NAMED
    from fedsim.report.tables import sources

    metrics = options.metric or [_first_metric(request)]
    rows = report.read(request.store, request.labels, [*metrics, *few.COLUMNS], [options.level])
    asked = rows, options.axis, options.baseline, metrics, options.level
    if options.ends == "bca" and options.interval != "patients":
        raise RequestError(f"--ends bca is of --interval patients, got --interval {options.interval}; set it")
    footnotes = sources(rows, request.report_stale)
    if options.interval == "seeds":
        found, note = paired.differences(*asked), paired.note(rows)
        footnotes += paired.too_few(found)
    else:
        over = options.interval, options.ends
        found, note = patients.compared(*asked, *over), patients.note(*over)
    axes = list(dict.fromkeys(d for run in rows.runs for d in run.cell if d != "seed"))
    named = [options.level] if options.level in NAMED else []
    footnotes += few.note([*few.events(rows, options.level, [*axes, *named], {}).values()])
    if options.json:
        told: dict[str, Any] = {
            "name": request.sweep.name,
            "axis": options.axis,
            "baseline": options.baseline,
            "from": options.level,
            "interval": options.interval,
            "note": note,
            "differences": [asdict(d) for d in found],
        }
        output.document(options.out, told | {"footnotes": footnotes})
    else:
        where = list(found[0].where)
        head = [*where, "metric", options.axis, "difference", "low", "high", "pairs", "p", "corrected", ""]
        lines = [
            [*d.where.values(), d.metric, d.choice, d.mean, d.low, d.high, d.pairs, d.p, d.corrected, said(d)]
            for d in found
        ]
        print(f"{request.sweep.name}: {options.axis} against {options.baseline}", file=options.out)
        output.columns(options.out, lines, head)
        if not options.quiet:
            print("\n".join(["", note, *footnotes]), file=options.out)
    gone = len(rows.missing) + sum(not run.done and not run.diverged for run in rows.runs)
    if gone:
        print(f"fedsim: {gone} of {len(request.cells)} cells are not done", file=sys.stderr)
    return INCOMPLETE if gone else SUCCESS


def said(d: Difference) -> str:
    """`better` or `worse` where the corrected p is below 5 % and the metric has a direction."""
    from fedsim.report.paired import ALPHA

    up = direction(d.metric)
    if up is None or d.corrected is None or d.corrected >= ALPHA:
        return ""
    return "better" if (d.mean > 0) == up else "worse"


def _first_metric(request: requested.Request) -> str:
    """Of the first table that the experiment declares."""
    from fedsim.report import spec

    path = request.sweep.folder / "tables.yaml" if request.sweep.folder else None
    if path is None or not path.is_file():
        raise RequestError("declares no tables; name a metric, as in --metric auroc")
    tables = spec.load(path).tables
    require(tables, f"{path} declares figures alone; name a metric, as in --metric auroc")
    return tables[0].metrics[0]
