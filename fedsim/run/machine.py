"""Where packs of runs are checked, cut to size and run: this process's devices, and its executors."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from fedsim.base import RequestError
from fedsim.config import Experiment, Numerics, RayExecutor
from fedsim.environment import prepare
from fedsim.run.naming import naming
from fedsim.run.progress import Progress
from fedsim.store import Hold, RunResult, checkpoint


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
