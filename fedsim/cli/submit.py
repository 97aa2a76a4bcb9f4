"""fedsim submit: a sweep's missing cells as an array of SLURM, or the same tasks on this machine."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Mapping, Sequence
from contextlib import nullcontext, suppress
from pathlib import Path
from statistics import fmean
from typing import IO, Any

import yaml

from fedsim import plan, resources
from fedsim.base import FAILED, SUCCESS, Interrupted, RequestError, build, require, to_dict
from fedsim.cli import output, requested, stopping
from fedsim.cli.arguments import Options, Parser, add_name, add_quiet
from fedsim.cli.requested import Request
from fedsim.config import Experiment, RayExecutor
from fedsim.config.slurm import SlurmConfig

OPTION = "slurm"
THIS_FEDSIM = (sys.executable, "-m", "fedsim.cli")


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
    asked = shlex.join(["fedsim", "submit", options.name, *_flags(options), *options.overrides])
    cfg, options.overrides = settings(options.overrides)
    request = requested.by_name(options)
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
    experiments = {run: request.cells[run].experiment for run in missing}
    together = _begun(request, experiments, slurm.earlier(parent))
    tasks = plan.cut(experiments, cfg.tasks, _measured(request, stored), together)
    print(", ".join([*said, f"{len(missing)} to run in {len(tasks)} tasks"]), file=options.out, flush=True)

    submission = slurm.Submission(
        name=request.sweep.name,
        parent=parent,
        sweep=plan.find(options.name),
        place=Path.cwd(),
        command=[*(shlex.split(cfg.command) if cfg.command else THIS_FEDSIM), "sweep"],
        rest=[
            *(["--reduced"] if request.reduced else []),
            *(word for path in request.modules for word in ("--with", path)),
            *options.overrides,
        ],
        ray=["ray"] if cfg.command else [sys.executable, "-m", "ray.scripts.scripts"],
        asked=asked,
        tasks=[task.runs for task in tasks],
        labels={run: requested.named(request.cells[run]) for run in missing},
        threads=max(request.cells[run].experiment.numerics.threads for run in missing),
        python_path=None if cfg.command else _python_path(),
    )
    files = submission.files(cfg)
    if options.dry_run:
        _show(options.out, files)
        return SUCCESS
    ResultStore(request.store).check_writable()
    script = slurm.written(files)
    if cfg.executor == "local":
        return _here(options, cfg, script, len(tasks), request)
    job = slurm.submit(script)
    print(f"{_near(script)}: submitted as job {job}", file=options.out)
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


def _flags(options: Options) -> list[str]:
    return [*(["--reduced"] if options.reduced else []), *(w for m in options.modules for w in ("--with", m))]


def _check_nodes(cfg: SlurmConfig, request: Request) -> None:
    for cell in request.cells.values():
        executor = cell.experiment.executor
        require(
            cfg.nodes == 1 or isinstance(executor, RayExecutor),
            f"slurm.nodes={cfg.nodes} needs executor=ray; executor={executor.name} works on one node",
        )


def _begun(
    request: Request, experiments: Mapping[str, Experiment], earlier: Sequence[Sequence[str]]
) -> list[list[str]]:
    """What is left of earlier tasks and has a checkpoint, which only the same runs side by side can use."""
    from fedsim.store import checkpoint

    keys = plan.structure_keys(experiments)
    found: list[list[str]] = []
    taken: set[str] = set()
    for runs in earlier:
        alike: dict[str, list[str]] = {}
        for run in runs:
            if run in experiments and run not in taken:
                alike.setdefault(keys[run], []).append(run)
        for group in alike.values():
            if checkpoint.begun(request.store, group):
                found.append(group)
                taken.update(group)
    return found


def _measured(request: Request, stored: Mapping[str, Mapping[str, Any]]) -> dict[str, float]:
    """Structure -> mean seconds of the sweep's runs of it that are stored."""
    timed = {r: s["seconds"] for r, s in stored.items() if s["state"] == "done" and s["seconds"] is not None}
    took: dict[str, list[float]] = {}
    for run, key in plan.structure_keys({run: request.cells[run].experiment for run in timed}).items():
        took.setdefault(key, []).append(float(timed[run]))
    return {key: fmean(seconds) for key, seconds in took.items()}


def _python_path() -> str | None:
    """PYTHONPATH, whichever folder the task begins in."""
    given = os.environ.get("PYTHONPATH")
    return os.pathsep.join(map(os.path.abspath, given.split(os.pathsep))) if given else None


def _show(out: IO[str], files: Mapping[Path, str]) -> None:
    for path, text in files.items():
        print(f"\n=== {_near(path)}\n{text}", file=out, end="")


def _here(options: Options, cfg: SlurmConfig, script: Path, tasks: int, request: Request) -> int:
    from fedsim import slurm
    from fedsim.store import ResultStore

    with stopping.listening() as stopped:
        for task, code in slurm.run_here(script, tasks, cfg.workers, cfg.retries, stopped):
            if not options.quiet:
                ended = "done" if code == 0 else f"exit code {code}; see {_near(script.parent / 'logs')}"
                print(f"task {task}: {ended}", file=options.out, flush=True)
        if stopped():
            raise Interrupted("stopped, with what was reached saved; the same command goes on from there")
    states = ResultStore(request.store).states(request.cells)
    print(f"{len(states)} cells: {output.counts(states.values())}", file=options.out)
    return SUCCESS if set(states.values()) <= request.finished - {"diverged"} else FAILED


def _near(path: Path) -> Path:
    """Relative to the current folder where it lies there."""
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path
