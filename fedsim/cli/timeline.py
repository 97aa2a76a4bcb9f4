"""fedsim timeline: draw when clients received, trained and sent."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fedsim.base import SUCCESS, require
from fedsim.cli import requested
from fedsim.cli.arguments import Options, Parser, add_modules
from fedsim.config import Experiment


def describe(parser: Parser) -> None:
    parser.add_argument(
        "asked",
        nargs="*",
        default=[],
        metavar="RUN_ID|NAME",
        help="a run, or an experiment (with overrides); the newest run where none is given",
    )
    parser.add_argument("--reduced", action="store_true", help="of an experiment, its small variant")
    parser.add_argument("--rounds", type=int, default=20, help="server steps that are drawn, from the first")
    parser.add_argument("--to", default="", help="folder to write to; default: timelines, beside the store")
    add_modules(parser)


def main(options: Options) -> int:
    require(options.rounds >= 1, f"--rounds must be >= 1, got {options.rounds}")
    from fedsim.report import publish, timeline
    from fedsim.store import ResultStore

    names = [word for word in options.asked if "=" not in word]
    require(len(names) < 2, f"one run or experiment at a time, got {' '.join(names)}")
    name, overrides = (names or [""])[0], [word for word in options.asked if "=" in word]
    roots = [word.removeprefix("results=") for word in overrides if word.startswith("results=")]
    store = ResultStore(roots[-1] if roots else Experiment.results)
    stored = store.ids()
    if name in stored or not name:
        require(len(overrides) == len(roots), f"only results= goes with a run, got {' '.join(overrides)}")
        runs = {name: ""} if name else _newest(store, stored)
    else:
        options.name, options.overrides = name, overrides
        request = requested.by_name(options)
        store = ResultStore(request.store)
        runs = {run: requested.named(cell) for run, cell in request.cells.items() if _has(store, run)}
        require(runs, f"no run of {name} has a timeline; run it with system=lognormal or system=trace")
    folder = Path(options.to) if options.to else store.root.parent / "timelines"
    for run, label in runs.items():
        require(_has(store, run), f"run {run} has no timeline; run it with system=lognormal or system=trace")
        columns = store.read(run, "timeline").to_pydict()
        drawn = timeline.draw(run, columns, label or f"Run {run}", options.rounds)
        files = {folder / file: content for file, content in drawn.files().items()}
        publish(files, "fedsim timeline", "give --to another folder")
        print(*files, sep="\n", file=options.out)
    return SUCCESS


def _newest(store: Any, stored: list[str]) -> dict[str, str]:
    """The last run written that has a timeline."""
    runs = [run for run in stored if _has(store, run)]
    require(runs, f"no run in {store.root} has a timeline; run one with system=lognormal or system=trace")
    return {max(runs, key=lambda run: (store.root / run).stat().st_mtime_ns): ""}


def _has(store: Any, run: str) -> bool:
    return store.state(run) != "missing" and "timeline" in store.manifest(run)["rows"]
