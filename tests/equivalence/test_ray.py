"""Ray actors give the bits of this process: any number of them, pinned to a core, killed in mid-round."""

import hashlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest

from fedsim import config
from fedsim.base import FedsimError, RequestError
from fedsim.data import load
from fedsim.data.partition import partitions
from fedsim.data.splits import assign
from fedsim.execute.ray import RayPool, RayWorkers, connect, cores_of, places
from fedsim.simulate import diversity, worker
from fedsim.simulate.build import build
from fedsim.simulate.engine import Engine, simulate
from fedsim.simulate.lanes import Lane

pytestmark = [pytest.mark.ray, pytest.mark.production]
WORKER = "fedsim.simulate.worker:Worker"
TOYS = "fedsim_with_toy:Toy"

# A worker that needs no JAX, given to the actors as a user's module.
TOY = """
import os

import numpy as np

from fedsim.base import RequestError


class Toy:
    compile_seconds = 0.5

    def __init__(self, setup):
        self.setup = setup

    def make(self, n):
        return {"x": np.ones(n, np.float32)}

    def step(self, state, by=1.0):
        return {"x": state["x"] + np.float32(by)}

    def halves(self, pair):
        return pair[0]["x"], pair[1]["x"]

    def table(self):
        return {"sum": self.setup["table"].sum(), "writeable": self.setup["table"].flags.writeable}

    def refuse(self):
        raise RequestError("algorithm.mu must be in [0, inf), got -1")

    def fail(self):
        raise ValueError("shapes differ\\nand more")

    def die(self):
        os._exit(1)
"""


def experiment(**options):
    plain = {
        "data": blobs(40, 10, 60, [30]),
        "split": {"name": "natural", "test": 0.2},
        "task": {"name": "mlp", "hidden": [256, 256]},
        "algorithm": "fedavg",
        "optimizer": {"batch_size": 20, "epochs": 6},
        "channel": "direct",
        "privacy": "none",
        "world": {"name": "uniform", "cohort": 20},
        "numerics": {},
        "executor": "ray",
        "rounds": 3,
        "seed": 0,
    }
    return config.experiment(plain | options)


def blobs(clients, least, most, shape, dtype="float32"):
    rows = {"clients": clients, "rows_min": least, "rows_max": most, "test_rows": 0}
    return {"name": "blobs", "shape": shape, "dtype": dtype} | rows


# name -> (whether rounds are cut into tickets, experiments side by side)
CASES = {
    "scaffold": (True, [experiment(algorithm="scaffold")]),
    # And whom a round trains follows from the model, and workers make models to judge by.
    "streamed": (
        True,
        [
            experiment(
                data=blobs(40, 10, 60, [30]) | {"mode": "streamed"},
                world={"name": "power_of_choice", "cohort": 20, "candidates": 30},
                algorithm="finetune",
                split={"name": "natural", "test": 0.2, "late": 0.2},
            )
        ],
    ),
    "two exchanges": (
        True,
        [experiment(algorithm="mime", data=blobs(40, 10, 60, [30]) | {"mode": "streamed"}, rounds=2)],
    ),
    "cnn": (
        True,
        [
            experiment(
                task={"name": "cnn", "channels": [8, 8], "dense": 16},
                data=blobs(12, 20, 40, [12, 12, 3], "uint8"),
                world="all",
            )
        ],
    ),
    "graph": (
        True,
        [
            experiment(
                algorithm="dpsgd",
                topology="regular",
                world={"name": "uniform", "cohort": 20, "dropout": 0.1},
                data=blobs(40, 10, 60, [30]) | {"mode": "streamed"},
            )
        ],
    ),
    # Masked whole numbers of clients' own noise, some of whom are lost in the protocol.
    "secure": (
        True,
        [
            experiment(
                secure={"name": "bonawitz", "dropout": [0.02, 0.0, 0.1, 0.05]},
                privacy={"name": "skellam", "clip_norm": 0.5, "contributors": 12},
                algorithm={"name": "fedavg", "weighting": "uniform"},
            )
        ],
    ),
    # What clients send beside their messages: whether these are within the bound, which follows from it.
    "reports": (
        True,
        [
            experiment(
                secure={"name": "secagg_plus", "dropout": [0.0, 0.0, 0.1, 0.0]},
                privacy={"name": "adaptive_clip", "noise_multiplier": 0.5},
                algorithm={"name": "fedavg", "weighting": "uniform"},
            )
        ],
    ),
    # 11 runs in two teams of 8 lanes; more rounds than one call takes.
    "lanes": (
        False,
        [
            experiment(task="logistic", optimizer={"step_size": s, "batch_size": 10}, rounds=70)
            for s in np.linspace(0.01, 0.3, 11).tolist()
        ],
    ),
    # Every round on all devices of a process; more rounds than one call takes.
    "spread": (
        False,
        [
            experiment(
                algorithm="scaffold",
                task={"name": "mlp", "hidden": [64, 64]},
                optimizer={"batch_size": 20, "epochs": 2},
                rounds=70,
            )
        ],
    ),
    # Cohorts and the ages of their models come from events, on the host.
    "asynchronous": (
        False,
        [
            experiment(
                task="logistic",
                algorithm="fedbuff",
                world={"name": "asynchronous", "concurrency": 10, "buffer": 4},
                system="lognormal",
                rounds=70,
            )
        ],
    ),
    "reduction": (
        False,
        [experiment(task="logistic", algorithm="fedsgd", data=blobs(50, 2000, 2000, [30]), world="all")],
    ),
}


# Convolutions, a sum over 100,000 rows, and memory that travels: with one, two and three actors.
EVERY_NUMBER = ("cnn", "reduction", "scaffold")
TWO = ("secure", "reports")
LONG = (
    *("scaffold", "streamed", "graph", "secure", "reports", "lanes", "spread", "two exchanges"),
    *("cnn", "asynchronous"),
)
SPREAD = ("spread", "reduction")  # over all devices of each process


def engine_of(case: str, start) -> Engine:
    shared, runs = CASES[case]
    federation = load(runs[0].data)
    part = partitions(federation, assign(federation, runs[0].split, 0), runs[0].split, 0)[0]
    lanes = [Lane(run, part, part, None, None, run.rounds) for run in runs]
    engine = build(federation, lanes, "cpu", start)
    assert engine.shared == shared
    assert engine.widths.tickets > 1 if shared else len(engine.teams) > 1 or len(runs) == 1
    assert engine.widths.devices == (2 if case in SPREAD else 1)
    return engine


def bits(engine: Engine) -> str:
    """Hash of final models and predictions, training in two calls."""
    *_, (states, _) = simulate(engine, engine.init(), [1, engine.lanes[0].rounds])
    digest = hashlib.sha256()
    scores = [engine.predict(states, which) for which in ("test", "late")]
    for leaf in jax.tree.leaves((engine.models(states), scores, engine.measures(states))):
        digest.update(np.ascontiguousarray(leaf).tobytes())
    return digest.hexdigest()


_inline: dict[str, str] = {}


def inline(case: str) -> str:
    """The bits of this process, on two devices."""
    if case not in _inline:
        engine = engine_of(case, worker.inline)
        assert engine.workers.count == (1 if case in SPREAD else 2)
        _inline[case] = bits(engine)
    return _inline[case]


@pytest.fixture(scope="module")
def module(tmp_path_factory):
    toy = tmp_path_factory.mktemp("modules") / "toy.py"
    toy.write_text(TOY)
    return str(toy)


@pytest.fixture(scope="module")
def pool(ray_cluster, module):
    """Three actors on two cores."""
    made = RayPool(config.RayExecutor(workers=3), config.Numerics(), [module])
    yield made
    made.close()


@pytest.fixture
def toys(pool):
    return pool.workers(TOYS, {"table": np.arange(10_000_000, dtype=np.float32)})


# --- bits ------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", CASES)
def test_any_number_of_actors_gives_the_bits_of_this_process(pool, case):
    expected = inline(case)  # first, so that actors find what it compiled
    for count in (1, 2, 3) if case in EVERY_NUMBER else (1, 2) if case in TWO else (2,):
        engine = engine_of(case, lambda setup, n=count: RayWorkers(pool.actors[:n], WORKER, setup))
        assert engine.workers.count == count
        assert bits(engine) == expected
        engine.workers.close()


def test_gradient_diversity_measured_by_an_actor_is_that_of_this_process(pool):
    def found(start):
        engine = engine_of("lanes", start)
        (model, _), lane = engine.models(engine.init())[0], engine.lanes[0]
        clients = diversity.drawn(engine.federation, lane.judged, None, 0)
        return diversity.measured(engine.workers, engine.structure, lane.experiment.task, model, clients)

    assert found(worker.inline) == found(lambda setup: RayWorkers(pool.actors[:1], WORKER, setup)) > 1


def test_actors_pinned_to_one_core_have_two_threads_and_so_the_same_bits(pool):
    # What the test above compared with two devices in this process.
    assert [len(pool.ask(os.sched_getaffinity, 0, at=i)) for i in range(3)] == [1, 1, 1]
    assert pool.ask(os.sched_getaffinity, 0, at=0) != pool.ask(os.sched_getaffinity, 0, at=1)
    for name in ("NPROC", "XLA_FLAGS", "JAX_ENABLE_X64", "JAX_COMPILATION_CACHE_DIR"):
        assert pool.ask(os.getenv, name) == os.environ[name]
    assert pool.ask("jax:local_device_count") == 2
    assert (pool.platform, pool.count) == ("cpu", 3)


@pytest.mark.long
def test_an_actor_killed_in_mid_round_changes_no_bits(pool):
    killed: list[int] = []

    class Killing(RayWorkers):
        def call(self, at, method, *arguments, returns=1):
            handles = super().call(at, method, *arguments, returns=returns)
            if (
                method == "finish" and arguments[4] == 1 and not killed
            ):  # round 1: tickets sent, nothing fetched
                killed.append(pool.ask(os.getpid, at=1))
                os.kill(killed[0], signal.SIGKILL)
            return handles

    before = pool.restarts
    engine = engine_of("scaffold", lambda setup: Killing(pool.actors[:2], WORKER, setup))
    assert bits(engine) == inline("scaffold")
    assert pool.ask(os.getpid, at=1) not in killed
    assert pool.restarts == before + 1
    assert [len(pool.ask(os.sched_getaffinity, 0, at=i)) for i in range(3)] == [1, 1, 1]


DRIVER = """
import sys
sys.path.insert(0, {tests!r})
import fedsim.config as config
from fedsim.execute.ray import RayPool, disconnect
from test_ray import WORKER, bits, engine_of

pool = RayPool(config.RayExecutor(workers=1), config.Numerics())
print(bits(engine_of("cnn", lambda setup: pool.workers(WORKER, setup))))
pool.close()
disconnect()

from jax._src import xla_bridge
assert not xla_bridge._backends
"""


@pytest.mark.long
def test_a_driver_joins_by_address_and_opens_no_device(ray_cluster):
    import ray

    address = ray.get_runtime_context().gcs_address
    surroundings = os.environ | {"RAY_ADDRESS": address, "JAX_PLATFORMS": "nowhere"}
    code = DRIVER.format(tests=str(Path(__file__).parent))
    done = subprocess.run(
        [sys.executable, "-c", code], env=surroundings, capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [inline("cnn")]
    assert ray.is_initialized() and ray.nodes()[0]["Alive"]  # leaving a cluster does not end it


# --- calls, errors, memory -------------------------------------------------------------------


def test_references_inside_arguments_arrive_as_arrays_and_results_are_spread(toys):
    made = toys.call(0, "make", 100_000)
    more = toys.call(1, "step", toys.share(made, 1), 2.0)
    zeros = np.zeros(3, np.float32)
    first, second = toys.call(2, "halves", [made, {"x": zeros}], returns=2)
    assert [type(x).__name__ for x in (made, more, first)] == ["ObjectRef"] * 3
    third = toys.call(2, "step", toys.put({"x": zeros}, 2))
    assert (toys.fetch(third)["x"] == 1).all()
    got = toys.fetch({"a": more, "b": (first, second), "c": np.float32(1)})
    assert (got["a"]["x"] == 3).all() and len(got["b"][0]) == 100_000 and (got["b"][1] == 0).all()
    assert toys.compile_seconds == 1.5


def test_all_actors_read_one_copy_of_the_setup(toys):
    for at in range(toys.count):
        table = toys.fetch(toys.call(at, "table"))
        assert not table["writeable"]  # memory of the object store, not of the actor
        assert table["sum"] == np.arange(10_000_000, dtype=np.float32).sum()


def test_an_error_in_an_actor_is_the_sentence_it_was(toys):
    with pytest.raises(RequestError, match=r"^algorithm\.mu must be in \[0, inf\), got -1$"):
        toys.fetch(toys.call(1, "refuse"))
    broken = toys.call(1, "fail")
    sentence = r"^Ray worker 1 \(.*, process \d+\) failed in fail: ValueError: shapes differ$"
    with pytest.raises(FedsimError, match=sentence):
        toys.fetch(broken)
    with pytest.raises(FedsimError, match=sentence):  # and what depended on it
        toys.fetch(toys.call(0, "step", broken))


@pytest.mark.long
def test_work_that_kills_every_worker_ends_with_a_sentence(ray_cluster, module, monkeypatch):
    monkeypatch.setattr("fedsim.execute.ray.pool._LOOK_SECONDS", 0.2)
    monkeypatch.setattr("fedsim.execute.ray.pool._DEATHS", 2)
    mine = RayPool(config.RayExecutor(workers=1), config.Numerics(), [module])
    workers = mine.workers(TOYS, {})
    with pytest.raises(FedsimError, match=r"^Ray worker 0 died \d+ times at the same work; .* lower$"):
        workers.fetch(workers.call(0, "die"))
    mine.close()


def test_fifty_rounds_leave_no_more_behind_than_one(toys):
    import ray

    def free():
        return ray.available_resources()["object_store_memory"]

    def settled():
        """Free bytes once Ray has counted them; it does so every second or so."""
        seen, now = -1.0, free()
        while seen != now:
            time.sleep(1.0)
            seen, now = now, free()
        return now

    state = toys.call(0, "make", 1_000_000)
    toys.fetch(state)
    before = settled()
    for rnd in range(50):
        state = toys.call(rnd % 3, "step", state)
    assert (toys.fetch(state)["x"] == 51).all()
    assert settled() > before - 2 * 4_000_000


# --- where actors go -------------------------------------------------------------------------


def node(name, cores, gpus=0):
    resources = {"CPU": float(cores)} | ({"GPU": float(gpus)} if gpus else {})
    return {"NodeID": name, "Alive": True, "Resources": resources}


def test_actors_are_spread_by_gpus_or_by_cores():
    def spread(nodes, workers=None, threads=2, gpu=True):
        return [(p.node, p.slot, p.slots, p.gpu, p.cpus) for p in places(nodes, workers, threads, gpu)]

    assert spread([node("a", 5)]) == [("a", 0, 2, 0, 2), ("a", 1, 2, 0, 2)]
    assert spread([node("a", 1)]) == [("a", 0, 1, 0, 0)]
    assert spread([node("a", 2)], workers=2) == [("a", 0, 2, 0, 0), ("a", 1, 2, 0, 0)]
    assert [p[0] for p in spread([node("b", 4), node("a", 8)], workers=3)] == ["a", "a", "b"]
    assert spread([node("a", 8, gpus=2)]) == [("a", 0, 2, 1, 0), ("a", 1, 2, 1, 0)]
    assert [p[3] for p in spread([node("a", 8, gpus=1)], workers=3)] == [0.3333] * 3
    assert len(spread([node("a", 8, gpus=1)], gpu=False)) == 4


def test_cores_are_shared_out_evenly():
    assert [cores_of(i, 2, [0, 1, 2, 3]) for i in range(2)] == [[0, 1], [2, 3]]
    assert [cores_of(i, 3, [4, 5]) for i in range(3)] == [[4], [5], [4]]
    assert cores_of(0, 1, [0, 1, 2]) == [0, 1, 2]


def test_another_cluster_is_not_joined_by_accident(ray_cluster):
    connect()  # finds what runs here
    with pytest.raises(RequestError, match=r"executor\.address=10\.0\.0\.1:6379; start a new process$"):
        connect("10.0.0.1:6379")


def test_a_module_that_fails_is_told_with_its_line(pool, tmp_path):
    (tmp_path / "mine.py").write_text("x = 1\ny = x.z\n")
    with pytest.raises(RequestError, match=r"mine\.py, line 2: AttributeError"):
        pool.ask("fedsim.custom:load", [str(tmp_path / "mine.py")])
