"""Who holds a claim, and what can be known of a process that may be gone or on another machine.

A holder is one small file. Its first line says who it is and never changes; its second line is the
pulse, written again at every beat: a counter, and how far the holder is. The file's names are its
claims (see `fedsim.store.claims`), so one `flock` and one counter stand for all of them.

Clocks of different machines are never compared, nor a file's times.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import socket
import threading
import time
import uuid
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

_NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP}
_BOOT = Path("/proc/sys/kernel/random/boot_id")


@dataclass(frozen=True, kw_only=True)
class Owner:
    """What a holder says of itself.

    token: random, its name. boot, namespace, pid, start: its process: kernel, namespace of process ids,
      id, and clock ticks between boot and its start. locked: whether the file system let it lock the file.
    beat_seconds: time between beats. job: ids of the scheduler's job it runs in, empty without one.
    pulse: the second line as it was read; progress: what is said there.
    """

    token: str
    host: str = ""
    boot: str | None = None
    namespace: int = 0
    pid: int = 0
    start: int | None = None
    locked: bool = False
    beat_seconds: float = 0.0
    job: Mapping[str, str] = field(default_factory=dict)
    pulse: bytes = b""

    @property
    def progress(self) -> dict[str, Any]:
        """beats, seconds since it claimed, and of the runs in work: runs, done, total, rounds_per_second."""
        try:
            said = json.loads(self.pulse)
        except ValueError:  # read while it was written
            return {}
        return said if isinstance(said, dict) else {}


def myself(token: str, beat_seconds: float, job: Mapping[str, str], locked: bool) -> Owner:
    pid = os.getpid()
    return Owner(
        token=token,
        host=socket.gethostname(),
        boot=_boot(),
        namespace=namespace(),
        pid=pid,
        start=_start(pid),
        locked=locked,
        beat_seconds=beat_seconds,
        job=dict(job),
    )


def read(path: Path) -> Owner | None:
    """The holder whose claim `path` is; None where there is no claim. Raises OSError."""
    try:
        with open(path, "rb") as file:
            first, pulse = file.readline(), file.read()
            inode = os.fstat(file.fileno()).st_ino
    except (FileNotFoundError, NotADirectoryError):
        return None
    try:
        return Owner(**json.loads(first), pulse=pulse)
    except (ValueError, TypeError):
        # Earlier versions locked an empty file. Of anything else nothing is known but that it is silent.
        return Owner(token=f"unknown-{inode}", boot=None if first else _boot(), locked=not first)


def is_gone_here(owner: Owner, path: Path) -> bool:
    """Whether the holder ran under this very kernel and is dead; False where that cannot be known.

    The kernel drops a lock at its holder's death, and locks of one kernel reach every process on it.
    """
    if owner.boot is None or owner.boot != _boot():
        return False
    if owner.locked and _is_unlocked(path):
        return True
    return owner.pid > 0 and owner.namespace == namespace() and _start(owner.pid) != owner.start


def namespace() -> int:
    """A process id means something on its host and in its namespace only (containers share hosts' disks)."""
    try:
        return os.stat("/proc/self/ns/pid").st_ino
    except OSError:
        return 0


class Holder:
    """This process as the holder of claims: the file, its lock, and the thread that raises its counter."""

    def __init__(self, folder: Path, beat_seconds: float, job: Mapping[str, str]) -> None:
        """Raises OSError if the folder cannot be written."""
        self.token = uuid.uuid4().hex
        self.path = folder / f".{self.token}"
        self.handle = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
        self._mutex = threading.Lock()
        self._begin = time.monotonic()
        self._beats = 0
        self._work: dict[str, Any] = {}
        self._first: tuple[float, float] | None = None  # when work began to advance, and how much was done
        self._longest = 0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._live, args=(beat_seconds,), daemon=True)
        try:
            said = asdict(myself(self.token, beat_seconds, job, _lock(self.handle)))
            del said["pulse"]
            line = json.dumps(said).encode() + b"\n"
            os.pwrite(self.handle, line, 0)
            self._after = len(line)
            self.beat()
        except BaseException:
            self.close()
            raise
        self._thread.start()

    def owns(self, path: Path) -> bool:
        """Whether the claim `path` is still this holder's."""
        try:
            there = os.open(path, os.O_RDONLY | os.O_CLOEXEC)  # opened, since only that is fresh on NFS
        except OSError:
            return False
        try:
            return os.path.samestat(os.fstat(there), os.fstat(self.handle))
        finally:
            os.close(there)

    def begin(self, runs: Sequence[str], total: float) -> None:
        """From now on it works on these `runs`, which are `total` rounds of all their folds together."""
        with self._mutex:
            self._work = {"runs": list(runs), "done": 0.0, "total": total, "rounds_per_second": None}
            self._first = None
        self.beat()

    def advance(self, rounds: float) -> None:
        """Told of every few rounds; they are said at the next beat."""
        with self._mutex:
            now, done = time.monotonic(), self._work.get("done", 0.0) + rounds
            self._work["done"] = done
            if self._first is None:  # what came before was compiling
                self._first = now, done
            elif now > self._first[0]:
                self._work["rounds_per_second"] = (done - self._first[1]) / (now - self._first[0])

    def beat(self) -> None:
        """Raise the counter. A disk that is full, or away, makes a beat late and is no error."""
        with self._mutex:
            self._beats += 1
            seconds = round(time.monotonic() - self._begin, 3)
            line = json.dumps({"beats": self._beats, "seconds": seconds, **self._work}).encode()
            self._longest = max(self._longest, len(line))
            with suppress(OSError):
                os.pwrite(self.handle, line.ljust(self._longest), self._after)

    def close(self) -> None:
        """End the thread, drop the lock and remove the file's own name."""
        self._ended.set()
        if self._thread.ident is not None:
            self._thread.join()
        os.close(self.handle)
        with suppress(OSError):
            self.path.unlink()

    def _live(self, beat_seconds: float) -> None:
        while not self._ended.wait(beat_seconds):
            self.beat()


def _lock(handle: int) -> bool:
    """Lock a new file that nobody else knows yet; False on a file system without locks."""
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in _NO_LOCKS:
            return False
        raise
    return True


def _is_unlocked(path: Path) -> bool:
    try:
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return False
    else:
        return True
    finally:
        os.close(handle)


def _boot() -> str | None:
    """Another after every start of the machine, and the same in all of its containers."""
    try:
        return _BOOT.read_text().strip()
    except OSError:
        return None


def _start(pid: int) -> int | None:
    """Clock ticks between boot and the start of a process; None if there is none: ids are used again."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    # The command's name comes second, in brackets, and may hold anything.
    fields = text.rpartition(")")[2].split()
    return None if fields[0] in ("Z", "X") else int(fields[19])
