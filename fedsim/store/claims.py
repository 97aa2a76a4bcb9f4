"""Who works on which run: claims that hold across processes and machines, and outlive no holder.

A claim is a name, `.claims/RUN`, of its holder's file (a hard link), so it is made, or found taken, in
one step on every file system that several machines share. Another process takes a claim over only if

- its holder ran on this machine and is dead: the kernel has dropped its lock, or its process is gone;
- or the scheduler says that the job its holder ran in, or that restart of the job, runs no more;
- or its holder's counter has not moved for `patience` beats, which the watcher counts by its own
  monotonic clock: it is away, or suspended.

Whatever changes a claim of holder T, be it a takeover or T's own release, first makes the name
`.claims/RUN.T`, which only one process can. So of many watchers one takes over, and a holder that was
taken over, because it was suspended for long, cannot release what is another's by now.
"""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from fedsim.base import FedsimError, RequestError
from fedsim.store import owners
from fedsim.store.owners import Holder, Owner

BEAT_SECONDS = 5.0
PATIENCE = 60  # beats: five minutes; what NFS remembers of a file may be a minute old
_MOST = 10_000  # claims of one holder; ext4 allows 65,000 names of a file
_NO_LINKS = {errno.EPERM, errno.ENOSYS, errno.EOPNOTSUPP}


class Scheduler(Protocol):
    """What the store asks of a cluster's scheduler, which it does not know."""

    def here(self) -> Mapping[str, str]:
        """Ids of the job, and of its restart, that this process runs in; empty outside of a job."""

    def is_over(self, job: Mapping[str, str]) -> bool:
        """Whether what `here` gave in some process certainly runs no more; False when in doubt."""


@dataclass
class _Watched:
    """A holder as this process saw it. beats: how many it has been silent for, counted at `at`."""

    pulse: bytes
    beats: int
    at: float


class Hold:
    """Claims taken. runs: those that were free, in the order they were asked for."""

    def __init__(self, folder: Path, holder: Holder) -> None:
        self.runs: list[str] = []
        self._folder, self._holder = folder, holder

    def keeps(self, run_id: str) -> bool:
        """Whether the claim is still there; to be asked before storing what took long."""
        return self._holder.owns(self._folder / run_id)

    def begin(self, runs: Sequence[str], total: float) -> None:
        """Say that `runs` are in work now, `total` rounds of all their folds together."""
        self._holder.begin(runs, total)

    def advance(self, rounds: float) -> None:
        """Say that so many rounds of them are done."""
        self._holder.advance(rounds)


class Claims:
    """Claims on runs of the store at `root`.

    scheduler: of the cluster, if there is one. beat_seconds: how often this process shows that it lives,
    as a holder; patience: beats of silence after which it gives another holder up.
    """

    def __init__(
        self,
        root: str | os.PathLike[str],
        scheduler: Scheduler | None = None,
        *,
        beat_seconds: float = BEAT_SECONDS,
        patience: int = PATIENCE,
    ) -> None:
        self.folder = Path(root).absolute() / ".claims"
        self._scheduler = scheduler
        self._beat_seconds, self._patience = beat_seconds, patience
        self._watched: dict[str, _Watched] = {}

    @contextmanager
    def take(self, ids: Iterable[str]) -> Iterator[Hold]:
        """Claim those of `ids` that nobody holds, without waiting; they are released on leaving.

        One call takes 10,000 at most: call again until every run is done. A run found free may have been
        finished meanwhile: ask the store after claiming it.

        Raises:
          RequestError: the folder cannot be written.
          FedsimError: the file system has no hard links.
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            holder = Holder(
                self.folder, self._beat_seconds, self._scheduler.here() if self._scheduler else {}
            )
        except OSError as error:
            raise self._unwritable(error) from error
        hold = Hold(self.folder, holder)
        asked: list[str] = []
        try:
            try:
                for run_id in dict.fromkeys(ids):
                    if len(hold.runs) == _MOST:
                        break
                    asked.append(run_id)  # before it is claimed: an interruption must not leave it
                    if self._claim(self.folder / run_id, holder):
                        hold.runs.append(run_id)
            except OSError as error:
                raise self._unwritable(error) from error
            yield hold
        finally:
            for run_id in asked:
                with suppress(OSError, FedsimError):
                    if holder.owns(self.folder / run_id):
                        self._change(self.folder / run_id, holder.token, holder, None)
            holder.close()

    def holders(self, ids: Iterable[str]) -> dict[str, Owner]:
        """Those of `ids` that some process, or this one, holds now, and who that is."""
        wanted = set(ids)
        owner_of: dict[int, Owner | None] = {}
        found: dict[str, Owner] = {}
        try:
            with os.scandir(self.folder) as entries:
                here = [entry for entry in entries if entry.name in wanted]
        except OSError:
            return {}
        for entry in here:
            inode = entry.inode()
            if inode not in owner_of:
                path = Path(entry.path)
                owner = owners.read(path)
                owner_of[inode] = None if owner is None or self._is_dead(owner, path) else owner
            if (owner := owner_of[inode]) is not None:
                found[entry.name] = owner
        return found

    def wait(
        self, run_id: str, poll_seconds: float = 0.2, stopped: Callable[[], bool] = lambda: False
    ) -> None:
        """Return when nobody holds `run_id`, its holder is given up, or `stopped` says so."""
        path = self.folder / run_id
        while (owner := owners.read(path)) is not None and not self._is_dead(owner, path) and not stopped():
            time.sleep(poll_seconds)

    def clean(self) -> None:
        """Remove what dead processes left behind and nobody asks for any more."""
        with suppress(OSError):
            holder: Holder | None = None
            for path in list(self.folder.iterdir()):
                owner = owners.read(path)
                if owner is None or not self._is_dead(owner, path):
                    continue
                if path.name.startswith("."):
                    if path.stat().st_size:  # empty while its process makes it
                        path.unlink(missing_ok=True)
                else:
                    holder = holder or Holder(self.folder, self._beat_seconds, {})
                    self._change(path, owner.token, holder, None)
            if holder is not None:
                holder.close()

    # --- one claim -------------------------------------------------------------------------------

    def _claim(self, path: Path, holder: Holder) -> bool:
        while not _link(holder.path, path):
            owner = owners.read(path)
            if owner is None:  # released just now
                continue
            return self._is_dead(owner, path) and self._change(path, owner.token, holder, holder)
        return True

    def _change(self, path: Path, token: str, me: Holder, new: Holder | None) -> bool:
        """Make the claim `path` of holder `token` one of `new`, or nobody's; False if another was first."""
        right = path.with_name(f"{path.name}.{token}")
        if not _link(me.path, right):
            other = owners.read(right)  # who took the right; dead perhaps, and then it stands in the way
            if other is not None and self._is_dead(other, right):
                self._change(right, other.token, me, None)
            return False
        try:
            owner = owners.read(path)
            if owner is None or owner.token != token:
                return False
            if new is None:
                path.unlink()
            else:
                aside = path.with_name(f".{path.name}.{new.token}")
                _link(new.path, aside)
                os.replace(aside, path)
            return True
        finally:
            right.unlink(missing_ok=True)

    def _is_dead(self, owner: Owner, path: Path) -> bool:
        """Whether a holder can be given up; one that is silent is asked about once a beat."""
        if owners.is_gone_here(owner, path):
            return True
        now = time.monotonic()
        seen = self._watched.get(owner.token)
        if seen is None or seen.pulse != owner.pulse:
            self._watched[owner.token] = _Watched(owner.pulse, 0, now)
            return False
        # Looks, not time: a file server that hung for an hour has kept everybody silent.
        if now - seen.at >= (owner.beat_seconds or self._beat_seconds):
            seen.beats, seen.at = seen.beats + 1, now
            if owner.job and self._scheduler is not None and self._scheduler.is_over(owner.job):
                seen.beats = self._patience
        return seen.beats >= self._patience

    def _unwritable(self, error: OSError) -> RequestError:
        return RequestError(
            f"results folder {self.folder.parent} cannot be written ({error.strerror or error}); "
            "set results=... to a folder that can"
        )


def _link(source: Path, name: Path) -> bool:
    """Give `source` another name; False if the name is taken."""
    try:
        os.link(source, name)
    except FileExistsError:
        # NFS asks again when an answer is lost, and is told of its own success.
        with suppress(FileNotFoundError):
            return os.path.samefile(source, name)
        return False
    except OSError as error:
        if error.errno in _NO_LINKS:
            raise FedsimError(
                f"the file system of {name.parent} has no hard links ({error.strerror}), by which processes "
                "share work; set results=... to a folder on one that has"
            ) from error
        raise
    return True
