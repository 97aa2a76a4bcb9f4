"""The examples of docs/new-algorithm.md, against what their papers say, written out in NumPy."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fedsim import algorithms, base, config, custom, data
from fedsim.cli import main, requested
from fedsim.data.digits import digits
from fedsim.data.partition import partitions
from fedsim.data.rng import generator
from fedsim.data.splits import assign
from fedsim.local import Batches, descent
from fedsim.model import Model
from fedsim.store import ResultStore, RunResult

EXAMPLES = Path(__file__).resolve().parents[2] / "docs" / "examples"
ALGORITHM, TASK, SOURCE = (str(EXAMPLES / f"my_{name}.py") for name in ("algorithm", "task", "source"))
PLAIN = "data.preprocess.impute=none data.preprocess.standardise=false optimizer.batch_size=0"


def run(line, *modules):
    """The one run of a command line: (its stored model, its experiment, its predictions)."""
    assert main(["run", "--quiet", *[w for m in modules for w in ("--with", m)], *line.split()]) == 0
    store = ResultStore("results/store")
    (found,) = store.ids()
    return store.model(found), store.experiment(found), store.read(found, "predictions")


def training_rows(experiment):
    """(x, y) of every client's training rows, float64."""
    federation, split = data.load(experiment.data), experiment.split
    (part,) = partitions(federation, assign(federation, split, experiment.seed), split, experiment.seed)
    assert federation.columns is not None and part.rows is not None
    x, y = (federation.columns[name].astype(np.float64) for name in "xy")
    ends = part.offsets[:-1] + part.train
    rows = [part.rows[begin:end] for begin, end in zip(part.offsets[:-1], ends, strict=True)]
    return [(x[mine], y[mine]) for mine in rows]


def poisson_gradient(w, x, y, l2=0.0):
    """Of mean(exp(z) - y z) + l2 / 2 |weights|^2, z = x weights + intercept; w = (weights, intercept)."""
    residual = np.exp(x @ w[:-1] + w[-1]) - y
    return np.append(x.T @ residual / len(y) + l2 * w[:-1], residual.mean())


def fedcm(clients, rounds, steps, alpha, weights, warm):
    """The model after so many rounds, with steps of size 0.3 * 0.9 ** round."""
    x, direction = np.zeros(3), np.zeros(3)
    for r in range(rounds):
        size, share = 0.3 * 0.9**r, 1.0 if warm and r == 0 else alpha
        changes = []
        for rows in clients:
            local = x
            for _ in range(steps):
                local = local - size * (share * poisson_gradient(local, *rows) + (1 - share) * direction)
            changes.append(local - x)
        mean = np.average(changes, axis=0, weights=weights)
        x, direction = x + mean, -mean / (size * steps)
    return x


@pytest.mark.long
@pytest.mark.parametrize(("weighting", "warm"), [("uniform", False), ("examples", True)])
def test_the_algorithm_is_fedcm(place, weighting, warm):
    line = (
        f"data=visits task=poisson algorithm=mine algorithm.weighting={weighting} algorithm.alpha=0.2 "
        f"algorithm.warm={warm} data.rows=20 split=quantity split.test=0.3 "
        f"optimizer.step_size=0.3 optimizer.decay=0.9 optimizer.epochs=5 rounds=4 {PLAIN}"
    )
    model, experiment, _ = run(line, SOURCE, TASK, ALGORITHM)
    clients = training_rows(experiment)
    sizes, alike = [len(y) for _, y in clients], [1] * len(clients)
    weights, other = (alike, sizes) if weighting == "uniform" else (sizes, alike)
    stored = np.append(model["params/weights"], model["params/intercept"])
    np.testing.assert_allclose(stored, fedcm(clients, 4, 5, 0.2, weights, warm), rtol=2e-5, atol=2e-6)
    for option in ((0.25, weights, warm), (0.2, other, warm), (0.2, weights, not warm)):
        assert np.abs(stored - fedcm(clients, 4, 5, *option)).max() > 0.01, "the test must see every option"


@pytest.mark.parametrize(
    ("alpha", "steps", "size", "expected"),
    [
        (1.0, 3, 0.5, [4.0, 0.0]),  # FedAvg
        (0.25, 1, 0.5, [1.0, 6.0]),
        (0.25, 3, 0.5, [1.0, 6.0]),
        (0.25, 0, 0.5, [0.0, 0.0]),
        (0.25, 3, 0.0, [0.0, 0.0]),
    ],
)
def test_a_client_reports_what_its_steps_went_along(place, alpha, steps, size, expected):
    custom.load([ALGORITHM])
    gradient = {"w": jnp.array([4.0, 0.0], jnp.float32)}
    rows: Any = None
    oracle: Any = SimpleNamespace(gradient=lambda model, batch, key: (gradient, model.state))
    cfg: Any = base.build(base.GROUPS["algorithm"]["mine"], {"alpha": alpha})
    algorithm = algorithms.ALGORITHMS["mine"](oracle, descent(jnp.float32(size)), cfg)
    start = algorithm.init(Model({"w": jnp.ones(2, jnp.float32)}, ()))
    start = start._replace(direction={"w": jnp.array([0.0, 8.0], jnp.float32)})
    batches = Batches(rows, rows, jnp.int32(steps), 0, jax.random.key(0))
    message, _ = algorithm.client_update(start, (), batches, batches.key)
    np.testing.assert_allclose(message.direction["w"], expected, rtol=1e-6)
    np.testing.assert_allclose(message.change.params["w"], -size * steps * np.array(expected), rtol=1e-6)


def test_the_task_is_poisson_regression(place):
    line = (
        "data=visits task=poisson task.l2=0.1 algorithm=pooled data.rows=30 split.test=0.3 "
        f"optimizer.step_size=0.2 rounds=60 {PLAIN}"
    )
    model, experiment, predictions = run(line, SOURCE, TASK)
    x, y = (np.concatenate(parts) for parts in zip(*training_rows(experiment), strict=True))
    w = np.zeros(3)
    for _ in range(60):
        w = w - 0.2 * poisson_gradient(w, x, y, l2=0.1)
    np.testing.assert_allclose(np.append(model["params/weights"], model["params/intercept"]), w, rtol=1e-4)
    rows = predictions["row"].to_numpy()
    columns = data.load(experiment.data).columns
    assert columns is not None
    expected = np.exp(columns["x"][rows].astype(np.float64) @ w[:-1] + w[-1])
    np.testing.assert_allclose(predictions["score"].to_numpy(), expected, rtol=1e-4)


def test_the_task_refuses_classes(place, capsys):
    assert main(["run", "--with", TASK, "task=poisson"]) == 2
    assert "task=poisson needs counts as labels" in capsys.readouterr().err


def test_the_source_makes_the_rows_it_says(place):
    base_rate, effects = 0.2, np.array([0.5, -0.3])  # of the third hospital
    custom.load([SOURCE])
    federation = data.load(base.build(base.GROUPS["data"]["visits"], {"rows": 5, "seed": 7}))
    assert federation.columns is not None
    assert federation.names == ("hospital_01", "hospital_02", "hospital_03")
    assert federation.offsets.tolist() == [0, 5, 10, 15] and federation.kind == "regression"
    rng = generator(7, "visits", 2)
    x = rng.standard_normal((5, 2))
    y = rng.poisson(np.exp(base_rate + x @ effects))
    np.testing.assert_array_equal(federation.columns["x"][10:], x.astype(np.float32))
    np.testing.assert_array_equal(federation.columns["y"][10:], y)


def test_an_edited_module_makes_its_runs_stale_and_no_others(place):
    text = Path(ALGORITHM).read_text(encoding="utf-8")
    own = place / "own.py"
    own.write_text(text, encoding="utf-8")
    custom.load([str(own)])
    store = ResultStore("results/store")
    for name in ("fedavg", "mine"):
        (cell,) = requested.from_overrides([f"algorithm={name}"], many=False)
        store.write(name, RunResult(experiment=cell.experiment, status="done"))
    assert list(store.manifest("mine")["modules"]) == ["fedsim_with_own"]
    assert store.manifest("fedavg")["modules"] == {}
    assert [store.state(name) for name in ("fedavg", "mine")] == ["done", "done"]
    custom.load([str(own)])
    assert store.state("mine") == "done"
    own.write_text(text.replace("mean.direction)", "server.direction)"), encoding="utf-8")
    custom.load([str(own)])
    assert [store.state(name) for name in ("fedavg", "mine")] == ["done", "stale"]


def test_register_source_refuses_what_is_no_config(place):
    no_config: Any = dict
    with pytest.raises(base.RequestError, match=r"data=mine needs a frozen dataclass derived from"):
        data.register_source("mine", no_config, digits)
    assert "mine" not in data.SOURCES
    with pytest.raises(base.RequestError, match="data=blobs is already registered as Blobs"):
        data.register_source("blobs", config.Digits, digits)
