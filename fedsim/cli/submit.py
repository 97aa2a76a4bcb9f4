"""fedsim submit: a sweep's missing cells as an array of SLURM, or the same tasks on this machine."""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import nullcontext, suppress
from multiprocessing import get_context
from pathlib import Path
from typing import IO, Any

import yaml

from fedsim import plan, resources
from fedsim.base import FAILED, SUCCESS, FedsimError, RequestError, build, require, to_dict
from fedsim.cli import custom, output, requested, tables, tasks
from fedsim.cli.arguments import Options, Parser, add_name, add_quiet
from fedsim.cli.requested import Request
from fedsim.config import Numerics, RayExecutor
from fedsim.config.slurm import SlurmConfig
from fedsim.plan import Cell

OPTION = "slurm"


def describe(parser: Parser) -> None:
    add_name(parser)
    parser.add_argument("--dry-run", action="store_true", help="show script and tasks, and submit nothing")
    add_quiet(parser)
    parser.epilog = (
        "slurm.OPTION=value says what tasks get, slurm=FILE.yaml reads many: "
        + ", ".join(f"slurm.{name}" for name in to_dict(SlurmConfig()))
        + "; see docs/cluster.md"
    )


def main(options: Options) -> int:
    asked = shlex.join(["fedsim", "submit", options.name, *tasks.flags(options), *options.overrides])
    cfg, options.overrides = settings(options.overrides)
    request = requested.by_name(options)
    tables.require_declared(request)
    _check_nodes(cfg, request)

    from fedsim import slurm
    from fedsim.store import ResultStore

    stored = ResultStore(request.store).summaries(request.cells)
    states = {run: stored[run]["state"] if run in stored else "missing" for run in request.cells}
    left = [run for run, state in states.items() if state not in request.finished]
    parent = request.out / slurm.FOLDER
    queued: Mapping[str, slurm.Element] = {}
    if cfg.executor == "slurm":
        with suppress(RequestError) if options.dry_run else nullcontext():
            queued = slurm.queued(parent)
    missing = [run for run in left if run not in queued]
    said = [f"{len(states)} cells: {output.counts(states.values())}"]
    if len(left) > len(missing):
        said.append(f"{len(left) - len(missing)} queued or running")
    if not missing:
        print(", ".join([*said, "nothing to submit"]), file=options.out)
        return SUCCESS
    submission = tasks.submission_of(options, cfg, request, missing, asked, stored)
    said.append(f"{len(missing)} to run in {len(submission.tasks)} tasks")
    print(", ".join(said), file=options.out, flush=True)
    files = submission.files(cfg)
    if options.dry_run:
        _show(options.out, files)
        return SUCCESS
    ResultStore(request.store).check_writable()
    _check_cells(_untried(request, missing, states), request.modules)
    script = slurm.written(files)
    if cfg.executor == "local":
        return _here(options, cfg, script, len(submission.tasks), request)
    job = slurm.submit(script)
    print(f"{tasks.near(script)}: submitted as job {job}", file=options.out)
    return SUCCESS


def settings(overrides: list[str]) -> tuple[SlurmConfig, list[str]]:
    """The options that `slurm=FILE` and `slurm.OPTION=value` give, and the overrides that are left.

    Raises:
      RequestError: an unknown option, a value out of range, a file that cannot be read.
    """
    mine = [o for o in overrides if o.partition("=")[0].lstrip("+") == OPTION or o.startswith(f"{OPTION}.")]
    values = _read(resources.folder("configs") / OPTION / "default.yaml")
    if mine:
        from fedsim.cli.compose import parse

        given = [parse(text) for text in mine]
        # As SLURM lists partitions: a,b.
        chosen = {o.path: ",".join(map(str, o.values)) if o.swept else o.value for o in given}
        if OPTION in chosen:
            values |= _read(Path(str(chosen.pop(OPTION))))
        for path, value in chosen.items():
            values[path.removeprefix(f"{OPTION}.")] = value
    return build(SlurmConfig, values, OPTION), [o for o in overrides if o not in mine]


def _read(path: Path) -> dict[str, Any]:
    try:
        found = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        why = getattr(error, "strerror", None) or getattr(error, "problem", None) or error
        raise RequestError(
            f"slurm={path} cannot be read ({why}); give a YAML file of slurm's options"
        ) from error
    require(isinstance(found, dict), f"slurm={path} must hold options, a line each: partition: long")
    return dict(found)


def _check_nodes(cfg: SlurmConfig, request: Request) -> None:
    for cell in request.cells.values():
        executor = cell.experiment.executor
        require(
            cfg.nodes == 1 or isinstance(executor, RayExecutor),
            f"slurm.nodes={cfg.nodes} needs executor=ray; executor={executor.name} works on one node",
        )


def _untried(request: Request, missing: Sequence[str], states: Mapping[str, str]) -> list[Cell]:
    """The missing cells of which none that shares their compiled program is done."""
    keys = plan.structure_keys({run: cell.experiment for run, cell in request.cells.items()})
    tried = {keys[run] for run, state in states.items() if state == "done"}
    return [request.cells[run] for run in missing if keys[run] not in tried]


def _check_cells(cells: Sequence[Cell], modules: tuple[str, ...]) -> None:
    """Raises RequestError for a cell that cannot be run. In processes that end: each has one precision, and
    this one needs no JAX."""
    alike: dict[Numerics, list[Cell]] = {}
    for cell in cells:
        alike.setdefault(cell.experiment.numerics, []).append(cell)
    for some in alike.values():
        with ProcessPoolExecutor(1, get_context("spawn"), _begin, (modules,)) as pool:
            try:
                wrong = pool.submit(_wrong, some).result()
            except BrokenProcessPool as error:
                raise FedsimError(
                    "the process that looks at cells before they are submitted was killed, as where there is "
                    "too little memory; free some, or submit from another machine"
                ) from error
        if wrong:
            raise RequestError(wrong)


def _begin(modules: tuple[str, ...]) -> None:
    os.environ["JAX_PLATFORMS"] = "cpu"  # a login node's devices are others'
    custom.load(modules)


def _wrong(cells: Sequence[Cell]) -> str | None:
    from fedsim.run import check_experiments

    try:
        check_experiments(cells)
    except RequestError as error:
        return str(error)
    return None


def _show(out: IO[str], files: Mapping[Path, str]) -> None:
    for path, text in files.items():
        print(f"\n=== {tasks.near(path)}\n{text}", file=out, end="")


def _here(options: Options, cfg: SlurmConfig, script: Path, count: int, request: Request) -> int:
    from fedsim.store import ResultStore

    for task, code, last in tasks.ended(cfg, script, count):
        if not options.quiet:
            ended = tasks.failure(code, last, script) if code else "done"
            print(f"task {task}: {ended}", file=options.out, flush=True)
    states = ResultStore(request.store).states(request.cells)
    print(f"{len(states)} cells: {output.counts(states.values())}", file=options.out)
    return SUCCESS if set(states.values()) <= request.finished - {"diverged"} else FAILED
