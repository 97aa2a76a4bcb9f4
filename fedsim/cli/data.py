"""fedsim data: what there is, what a source holds, and whether it is intact."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fedsim.base import SUCCESS, build_choice, nearest, require
from fedsim.cli import custom, listing, output
from fedsim.cli.arguments import Options, Parser, add_json, add_overrides

ACTIONS = ("list", "describe", "fetch")


def describe(parser: Parser) -> None:
    parser.add_argument("action", metavar="ACTION", help=", ".join(ACTIONS))
    add_overrides(parser, "NAME", "table data.path=cohort.csv")
    add_json(parser)


def main(options: Options) -> int:
    require(
        options.action in ACTIONS, f"unknown action {options.action!r}; {nearest(options.action, ACTIONS)}"
    )
    custom.load(options.modules)
    if options.action == "list":
        return _list(options)
    require(options.overrides, f"fedsim data {options.action} needs a NAME; see fedsim data list")

    from fedsim import data

    cfg = source_of(options.overrides)
    federation = data.load(cfg)
    found = data.describe(federation)
    if options.action == "fetch":
        # What comes with fedsim or its packages is verified when it is loaded.
        found = {key: found[key] for key in ("source", "licence", "fingerprint", "clients", "rows")}
        if not options.json:
            print(f"{cfg.name}: nothing to fetch, here and intact", file=options.out)
    if options.json:
        output.document(options.out, found)
    else:
        _show(options, found)
    return SUCCESS


def _list(options: Options) -> int:
    found = listing.members("data")
    if options.json:
        output.document(options.out, found)
    else:
        output.columns(options.out, list(found.items()))
    return SUCCESS


def source_of(words: Sequence[str]) -> Any:
    """The config of a source: its NAME, or `data=NAME`, and its options."""
    from fedsim.cli.compose import compose, parse
    from fedsim.plan import assign

    given = [parse(word if "=" in word else f"data={word}") for word in words]
    for override in given:
        known = override.path == "data" or override.path.startswith("data.")
        require(known, f"{override.path} says nothing about data; give options of data alone")
    picks = [f"data={override.value}" for override in given if override.picks]
    values = {"data": compose(picks[-1:])["data"]}
    for override in given:
        if not override.picks:
            assign(values, override.path, override.value)
    return build_choice("data", values["data"], "data")


def _show(options: Options, found: dict[str, Any]) -> None:
    clients, notes = found.pop("per_client", None), found.pop("notes", ())
    shown = {key: value for key, value in found.items() if value not in ([], None)}
    rows = [
        (key, ", ".join(map(str, value)) if isinstance(value, list) else value)
        for key, value in shown.items()
    ]
    output.columns(options.out, [(key, output.show(value)) for key, value in rows])
    if clients:
        print(file=options.out)
        names = list(dict.fromkeys(name for client in clients for name in client))
        output.columns(options.out, [[client.get(n) for n in names] for client in clients], names)
    for note in notes:
        print(f"note: {note}", file=options.out)
