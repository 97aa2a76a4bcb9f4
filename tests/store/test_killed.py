"""Processes that are killed, and several at once, leave whole runs only."""

import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time

from fedsim.store import ResultStore
from fedsim.store.owners import namespace
from tests.store.stored import result, visible


def test_leftovers_of_dead_processes_only_are_cleared(tmp_path):
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    here, token, host = namespace(), "0" * 32, socket.gethostname()
    gone = f".tmp-{dead.pid}-{here}-{token}-{host}"
    kept = {
        f".tmp-{os.getpid()}-{here}-{token}-{host}",
        f".tmp-{dead.pid}-{here}-{token}-{host}x",
        f".tmp-{dead.pid}-{here + 1}-{token}-{host}",
        ".tmp-notes",
        ".claims",
    }
    for name in {gone, *kept}:
        (tmp_path / name).mkdir()
        (tmp_path / name / "rounds.parquet").write_text("half")
    ResultStore(tmp_path).check_writable()
    assert set(visible(tmp_path)) == kept
    assert ResultStore(tmp_path).ids() == []


KILLED = """
import sys
sys.path.insert(0, sys.argv[1])
from stored import result
from fedsim.store import ResultStore
kept = ResultStore(sys.argv[2])
for i in range(10**6):
    kept.write(f"{sys.argv[3]}-{i}", result("failed"))
    kept.write(f"{sys.argv[3]}-{i}", result("done"))
    print(i, flush=True)
"""


def test_killed_while_writing_shows_no_part_of_a_run(tmp_path):
    kept = ResultStore(tmp_path)
    moments = random.Random(1)
    for attempt in range(3):
        command = [sys.executable, "-c", KILLED, os.path.dirname(__file__), str(tmp_path), str(attempt)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert process.stdout
        process.stdout.readline()
        time.sleep(moments.uniform(0.01, 0.05))
        process.send_signal(signal.SIGKILL)
        last = (process.stdout.read().split() or ["0"])[-1]
        process.wait()
        process.stdout.close()
        states = kept.states(f"{attempt}-{i}" for i in range(int(last) + 1))
        assert set(states.values()) == {"done"}
    for run in kept.ids():
        for name, rows in kept.manifest(run)["rows"].items():
            assert kept.read(run, name).num_rows == rows
        kept.model(run)
    kept.check_writable()
    assert visible(tmp_path) == kept.ids()


def test_writers_at_once_agree(tmp_path):
    ids = [f"run-{i}" for i in range(15)]
    for i in ids[::2]:
        ResultStore(tmp_path, source="old").write(i, result(value=0))
    start, failed = threading.Barrier(3), []

    def write(value):
        try:
            mine = ResultStore(tmp_path, source="new")
            start.wait()
            for i in ids:
                assert mine.write(i, result(value=value))["status"] == "done"
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=write, args=(v,)) for v in (1.0, 2.0, 3.0)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not failed
    kept = ResultStore(tmp_path, source="new")
    assert visible(tmp_path) == sorted(ids)
    assert set(kept.states(ids).values()) == {"done"}
    for i in ids:  # rows and model of one writer
        assert kept.model(i)["w"][0, 0] == kept.read(i, "rounds")["loss"][0].as_py() > 0
