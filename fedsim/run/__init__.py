"""Run experiments: pack what shares a program, train, judge, store. Each id is run once."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from fedsim.base import FedsimError, Interrupted, RequestError
from fedsim.config import Accounted, Experiment, Inline, Numerics, RayExecutor
from fedsim.environment import prepare
from fedsim.plan import lane_rounds, structure_keys
from fedsim.run.naming import naming
from fedsim.run.progress import Progress, Silent
from fedsim.store import Claims, Hold, ResultStore, RunResult, Scheduler, checkpoint, run_id, sinks

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
    process and for its CPU, and nothing is compiled or stored.

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
        for job, result in zip(pack, results, strict=True):
            if not hold.keeps(job.run):
                shown.note(f"{job.run} was taken over by another process while this one was suspended")
                continue
            store.write(job.run, result, fresh)
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


@dataclass
class Machine:
    """Devices and executors of this process, started when the first pack needs them."""

    root: Path
    sources: Any
    shown: Progress
    modules: tuple[str, ...]
    stopped: Callable[[], bool]
    _numerics: Numerics | None = None
    _pool: Any = None
    _warming: Future[Any] | None = None
    _side: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(1))

    def check(self, jobs: Sequence[Any]) -> None:
        """Raises RequestError, with its cell, for one of jobs of one structure whose options do not fit
        together. What only the split of a seed makes impossible is found when its pack is built."""
        from fedsim import world
        from fedsim.run.pack import candidates
        from fedsim.simulate.build import build

        with naming(jobs[0].cell):
            first = jobs[0].experiment
            self._start(first)
            federation, _ = self.sources.split(first)
            # Traced and laid out for one lane, on no device: nothing is compiled.
            lanes = self.sources.lanes(first)[:1]
            engine = build(federation, lanes, self._ask(first, "platform"), lambda setup: None)
            if not world.chooses(first.world):
                engine.schedules[0].meet(0)
        tried: set[int] = set()  # grids, by identity: cells of a sweep share them
        for job in jobs:
            grid = job.experiment.tune.grid
            if grid and id(grid) not in tried:
                tried.add(id(grid))
                with naming(job.cell):
                    candidates(job.experiment)

    def packs(self, jobs: list[Any]) -> list[list[Any]]:
        """Jobs cut into packs whose splits have as many clients, of whom as many join late, and that fit in
        memory."""
        from fedsim.run.capacity import lanes_that_fit

        self._start(jobs[0].experiment)
        groups: dict[Any, list[Any]] = {}
        for job in jobs:
            with naming(job.cell):
                federation, folds = self.sources.split(job.experiment)
            alike = id(federation), len(folds[0].ids), len(folds[0].late)
            groups.setdefault(alike, []).append(job)
        out: list[list[Any]] = []
        for members in groups.values():
            first = members[0].experiment
            limit = first.executor.lanes or lanes_that_fit(self._engine(first, self.sources.lanes(first)[:1]))
            room = 0
            for job in members:
                lanes = _lanes(job.experiment, self.sources)
                if lanes > room:
                    out.append([])
                    room = max(limit, lanes)
                out[-1].append(job)
                room -= lanes
        return out

    def warm(self, experiment: Experiment) -> None:
        """Compile an experiment's program on the side: tracing leaves the devices idle."""
        self._start(experiment)
        if not isinstance(experiment.executor, RayExecutor):
            engine = partial(self._engine, experiment, self.sources.lanes(experiment)[:1])
            self._warming = self._side.submit(lambda: engine().probe())

    def warmed(self) -> None:
        """Wait for `warm`; what went wrong there goes wrong again where it is needed."""
        if self._warming is not None:
            wait([self._warming])

    def run(self, pack: list[Any], hold: Hold) -> list[RunResult]:
        from fedsim.run.pack import Bench, run_pack
        from fedsim.run.train import Memo

        assert self._numerics is not None
        runs = [job.run for job in pack]
        every = pack[0].experiment.executor.checkpoint_seconds

        def advance(rounds: float) -> None:
            hold.advance(rounds)
            self.shown.advance(rounds)

        def memo(stem: Path) -> Memo:
            return Memo(stem, stem.name, every, self.shown.note, self.stopped)

        bench = Bench(
            sources=self.sources,
            engine=lambda lanes: self._engine(pack[0].experiment, lanes),
            memo=lambda phase: memo(checkpoint.stem_of(self.root, runs, phase)),
            advance=advance,
            device_kind=f"{self._ask(pack[0].experiment, 'device_kind')} threads {self._numerics.threads}",
        )
        return run_pack(pack, bench)

    def forget(self, pack: list[Any]) -> None:
        """Drop the checkpoints of a pack that is stored."""
        for phase in checkpoint.PHASES:
            checkpoint.discard(checkpoint.stem_of(self.root, [job.run for job in pack], phase))

    def close(self) -> None:
        self._side.shutdown()
        if self._pool is not None:
            self._pool.close()

    # --- devices -----------------------------------------------------------------------------

    def _start(self, experiment: Experiment) -> None:
        """Fix this process's settings; they are those of every experiment it runs."""
        wanted = experiment.numerics
        if self._numerics is None:
            prepare(wanted.threads, x64=wanted.x64)
            self._numerics = wanted
        mine, other = (self._numerics.threads, self._numerics.x64), (wanted.threads, wanted.x64)
        if mine != other:
            raise RequestError(
                f"numerics.threads and numerics.x64 are fixed for a process, but one command asks for {mine} "
                f"and {other}; run these experiments in two commands"
            )
        if isinstance(experiment.executor, RayExecutor) and self._pool is None:
            from fedsim.execute.ray import RayPool

            self._pool = RayPool(experiment.executor, wanted, self.modules)

    def _ask(self, experiment: Experiment, question: str) -> Any:
        """What a function of `fedsim.simulate.worker` says where the experiment's work is done."""
        if isinstance(experiment.executor, RayExecutor):
            return self._pool.ask(f"fedsim.simulate.worker:{question}")
        from fedsim.simulate import worker

        return getattr(worker, question)()

    def _engine(self, experiment: Experiment, lanes: Sequence[Any]) -> Any:
        from fedsim.simulate.build import build

        federation, _ = self.sources.split(experiment)
        return build(federation, lanes, self._ask(experiment, "platform"), self._workers(experiment))

    def _workers(self, experiment: Experiment) -> Callable[[Any], Any]:
        executor: Any = experiment.executor
        if isinstance(executor, RayExecutor):
            return lambda setup: self._pool.workers("fedsim.simulate.worker:Worker", setup)
        from fedsim.simulate.worker import inline

        return lambda setup: inline(setup, executor.devices)


def _lanes(experiment: Experiment, sources: Any) -> int:
    """Lanes of one run at its widest: folds times candidates."""
    from fedsim.run.pack import candidates

    return len(sources.split(experiment)[1]) * max(1, len(candidates(experiment)))
