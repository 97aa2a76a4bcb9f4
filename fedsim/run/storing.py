"""What packs leave behind, stored in a thread while the next pack trains."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple

from fedsim.store import Claims, Hold, ResultStore, RunResult, sinks


class Stored(NamedTuple):
    """What became of a pack. runs: run -> (status, error), of those stored; lost: runs that another process
    took over."""

    runs: dict[str, tuple[str, str | None]]
    lost: list[str]


class Storing:
    """Stores packs in the order they come. Its methods are called by one thread; `_write`, what that calls,
    and the release of claims run in the other.

    forget: called, there, with the jobs of a pack that is stored whole.
    """

    def __init__(self, store: ResultStore, forget: Callable[[list[Any]], object]) -> None:
        self._store, self._forget = store, forget
        self._fresh = store.fresh()
        self._side = ThreadPoolExecutor(1)
        self._waiting: deque[Future[Stored]] = deque()

    @contextmanager
    def holding(self, claims: Claims, runs: Sequence[str]) -> Iterator[Hold]:
        """Claim `runs`; they are released once all that was put meanwhile is stored."""
        with ExitStack() as stack:
            hold = stack.enter_context(claims.take(runs))
            release = stack.pop_all().close
        try:
            yield hold
        finally:
            self._side.submit(release)

    def put(self, jobs: list[Any], results: Sequence[RunResult], hold: Hold) -> None:
        """Store what came of a pack of claimed jobs, some time soon."""
        self._waiting.append(self._side.submit(self._write, jobs, results, hold))

    def settled(self, most: int = 0) -> Iterator[Stored]:
        """Packs that are stored, each said once; waits until at most `most` are not.

        Raises:
          FedsimError: one cannot be stored.
        """
        while len(self._waiting) > most or (self._waiting and self._waiting[0].done()):
            yield self._waiting.popleft().result()

    def failed(self) -> bool:
        """Whether something cannot be stored, which `settled` raises."""
        return any(future.done() and future.exception() is not None for future in self._waiting)

    def close(self) -> None:
        """Wait for all that was put."""
        try:
            self._side.shutdown()
        finally:
            self._fresh.save()

    def _write(self, jobs: list[Any], results: Sequence[RunResult], hold: Hold) -> Stored:
        done = Stored({}, [])
        told = {}
        for job, result in zip(jobs, results, strict=True):
            if not hold.keeps(job.run):
                done.lost.append(job.run)
                continue
            self._store.write(job.run, result, self._fresh)
            done.runs[job.run] = result.status, result.error
            if result.rounds:
                told[job.run] = job.cell
        sinks.write(jobs[0].experiment.sinks, self._store, self._store.root, "fedsim", told)
        if not done.lost:  # else another process goes on from its checkpoints
            self._forget(jobs)
        return done
