"""Where rows lie while training changes no bit: resident, streamed and generated."""

import functools
import hashlib
import json
import os
import subprocess
import sys
from typing import Any

import jax
import numpy as np
import pytest

from fedsim import config
from fedsim.base import RequestError
from fedsim.data import load
from fedsim.data.partition import partitions, pool
from fedsim.data.preprocess import fit
from fedsim.data.splits import assign
from fedsim.simulate.build import build
from fedsim.simulate.engine import simulate
from fedsim.simulate.judged import labels_of
from fedsim.simulate.lanes import Lane
from fedsim.simulate.worker import inline

pytestmark = pytest.mark.production

OFF = {"impute": "none", "standardise": False}
ON = {"impute": "mean", "standardise": True}


@pytest.fixture(autouse=True)
def cache(tmp_path_factory, monkeypatch):
    """Streamed rows are written for these tests, once."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.getbasetemp() / "cache"))


def experiment(data, mode, **changes):
    values = {
        "data": {**data, "mode": mode},
        "split": {"name": "natural", "test": 0.2},
        "task": "logistic",
        "algorithm": "fedavg",
        "optimizer": {"batch_size": 10, "step_size": 0.1},
        "channel": "direct",
        "privacy": "none",
        "world": {"name": "uniform", "cohort": 12},
        "numerics": {},
        "executor": "inline",
        "rounds": 5,
        "seed": 0,
    }
    return config.experiment(values | changes)


def lanes_of(experiments, federation):
    made = []
    for e in experiments:
        part = partitions(federation, assign(federation, e.split, e.seed), e.split, e.seed)[0]
        clients = pool(part) if isinstance(e.algorithm, config.Pooled) else part
        x, cfg = federation.x, e.data.preprocess
        made.append(Lane(e, clients, part, fit(x, clients, cfg), fit(x, part, cfg), e.rounds))
    return made


def bits(data, mode, lanes=1, **changes):
    """(engine, SHA-256 of the final models and of all scores on test, external and late rows)."""
    experiments = [experiment(data, mode, **{"seed": s, **changes}) for s in range(lanes)]
    federation = load(experiments[0].data)
    packed = lanes_of(experiments, federation)
    # On one device where rounds are shared; that two do the same is told elsewhere.
    engine = build(federation, packed, "cpu", lambda setup: inline(setup, 1))
    rounds = experiments[0].rounds
    *_, (states, result) = simulate(engine, engine.init(), stops=[min(2, rounds), rounds])
    assert result.done == rounds and result.finite.all()
    found = hashlib.sha256()
    for leaf in jax.tree.leaves(engine.models(states)):
        found.update(np.asarray(leaf).tobytes())
    for which in ("test", "external", "late"):
        for lane, scores in zip(packed, engine.predict(states, which), strict=True):
            assert len(scores) == len(labels_of(lane.judged, which)[0]) and np.isfinite(scores).all()
            found.update(scores.tobytes())
    return engine, found.hexdigest()


FLOATS = {"name": "blobs", "clients": 40, "rows_min": 10, "rows_max": 60, "shape": [30], "test_rows": 333}
SMALL = {"clients": 12, "rows_max": 20, "test_rows": 70}
PICTURES = FLOATS | SMALL | {"shape": [12, 12, 1], "classes": 10, "dtype": "uint8"}
LATE = {"name": "natural", "test": 0.2, "late": 0.2}
CASES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "many rounds a call": (FLOATS, {}),
    "all devices at once": (
        FLOATS,
        {"task": {"name": "mlp", "hidden": [128, 64]}, "algorithm": "mrmtl", "split": LATE},
    ),
    "lanes whose cohorts stay": (FLOATS, {"lanes": 3, "world": "all", "algorithm": "scaffold"}),
    "bytes": (PICTURES, {}),
    "shared rounds": (FLOATS, {"task": {"name": "mlp", "hidden": [512, 64]}, "world": "all", "rounds": 3}),
    "convolutions": (
        PICTURES,
        {"task": {"name": "cnn", "channels": [16, 32], "dense": 16}, "world": "all", "rounds": 3},
    ),
}
LONG = ("shared rounds", "lanes whose cohorts stay", "all devices at once", "convolutions", "bytes")
SHARED = ("shared rounds", "convolutions")
SPREAD = ("all devices at once",)


@pytest.mark.parametrize("case", CASES)
def test_modes_give_the_same_bits(case):
    shared, resident = of(case, "resident")
    assert shared == (case in SHARED)
    for mode in ("streamed", "generated"):
        assert of(case, mode) == (shared, resident), mode


@pytest.mark.long
@pytest.mark.parametrize("case", ["bytes", "shared rounds"])
def test_modes_give_the_same_bits_with_preprocessing(case):
    assert of(case, "streamed", prepared=True) == of(case, "resident", prepared=True) != of(case, "resident")
    assert of(case, "generated", prepared=True) == of(case, "resident", prepared=True)


@functools.cache
def of(case, mode, prepared=False):
    """(whether rounds are shared, hash) of a case."""
    data, changes = CASES[case]
    engine, found = bits(data | {"preprocess": ON if prepared else OFF}, mode, **changes)
    assert engine.widths.devices == (2 if case in SPREAD else 1)
    return engine.shared, found


@pytest.mark.long
def test_hospitals_give_the_same_bits():
    """Rows in the order of a partition's table, not of the columns."""
    changes = {"rounds": 20, "world": "all", "optimizer": {"batch_size": 20, "step_size": 0.05}}
    data = {"name": "heart_disease", "preprocess": ON | {"scope": "federated"}}
    assert bits(data, "streamed", **changes)[1] == bits(data, "resident", **changes)[1]


@pytest.mark.long
def test_pooled_rows_may_come_from_anywhere_but_a_generator():
    changes = {"algorithm": "pooled", "world": "all", "rounds": 2}
    data = FLOATS | {"preprocess": OFF}
    assert bits(data, "streamed", **changes)[1] == bits(data, "resident", **changes)[1]
    with pytest.raises(RequestError, match=r"cannot be pooled .* use data.mode=resident or streamed"):
        bits(data, "generated", **changes)


PATIENTS = {"name": "heart_failure", "patients": 1200, "regions": "three", "preprocess": ON}


@pytest.mark.long  # half a minute to compile
def test_patients_made_in_the_program_give_the_same_bits_again():
    """And other bits than those of another seed, or of patients in memory, who are other data."""
    changes = {"world": "all", "rounds": 30, "optimizer": {"batch_size": 50, "step_size": 0.3}}
    engine, first = bits(PATIENTS, "generated", **changes)
    assert engine.federation.columns is None and engine.workers is not None
    assert bits(PATIENTS, "generated", **changes)[1] == first
    other = {**PATIENTS, "seed": 1}
    assert bits(other, "generated", **changes)[1] != first != bits(PATIENTS, "resident", **changes)[1]


@pytest.mark.parametrize("mode", ["streamed", "generated"])
def test_only_what_a_call_needs_lies_in_memory(mode):
    """No raw rows on the device, and a buffer's size follows from the data and not from the cohort."""
    e = experiment(FLOATS | {"preprocess": OFF}, mode)
    federation = load(e.data)
    engine = build(federation, lanes_of([e], federation), "cpu", Recorder)
    assert engine.workers.setup.columns is None and engine.workers.setup.teams[0].table is None
    assert len(list(simulate(engine, engine.init(), stops=range(1, 6)))) == 5
    sent = [columns for name, *_, columns in engine.workers.calls if name == "rounds"]
    assert len(sent) == 5
    if mode == "generated":
        assert sent == [None] * 5 and federation.columns is None
        return
    shapes = {columns["x"].shape for columns in sent}
    assert shapes == {(engine.widths.rounds * engine.teams[0].capacity, 30)}
    largest = np.sort(federation.sizes[:40])[-12:].sum()
    assert engine.teams[0].capacity <= engine.widths.lanes * largest + 1024


class Recorder:
    """A worker that computes nothing and remembers what it was asked."""

    count = 1

    def __init__(self, setup):
        self.setup, self.calls = setup, []

    def call(self, at, method, *arguments, returns=1):
        self.calls.append((method, *arguments))
        return [None] * returns if returns > 1 else None

    def share(self, handle, at):
        return handle

    def fetch(self, handle):
        return np.ones(self.setup.structure.widths.lanes, bool)


@pytest.mark.long
def test_a_million_clients_fit_in_two_gigabytes(root):
    """Three rounds of a small network over a generated population, in a process of their own."""
    script = root / "tests" / "benchmarks" / "memory.py"
    command = [sys.executable, str(script), "generated", "--clients", "1000000"]
    ran = subprocess.run(
        command, env=os.environ | {"PYTHONPATH": str(root)}, capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stderr
    found = json.loads(ran.stdout)
    assert found["rounds"] == 3 and found["peak_bytes"] < 2 * 2**30, found
