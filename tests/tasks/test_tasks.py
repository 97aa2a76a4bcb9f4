"""Laws that every task obeys, found by listing, and what each is by hand."""

import subprocess
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.metrics import log_loss

from fedsim import base, config
from fedsim.base import RequestError
from fedsim.model import Model, Spec
from fedsim.tasks import TASKS, build, register_task
from tests.simulate.quick import jit

BINARY = Spec((5,), "binary", 2)
CLASSES = Spec((5,), "multiclass", 4)
NUMBER = Spec((5,), "regression", 0)
TIMES = Spec((5,), "survival", 2)
PICTURE = Spec((9, 8, 2), "multiclass", 3)

# Every task with the options that change its shape.
CASES = {
    "logistic-binary": (config.Logistic(init="normal"), BINARY),
    "logistic-classes": (config.Logistic(init="normal", l2=0.1), CLASSES),
    "linear": (config.Linear(l2=0.3), NUMBER),
    "gamma": (config.Gamma(l2=0.1, typical=2.0), NUMBER),
    "two-part": (config.TwoPart(l2=0.1, typical=2.0), NUMBER),
    "mlp-binary": (config.Mlp(hidden=(6, 3), dropout=0.2, l2=0.1), BINARY),
    "mlp-number": (config.Mlp(hidden=(6,)), NUMBER),
    "mlp-norm": (config.Mlp(hidden=(6, 4), batch_norm=True, dropout=0.1, projection=3), CLASSES),
    "cnn": (config.Cnn(channels=(3, 4), dense=5, projection=2), PICTURE),
    "cnn-norm": (config.Cnn(channels=(3, 4), dense=5, batch_norm=True), PICTURE),
    "cox": (config.Cox(l2=0.1), TIMES),
    "trees-binary": (config.Trees(trees=3, depth=2, bins=4), BINARY),
    "trees-number": (config.Trees(trees=2, depth=3, bins=4), NUMBER),
    "discrete": (config.SurvivalDiscrete(bins=3, horizon=3.0), TIMES),
    "discrete-deep": (config.SurvivalDiscrete(hidden=(4,), horizon=5.0, proportional=False), TIMES),
}
KEY = jax.random.key(7)
ROWS = 8
ROOT = Path(__file__).resolve().parents[2]


def batch_of(spec, rows, seed=0, dtype="float32"):
    rng = np.random.default_rng(seed)
    # Above 0, so that they are amounts, too.
    y = rng.exponential(size=rows) if spec.kind == "regression" else rng.integers(0, spec.classes, rows)
    return {
        "x": jnp.asarray(rng.normal(size=(rows, *spec.shape)), dtype),
        "y": jnp.asarray(y, "float32" if spec.kind == "regression" else "int32"),
        "mask": jnp.asarray(np.ones(rows, bool)),
    } | ({"time": jnp.asarray(rng.integers(1, 5, rows), "float32")} if spec.kind == "survival" else {})


def filled(task, seed=0):
    """A model of numbers that are not special: biases are not zero. Compiles nothing."""
    rng = np.random.default_rng(seed)
    shapes = jax.eval_shape(task.init, KEY)
    return jax.tree.map(lambda s: jnp.asarray(rng.uniform(0.1, 0.6, s.shape), s.dtype), shapes)


def test_uniform_starts_are_as_wide_as_pytorchs():
    """Weights and intercepts in +-1 / sqrt(features), as a dense layer of PyTorch has them."""
    spec = Spec((4, 4), "multiclass", 500)
    head = build(config.Logistic(init="uniform"), spec, "float32").init(KEY).params["head"]
    for leaf in (head["kernel"], head["bias"]):
        assert np.abs(leaf).max() <= 0.25 and np.std(leaf) == pytest.approx(0.25 / 3**0.5, rel=0.1)


def mean_loss(task):
    def f(params, state, batch, key):
        losses, new = task.loss(Model(params, state), batch, key)
        kept = jnp.where(batch["mask"], losses, 0)
        return kept.sum() / jnp.maximum(batch["mask"].sum(), 1), (losses, new)

    return f


@cache
def made(case):
    """A case's task and specification, and all that is asked of it in one program."""
    cfg, spec = CASES[case]
    task = build(cfg, spec, "float32")

    def ask(model, batch, key):
        gradient = jax.value_and_grad(mean_loss(task), has_aux=True)
        (value, (losses, state)), grads = gradient(model.params, model.state, batch, key)
        represented = {}
        if task.features is not None and task.penalised is not None:
            represented = {
                "features": task.features(model, batch, key),
                "penalised": task.penalised(model, batch, key, lambda z, rows: rows["y"] * z.sum(axis=1)),
            }
        return represented | {
            "mean": value,
            "gradient": grads,
            "state": state,
            "losses": losses,
            "evaluated": task.loss(model, batch, None),
            "prediction": task.predict(model, batch),
            "penalty": task.penalty(model),
        }

    return task, spec, jit(ask), jit(jax.vmap(ask))


def close(a, b, **tolerance):
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, **tolerance), a, b)


def test_every_task_has_a_case_and_a_config():
    names = {
        name for name, cls in config.MEMBERS["task"].items() for cfg, _ in CASES.values() if type(cfg) is cls
    }
    assert names == set(TASKS) == set(config.MEMBERS["task"])


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("case", CASES)
def test_shapes_and_dtypes_are_kept(case, dtype):
    cfg, spec = CASES[case]
    task = build(cfg, spec, dtype)
    batch = jax.eval_shape(lambda: batch_of(spec, 6, dtype=dtype))
    model = jax.eval_shape(task.init, KEY)
    losses, state = jax.eval_shape(task.loss, model, batch, KEY)
    gradient = jax.grad(mean_loss(task), has_aux=True)
    grads, _ = jax.eval_shape(gradient, model.params, model.state, batch, KEY)
    assert {p.dtype for p in jax.tree.leaves(model.params)} == {jnp.dtype(dtype)}
    assert (grads, state) == (model.params, model.state)
    assert (losses.shape, losses.dtype) == ((6,), jnp.float32)
    wanted = (6, spec.classes) if spec.kind == "multiclass" else (6,)
    assert jax.eval_shape(task.predict, model, batch).shape == wanted
    penalty = jax.eval_shape(task.penalty, model)
    assert (penalty.shape, penalty.dtype) == ((), jnp.float32)
    assert (model.state != ()) == getattr(cfg, "batch_norm", False)
    plain = isinstance(cfg, config.Logistic | config.Linear | config.Amounts)
    linear = plain or getattr(cfg, "hidden", None) == ()
    assert (task.coefficients is not None) == linear


@pytest.mark.parametrize("case", CASES)
def test_padding_rows_change_nothing(case):
    task, spec, ask, _ = made(case)
    model, padded = filled(task), batch_of(spec, ROWS)
    padded["mask"] = jnp.asarray(np.arange(ROWS) < 5)
    without = jax.tree.map(lambda a: a[:5], padded)
    a, b = ask(model, padded, KEY), ask(model, without, KEY)
    for name in ("mean", "gradient", "state"):
        close(a[name], b[name], rtol=1e-4, atol=1e-5)
    assert np.isfinite(a["losses"]).all()


@pytest.mark.parametrize("case", CASES)
def test_a_batch_of_padding_alone_keeps_the_state_and_is_finite(case):
    task, spec, ask, _ = made(case)
    model = filled(task)
    answer = ask(model, batch_of(spec, ROWS) | {"mask": jnp.asarray(np.zeros(ROWS, bool))}, KEY)
    close(answer["state"], model.state, rtol=0)
    assert all(np.isfinite(a).all() for a in jax.tree.leaves(answer))


@pytest.mark.parametrize("case", CASES)
def test_vmap_over_clients_is_a_loop(case):
    task, spec, ask, together = made(case)
    keys = [jax.random.key(i) for i in range(3)]
    clients = [(filled(task, i), batch_of(spec, ROWS, i), keys[i]) for i in range(3)]
    answers = together(*jax.tree.map(lambda *a: jnp.stack(a), *clients))
    for i, client in enumerate(clients):
        close(jax.tree.map(lambda a, i=i: a[i], answers), ask(*client), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("case", CASES)
def test_dropout_follows_the_key_and_only_in_training(case):
    task, spec, ask, _ = made(case)
    model, batch = filled(task), batch_of(spec, ROWS)
    a, again, b = (ask(model, batch, jax.random.key(i)) for i in (7, 7, 8))
    np.testing.assert_array_equal(a["losses"], again["losses"])
    np.testing.assert_array_equal(a["prediction"], b["prediction"])
    np.testing.assert_array_equal(a["evaluated"][0], b["evaluated"][0])
    rates = np.atleast_1d(getattr(CASES[case][0], "dropout", 0.0))
    assert bool((a["losses"] != b["losses"]).any()) == bool(rates.any())


@pytest.mark.parametrize("case", CASES)
def test_in_evaluation_mode_losses_are_those_of_predictions(case):
    task, spec, ask, _ = made(case)
    model, batch = filled(task), batch_of(spec, ROWS)
    answer = ask(model, batch, KEY)
    losses, state = answer["evaluated"]
    p, y = np.asarray(answer["prediction"]), np.asarray(batch["y"])
    if case == "gamma":
        expected = y / p - 1 - np.log(y / p)
    elif spec.kind == "survival" or case == "two-part":
        # By hand in test_survival.py and test_amounts.py; without dropout both modes are one.
        expected = answer["losses"]
    elif spec.kind == "regression":
        expected = (p - y) ** 2
    else:
        own = p[np.arange(ROWS), y] if spec.kind == "multiclass" else np.where(y > 0, p, 1 - p)
        expected = -np.log(own)
    np.testing.assert_allclose(losses, expected, rtol=1e-4, atol=1e-5)
    close(state, model.state, rtol=0)


@pytest.mark.parametrize("case", CASES)
def test_a_penalty_on_features_is_of_the_same_pass_as_the_loss(case):
    task, spec, ask, _ = made(case)
    assert (task.features is None) == (task.penalised is None) == ("mlp" not in case and "cnn" not in case)
    if task.features is None:
        return
    model, batch = filled(task), batch_of(spec, ROWS)
    answer = ask(model, batch, KEY)
    widths = {"mlp-binary": 3, "mlp-number": 6, "mlp-norm": 3, "cnn": 2, "cnn-norm": 5}
    assert answer["features"].shape == (ROWS, widths[case])
    losses, state = answer["penalised"]
    added = batch["y"] * answer["features"].sum(axis=1)
    np.testing.assert_allclose(losses, answer["losses"] + added, rtol=1e-5, atol=1e-5)
    close(state, answer["state"], rtol=1e-6)


def test_a_head_alone_represents_nothing():
    assert build(config.Mlp(hidden=()), BINARY, "float32").features is None
    assert build(config.Mlp(hidden=(), projection=3), BINARY, "float32").features is not None


def test_logistic_losses_and_probabilities():
    task, batch = build(config.Logistic(), BINARY, "float32"), batch_of(BINARY, 40)
    w, b = np.arange(5.0) / 5, 0.5
    model = Model({"head": {"kernel": jnp.asarray(w[None], "float32"), "bias": jnp.array([b])}}, ())
    p = 1 / (1 + np.exp(-(np.asarray(batch["x"], "float64") @ w + b)))
    np.testing.assert_allclose(task.predict(model, batch), p, rtol=1e-5)
    losses, _ = task.loss(model, batch, KEY)
    y = np.asarray(batch["y"])
    np.testing.assert_allclose(losses, -np.log(np.where(y == 1, p, 1 - p)), rtol=1e-4)
    np.testing.assert_allclose(losses.mean(), log_loss(y, p), rtol=1e-5)
    assert task.coefficients is not None
    weights, intercept = task.coefficients(model)
    np.testing.assert_allclose(weights, w, rtol=1e-6)
    assert intercept is not None and intercept.shape == () and intercept == b


def test_softmax_losses_and_probabilities():
    task, batch = build(config.Logistic(init="normal"), CLASSES, "float32"), batch_of(CLASSES, 40)
    model = filled(task)
    assert task.coefficients is not None
    w, b = (np.asarray(a, "float64") for a in task.coefficients(model))
    assert w.shape == (5, 4) and b.shape == (4,)
    z = np.exp(np.asarray(batch["x"], "float64") @ w + b)
    p = z / z.sum(1, keepdims=True)
    np.testing.assert_allclose(task.predict(model, batch), p, rtol=1e-5)
    losses, _ = task.loss(model, batch, KEY)
    np.testing.assert_allclose(losses, -np.log(p[np.arange(40), batch["y"]]), rtol=1e-4)
    np.testing.assert_allclose(losses.mean(), log_loss(batch["y"], p), rtol=1e-5)


def test_linear_loss_is_the_squared_error():
    task, batch = build(config.Linear(), NUMBER, "float32"), batch_of(NUMBER, 9)
    model = jax.tree.map(lambda a: jnp.full(a.shape, 0.5, a.dtype), filled(task))
    value = np.asarray(batch["x"], "float64").sum(1) * 0.5 + 0.5
    np.testing.assert_allclose(task.predict(model, batch), value, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(task.loss(model, batch, KEY)[0], (value - batch["y"]) ** 2, rtol=1e-4)


def test_mlp_by_hand():
    task, batch = build(config.Mlp(hidden=(6, 3)), NUMBER, "float32"), batch_of(NUMBER, 9)
    model = filled(task)
    x = np.asarray(batch["x"], "float64")
    for i in range(3):
        kernel, bias = (np.asarray(model.params["dense"][i][name]) for name in ("kernel", "bias"))
        x = x @ (kernel.T if i == 2 else kernel) + bias
        x = np.maximum(x, 0) if i < 2 else x
    np.testing.assert_allclose(task.predict(model, batch), x[:, 0], rtol=1e-5, atol=1e-6)


def test_batch_norm_by_hand():
    task, batch = build(config.Mlp(hidden=(6,), batch_norm=True), NUMBER, "float32"), batch_of(NUMBER, 9)
    model = filled(task)
    first, last = model.params["dense"][0], model.params["dense"][1]
    before, learnt = model.state["norm"][0], model.params["norm"][0]
    h = np.asarray(batch["x"], "float64") @ np.asarray(first["kernel"]) + np.asarray(first["bias"])
    losses, state = jax.jit(task.loss)(model, batch, KEY)
    for name, now in (("mean", h.mean(0)), ("var", h.var(0))):
        np.testing.assert_allclose(state["norm"][0][name], 0.9 * before[name] + 0.1 * now, rtol=1e-4)

    def squared_error(mean, var):
        unit = (h - mean) / np.sqrt(var + 1e-5) * np.asarray(learnt["scale"]) + np.asarray(learnt["bias"])
        out = np.maximum(unit, 0) @ np.asarray(last["kernel"])[0] + np.asarray(last["bias"])
        return (out - batch["y"]) ** 2

    np.testing.assert_allclose(losses, squared_error(h.mean(0), h.var(0)), rtol=1e-3, atol=1e-5)
    # Evaluation uses the running statistics.
    value = task.predict(Model(model.params, state), batch)
    running = state["norm"][0]
    wanted = squared_error(np.asarray(running["mean"]), np.asarray(running["var"]))
    np.testing.assert_allclose((value - batch["y"]) ** 2, wanted, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("spec", [BINARY, CLASSES], ids=["binary", "classes"])
@pytest.mark.parametrize("size", [1e4, 1e30])
def test_extreme_logits_have_finite_losses_and_gradients(spec, size):
    task, batch = build(config.Logistic(init="normal"), spec, "float32"), batch_of(spec, 8)
    params = jax.tree.map(lambda a: a * size, filled(task).params)
    (value, _), grads = jax.jit(jax.value_and_grad(mean_loss(task), has_aux=True))(params, (), batch, KEY)
    assert np.isfinite(value) and all(np.isfinite(g).all() for g in jax.tree.leaves(grads))


def test_a_small_binary_loss_does_not_cancel_to_zero():
    task = build(config.Logistic(), Spec((1,), "binary", 2), "float32")
    model = Model({"head": {"kernel": jnp.full((1, 1), 30.0), "bias": jnp.zeros(1)}}, ())
    batch = {"x": jnp.ones((1, 1)), "y": jnp.ones(1, jnp.int32), "mask": jnp.ones(1, bool)}
    np.testing.assert_allclose(task.loss(model, batch, KEY)[0], np.exp(-30.0), rtol=1e-4)


def test_penalty_counts_weights_and_not_biases_or_scales():
    task = build(config.Cnn(channels=(3, 4), dense=5, batch_norm=True, l2=0.2), PICTURE, "float32")
    params = filled(task).params
    kernels = [params[name]["kernel"] for name in ("first", "second", "dense", "head")]
    wanted = 0.1 * sum(float((np.asarray(k, "float64") ** 2).sum()) for k in kernels)
    np.testing.assert_allclose(task.penalty(Model(params, ())), wanted, rtol=1e-5)


def test_l2_may_be_traced():
    def penalty(l2):
        task = build(base.with_numbers(config.Linear(), {"l2": l2}), NUMBER, "float32")
        return task.penalty(Model({"head": {"kernel": jnp.full((1, 5), 2.0), "bias": jnp.ones(1)}}, ()))

    np.testing.assert_allclose(jax.jit(jax.vmap(penalty))(jnp.array([0.0, 0.5])), [0.0, 5.0])


def test_arithmetic_is_counted():
    def flops(cfg, spec):
        return build(cfg, spec, "float32").flops

    assert flops(config.Logistic(), BINARY) == 2 * 5
    assert flops(config.Logistic(), CLASSES) == 2 * 5 * 4
    thirty = Spec((30,), "binary", 2)
    assert flops(config.Mlp(hidden=(64, 64)), thirty) == 2 * (30 * 64 + 64 * 64 + 64)
    assert flops(config.Mlp(hidden=(64,), projection=8), thirty) == 2 * (30 * 64 + 64 * 8 + 8)
    picture = Spec((32, 32, 3), "multiclass", 10)
    products = 30 * 30 * 27 * 32 + 28 * 28 * 288 * 64 + 12544 * 128 + 1280
    assert flops(config.Cnn(), picture) == 2 * products
    assert flops(config.Cnn(projection=16), picture) == 2 * (products - 1280 + 128 * 16 + 160)


def test_vmapped_logistic_is_one_product_and_one_sum():
    task = build(config.Logistic(), CLASSES, "float32")
    models, batches = (
        jax.tree.map(lambda a: jax.ShapeDtypeStruct((3, *a.shape), a.dtype), one)
        for one in (filled(task), batch_of(CLASSES, 5))
    )
    text = str(jax.make_jaxpr(jax.vmap(task.predict))(models, batches))
    assert text.count("dot_general[") == 1
    assert not any(op in text for op in ("gather[", "scatter", "while[", "scan["))


@pytest.mark.parametrize(
    ("cfg", "spec", "advice"),
    [
        (config.Logistic(), NUMBER, "task=linear"),
        (config.Linear(), BINARY, "task=logistic"),
        (config.Linear(), CLASSES, "task=logistic"),
        (config.Gamma(), BINARY, "one of 2 classes .binary.; use task=logistic, or set data.kind=regression"),
        (config.TwoPart(), TIMES, "the time to an event .survival.; use task=cox"),
        (config.Cnn(), CLASSES, "task=mlp"),
        (config.Cnn(), Spec((5, 8, 1), "binary", 2), "6 x 6"),
    ],
)
def test_unfit_pairs_are_refused_with_advice(cfg, spec, advice):
    with pytest.raises(RequestError, match=advice):
        build(cfg, spec, "float32")


@dataclass(frozen=True, kw_only=True)
class Constant(config.TaskConfig):
    """Predicts one number."""


def test_a_task_of_your_own():
    def constant(cfg, spec, dtype):
        return build(config.Linear(), spec, dtype)

    try:
        with pytest.raises(RequestError, match=r"unknown task.*logistic"):
            build(Constant(), NUMBER, "float32")
        register_task("constant", Constant, constant)
        cfg = base.build_choice("task", "constant", "task")
        assert isinstance(cfg, Constant) and build(cfg, NUMBER, "float32").flops == 10
        with pytest.raises(RequestError, match="already registered"):
            register_task("mlp", Constant, constant)
        with pytest.raises(RequestError, match="TaskConfig"):
            register_task("other", dict, constant)  # type: ignore[arg-type]
    finally:
        TASKS.pop("constant", None)
        base.GROUPS["task"].pop("constant", None)


BITS = """
import hashlib
import jax, jax.numpy as jnp, numpy as np
from fedsim import config
from fedsim.model import Spec
from fedsim.tasks import build

def out(cfg, spec, dtype):
    task = build(cfg, spec, dtype)
    x = np.linspace(-1, 1, 6 * int(np.prod(spec.shape))).reshape(6, *spec.shape)
    batch = {"x": x.astype(dtype), "y": np.arange(6, dtype="int32") % 2, "mask": np.arange(6) < 5}

    def ask(batch):
        model = task.init(jax.random.key(3))
        return model, task.loss(model, batch, jax.random.key(5)), task.predict(model, batch)

    leaves = jax.tree.leaves(jax.jit(ask)(batch))
    assert {a.dtype.name for a in leaves} == {dtype}, leaves
    return leaves

CNN = config.Cnn(channels=(2, 3), dense=4, batch_norm=True), Spec((8, 8, 1), "multiclass", 3)
for cfg, spec in [
    (config.Logistic(init="normal"), Spec((4,), "binary", 2)),
    (config.Mlp(hidden=(5,), dropout=0.3, batch_norm=True), Spec((4,), "multiclass", 3)),
    CNN,
]:
    print(hashlib.sha256(b"".join(np.asarray(a).tobytes() for a in out(cfg, spec, "float32"))).hexdigest())
if jax.config.jax_enable_x64:
    out(*CNN, "float64")
"""


@pytest.mark.long
def test_float32_keeps_its_bits_in_64_bit_mode_and_float64_stays_float64():
    # In processes of their own: 64-bit mode cannot be changed once JAX runs.
    def start(x64):
        code = f"from fedsim.environment import prepare; prepare(threads=1, x64={x64})\n{BITS}"
        return subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, cwd=ROOT)

    processes = [start(x64) for x64 in (False, True)]
    plain, wide = (p.communicate(timeout=600)[0].split() for p in processes)
    assert [p.returncode for p in processes] == [0, 0]
    assert len(plain) == 3 and plain == wide
