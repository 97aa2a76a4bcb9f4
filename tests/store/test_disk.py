"""A disk that is full, or away, costs the run at hand and nothing else."""

import errno
import io
import os
import subprocess
import sys

import numpy as np
import pytest

from fedsim.base import FedsimError, RequestError
from fedsim.store import Claims, ResultStore, arrays, files
from tests.store.stored import ID, result, visible


def test_a_folder_that_cannot_be_written_is_refused_at_once(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    for root in (tmp_path / "file", tmp_path / "file" / "store"):
        with pytest.raises(RequestError, match=r"cannot be written \(Not a directory\).*results="):
            ResultStore(root).check_writable()

    def read_only(*args, **kwargs):
        raise OSError(errno.EROFS, "Read-only file system")

    kept = ResultStore(tmp_path / "store")
    with monkeypatch.context() as patch:
        patch.setattr(os, "mkdir", read_only)
        with pytest.raises(RequestError, match="Read-only file system"):
            kept.check_writable()
    kept.check_writable()
    assert visible(kept.root) == []


class FullDisk:
    """`open` and `os` calls of the store that fail from the n-th step on."""

    def __init__(self, monkeypatch, steps):
        self.left = steps
        for module in (files, arrays):
            monkeypatch.setattr(module, "open", self.opened, raising=False)
        for name in ("mkdir", "rename"):
            monkeypatch.setattr(os, name, self.counted(getattr(os, name)))

    def counted(self, call):
        def counting(*args, **kwargs):
            self.step()
            return call(*args, **kwargs)

        return counting

    def step(self):
        if self.left == 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        self.left -= 1

    def opened(self, path, mode):
        if "w" not in mode:
            return open(path, mode)
        self.step()
        file = ShortFile(path, mode)
        file.disk = self
        return file


class ShortFile(io.FileIO):
    """Half of what does not fit is on the disk, as on a real one."""

    disk: FullDisk

    def write(self, data):
        try:
            self.disk.step()
        except OSError:
            super().write(bytes(data)[: len(data) // 2])
            raise
        return super().write(data)


@pytest.mark.parametrize("before", [None, "failed"])
def test_full_disk_at_every_step(tmp_path, monkeypatch, before):
    for steps in range(100):
        kept = ResultStore(tmp_path / str(steps))
        if before:
            kept.write(ID, result(before, 1))
        kept.write("other", result("done", 1))
        with monkeypatch.context() as patch:
            disk = FullDisk(patch, steps)
            try:
                kept.write(ID, result("done", 2))
                break
            except FedsimError as error:
                assert not isinstance(error, RequestError)
                assert str(kept.root) in str(error)
                assert "No space left on device" in str(error)
                assert "free space" in str(error)
        assert disk.left == 0
        # Where even renames fail, the failed row that was to be replaced may be lost, no more.
        assert visible(kept.root) in ([[ID, "other"], ["other"]] if before else [["other"]])
        assert kept.state(ID) in ([before, "missing"] if before else ["missing"])
        kept.write(ID, result("done", 2))
        assert kept.state(ID) == "done"
    assert steps > 15  # every file and the renames were reached
    assert kept.read(ID, "rounds")["loss"][0].as_py() == 2


def test_what_was_to_be_replaced_is_put_back(tmp_path, monkeypatch):
    kept = ResultStore(tmp_path)
    kept.write(ID, result("failed", 1))
    rename, calls = os.rename, []

    def third_fails(*args):
        calls.append(args)
        if len(calls) == 3:  # in (not empty), aside, in
            raise OSError(errno.EIO, "Input/output error")
        rename(*args)

    monkeypatch.setattr(os, "rename", third_fails)
    with pytest.raises(FedsimError, match="Input/output error"):
        kept.write(ID, result("done", 2))
    assert visible(tmp_path) == [ID]
    assert kept.state(ID) == "failed"


LIMITED = """
import resource, sys
sys.path.insert(0, sys.argv[1])
from stored import ID, result
from fedsim.base import FedsimError
from fedsim.store import ResultStore
big = {f"c{i}": __import__("numpy").random.default_rng(i).random(500) for i in range(4)}
for i, limit in enumerate([0, 100, 1500, 3000, 6000, 12000, 10**7]):
    kept = ResultStore(f"{sys.argv[2]}/{i}")
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
    try:
        kept.write(ID, result(predictions=big))
        print(limit, kept.state(ID))
    except FedsimError as error:
        print(limit, "refused", sorted(p.name for p in kept.root.iterdir()))
"""


def test_a_real_limit_of_file_size(tmp_path):
    command = [sys.executable, "-c", LIMITED, os.path.dirname(__file__), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    *refused, whole = done.stdout.splitlines()
    assert whole == "10000000 done"
    assert len(refused) == 6
    assert all(line.endswith("refused []") for line in refused)


def test_errors_and_interruptions_leave_nothing(tmp_path, monkeypatch):
    kept = ResultStore(tmp_path)
    with pytest.raises(ValueError, match="named b"):
        kept.write(ID, result(rounds={"a": [1, 2], "b": [1]}))
    assert visible(tmp_path) == []

    def interrupted(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(files, "_told", interrupted)
    with pytest.raises(KeyboardInterrupt):
        kept.write(ID, result())
    assert visible(tmp_path) == []


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 256 KiB."""
    place = tmp_path / "disk"
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(place)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"needs root, to make a small file system: {done.stderr.strip()}")
    yield place
    subprocess.run(["umount", str(place)], check=True)


def test_a_disk_that_fills_up_and_is_freed_again(small_disk):
    """What was stored stays, the run at hand is refused in one sentence, and the same call goes on after."""
    ballast = small_disk / "ballast"
    ballast.write_bytes(b"0" * 100_000)
    kept = ResultStore(small_disk / "store")
    rows = {f"c{i}": np.random.default_rng(i).random(500) for i in range(4)}
    runs = [f"{i:02d}" for i in range(10)]
    with Claims(kept.root, beat_seconds=0.01).take(runs) as hold, pytest.raises(FedsimError) as refused:
        for run in runs:
            assert hold.keeps(run)
            kept.write(run, result(predictions=rows))
    said = str(refused.value)
    assert "No space left on device" in said and "free space there" in said and "\n" not in said
    stored = kept.ids()
    assert 0 < len(stored) < len(runs)
    assert set(kept.states(stored).values()) == {"done"}
    assert {name for name in visible(kept.root) if name != ".claims"} == set(stored)
    assert visible(kept.root / ".claims") == []
    for run in stored:
        assert kept.read(run, "predictions").num_rows == 500

    ballast.unlink()
    with Claims(kept.root).take(runs) as hold:
        for run in hold.runs[: len(stored) + 1]:
            kept.write(run, result(predictions=rows))
    assert len(kept.ids()) == len(stored) + 1


def test_claims_on_a_full_disk_are_refused_in_one_sentence(small_disk):
    with pytest.raises(OSError, match="No space"), open(small_disk / "ballast", "wb", buffering=0) as file:
        while file.write(b"0" * 4096):
            pass
    with (
        pytest.raises(RequestError, match=r"cannot be written \(No space left"),
        Claims(small_disk).take(["a"]),
    ):
        pass
