"""A run is held by one process at a time, and never by a dead one."""

import contextlib
import dataclasses
import errno
import json
import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from fedsim.base import FedsimError, RequestError
from fedsim.store import Claims, owners


def held(root, *ids):
    return set(Claims(root).holders(ids))


def test_taken_once_and_released(tmp_path):
    claims = Claims(tmp_path)
    with claims.take(["a", "b", "a"]) as mine:
        assert mine.runs == ["a", "b"]
        assert mine.keeps("a")
        with Claims(tmp_path).take(["b", "c"]) as others:
            assert others.runs == ["c"]
            assert held(tmp_path, "a", "b", "c", "d") == {"a", "b", "c"}
        assert held(tmp_path, "a", "b", "c", "d") == {"a", "b"}
    assert held(tmp_path, "a", "b", "c") == set()
    assert not mine.keeps("a")
    assert list((tmp_path / ".claims").iterdir()) == []
    with claims.take(["a"]) as mine:
        assert mine.runs == ["a"]


def test_released_by_an_error_and_by_interruption(tmp_path):
    claims = Claims(tmp_path)
    for error in (ValueError, KeyboardInterrupt):
        with pytest.raises(error), claims.take(["a"]):
            raise error
        assert held(tmp_path, "a") == set()

    def ids():
        yield "a"
        raise ValueError

    with pytest.raises(ValueError), claims.take(ids()):
        pass
    assert held(tmp_path, "a") == set()
    assert list((tmp_path / ".claims").iterdir()) == []


def test_nothing_open_is_left_and_one_file_is_open_for_all(tmp_path):
    before, threads = os.listdir("/proc/self/fd"), threading.active_count()
    claims = Claims(tmp_path)
    with claims.take(map(str, range(2000))), claims.take(map(str, range(2010))) as second:
        assert len(second.runs) == 10
        assert len(os.listdir("/proc/self/fd")) <= len(before) + 2
    held(tmp_path, *map(str, range(30)))
    assert len(os.listdir("/proc/self/fd")) == len(before)
    assert threading.active_count() == threads


def test_a_folder_that_cannot_be_written_and_one_without_hard_links(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    claims = Claims(tmp_path / "file")
    with pytest.raises(RequestError, match=r"file cannot be written .*results="), claims.take(["a"]):
        pass
    assert held(tmp_path / "file", "a") == set()
    with pytest.raises(RequestError, match="No such file"), Claims(tmp_path).take(["b", "sub/a"]):
        pass
    assert held(tmp_path, "b") == set()

    def no_links(source, name):
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr("os.link", no_links)
    with pytest.raises(FedsimError, match=r"has no hard links .*results="), Claims(tmp_path).take(["a"]):
        pass
    assert list((tmp_path / ".claims").iterdir()) == []


def test_says_who_works_where_and_how_fast(tmp_path):
    class Cluster:
        def here(self):
            return {"job": "7", "restart": "1"}

        def is_over(self, job):
            return False

    with Claims(tmp_path, Cluster(), beat_seconds=0.01).take(["a", "b", "c"]) as mine:
        began = time.monotonic()
        mine.begin(["a", "b"], 80)
        mine.advance(10)
        time.sleep(0.05)
        mine.advance(30)
        took = time.monotonic() - began
        while (found := Claims(tmp_path).holders(["a", "c", "d"]))["a"].progress["done"] < 40:
            assert time.monotonic() < began + 60
            time.sleep(0.01)  # a beat comes when the machine lets it
    assert set(found) == {"a", "c"}
    owner = found["a"]
    assert (owner.host, owner.pid, owner.job) == (
        os.uname().nodename,
        os.getpid(),
        {"job": "7", "restart": "1"},
    )
    said = owner.progress
    assert said["runs"] == ["a", "b"]
    assert (said["done"], said["total"]) == (40, 80)
    assert 30 / took < said["rounds_per_second"] < 30 / 0.05
    assert said["beats"] > 2


# --- takeover ------------------------------------------------------------------------------------


@pytest.fixture
def elsewhere(monkeypatch):
    """Holders made from now on seem to be on another machine, where no lock and no process can be seen."""

    def pretend(job=()):
        made = owners.myself

        def away(*arguments):
            return dataclasses.replace(made(*arguments), host="away", boot="another", job=dict(job))

        monkeypatch.setattr(owners, "myself", away)

    yield pretend


def silent(root, run, job=()):
    """A claim of a process on another machine that is gone, or suspended."""
    hold = contextlib.ExitStack()
    claims = Claims(root, beat_seconds=1000)
    mine = hold.enter_context(claims.take([run]))
    said = json.loads((root / ".claims" / run).read_bytes().split(b"\n")[0])
    assert said["boot"] == "another"
    return hold, mine


def test_one_on_another_machine_is_given_up_after_so_many_silent_beats(tmp_path, elsewhere):
    elsewhere()
    hold, mine = silent(tmp_path, "a")
    path = tmp_path / ".claims" / "a"
    said, pulse = path.read_bytes().split(b"\n")
    said = json.dumps(json.loads(said) | {"beat_seconds": 0.01}).encode()
    path.write_bytes(said + b"\n" + pulse)
    # Its clock is wrong by a year; nobody looks.
    os.utime(path, (2e9, 2e9))

    watcher = Claims(tmp_path, patience=3)
    for moved in (b"1", b"2"):  # counted anew whenever its counter moves
        path.write_bytes(said + b"\n" + moved)
        for _ in range(3):
            with watcher.take(["a"]) as taken:
                assert taken.runs == []
            time.sleep(0.02)
    # One look after a long time is one beat: a file server that hung has kept everybody silent.
    time.sleep(0.2)
    with Claims(tmp_path, patience=3).take(["a"]) as taken:
        assert taken.runs == []
    with watcher.take(["a"]) as taken:
        assert taken.runs == ["a"]
        assert taken.keeps("a")
        assert not mine.keeps("a")  # it wakes, and finds that it is no longer its own
        hold.close()  # which it cannot release
        assert taken.keeps("a")
        assert held(tmp_path, "a") == {"a"}
    assert list((tmp_path / ".claims").iterdir()) == []


def test_the_scheduler_knows_that_a_job_is_over(tmp_path, elsewhere):
    elsewhere({"job": "7", "restart": "0"})
    hold, mine = silent(tmp_path, "a")
    path = tmp_path / ".claims" / "a"
    said, pulse = path.read_bytes().split(b"\n")
    path.write_bytes(json.dumps(json.loads(said) | {"beat_seconds": 0.02}).encode() + b"\n" + pulse)
    asked = []

    class Cluster:
        over = False

        def here(self):
            return {}

        def is_over(self, job):
            asked.append(job)
            return self.over

    cluster = Cluster()
    watcher = Claims(tmp_path, cluster, patience=10**6)
    began = time.monotonic()
    for _ in range(20):
        with watcher.take(["a"]) as taken:
            assert taken.runs == []
        time.sleep(0.005)
    beats = (time.monotonic() - began) / 0.02
    assert 1 <= len(asked) <= beats + 1
    assert asked[0] == {"job": "7", "restart": "0"}
    cluster.over = True
    watcher.wait("a", poll_seconds=0.005)
    with watcher.take(["a"]) as taken:
        assert taken.runs == ["a"]
        assert not mine.keeps("a")
    hold.close()


def test_without_locks_a_dead_process_is_known_by_its_start(tmp_path, monkeypatch):
    def no_locks(handle, kind):
        raise OSError(errno.ENOSYS, "Function not implemented")

    holder = start(HOLDER.replace("from fedsim", f"{NO_LOCKS}\nfrom fedsim"), tmp_path)
    monkeypatch.setattr("fcntl.flock", no_locks)
    try:
        with Claims(tmp_path).take(["a", "c"]) as mine:
            assert mine.runs == ["c"]
    finally:
        holder.send_signal(signal.SIGKILL)
        holder.communicate()
    with Claims(tmp_path).take(["a"]) as mine:
        assert mine.runs == ["a"]


def test_a_right_to_take_over_that_its_holder_died_with_does_not_stay(tmp_path):
    """Killed between winning the right and using it."""
    dead = start(HOLDER, tmp_path)
    owner = owners.read(tmp_path / ".claims" / "a")
    assert owner is not None
    token = owner.token
    other = start(HOLDER.replace('"a", "b"', f'"a.{token}"'), tmp_path)
    for process in (dead, other):
        process.send_signal(signal.SIGKILL)
        process.communicate()
    found = Claims(tmp_path)
    with found.take(["a"]) as mine:
        assert mine.runs == []
    with found.take(["a", "b"]) as mine:
        assert mine.runs == ["a", "b"]
    found.clean()
    assert list((tmp_path / ".claims").iterdir()) == []


def test_a_watcher_that_looked_long_ago_takes_nothing(tmp_path, monkeypatch):
    """Between its look at a dead holder and its takeover, another process took over."""
    dead = start(HOLDER, tmp_path)
    dead.send_signal(signal.SIGKILL)
    dead.communicate()
    long_ago = owners.read(tmp_path / ".claims" / "a")
    read, looks = owners.read, [long_ago]
    with Claims(tmp_path).take(["a"]) as mine:
        assert mine.runs == ["a"]
        slow = Claims(tmp_path)
        monkeypatch.setattr(slow, "_is_dead", lambda owner, path: owner is long_ago)
        monkeypatch.setattr(owners, "read", lambda path: looks.pop() if looks else read(path))
        with slow.take(["a"]) as others:
            assert others.runs == []
            assert not looks
        assert mine.keeps("a")


def test_what_dead_processes_left_is_cleared_and_the_living_are_not(tmp_path):
    dead, alive = start(HOLDER, tmp_path), start(HOLDER.replace('"a", "b"', '"c"'), tmp_path)
    dead.send_signal(signal.SIGKILL)
    dead.communicate()
    (tmp_path / ".claims" / "old").touch()  # an earlier version's lock file, whose holder is gone
    try:
        Claims(tmp_path).clean()
        assert sorted(p.name for p in (tmp_path / ".claims").iterdir() if p.name[0] != ".") == ["c"]
        assert len(list((tmp_path / ".claims").iterdir())) == 2
        with Claims(tmp_path).take(["c", "old"]) as mine:
            assert mine.runs == ["old"]
    finally:
        alive.kill()
        alive.communicate()


def test_what_is_no_claim_is_given_up_after_the_patience_and_not_before(tmp_path):
    (tmp_path / ".claims").mkdir()
    (tmp_path / ".claims" / "a").write_text("not a claim\n")
    watcher = Claims(tmp_path, beat_seconds=0.01, patience=3)
    with watcher.take(["a"]) as mine:
        assert mine.runs == []
    watcher.wait("a", poll_seconds=0.002)
    with watcher.take(["a"]) as mine:
        assert mine.runs == ["a"]


NO_LOCKS = """
import fcntl
def no_locks(handle, kind):
    raise OSError(38, "Function not implemented")
fcntl.flock = no_locks
"""
TAKER = """
import sys, time
from pathlib import Path
from fedsim.store import Claims
root = Path(sys.argv[1])
cells = [f"{i:02d}" for i in range(20)]
claims = Claims(root, patience=2)
for cell in cells:
    claims.holders([cell])  # watched before the start
print("ready", flush=True)
sys.stdin.readline()
left = set(cells)
end = time.monotonic() + 100
while left and time.monotonic() < end:
    with claims.take(sorted(left)) as mine:
        for cell in mine.runs:
            if not (root / cell).exists():
                inside = root / f"{cell}.held"
                inside.touch(exist_ok=False)  # fails if another is at the same cell
                time.sleep(0.002)
                with open(root / "log", "a") as log:
                    log.write(cell + "\\n")
                (root / cell).touch()
                inside.unlink()
        left = {c for c in left if not (root / c).exists()}
"""


@pytest.mark.long
def test_of_many_watchers_one_takes_over(tmp_path, elsewhere):
    """Every process takes each cell at most once, and a cell that another has done never."""
    elsewhere()
    hold = contextlib.ExitStack()
    with hold:
        hold.enter_context(Claims(tmp_path, beat_seconds=0.001).take([f"{i:02d}" for i in range(20)]))
        path = tmp_path / ".claims" / "00"
        said = json.loads(path.read_bytes().split(b"\n")[0])
    # The holder is gone without a release: its names lie there still.
    path.write_bytes(json.dumps(said).encode() + b"\n{}")
    for i in range(1, 20):
        os.link(path, tmp_path / ".claims" / f"{i:02d}")
    workers = [start(TAKER, tmp_path) for _ in range(4)]
    for worker in workers:
        worker.stdin.write("\n")
        worker.stdin.flush()
    for worker in workers:
        worker.communicate(timeout=600)
        assert worker.returncode == 0
    assert sorted((tmp_path / "log").read_text().split()) == [f"{i:02d}" for i in range(20)]
    Claims(tmp_path).clean()
    assert [p.name for p in (tmp_path / ".claims").iterdir()] == []


# --- many processes ------------------------------------------------------------------------------

WORKER = """
import sys, time
from pathlib import Path
from fedsim.store import Claims
root = Path(sys.argv[1])
claims = Claims(root)
cells = [f"{i:02d}" for i in range(40)]
print("ready", flush=True)
sys.stdin.readline()
while left := [c for c in cells if not (root / c).exists()]:
    with claims.take(left[:4]) as mine:
        for cell in mine.runs:
            if not (root / cell).exists():
                with open(root / "log", "a") as log:
                    log.write(cell + "\\n")
                time.sleep(0.002)
                (root / cell).touch()
    if not mine.runs:
        claims.wait(left[0], poll_seconds=0.002)
"""


def start(code, *arguments):
    process = subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout
    assert process.stdout.readline().strip() == "ready"
    return process


def test_processes_share_cells_and_each_is_done_once(tmp_path):
    workers = [start(WORKER, tmp_path) for _ in range(3)]
    for worker in workers:
        worker.stdin.write("\n")
        worker.stdin.flush()
    for worker in workers:
        worker.communicate(timeout=600)
        assert worker.returncode == 0
    assert sorted((tmp_path / "log").read_text().split()) == [f"{i:02d}" for i in range(40)]


def test_threads_never_hold_the_same_run_though_files_come_and_go(tmp_path):
    """The file is removed at each release, so an old handle may be locked after a new file is there."""
    inside, most, failed = [], [], []

    def work():
        try:
            claims = Claims(tmp_path)
            for _ in range(400):
                with claims.take(["a"]) as mine:
                    if mine.runs:
                        inside.append(1)
                        most.append(len(inside))
                        time.sleep(0)
                        inside.pop()
        except Exception as error:
            failed.append(error)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not failed
    assert max(most) == 1


HOLDER = """
import json, sys, time
from fedsim.store import Claims
with Claims(sys.argv[1]).take(["a", "b"]):
    print("ready", flush=True)
    time.sleep(60)
"""


def test_a_killed_holder_releases(tmp_path):
    claims = Claims(tmp_path)
    holder = start(HOLDER, tmp_path)
    try:
        with claims.take(["a", "b", "c"]) as mine:
            assert mine.runs == ["c"]
        waiting = threading.Thread(target=claims.wait, args=("a", 0.01))
        waiting.start()
        time.sleep(0.05)
        assert waiting.is_alive()
    finally:
        holder.send_signal(signal.SIGKILL)
        holder.communicate()
    waiting.join(timeout=600)
    assert not waiting.is_alive()
    assert held(tmp_path, "a", "b") == set()
    with claims.take(["a", "b", "c"]) as mine:
        assert mine.runs == ["a", "b", "c"]


WAITER = """
import signal
import sys
from fedsim.store import Claims
signal.signal(signal.SIGINT, signal.default_int_handler)  # which shells ignore in the background
try:
    print("ready", flush=True)
    Claims(sys.argv[1]).wait("a")
except KeyboardInterrupt:
    sys.exit(7)
"""


def test_waiting_can_be_interrupted(tmp_path):
    with Claims(tmp_path).take(["a"]):
        waiter = start(WAITER, tmp_path)
        time.sleep(0.05)
        waiter.send_signal(signal.SIGINT)
        waiter.communicate(timeout=600)
        assert waiter.returncode == 7
    Claims(tmp_path).wait("a")
    assert held(tmp_path, "a") == set()
