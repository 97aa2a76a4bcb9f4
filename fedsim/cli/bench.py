"""fedsim bench: the engine's time over hand-written programs', alone or against the committed run."""

from __future__ import annotations

import sys
from dataclasses import asdict
from typing import Any

from fedsim.base import FAILED, SUCCESS, require
from fedsim.cli import output
from fedsim.cli.arguments import Options, Parser, add_json, add_quiet


def describe(parser: Parser) -> None:
    parser.add_argument(
        "against",
        nargs="?",
        choices=["compare"],
        metavar="compare",
        help="fail where all of three repeats exceed the ratio committed for this kind of machine by 30 %%",
    )
    parser.add_argument("--reduced", action="store_true", help="small workloads, a minute or two")
    parser.add_argument("--record", action="store_true", help="write the run to where it is committed")
    add_json(parser)
    add_quiet(parser)


def main(options: Options) -> int:
    from fedsim import bench
    from fedsim.store import commit

    comparing = options.against is not None
    require(not (comparing and options.record), "compare writes nothing; leave out --record, or compare")
    root, kind, now = bench.checkout(), bench.here(), commit() or "unknown"
    require(
        not options.record or not now.endswith("-dirty"),
        "--record keeps a run with its commit, and files here differ from it; commit them first",
    )
    reference = bench.committed(root, kind, options.reduced) if comparing else None
    before: dict[str, float] = reference["ratios"] if reference else {}
    told: dict[str, Any] = {"machine": kind.name, "commit": now, "reduced": options.reduced}
    found: dict[str, list[bench.Repeat]] = {}
    if reference or not comparing:
        for name, measure in bench.workloads(options.reduced).items():
            found[name] = []
            for one in bench.repeat(measure, before.get(name)):
                found[name].append(one)
                if not options.quiet:
                    said = f"{name}: {one.engine:.2f} ms a round, by hand {one.handwritten:.2f} ms"
                    print(said, file=sys.stderr, flush=True)
    verdicts = {name: bench.judge(repeats, before.get(name)) for name, repeats in found.items()}
    if options.json:
        told |= {"against": reference and reference["commit"]}
        rows = {name: asdict(verdict) for name, verdict in verdicts.items()}
        output.document(options.out, told | {"benchmarks": rows})
    elif verdicts:
        print(f"engine / by hand, {kind.name}", file=options.out)
        lines = [
            [name, v.ratio, v.committed, len(v.repeats), "slower" * v.slower] for name, v in verdicts.items()
        ]
        output.columns(options.out, lines, ["workload", "ratio", "committed", "repeats", ""])
    if comparing and not reference:
        said = f"no run of {kind.name} is committed, so nothing is compared; fedsim bench --record writes one"
        print(said, file=sys.stderr if options.json else options.out)
    if options.record:
        path = bench.record(root, kind, options.reduced, now, found)
        print(f"written to {path.relative_to(root)}; commit it", file=sys.stderr)
    return FAILED if any(v.slower for v in verdicts.values()) else SUCCESS
