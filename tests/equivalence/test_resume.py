"""Killed with SIGKILL at random moments and run again: the same bits as if nothing had happened."""

import functools
import json
import os
import random
import signal
import subprocess
import sys
import time
from typing import Any

import pytest

from fedsim.store import ResultStore

pytestmark = pytest.mark.production

COMMON: dict[str, Any] = {
    "data": {"name": "blobs", "clients": 30, "rows_min": 10, "rows_max": 40, "shape": [12], "test_rows": 0},
    "split": {"name": "natural", "test": 0.2},
    "task": {"name": "mlp", "hidden": [32]},
    "optimizer": {"batch_size": 8, "epochs": 2, "chain": [{"name": "trace", "decay": 0.5}]},
    "privacy": "none",
    "numerics": {},
    "executor": {"name": "inline", "checkpoint_seconds": 0.0},
    "seed": 3,
    "rounds": 400,
    "evaluate": {"every": 50},
}
CASES: dict[str, dict[str, Any]] = {
    # client memory, random cohorts, old starts and what was spent: all must come back
    "many rounds a call": {
        "algorithm": "scaffold",
        "channel": "direct",
        "world": {"name": "poisson", "rate": 0.3, "staleness": 2},
        "system": "lognormal",
    },
    # rounds cut into tickets, server state, memory of the channel at both ends
    "tickets": {
        "algorithm": "fedadam",
        "channel": "ef21",
        "world": "all",
        "task": {"name": "mlp", "hidden": [256, 128]},
        "optimizer": {"batch_size": 8, "epochs": 4},
        "rounds": 60,
        "evaluate": {"every": 20},
    },
    # masks, the noise of clients that make whole numbers of their messages, and who is lost on the way
    "secure": {
        "algorithm": {"name": "fedavg", "weighting": "uniform"},
        "channel": "direct",
        "secure": {"name": "bonawitz", "dropout": [0.02, 0.0, 0.1, 0.05]},
        "privacy": {"name": "skellam", "clip_norm": 0.5, "contributors": 18},
        "world": "all",
    },
    # the choice of hyper-parameters is resumed too, and every round is on all devices
    "tuning": {
        "algorithm": "fedprox",
        "channel": "direct",
        "world": "all",
        "task": {"name": "mlp", "hidden": [96]},
        "rounds": 100,
        "tune": {
            "grid": {"optimizer.step_size": [0.01, 0.05], "algorithm.mu": [0.1, 1.0]},
            "rounds": [50, 100],
        },
    },
}
LONG = ("tickets", "secure", "tuning", "many rounds a call")  # that one is killed once in another test, too
CODE = """
import json, sys
from pathlib import Path
from fedsim import config
from fedsim.plan import Cell
from fedsim.run import run_experiments
class Told:
    def start(self, total, text): pass
    def advance(self, amount): print("advanced", flush=True)
    def note(self, text): print("note", text, flush=True)
    def close(self): pass
cells = [Cell(config.experiment(json.loads(sys.argv[1])), {})]
print("done", run_experiments(cells, Path(sys.argv[2]), progress=Told()).done, flush=True)
"""


def start(values, root):
    command = [sys.executable, "-c", CODE, json.dumps(values), str(root)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def result(root):
    store = ResultStore(root)
    (run,) = store.ids()
    tables = [store.read(run, name).to_pylist() for name in ("rounds", "clients", "predictions")]
    return run, store.manifest(run)["model_sha256"], tables


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Results of the cases, uninterrupted."""

    @functools.cache
    def of(name):
        root = tmp_path_factory.mktemp("whole")
        child = start(COMMON | CASES[name], root)
        child.communicate(timeout=300)
        assert child.returncode == 0
        return result(root)

    return of


@pytest.mark.parametrize("case", CASES)
def test_killed_and_resumed_is_uninterrupted(case, whole, tmp_path):
    values, expected = COMMON | CASES[case], whole(case)

    moments = random.Random(case)
    killed, resumed = 0, 0
    for _ in range(40):
        child = start(values, tmp_path / "killed")
        budget = moments.randint(1, 4)  # looks at training before the blow, which then falls anywhere
        for line in child.stdout:
            resumed += "resuming at round" in line
            budget -= line.startswith("advanced")
            if budget <= 0 and killed < 3:
                time.sleep(moments.random() * 0.2)
                os.kill(child.pid, signal.SIGKILL)
                break
        child.stdout.close()
        if child.wait(timeout=300) == 0:
            break
        killed += 1
    assert child.returncode == 0
    assert killed == 3 and resumed >= 1
    assert result(tmp_path / "killed") == expected
    assert not list((tmp_path / "killed" / ".checkpoints").iterdir())


def test_a_damaged_checkpoint_falls_back_to_the_one_before(whole, tmp_path):
    values = COMMON | CASES["many rounds a call"]
    child = start(values, tmp_path / "hurt")
    folder = tmp_path / "hurt" / ".checkpoints"

    def whole_ones():  # one may be in the making when the blow falls
        return [p for p in folder.glob("*") if "pending" not in p.name]

    for line in child.stdout:
        if line.startswith("advanced") and len(whole_ones()) >= 2:
            break
    child.kill()
    child.wait()
    child.stdout.close()
    newest = max(whole_ones(), key=lambda p: p.stat().st_mtime)
    data = bytearray(newest.read_bytes())
    data[len(data) // 2] ^= 0xFF
    newest.write_bytes(data)
    again = start(values, tmp_path / "hurt")
    out, _ = again.communicate(timeout=300)
    assert again.returncode == 0
    assert newest.name in out and "resuming at round" in out
    assert result(tmp_path / "hurt") == whole("many rounds a call")
