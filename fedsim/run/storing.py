"""What packs leave behind, stored in a thread while the next pack trains."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

from fedsim.store import Claims, Hold, ResultStore, RunResult, sinks


@dataclass(frozen=True)
class Stored:
    """What became of a pack. results: run -> what was stored; lost: jobs that another process took over."""

    results: dict[str, RunResult]
    lost: list[Any]


class Storing:
    """Stores packs in the order they come.

    forget: called with the jobs of a pack that is stored whole.
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
        self._side.shutdown()
        self._fresh.save()

    def _write(self, jobs: list[Any], results: Sequence[RunResult], hold: Hold) -> Stored:
        done = Stored({}, [])
        for job, result in zip(jobs, results, strict=True):
            if hold.keeps(job.run):
                self._store.write(job.run, result, self._fresh)
                done.results[job.run] = result
            else:
                done.lost.append(job)
        told = {job.run: job.cell for job in jobs if job.run in done.results and done.results[job.run].rounds}
        sinks.write(jobs[0].experiment.sinks, self._store, self._store.root, "fedsim", told)
        if not done.lost:  # else another process goes on from its checkpoints
            self._forget(jobs)
        return done
