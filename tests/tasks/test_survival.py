# mypy: disable-error-code="arg-type, index, union-attr"
"""Cox regression and discrete hazards against loops in float64, and a fit against Newton's method."""

from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fedsim import config
from fedsim.base import RequestError
from fedsim.data.federation import gather
from fedsim.data.partition import partitions
from fedsim.data.splits import assign
from fedsim.model import Model, Spec
from fedsim.plan import Cell
from fedsim.run import run_experiments
from fedsim.simulate.build import build as build_engine
from fedsim.simulate.lanes import Lane
from fedsim.store import ResultStore
from fedsim.tasks import build
from fedsim.tasks.survival_discrete import edges

SPEC = Spec((3,), "survival", 2)
KEY = jax.random.key(0)
PARAMS = np.array([0.7, -0.4, 0.2])


def patients(rows, seed=0, levels=12):
    """(x, time, event): exponential times rounded up, so that many are tied; a third is censored."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(rows, 3))
    time = np.ceil(levels * rng.exponential(size=rows) / np.exp(x @ PARAMS) / 2)
    censoring = np.ceil(rng.uniform(0.5, 1.5 * levels, rows))
    return x.astype(np.float32), np.minimum(time, censoring), time <= censoring


def partial_likelihood(beta, x, time, event, weight, ties):
    """(negative log partial likelihood, gradient, Hessian), death by death."""
    x = x.astype(np.float64)
    loss, gradient, hessian = 0.0, np.zeros(len(beta)), np.zeros((len(beta), len(beta)))
    r = weight * np.exp(x @ beta)
    for t in np.unique(time[event]):
        tied, at_risk = event & (time == t), time >= t
        deaths, mean = int(tied.sum()), weight[tied].mean()
        for k in range(deaths):
            p = r * (at_risk - (k / deaths if ties == "efron" else 0.0) * tied)
            centre = p @ x / p.sum()
            loss += mean * np.log(p.sum())
            gradient += mean * centre
            hessian += mean * ((x.T * p) @ x / p.sum() - np.outer(centre, centre))
        loss -= (weight * (x @ beta))[tied].sum()
        gradient -= (weight[:, None] * x)[tied].sum(axis=0)
    return loss, gradient, hessian


def newton(x, time, event, ties="efron"):
    beta = np.zeros(x.shape[1])
    for _ in range(20):
        _, gradient, hessian = partial_likelihood(beta, x, time, event, np.ones(len(x)), ties)
        beta = beta - np.linalg.solve(hessian, gradient)
    return beta


@cache
def asked(ties):
    task = build(config.Cox(ties=ties), SPEC, "float32")

    def total(params, batch):
        losses, _ = task.loss(Model(params, ()), batch, KEY)
        return jnp.sum(jnp.where(batch["mask"], losses * batch["weight"], 0)), losses

    return jax.jit(jax.value_and_grad(total, has_aux=True))


@pytest.mark.parametrize("ties", ["efron", "breslow"])
@pytest.mark.parametrize("case", ["alike", "weighted", "padded", "one row", "distinct", "no event"])
def test_cox_loss_and_gradient_are_the_loops(ties, case):
    x, time, event = patients(24, seed=3, levels=2000 if case == "distinct" else 6)
    weight = np.random.default_rng(1).choice([0.0, 0.5, 1.0, 2.0], 24) if case == "weighted" else np.ones(24)
    mask = np.arange(24) % 3 > 0 if case == "padded" else np.ones(24, bool)
    event = event & (case != "no event")
    if case == "one row":  # padding repeats a row
        x, time, event, mask = x[:1].repeat(24, 0), time[:1].repeat(24), np.ones(24, bool), np.arange(24) < 1
    batch = {"x": x, "time": time.astype(np.float32), "y": event.astype(np.int32), "mask": mask}
    batch["weight"] = weight.astype(np.float32)
    beta = np.array([0.5, 1.5, -2.0])
    (value, losses), grads = asked(ties)({"head": {"kernel": jnp.asarray(beta[None], "float32")}}, batch)
    kept = mask & (weight > 0)
    wanted = partial_likelihood(beta, x[kept], time[kept], event[kept], weight[kept], ties)
    np.testing.assert_allclose(value, wanted[0], rtol=1e-5)
    np.testing.assert_allclose(grads["head"]["kernel"][0], wanted[1], rtol=1e-4, atol=1e-5)
    assert not np.asarray(losses)[~event].any()


def test_extreme_risks_have_finite_losses_and_gradients():
    x, time, event = patients(24)
    batch = {"x": 1e4 * x, "time": time.astype(np.float32), "y": event.astype(np.int32)}
    batch |= {"mask": np.ones(24, bool), "weight": np.ones(24, np.float32)}
    (value, _), grads = asked("efron")({"head": {"kernel": jnp.ones((1, 3), jnp.float32)}}, batch)
    assert np.isfinite(value) and np.isfinite(grads["head"]["kernel"]).all()


def ask(task):
    """(model, batch) -> (losses, risks)."""
    return jax.jit(lambda model, batch: (task.loss(model, batch, KEY)[0], task.predict(model, batch)))


@pytest.mark.parametrize("surviving", [1.0, 0.5])
def test_intervals_are_quantiles_of_a_constant_hazard(surviving):
    cfg = config.SurvivalDiscrete(bins=4, horizon=80.0, surviving=surviving)
    k = np.arange(5) / 4
    wanted = 80 * (k if surviving == 1 else np.log(1 - k / 2) / np.log(0.5))
    np.testing.assert_allclose(edges(cfg), wanted, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("proportional", [True, False])
def test_discrete_losses_and_risks_by_hand(proportional):
    """Bins of width 10 up to 40: log(1 - h) for intervals lived through, log h for the event's."""
    cfg = config.SurvivalDiscrete(bins=4, horizon=40.0, proportional=proportional)
    task = build(cfg, SPEC, "float32")
    shapes, rng = jax.eval_shape(task.init, KEY), np.random.default_rng(0)
    model = jax.tree.map(lambda s: jnp.asarray(rng.normal(size=s.shape), s.dtype), shapes)
    times, event = [3, 10, 25, 40, 90, 4, 5, 14.9, 15, 35, 90], [1] * 5 + [0] * 6
    # Censored rows have lived through the interval whose middle they reach.
    survived = [0, 1, 2, 4, 4, 0, 1, 1, 2, 4, 4]
    failed = [0, 1, 2, None, None] + [None] * 6
    x = rng.normal(size=(11, 3)).astype(np.float32)
    batch = {"x": x, "time": np.array(times, np.float32), "y": np.array(event), "mask": np.ones(11, bool)}
    assert task.coefficients is not None
    weights, baseline = (np.asarray(a, np.float64) for a in task.coefficients(model))
    assert weights.shape == ((3,) if proportional else (3, 4)) and baseline.shape == (4,)
    z = (x @ weights).reshape(11, -1) + baseline
    h = 1 / (1 + np.exp(-z))
    wanted = [
        -np.log(1 - h[i, : survived[i]]).sum() - (0 if failed[i] is None else np.log(h[i, failed[i]]))
        for i in range(11)
    ]
    losses, risks = ask(task)(model, batch)
    np.testing.assert_allclose(losses, wanted, rtol=1e-4)
    np.testing.assert_allclose(risks, np.log(-np.log(1 - h).sum(1)), rtol=1e-4, atol=1e-5)


def test_discrete_training_begins_where_half_survive_and_risks_stay_finite():
    task = build(config.SurvivalDiscrete(bins=7, horizon=1.0), SPEC, "float32")
    model = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), jax.eval_shape(task.init, KEY))
    batch = {
        "x": jnp.zeros((1, 3)),
        "time": jnp.ones(1),
        "y": jnp.zeros(1, jnp.int32),
        "mask": jnp.ones(1, bool),
    }
    answer = ask(task)
    losses, risks = answer(model, batch)
    np.testing.assert_allclose(risks, np.log(np.log(2)), rtol=1e-5)
    np.testing.assert_allclose(losses, np.log(2), rtol=1e-5)
    far = answer(jax.tree.map(lambda a: a - 1000, model), batch)[1]
    np.testing.assert_allclose(far, -1000 + np.log(7 * np.expm1(np.log(2) / 7)), rtol=1e-4)


@pytest.mark.parametrize("cfg", [config.Logistic(), config.Linear(), config.Mlp()])
def test_times_are_refused_by_tasks_of_classes_and_numbers(cfg):
    with pytest.raises(RequestError, match=r"time to an event .*task=cox or task=survival_discrete"):
        build(cfg, SPEC, "float32")


@pytest.mark.parametrize("cfg", [config.Cox(), config.SurvivalDiscrete(horizon=1.0)])
def test_classes_are_refused_by_tasks_of_times(cfg):
    with pytest.raises(RequestError, match=r"needs the time to an event.*\(binary\).*data.time"):
        build(cfg, Spec((3,), "binary", 2), "float32")


# --- through the engine ----------------------------------------------------------------------


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    """(path, x, time, event) of one client's table."""
    x, time, event = patients(90, seed=5)
    path = tmp_path_factory.mktemp("cohort") / "cohort.csv"
    lines = ["site,age,ef,bmi,days,died"]
    for row, t, e in zip(60 + 12 * x, time, event, strict=True):
        lines.append(f"A,{row[0]:.6f},{row[1]:.6f},{row[2]:.6f},{t:g},{int(e)}")
    path.write_text("\n".join(lines))
    return path, 60 + 12 * x, time, event


def experiment(path, **changes):
    values: dict[str, Any] = {
        "data": {"name": "table", "path": str(path), "client": "site", "label": "died", "time": "days"},
        "split": {"name": "natural", "test": 0.3},
        "task": {"name": "cox", "rows": 64},
        "algorithm": "fedavg",
        "optimizer": {"batch_size": 0, "step_size": 0.7, "epochs": 10},
        "channel": "direct",
        "privacy": "none",
        "world": "all",
        "numerics": {},
        "executor": "inline",
        "rounds": 40,
        "seed": 0,
    }
    for name, new in changes.items():
        old: Any = values.get(name)
        # Another member of a group takes nothing over.
        merge = isinstance(old, dict) and isinstance(new, dict) and new.get("name") in (None, old.get("name"))
        values[name] = (old or {}) | new if merge else new
    return config.experiment(values)


@pytest.fixture(scope="module")
def stored(cohort, tmp_path_factory):
    root = tmp_path_factory.mktemp("store")
    hazards = {"name": "survival_discrete", "bins": 4, "horizon": 12.0}
    experiments = [
        experiment(cohort[0]),
        *(experiment(cohort[0], data={"mode": mode}, task=hazards) for mode in ("resident", "streamed")),
    ]
    runs = [run_experiments([Cell(e, {})], root).done for e in experiments]
    return ResultStore(root), [run for (run,) in runs]


@pytest.mark.long
def test_full_batches_of_one_client_fit_what_newton_fits(stored, cohort):
    store, (run, *_) = stored
    _, x, time, event = cohort
    judged = store.read(run, "predictions")
    train = np.setdiff1d(np.arange(90), judged["row"].to_numpy())
    assert len(train) == 63
    found = store.manifest(run)["coefficients"]
    assert list(found) == ["age", "ef", "bmi"]  # a partial likelihood has no intercept
    beta = newton((x[train] - 60) / 12, time[train], event[train]) / 12
    np.testing.assert_allclose(list(found.values()), beta, rtol=2e-3)


def test_predictions_hold_times_and_events(stored, cohort):
    store, (run, *_) = stored
    _, x, time, event = cohort
    judged = store.read(run, "predictions").to_pydict()
    rows = np.array(judged["row"])
    assert "label" not in judged
    np.testing.assert_array_equal(judged["time"], time[rows].astype(np.float32))
    np.testing.assert_array_equal(judged["event"], event[rows])
    risk = x[rows] @ list(store.manifest(run)["coefficients"].values())
    difference = np.array(judged["score"]) - risk
    np.testing.assert_allclose(difference, difference.mean(), atol=1e-4)
    pooled = store.manifest(run)["metrics"]["pooled"]
    assert set(pooled) == {"n", "c_index", "cox_loss"} and 0.6 < pooled["c_index"] < 1
    clients = store.read(run, "clients").to_pydict()
    assert clients["positives"][0] == event[rows].sum()


def test_events_are_stratified(stored, cohort):
    rows = stored[0].read(stored[1][0], "predictions")["row"].to_numpy()
    event = cohort[3]
    assert event[rows].sum() == pytest.approx(0.3 * event.sum(), abs=1)


def test_streamed_rows_give_the_same_bits(stored):
    store, (_, *runs) = stored
    first, second = (store.manifest(run) for run in runs)
    assert first["model_sha256"] == second["model_sha256"] and first["metrics"] == second["metrics"]
    assert first["metrics"]["pooled"]["c_index"] > 0.6
    assert [np.size(value) for value in first["coefficients"].values()] == [4, 1, 1, 1]


def test_tuning_goes_by_the_partial_likelihood(cohort, tmp_path):
    tune = {"grid": {"optimizer.step_size": [1e-3, 0.7]}, "rounds": [3]}
    e = experiment(cohort[0], task={"name": "survival_discrete", "bins": 4, "horizon": 12.0}, tune=tune)
    outcome = run_experiments([Cell(e, {})], tmp_path)
    manifest = ResultStore(tmp_path).manifest(outcome.done[0])
    assert manifest["chosen"][0]["numbers"] == {"optimizer.step_size": 0.7}
    tuning = ResultStore(tmp_path).read(outcome.done[0], "tuning").to_pydict()
    assert np.isfinite(tuning["loss"]).all() and tuning["loss"][1] < tuning["loss"][0]


@pytest.mark.parametrize(
    ("algorithm", "batch", "refused"),
    [("fedavg", 0, True), ("fedavg", 8, False), ("mimelite", 8, True), ("fedprox", 8, False)],
)
def test_clients_too_large_to_be_seen_at_once_are_refused_where_they_must_be(algorithm, batch, refused):
    x, time, event = patients(40)
    columns = {"x": x, "time": time.astype(np.float32), "y": event.astype(np.int32)}
    facts = {"kind": "survival", "classes": 2, "licence": "none", "source": "test"}
    fed = gather(["a"] * 40, columns, **facts)
    e = experiment("x.csv", task={"rows": 16}, optimizer={"batch_size": batch}, algorithm=algorithm)
    (part,) = partitions(fed, assign(fed, e.split, 0), e.split, 0)
    lane = Lane(e, part, part, None, None, 1)
    if not refused:
        assert build_engine(fed, [lane], "cpu", lambda setup: None).traits.together == 0
        return
    with pytest.raises(RequestError, match=r"task.rows=16 is less than the 28 rows.*raise task.rows"):
        build_engine(fed, [lane], "cpu", lambda setup: None)
