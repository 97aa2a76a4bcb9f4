"""fedsim estimate: survival curves, tests, quantiles and table one, from sums that sites send."""

from __future__ import annotations

from typing import Any

from fedsim.base import SUCCESS, nearest, require
from fedsim.cli import custom, output
from fedsim.cli.arguments import Options, Parser, add_json, add_overrides
from fedsim.config.estimate import MEMBERS

FORMATS = ("text", "markdown", "csv")


def describe(parser: Parser) -> None:
    parser.add_argument("what", metavar="WHAT", help=", ".join(MEMBERS))
    add_overrides(parser, "option=value", "data=tcga_brca data.path=FOLDER by=client (docs/statistics.md)")
    parser.add_argument("--format", default="text", metavar="FORMAT", help=", ".join(FORMATS))
    add_json(parser)


def main(options: Options) -> int:
    # Before data are read, which may take long.
    require(options.what in MEMBERS, f"unknown statistic {options.what!r}; {nearest(options.what, MEMBERS)}")
    require(
        options.format in FORMATS, f"unknown format {options.format!r}; " + nearest(options.format, FORMATS)
    )
    custom.load(options.modules)
    source, values = _split(options.overrides)

    from fedsim import data
    from fedsim.cli.data import source_of
    from fedsim.estimate import asked, estimate

    cfg = asked(options.what, values)
    found = estimate(options.what, cfg, data.load(source_of(source)))
    if options.json:
        output.document(options.out, found)
    else:
        _show(options, found)
    return SUCCESS


def _split(words: list[str]) -> tuple[list[str], dict[str, Any]]:
    """(words about data, the statistic's own options)."""
    from fedsim.cli.compose import parse

    source: list[str] = []
    values: dict[str, Any] = {}
    for word in words:
        override = parse(word)
        if override.path == "data" or override.path.startswith("data."):
            source.append(word)
            continue
        require(not override.swept, f"{override.path} has several values; write a list, as in [1,2]")
        require(override.path not in values, f"{override.path} is given twice; give it once")
        values[override.path] = override.value
    require(
        any(word.startswith("data=") for word in source),
        "fedsim estimate needs data; set data=NAME, as in data=heart_disease, see fedsim data list",
    )
    return source, values


def _show(options: Options, found: dict[str, Any]) -> None:
    from fedsim.estimate import shown

    every = shown.tables(found)
    for i, table in enumerate(every):
        if i:
            print(file=options.out)
        if options.format == "csv":
            print(shown.to_csv(table), end="", file=options.out)
        elif options.format == "markdown":
            print(shown.markdown(table), end="", file=options.out)
        else:
            output.columns(options.out, table.rows, table.header)
    if options.format == "csv":
        return
    print(file=options.out)
    for note in shown.notes(found):
        print(f"{note}  " if options.format == "markdown" else note, file=options.out)
    if "privacy" in found:
        _show_privacy(options, found["privacy"])


def _show_privacy(options: Options, said: dict[str, Any]) -> None:
    print(f"epsilon {said['epsilon']:.4g} at delta {said['delta']:.4g}", file=options.out)
    for key in ("mechanism", "unit", "relation", "accountant", "conversion"):
        if said[key] is not None:
            print(f"  {key}: {said[key]}", file=options.out)
    print(f"  covered: {', '.join(said['covered'])}", file=options.out)
    for note in said["notes"]:
        print(f"  {note}", file=options.out)
