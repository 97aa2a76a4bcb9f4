"""fedsim cohort: the simulator's patients as tables of the OMOP common data model, region by region."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fedsim.base import SUCCESS, nearest, require
from fedsim.cli import data, output
from fedsim.cli.arguments import Options, Parser, add_json, add_overrides, add_quiet
from fedsim.config import HeartFailure

ACTIONS = ("write",)
PIECE = 16_384  # patients that are held at a time, about 10 kB each


def describe(parser: Parser) -> None:
    parser.add_argument("action", metavar="ACTION", help=", ".join(ACTIONS))
    parser.add_argument("folder", metavar="FOLDER", help="where a folder or file per region goes")
    add_overrides(parser, "data.option=value", "data.regions=three data.patients=1000")
    parser.add_argument(
        "--format",
        choices=("parquet", "duckdb"),
        default="parquet",
        help="a folder of Parquet files per region, or a database (default: parquet)",
    )
    add_json(parser)
    add_quiet(parser)


def main(options: Options) -> int:
    require(
        options.action in ACTIONS, f"unknown action {options.action!r}; {nearest(options.action, ACTIONS)}"
    )
    cfg = data.source_of(["heart_failure", *options.overrides])
    require(
        isinstance(cfg, HeartFailure),
        f"fedsim cohort writes what data=heart_failure makes, and data={cfg.name} was asked for; leave "
        "it out",
    )

    from fedsim.cohort import Cohort, records
    from fedsim.omop import write

    cohort = Cohort(cfg)
    folder = Path(options.folder)
    suffix = "" if options.format == "parquet" else ".duckdb"
    for region in cohort.regions:  # before hours are spent on the first
        path = folder / f"{region.name}{suffix}"
        require(not path.exists(), f"{path} exists; remove it, or name another folder")
    found: list[dict[str, Any]] = []
    for k, (region, size) in enumerate(zip(cohort.regions, cohort.sizes, strict=True)):
        pieces = (records(cohort, k, start, min(start + PIECE, size)) for start in range(0, size, PIECE))
        path = write(pieces, folder, options.format)
        files = [path] if path.is_file() else sorted(path.iterdir())
        found.append(
            {
                "region": region.name,
                "path": str(path),
                "patients": size,
                "external": k in cohort.external,
                "bytes": sum(file.stat().st_size for file in files),
            }
        )
        if not (options.quiet or options.json):
            print(f"{path}: {size} patients, {found[-1]['bytes'] / 1e6:.1f} MB", file=options.out)
    if options.json:
        output.document(options.out, found)
    return SUCCESS
