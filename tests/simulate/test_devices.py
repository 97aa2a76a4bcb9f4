"""The same bits on one device and on two, in any order of lanes, and with 64-bit mode on or off."""

import json
import subprocess
import sys
from dataclasses import replace
from functools import cache, partial
from typing import Any

import jax
import numpy as np
import pytest

from fedsim.algorithms import ALGORITHMS
from fedsim.data.federation import Federation, gather
from fedsim.simulate import program
from tests.simulate import small

pytestmark = pytest.mark.production

PLAIN = {"name": "digits", "preprocess": {"impute": "none", "standardise": False}}
WIDE: dict[str, Any] = {
    "optimizer": {"batch_size": 10, "epochs": 6, "step_size": 0.05},
    "numerics": {"block": None, "group": None},
}
NORM = {"name": "mlp", "hidden": [128, 128], "batch_norm": True, "dropout": 0.3}
# Rounds that are cut into tickets, and small ones of which a worker does many.
CASES: dict[str, dict[str, Any]] = {
    "mlp with memory": {"task": {"name": "mlp", "hidden": [128, 128]}, **WIDE, "algorithm": "scaffold"},
    "batch norm and dropout": {"task": NORM, **WIDE},
    "cnn": {
        "task": {"name": "cnn", "channels": [3, 4], "dense": 8},
        "data": PLAIN,
        "optimizer": {"batch_size": 5, "epochs": 1},
        "numerics": {"block": 2, "group": 2},
    },
    "logistic": {},
}
SHARED = {"mlp with memory", "batch norm and dropout"}
LONG = {"cnn", "mlp with memory", "batch norm and dropout"}


@cache
def pictures() -> Federation:
    rng = np.random.default_rng(0)
    sizes = (6, 11, 3, 8)
    owner = np.repeat(np.arange(len(sizes)), sizes)
    x = rng.integers(0, 256, (len(owner), 8, 8, 1)).astype(np.uint8)
    y = (np.arange(len(owner)) % 3).astype(np.int32)
    names = [f"site {i}" for i in owner]
    return gather(names, {"x": x, "y": y}, kind="multiclass", classes=3, licence="none", source="test")


def of(case: str) -> tuple[list[Any], Federation]:
    if case == "cnn":
        fed = pictures()
    elif case in SHARED:
        fed = small.federation((40, 31, 57, 44, 50, 23, 38, 47, 60, 29, 35, 52))
    else:
        fed = small.federation()
    e = small.experiment(
        **CASES[case], **({"world": {"name": "uniform", "cohort": 9}} if case in SHARED else {})
    )
    lanes = 2 if case in SHARED else 9
    numbers = [
        replace(e, seed=s, optimizer=replace(e.optimizer, step_size=0.02 * (s + 1))) for s in range(lanes)
    ]
    return [small.lane(x, fed, rounds=2) for x in numbers], fed


@pytest.mark.long
@pytest.mark.parametrize("case", sorted(CASES))
def test_one_device_and_two(case: str) -> None:
    assert jax.local_device_count() == 2
    lanes, fed = of(case)
    one, two = (small.train(lanes, fed, devices=n) for n in (1, 2))
    assert one.engine.shared == (case in SHARED)
    assert (one.engine.workers.count, two.engine.workers.count) == (1, 2)
    assert len(one.engine.teams) > 1 and (case not in SHARED or one.engine.widths.tickets > 1)
    small.assert_same_bits((two.states, two.scores()), (one.states, one.scores()))
    # Both devices had work to do.
    homes = {t % 2 for t in range(len(two.engine.teams))}
    assert homes == {0, 1}
    last = [s for state in one.states for s in jax.tree.leaves(state.server)]
    assert all(np.isfinite(x).all() for x in last)


@pytest.mark.parametrize("case", ["batch norm and dropout", "cnn"])
def test_lanes_in_another_order(case: str) -> None:
    lanes, fed = of(case)
    forth, back = small.train(lanes, fed, devices=2), small.train(lanes[::-1], fed, devices=1)
    small.assert_same_bits((back.states[::-1], back.scores()[::-1]), (forth.states, forth.scores()))
    small.assert_same_bits(small.train(lanes[1:2], fed).states[0], forth.states[1])


@pytest.mark.long
def test_batch_statistics_and_dropout_belong_to_the_run() -> None:
    lanes, fed = of("batch norm and dropout")
    trained = small.train(lanes, fed)
    (first, _) = small.by_lane(trained.engine, trained.engine.fetch(trained.engine.init()))
    model, start = trained.models[0][0], first.server[0]
    for new, old in zip(jax.tree.leaves(model.state), jax.tree.leaves(start.state), strict=True):
        assert np.abs(new - old).max() > 1e-2
    again = small.train([replace(lanes[0], experiment=replace(lanes[0].experiment, seed=99))], fed)
    assert np.abs(small.flat(again.models[0][0].params) - small.flat(model.params)).max() > 1e-3
    no_dropout = small.experiment(**(CASES["batch norm and dropout"] | {"task": NORM | {"dropout": 0.0}}),
                                  world={"name": "uniform", "cohort": 9})  # fmt: skip
    e = replace(lanes[0].experiment, task=no_dropout.task)
    other = small.train([replace(lanes[0], experiment=e)], fed)
    assert np.abs(small.flat(other.models[0][0].params) - small.flat(model.params)).max() > 1e-3


# One of each kind: means and moments, memory, a stack and several models.
KINDS = ("fedadam", "scaffold", "ifca")


def bits() -> dict[str, str]:
    """Fingerprints of a run of every kind of algorithm, and of one with batch norm and dropout."""
    found = {
        name: small.fingerprint(small.train([small.lane(small.experiment(algorithm=name))])) for name in KINDS
    }
    task = {"name": "mlp", "hidden": [6], "batch_norm": True, "dropout": 0.3}
    return found | {"mlp": small.fingerprint(small.train([small.lane(small.experiment(task=task))]))}


def wide() -> list[str]:
    """Algorithms that carry a number of 64 bits from round to round; traced only."""
    found, now = [], np.int32(0)
    for name in sorted(ALGORITHMS):
        en = small.engine([small.lane(small.experiment(algorithm=name))])
        ((source, inputs),) = en.workers.workers[0].teams
        plan, stride, _ = en.teams[0].plan(0, 1)
        first = jax.eval_shape(partial(program.init, en.structure), inputs)
        rounds = partial(program.rounds, en.structure)
        last, _ = jax.eval_shape(rounds, source, inputs, first, plan, np.int32(stride), now, now)
        if any(x.dtype.itemsize > 4 for x in jax.tree.leaves((first, last))):
            found.append(name)
    return found


@pytest.mark.long
def test_64_bit_mode_leaves_float32_alone(root: Any) -> None:
    """Every draw and array states its dtype, so nothing widens where it could."""
    code = (
        "import json, os; from fedsim.environment import prepare;"
        "prepare(threads=2, x64=True, cache=os.environ['JAX_COMPILATION_CACHE_DIR']);"
        "import jax; assert jax.numpy.zeros(()).dtype == 'float64';"
        "from tests.simulate import test_devices;"
        "assert not test_devices.wide(), test_devices.wide();"
        "print(json.dumps(test_devices.bits()))"
    )
    ran = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, cwd=root, check=False
    )
    assert ran.returncode == 0, ran.stderr
    assert json.loads(ran.stdout.splitlines()[-1]) == bits()
