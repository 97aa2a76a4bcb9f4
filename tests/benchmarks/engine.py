"""The engine as a contender: the library's core on the workloads' arrays, without Ray, Hydra and duckdb.

It draws first weights, cohorts and shuffles from its own keys, so its model differs from the other
contenders' and `params` is empty; that it trains what it says is checked by `device.check`.
"""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
import time
from typing import Any

import numpy as np

from fedsim.environment import prepare
from tests.benchmarks import workloads
from tests.benchmarks.workloads import Data, Result, Workload

TASKS: dict[str, dict[str, Any]] = {
    "lr_mnist": {"name": "logistic"},
    "mlp_silo": {"name": "mlp", "hidden": [64, 64]},
    "mlp_scale": {"name": "mlp", "hidden": [64, 64]},
    "cifar_iid": {"name": "cnn", "channels": [32, 64], "dense": 128, "dropout": [0.25, 0.5]},
}
CACHE = "FEDSIM_BENCH_CACHE"  # names a compile cache to use
DEFAULT_CALL = 10  # rounds between two reports where a workload has no tests


def start_jax(cores: int | None = None) -> str:
    """Settings before JAX, a compile cache that is empty unless one is given, and the platform's name."""
    cache = os.environ.get(CACHE)
    if cache is None:
        cache = tempfile.mkdtemp(prefix="fedsim-bench-")
        atexit.register(shutil.rmtree, cache, ignore_errors=True)
    prepare(threads=cores or len(os.sched_getaffinity(0)), cache=cache)
    import jax

    return "cpu" if jax.default_backend() == "cpu" else "gpu"


def experiment(
    work: Workload,
    rounds: int,
    threads: int,
    task: dict[str, Any] | None = None,
    algorithm: Any = None,
    topology: str = "star",
) -> Any:
    """The workload as the library's configuration; the data's part is a stand-in, never loaded."""
    from fedsim import config

    return config.experiment(
        {
            "data": {"name": "arrays", "path": "benchmark"},
            "split": {"name": "natural", "test": 0.0},
            "task": task or TASKS[work.name],
            "algorithm": {"weighting": "uniform" if work.uniform else "examples"}
            | (algorithm or {"name": "fedavg"}),
            "optimizer": {"step_size": work.rate, "batch_size": work.batch, "epochs": work.epochs},
            "channel": "direct",
            "privacy": "none",
            "topology": topology,
            "world": {"name": "uniform", "cohort": work.cohort},
            "numerics": {"threads": threads},
            "executor": "inline",
            "rounds": rounds,
            "seed": 0,
        }
    )


def federation(work: Workload, data: Data) -> Any:
    """The rows as a federation; where there are tests, their rows are one external client's, the last."""
    from fedsim.data.federation import Federation
    from fedsim.data.names import IndexNames

    x, y, offsets = data.x, data.y, data.offsets
    outside = frozenset[int]()
    if work.evaluate:
        outside = frozenset({len(offsets) - 1})
        x, y = np.concatenate([x, data.test_x]), np.concatenate([y, data.test_y])
        offsets = np.append(offsets, len(y))
    classes = 2 if work.name.startswith("mlp") else 10
    clients = len(offsets) - 1
    return Federation(
        names=IndexNames(clients), ids=np.arange(clients, dtype=np.uint64), offsets=offsets,
        columns={"x": x, "y": y}, kind="binary" if classes == 2 else "multiclass", classes=classes,
        fingerprint="", licence="none needed: generated", source="benchmark", external=outside,
    )  # fmt: skip


def engine(
    work: Workload,
    rounds: int,
    data: Data,
    platform: str,
    task: dict[str, Any] | None = None,
    algorithm: dict[str, Any] | None = None,
    topology: str = "star",
) -> Any:
    """An engine with one lane and its workers; JAX has started."""
    import jax

    from fedsim.data.partition import partitions
    from fedsim.data.splits import assign
    from fedsim.simulate.build import build
    from fedsim.simulate.lanes import Lane
    from fedsim.simulate.worker import inline

    threads = jax.local_device_count() if platform == "cpu" else 1
    wanted = experiment(work, rounds, threads, task, algorithm, topology)
    rows = federation(work, data)
    split = partitions(rows, assign(rows, wanted.split, wanted.seed), wanted.split, wanted.seed)[0]
    lane = Lane(wanted, split, split, None, None, rounds)
    return build(rows, [lane], platform, inline)


def accuracy(made: Any, states: Any, data: Data) -> float:
    """Share of test rows whose most likely class is theirs."""
    scores = made.predict(states, "external")[0]
    return float((scores.argmax(axis=1) == data.test_y).mean())


def run(name: str, rounds: int, data: Data, work: Workload | None = None) -> Result:
    """`rounds` rounds of workload `name`, tests included; up to the next test in one call."""
    from fedsim.simulate.engine import simulate

    last = time.perf_counter()
    work = work or workloads.WORKLOADS[name]
    made = engine(work, rounds, data, start_jax())
    states, seconds, done = made.init(), [], 0
    span = work.evaluate or DEFAULT_CALL
    if work.evaluate:  # compiles here, not in the rounds that end with a test
        accuracy(made, states, data)
    stops = sorted({1, *range(span, rounds, span), rounds})
    for reached, now in simulate(made, states, stops):
        if work.evaluate and now.done % work.evaluate == 0:
            accuracy(made, reached, data)
        count, ended = now.done - done, time.perf_counter()
        seconds += [(ended - last) / count] * count
        done, last = now.done, ended
    if not now.finite.all():
        raise RuntimeError(f"{name}: the model is no longer finite after {rounds} rounds")
    return Result(seconds[0], seconds[1:], {}, made.computed / made.needed)
