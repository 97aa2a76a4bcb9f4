"""Run experiments: pack what shares a program, train, judge, store. Each id is run once."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from fedsim.base import FedsimError, Interrupted, RequestError
from fedsim.config import Accounted, Experiment, Inline
from fedsim.plan import lane_rounds, structure_keys
from fedsim.run.machine import Machine
from fedsim.run.naming import naming
from fedsim.run.progress import Progress, Silent
from fedsim.store import Claims, Hold, ResultStore, RunResult, Scheduler, run_id, sinks

if TYPE_CHECKING:
    from fedsim.store.kept import Fresh

__all__ = ["Outcome", "Progress", "check_experiments", "run_experiments"]


class Cell(Protocol):
    """A run of a sweep: its experiment, and the choices that led to it."""

    @property
    def experiment(self) -> Experiment: ...

    @property
    def labels(self) -> dict[str, Any]: ...


@dataclass
class Outcome:
    """Run ids by what became of them. errors: one sentence for each that failed or diverged."""

    done: list[str] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    diverged: list[str] = field(default_factory=list)
    errors: dict[str, str] = field(default_factory=dict)
    seconds: float = 0.0


def run_experiments(
    cells: Sequence[Cell],
    store_root: Path,
    *,
    rerun_stale: bool = True,
    progress: Progress | None = None,
    modules: tuple[str, ...] = (),
    scheduler: Scheduler | None = None,
    stopped: Callable[[], bool] = lambda: False,
) -> Outcome:
    """Run every cell that the store does not hold, and store it.

    Args:
      rerun_stale: also those whose rows another version of the source made.
      modules: paths of users' modules that executors must load too.
      scheduler: of the cluster this runs on: says which claims of other jobs are void.
      stopped: asked between calls of rounds whether to save what was reached, and to stop.

    Raises:
      Interrupted: `stopped` said so.
      RequestError: a wrong option or input, before anything is run; with the labels of its cell.
      FedsimError: the results folder fills up.
    """
    from fedsim.run.sources import Sources

    begin = time.perf_counter()
    shown = progress or Silent()
    store = ResultStore(store_root)
    store.check_writable()
    claims = Claims(store_root, scheduler)
    claims.clean()
    sources = Sources()
    jobs = _jobs(cells, sources)
    finished = {"done", "diverged"} if rerun_stale else {"done", "diverged", "stale"}

    def open_jobs(wanted: Sequence[str]) -> list[str]:
        states = store.states(wanted)
        return [run for run in wanted if states[run] not in finished]

    outcome = Outcome()
    todo = open_jobs(list(jobs))
    outcome.skipped = [run for run in jobs if run not in set(todo)]
    for note in dict.fromkeys(n for run in todo for n in sources.federation(jobs[run].experiment).notes):
        shown.note(f"note: {note}")
    packs = _alike({run: jobs[run] for run in todo})
    shown.start(sum(lane_rounds(jobs[run].experiment) for run in todo), f"{len(todo)} runs")
    machine = Machine(store_root, sources, shown, modules, stopped)
    tried: set[str] = set()
    fresh = store.fresh()
    try:
        groups = list(packs.values())
        _check(machine, [[jobs[run] for run in members] for members in groups])
        for i, members in enumerate(groups):
            machine.warmed()
            if i + 1 < len(groups):
                machine.warm(jobs[groups[i + 1][0]].experiment)
            left = open_jobs(members)
            while left:
                with claims.take(left) as hold:
                    mine = open_jobs(hold.runs)  # another process may have finished some meanwhile
                    if mine:
                        chosen = [jobs[run] for run in mine]
                        tried |= _run(machine, store, fresh, chosen, hold, outcome, shown)
                others = [run for run in left if run not in set(hold.runs)]
                if others:  # another process runs these: wait, then see that they are there
                    claims.wait(others[0], stopped=stopped)
                left = [run for run in open_jobs(left) if run not in tried]
                if left and stopped():
                    raise Interrupted("stopped before what is left; the same command runs it")
        mentioned = {*outcome.skipped, *outcome.done, *outcome.diverged, *outcome.failed}
        outcome.skipped += [run for run in jobs if run not in mentioned]
    finally:
        machine.close()
        shown.close()
        fresh.save()
    outcome.seconds = time.perf_counter() - begin
    return outcome


def check_experiments(cells: Sequence[Cell]) -> None:
    """See that the options of every cell fit together, and its data: each structure is traced, in this
    process and for its devices, and nothing is compiled or stored.

    Raises:
      RequestError: one cannot be run, with the labels of its cell. What only the split of another seed than
        its structure's first makes impossible is found when it is run.
    """
    from fedsim.run.sources import Sources

    sources = Sources()
    here = {
        run: replace(job, experiment=replace(job.experiment, executor=Inline()))
        for run, job in _jobs(cells, sources).items()
    }
    machine = Machine(Path(), sources, Silent(), (), lambda: False)
    try:
        _check(machine, [[here[run] for run in members] for members in _alike(here).values()])
    finally:
        machine.close()


def _jobs(cells: Sequence[Cell], sources: Any) -> dict[str, Any]:
    """Run id -> job."""
    from fedsim.run.pack import Job

    found: dict[str, Job] = {}
    for cell in cells:
        run = run_id(cell.experiment, sources.federation(cell.experiment).fingerprint)
        found.setdefault(run, Job(run, cell.experiment, dict(cell.labels)))
    return found


def _alike(jobs: Mapping[str, Any]) -> dict[str, list[str]]:
    """Structure -> runs of it."""
    found: dict[str, list[str]] = {}
    for run, structure in structure_keys({run: job.experiment for run, job in jobs.items()}).items():
        found.setdefault(structure, []).append(run)
    return found


def _check(machine: Machine, groups: Sequence[Sequence[Any]]) -> None:
    """Raises RequestError for jobs, by structure, that cannot be run."""
    for job in (job for members in groups for job in members):
        asked = job.experiment
        sinks.check(asked.sinks)
        if isinstance(asked.privacy, Accounted) or asked.data.preprocess.noised:
            with naming(job.cell):
                machine.sources.lanes(asked)  # what has no valid account is refused
    if sum(map(len, groups)) > 1:  # one by itself is refused as it is built
        for members in groups:
            machine.check(members)


def _run(
    machine: Machine,
    store: ResultStore,
    fresh: Fresh,
    jobs: list[Any],
    hold: Hold,
    outcome: Outcome,
    shown: Progress,
) -> set[str]:
    """Run claimed jobs of one structure, store what comes of them, and return the runs stored."""
    stored: set[str] = set()
    for pack in machine.packs(jobs):
        if machine.stopped():
            raise Interrupted("stopped before what is left; the same command runs it")
        hold.begin([job.run for job in pack], sum(lane_rounds(job.experiment) for job in pack))
        try:
            results = machine.run(pack, hold)
        except (RequestError, Interrupted):
            raise
        except FedsimError as error:
            if machine.stopped():  # the machine is being taken apart around us: no failure of the run's
                raise Interrupted(f"stopped, and what is not yet saved is lost: {error}") from error
            results = [_failed(job, str(error)) for job in pack]
        kept = {job.run: result for job, result in zip(pack, results, strict=True) if hold.keeps(job.run)}
        store.write_all(kept, fresh)
        for job, result in zip(pack, results, strict=True):
            if job.run not in kept:
                shown.note(f"{job.run} was taken over by another process while this one was suspended")
                continue
            stored.add(job.run)
            getattr(outcome, result.status).append(job.run)
            if result.error:
                outcome.errors[job.run] = result.error
                shown.note(f"{job.run} {result.status}: {result.error}")
        ran = zip(pack, results, strict=True)
        told = {job.run: job.cell for job, result in ran if job.run in stored and result.rounds}
        sinks.write(pack[0].experiment.sinks, store, store.root, "fedsim", told)
        if stored.issuperset(job.run for job in pack):  # else another process goes on from them
            machine.forget(pack)
    return stored


def _failed(job: Any, error: str) -> RunResult:
    return RunResult(experiment=job.experiment, cell=job.cell, status="failed", error=error)
