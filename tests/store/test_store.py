"""A run is there whole or not at all, and a finished one is never touched."""

import dataclasses
import errno
import io
import json
import math
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time

import ml_dtypes
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from fedsim import config
from fedsim.base import FedsimError, RequestError
from fedsim.store import ResultStore, RunResult, arrays, run_id, source, store, versions
from fedsim.store.owners import namespace

EXPERIMENT = config.experiment(
    {
        "data": "heart_disease",
        "split": {"name": "natural", "folds": 5},
        "task": "logistic",
        "algorithm": {"name": "fedprox", "mu": 1e-5},
        "optimizer": {"chain": [{"name": "scale", "step_size": 0.5}]},
        "channel": "direct",
        "privacy": "none",
        "world": {"name": "uniform", "cohort": 2},
        "numerics": {},
        "executor": {"name": "ray", "workers": 2},
        "rounds": 3,
        "seed": 7,
        "tune": {"grid": {"optimizer.step_size": [0.1, 1e-3]}, "rounds": [1, 3]},
        "results": "Örebro/no",
    }
)
ID = run_id(EXPERIMENT, "rows")
MODEL = {"w": np.ones((2, 2), np.float32), "h": np.ones(3, ml_dtypes.bfloat16)}


def result(status="done", value=1.0, **changes) -> RunResult:
    return RunResult(
        **{
            "experiment": EXPERIMENT,
            "status": status,
            "cell": {"method": "fedprox", "mu": 1e-5},
            "rounds": {"round": np.arange(3), "loss": np.array([value, math.nan, math.inf], np.float32)},
            "clients": {"name": ["Halland", "Örebro"], "auc": [0.75, math.nan], "undefined": [0, 1]},
            "predictions": {"row": np.arange(4), "score": np.arange(8, dtype=np.float32).reshape(4, 2)},
            "tuning": {"step_size": [0.1, 0.001], "chosen": [True, False]},
            "model": MODEL | {"w": np.full((2, 2), value, np.float32)},
            "manifest": {"seconds": 1.5, "device_kind": "cpu", "privacy": {"epsilon": math.inf}},
        }
        | changes
    )


def other(**changes) -> config.Experiment:
    return dataclasses.replace(EXPERIMENT, **changes)


def visible(root) -> list[str]:
    return sorted(os.listdir(root)) if root.exists() else []


# --- one run ---------------------------------------------------------------------------------


def test_round_trip(tmp_path):
    kept = ResultStore(tmp_path / "new" / "store")
    assert kept.state(ID) == "missing"
    manifest = kept.write(ID, result())
    assert visible(kept.root) == [ID]
    files = ["clients", "predictions", "rounds", "tuning"]
    names = ["config.yaml", "manifest.json", "model.safetensors", *(f"{f}.parquet" for f in files)]
    assert visible(kept.root / ID) == sorted(names)
    assert kept.state(ID) == "done"

    assert kept.read(ID, "rounds").to_pydict() == {"round": [0, 1, 2], "loss": [1.0, None, math.inf]}
    assert kept.read(ID, "clients", ["auc", "name"]).to_pydict() == {
        "auc": [0.75, None],  # undefined, and never a number
        "name": ["Halland", "Örebro"],
    }
    assert kept.read(ID, "predictions")["score"].to_pylist() == [[0, 1], [2, 3], [4, 5], [6, 7]]
    assert kept.read(ID, "tuning").to_pylist()[0] == {"step_size": 0.1, "chosen": True}
    model = kept.model(ID)
    for name, value in MODEL.items():
        np.testing.assert_array_equal(model[name], value, strict=True)

    assert kept.experiment(ID) == EXPERIMENT
    text = (kept.root / ID / "config.yaml").read_text(encoding="utf-8")
    assert config.experiment(yaml.safe_load(text)) == EXPERIMENT
    assert "Örebro/no" in text

    assert manifest == kept.manifest(ID)
    assert manifest["source"] == source()
    assert manifest["versions"] == versions()
    assert manifest["model_sha256"] == arrays.sha256(MODEL)
    assert manifest["rows"] == {"rounds": 3, "clients": 2, "predictions": 4, "tuning": 2}
    assert manifest["privacy"] == {"epsilon": "inf"}
    assert (manifest["run"], manifest["status"], manifest["error"]) == (ID, "done", None)
    assert {"commit", "host", "written", "cell", "seconds", "device_kind"} <= manifest.keys()
    json.dumps(manifest, allow_nan=False)


def test_options_may_be_numpy_scalars(tmp_path):
    scalars: dict = {"seed": np.int64(3), "algorithm": config.FedProx(mu=np.float64(0.5))}
    kept = ResultStore(tmp_path)
    kept.write(ID, result(experiment=other(**scalars)))
    assert kept.experiment(ID) == other(**scalars)


def test_arrow_tables_lose_undefined_numbers_too(tmp_path):
    table = pa.table({"auc": pa.array([0.5, math.nan, None], pa.float32()), "name": ["a", "b", None]})
    kept = ResultStore(tmp_path)
    kept.write(ID, result(rounds=table))
    found = kept.read(ID, "rounds")
    assert found.to_pydict() == {"auc": [0.5, None, None], "name": ["a", "b", None]}
    assert found.schema == table.schema


@pytest.mark.parametrize("status", ["failed", "diverged"])
def test_a_failed_or_diverged_run_is_a_row(tmp_path, status):
    kept = ResultStore(tmp_path)
    bare = RunResult(experiment=EXPERIMENT, status=status, error="client Halland failed in round 2")
    kept.write(ID, bare)
    assert kept.state(ID) == status
    assert kept.manifest(ID)["error"] == "client Halland failed in round 2"
    assert kept.manifest(ID)["model_sha256"] is None
    assert kept.ids() == [ID]
    with pytest.raises(RequestError, match="has no model"):
        kept.model(ID)
    with pytest.raises(RequestError, match="has no table 'rounds'"):
        kept.read(ID, "rounds")


def test_finished_is_left_alone_and_failed_or_stale_is_replaced(tmp_path):
    old, new = ResultStore(tmp_path, source="old"), ResultStore(tmp_path, source="new")
    loss = lambda: new.read(ID, "rounds")["loss"][0].as_py()  # noqa: E731

    old.write(ID, result("failed", 1))
    assert (old.state(ID), new.state(ID)) == ("failed", "failed")
    old.write(ID, result("done", 2))
    assert (old.state(ID), new.state(ID), loss()) == ("done", "stale", 2)
    before = os.stat(tmp_path / ID)
    for status in ("done", "diverged", "failed"):
        assert old.write(ID, result(status, 3))["status"] == "done"
    assert os.path.samestat(before, os.stat(tmp_path / ID))
    assert loss() == 2
    new.write(ID, result("diverged", 4))
    assert (old.state(ID), new.state(ID), loss()) == ("stale", "diverged", 4)
    new.write(ID, result("done", 5))
    assert (new.state(ID), loss()) == ("diverged", 4)
    assert visible(tmp_path) == [ID]


def test_states_of_many(tmp_path):
    kept = ResultStore(tmp_path, source="new")
    ResultStore(tmp_path, source="old").write("a", result())
    kept.write("b", result())
    kept.write("c", result("failed"))
    kept.write("d", result("diverged"))
    (tmp_path / "e").mkdir()
    (tmp_path / "f").mkdir()
    (tmp_path / "f" / "manifest.json").write_text('{"status": "do')
    (tmp_path / "g").write_text("a file")
    (tmp_path / ".claims").mkdir()
    wanted = {"a": "stale", "b": "done", "c": "failed", "d": "diverged"}
    wanted |= dict.fromkeys("efgh", "missing")
    assert kept.states(wanted) == wanted
    assert {i: kept.state(i) for i in wanted} == wanted
    assert kept.ids() == ["a", "b", "c", "d"]
    assert ResultStore(tmp_path / "nowhere").states(["a"]) == {"a": "missing"}
    for torn in "ef":
        kept.write(torn, result())
        assert kept.state(torn) == "done"


def test_wrong_requests_say_what_there_is(tmp_path):
    kept = ResultStore(tmp_path)
    with pytest.raises(RequestError, match=f"no run {ID} in "):
        kept.manifest(ID)
    kept.write(ID, result())
    with pytest.raises(RequestError, match="did you mean 'clients'"):
        kept.read(ID, "client")
    with pytest.raises(RequestError, match=r"no column 'auk'.* did you mean 'auc'"):
        kept.read(ID, "clients", ["auk"])
    with pytest.raises(RequestError, match="no column 'auk'"):
        kept.read_all([ID], "clients", ["auk"])
    with pytest.raises(RequestError, match="did you mean 'clients'"):
        kept.read_all([ID], "client")
    for bad in ("../x", ".tmp", "", "a/b"):
        with pytest.raises(RequestError, match="a run id is"):
            kept.write(bad, result())
    with pytest.raises(ValueError, match="status must be"):
        result("finished")


def test_damaged_files_are_named(tmp_path):
    kept = ResultStore(tmp_path)
    kept.write(ID, result())
    path = tmp_path / ID / "rounds.parquet"
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(FedsimError, match=r"rounds\.parquet is damaged"):
        kept.read(ID, "rounds")
    path = tmp_path / ID / "model.safetensors"
    data = path.read_bytes()
    for harmed in (data[:-2], data[:-1] + bytes([data[-1] ^ 1])):
        path.write_bytes(harmed)
        with pytest.raises(FedsimError, match=r"model\.safetensors is damaged"):
            kept.model(ID)


# --- many runs -------------------------------------------------------------------------------


@pytest.fixture
def four(tmp_path):
    """Runs a (fedprox) and b (fedavg, with a column of its own) done, c failed, d stale; odd path."""
    root = tmp_path / "it's [odd]*"
    kept = ResultStore(root)
    kept.write("a", result())
    fedavg = other(algorithm=config.FedAvg(), seed=8)
    kept.write(
        "b",
        result(
            experiment=fedavg,
            cell={"method": "fedavg"},
            clients={"name": ["Kronoberg"], "auc": [None], "brier": [0.25]},
            manifest={"privacy": {"epsilon": 2.0}},
        ),
    )
    kept.write("c", RunResult(experiment=other(seed=9), status="failed", error="lost"))
    ResultStore(root, source="old").write("d", RunResult(experiment=other(seed=10), status="done"))
    return kept


def test_read_all(four):
    assert four.read_all(["b", "c", "a"], "clients").to_pylist() == [
        {"run": "b", "name": "Kronoberg", "auc": None, "brier": 0.25, "undefined": None},
        {"run": "a", "name": "Halland", "auc": 0.75, "brier": None, "undefined": 0},
        {"run": "a", "name": "Örebro", "auc": None, "brier": None, "undefined": 1},
    ]
    some = four.read_all((i for i in "ab"), "clients", ["brier"])
    assert some.to_pydict() == {"run": ["a", "a", "b"], "brier": [None, None, 0.25]}
    assert four.read_all(["c"], "clients").to_pydict() == {"run": []}


def test_query(four):
    rows = four.query(
        'select run, state, algorithm, "algorithm.mu" as mu, "privacy.epsilon" as epsilon, privacy, seed,'
        ' "cell.method" as method, error from runs order by run'
    ).to_pylist()
    assert rows[0] == {
        "run": "a",
        "state": "done",
        "algorithm": "fedprox",
        "mu": 1e-5,
        "epsilon": math.inf,
        "privacy": "none",
        "seed": 7,
        "method": "fedprox",
        "error": None,
    }
    assert [r["state"] for r in rows] == ["done", "done", "failed", "stale"]
    assert (rows[1]["algorithm"], rows[1]["mu"], rows[1]["epsilon"]) == ("fedavg", None, 2.0)
    assert rows[2]["error"] == "lost"

    joined = four.query(
        "SELECT algorithm, count(*) AS n, avg(auc) AS auc FROM Clients JOIN runs USING (run)"
        " GROUP BY ALL ORDER BY ALL"
    )
    assert joined.to_pylist() == [
        {"algorithm": "fedavg", "n": 1, "auc": None},
        {"algorithm": "fedprox", "n": 2, "auc": 0.75},
    ]
    assert four.query("select distinct run from predictions order by run")["run"].to_pylist() == ["a", "b"]
    assert four.query("select count(*) as n from rounds").to_pylist() == [{"n": 6}]


def test_query_of_an_empty_store_and_refusals(four, tmp_path, monkeypatch):
    empty = ResultStore(tmp_path / "nothing")
    for name in ("runs", *store.TABLES):
        assert empty.query(f"select run from {name}").num_rows == 0
    with pytest.raises(RequestError, match="query refused"):
        four.query("select nothing from runs")
    with pytest.raises(RequestError, match="must return rows"):
        four.query("-- nothing")
    monkeypatch.setitem(sys.modules, "duckdb", None)
    with pytest.raises(RequestError, match="need DuckDB"):
        four.query("select 1")


def test_values_without_a_common_type_become_text(tmp_path):
    kept = ResultStore(tmp_path)
    for name, value in {"a": 1, "b": "one", "c": None, "d": [1, 2]}.items():
        kept.write(name, result(cell={"label": value}))
    assert kept.runs()["cell.label"].to_pylist() == ["1", "one", None, "[1, 2]"]


# --- what goes wrong while writing -----------------------------------------------------------


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
        for module in (store, arrays):
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
from test_store import ID, result
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
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    *refused, whole = done.stdout.splitlines()
    assert whole == "10000000 done"
    assert len(refused) == 6
    assert all(line.endswith("refused []") for line in refused)


def test_errors_and_interruptions_leave_nothing(tmp_path, monkeypatch):
    kept = ResultStore(tmp_path)
    with pytest.raises(pa.ArrowInvalid):
        kept.write(ID, result(rounds={"a": [1, 2], "b": [1]}))
    assert visible(tmp_path) == []

    def interrupted(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(store, "_yaml", interrupted)
    with pytest.raises(KeyboardInterrupt):
        kept.write(ID, result())
    assert visible(tmp_path) == []


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
from test_store import result
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


def test_tables_are_ordinary_parquet(tmp_path):
    ResultStore(tmp_path).write(ID, result())
    assert pq.read_table(tmp_path / ID / "clients.parquet").column_names == ["name", "auc", "undefined"]
