"""A sweep's cells as tasks of several processes, on a cluster or on this machine."""

from __future__ import annotations

import os
import shlex
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

from fedsim import plan
from fedsim.base import Interrupted, require
from fedsim.cli import progress, requested, stopping
from fedsim.cli.arguments import Options
from fedsim.cli.requested import Request
from fedsim.config import Experiment, RayExecutor
from fedsim.config.slurm import SlurmConfig

if TYPE_CHECKING:
    from fedsim.slurm import Submission

THIS_FEDSIM = (sys.executable, "-m", "fedsim.cli")
_LOOK_SECONDS = 2.0  # between looks at the store


def share(options: Options, request: Request, left: Sequence[str], workers: int) -> None:
    """Run the cells `left` in `workers` processes of this machine, as tasks of a submission.

    Raises:
      RequestError: a cell runs on Ray, or the results folder cannot be written.
      Interrupted: stopped, by Ctrl-C or a warning.
    """
    ray = any(isinstance(request.cells[run].experiment.executor, RayExecutor) for run in left)
    require(
        not ray,
        f"--processes={workers} shares cells of executor=inline; executor=ray shares each cell's clients "
        "between executor.workers: leave one of the two out",
    )

    from fedsim import slurm
    from fedsim.run.progress import Silent
    from fedsim.store import ResultStore

    store = ResultStore(request.store)
    cfg = SlurmConfig(executor="local", workers=workers, tasks=workers)
    asked = shlex.join(["fedsim", "sweep", options.name, *flags(options), *options.overrides])
    submission = submission_of(options, cfg, request, left, asked, store.summaries(request.cells))
    store.check_writable()
    script = slurm.written(submission.files(cfg))
    shown = progress.watch(options.quiet) or Silent()
    waiting, looked = list(left), 0.0

    def look() -> None:
        nonlocal waiting, looked
        if time.monotonic() - looked < _LOOK_SECONDS:
            return
        states = store.states(waiting)  # not of all: what is finished stays so
        waiting = [run for run in waiting if states[run] not in request.finished]
        shown.advance(len(states) - len(waiting))
        looked = time.monotonic()

    shown.start(len(left), f"{len(left)} runs in {len(submission.tasks)} processes")
    try:
        for task, code, last in ended(cfg, script, len(submission.tasks), look):
            if code:
                said = f"process {task}: {failure(code, last, script)}"
                if isinstance(shown, Silent):
                    print(f"fedsim: {said}", file=sys.stderr)
                else:
                    shown.note(said)
    finally:
        shown.close()


def submission_of(
    options: Options,
    cfg: SlurmConfig,
    request: Request,
    missing: Sequence[str],
    asked: str,
    stored: Mapping[str, Mapping[str, Any]],
) -> Submission:
    """The cells `missing` as an array of tasks. stored: summaries of the sweep's runs that there are."""
    from fedsim import slurm

    parent = request.out / slurm.FOLDER
    experiments = {run: request.cells[run].experiment for run in missing}
    together = _begun(request, experiments, slurm.earlier(parent))
    tasks = plan.cut(experiments, cfg.tasks, _measured(request, stored), together)
    return slurm.Submission(
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


def ended(
    cfg: SlurmConfig, script: Path, tasks: int, look: Callable[[], None] = lambda: None
) -> Iterator[tuple[int, int, str]]:
    """(task, exit code, its last line) as each ends. Raises Interrupted when stopped."""
    from fedsim import slurm

    with stopping.listening() as stopped:
        yield from slurm.run_here(script, tasks, cfg.workers, cfg.retries, stopped, look)
        if stopped():
            raise Interrupted("stopped, with what was reached saved; the same command goes on from there")


def failure(code: int, last: str, script: Path) -> str:
    """How a task of `script` failed, in words. last: the last line that it wrote."""
    why = last.removeprefix("fedsim: ").removeprefix("error: ")
    return f"exit code {code}{': ' if why else ''}{why}; see {near(script.parent / 'logs')}"


def near(path: Path) -> Path:
    """Relative to the current folder where it lies there."""
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


def flags(options: Options) -> list[str]:
    return [*(["--reduced"] if options.reduced else []), *(w for m in options.modules for w in ("--with", m))]


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
