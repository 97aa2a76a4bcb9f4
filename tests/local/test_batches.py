# mypy: disable-error-code="call-arg, call-overload"
"""Batches and slices visit every row as often as they should; the oracle's answers are means over them."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedsim import config, keys, tasks
from fedsim.base import RequestError
from fedsim.local import (
    SLICE,
    Batches,
    Rows,
    Whole,
    Window,
    chain,
    optimizer,
    plain,
    run_steps,
    server_optimizer,
)
from fedsim.model import Model, Spec

FEATURES = 3
RNG = np.random.default_rng(0)
TABLE = {
    "x": RNG.normal(size=(300, FEATURES)).astype(np.float32),
    "y": RNG.integers(0, 2, 300).astype(np.int32),
    "weight": RNG.uniform(0.1, 2, 300).astype(np.float32),
}
SPEC = Spec((FEATURES,), "binary", 2)


def batches(begin, rows, steps, size, seed=0, columns=("x", "y"), constants=(), dtype=jnp.float32):
    def take(window, position):
        return {name: jnp.asarray(TABLE[name])[window.begin + position.astype(jnp.int32)] for name in columns}

    window = Window(jnp.int32(begin), jnp.asarray(rows, jnp.int32), jnp.uint32(0), constants)
    key = keys.run_key(jnp.asarray(keys.seed_words(seed)), keys.TRAIN)
    return Batches(Rows(take, dtype), window, jnp.asarray(steps, jnp.int32), size, key)


@partial(jax.jit, static_argnames=("size", "steps"))
def _visited(rows, seed, size, steps):
    """The first feature of every row of every batch, and the masks: [steps, size]."""
    reader = Rows(
        lambda window, position: {"x": position.astype(jnp.float32)[:, None], "y": position}, jnp.float32
    )
    zero = jnp.zeros((), jnp.int32)
    window = Window(zero, rows, zero.astype(jnp.uint32), ())
    made = Batches(reader, window, zero, size, keys.run_key(seed, keys.TRAIN))
    found = jax.vmap(made.take)(jnp.arange(steps, dtype=jnp.int32))
    return found["x"][:, :, 0], found["mask"]


@pytest.mark.parametrize("size", [0, 4])
def test_a_sample_is_some_of_the_rows_again_and_again(size):
    whole = batches(100, 11, 3, size)

    @jax.jit
    def visited(share):
        sample = whole.sample(share, keys.step_key(whole.key, jnp.int32(-1)))
        steps = jnp.arange(2 * -(-11 // size) if size else 1, dtype=jnp.int32)
        batch = jax.vmap(sample.take if size else lambda i: sample.slice(i, SLICE))(steps)
        return batch["x"][..., 0], batch["mask"], sample.passes(2), whole.passes(3)

    rows, found = TABLE["x"][100:111, 0].tolist(), []
    for share, some in ((0.4, 4), (0.01, 1), (1.0, 11)):
        x, mask, twice, thrice = map(np.asarray, visited(jnp.float32(share)))
        assert [int(twice), int(thrice)] == ([2 * -(-some // size), 9] if size else [2, 3])
        seen = x[: int(twice)][mask[: int(twice)]].tolist()
        passes = [set(seen[i : i + some]) for i in range(0, len(seen), some)]
        assert len(passes) == (2 if size else 1) and all(p == passes[0] for p in passes)
        assert len(passes[0]) == some and passes[0] <= set(rows)
        found.append(passes[0])
    assert found[1] < found[0] < found[2] and found[0] != set(rows[:4])


@pytest.mark.long
@given(st.integers(1, 40), st.sampled_from([1, 4, 7]), st.integers(0, 99))
def test_every_epoch_visits_every_row_once(rows, size, seed):
    words = jnp.asarray(keys.seed_words(seed))
    per_epoch = -(-rows // size)
    x, mask = (np.asarray(a) for a in _visited(jnp.int32(rows), words, size, 120))
    epochs = [
        x[e * per_epoch : (e + 1) * per_epoch][mask[e * per_epoch : (e + 1) * per_epoch]].astype(int)
        for e in range(min(3, 120 // per_epoch))
    ]
    assert all(sorted(e) == list(range(rows)) for e in epochs)
    # Only the last batch of an epoch is short, and what is masked is a row all the same.
    assert mask[: per_epoch - 1].all() and mask[per_epoch - 1].sum() == rows - (per_epoch - 1) * size
    assert np.all((x >= 0) & (x < rows))
    if rows >= 12:
        assert len({tuple(e) for e in epochs}) == len(epochs)


def test_all_rows_in_one_batch_are_left_to_the_oracle():
    assert isinstance(batches(0, 9, 3, 0).take(jnp.int32(0)), Whole)


@pytest.mark.parametrize("rows", [1, 63, 64, 65, 200])
def test_slices_cover_all_rows_in_order(rows):
    b = batches(50, rows, 1, 4)
    found = [b.slice(jnp.int32(i), SLICE) for i in range(int(b.slices(SLICE)))]
    x = np.concatenate([np.asarray(s["x"])[np.asarray(s["mask"])] for s in found])
    np.testing.assert_array_equal(x, TABLE["x"][50 : 50 + rows])


def test_rows_are_imputed_then_scaled():
    raw = {"x": jnp.array([[jnp.nan, 2.0, 3.0]], jnp.float32), "y": jnp.array([1], jnp.int32)}
    constants = tuple(jnp.asarray(c, jnp.float32) for c in ([5, 5, 5], [1, 0, 1], [2, 3, 4]))
    window = Window(jnp.int32(0), jnp.int32(1), jnp.uint32(0), constants)
    batch = Rows(lambda w, p: raw, jnp.float32).read(window, jnp.zeros(1, jnp.uint32), jnp.ones(1, bool))
    np.testing.assert_allclose(batch["x"], [[8, 6, 8]])
    pixels = {"x": jnp.array([[0, 51, 255]], jnp.uint8), "y": jnp.array([0.5], jnp.float32)}
    batch = Rows(lambda w, p: pixels, jnp.bfloat16).read(
        window._replace(constants=()), jnp.zeros(1, jnp.uint32), jnp.ones(1, bool)
    )
    assert batch["x"].dtype == batch["y"].dtype == jnp.bfloat16
    np.testing.assert_allclose(batch["x"].astype(jnp.float32), [[0, 0.2, 1]], rtol=1e-2)


# --- the oracle ------------------------------------------------------------------------------

TASK = tasks.build(config.Logistic(init="normal", l2=0.3), SPEC, "float32")
MODEL = TASK.init(jax.random.key(1))


def by_hand(x, y, weight, l2=0.3):
    """(mean loss, gradient of it and the penalty) in float64."""
    w = np.asarray(MODEL.params["head"]["kernel"], np.float64).ravel()
    z = x.astype(np.float64) @ w + float(MODEL.params["head"]["bias"][0])
    share = weight / weight.sum()
    slope = (1 / (1 + np.exp(-z)) - y) * share
    return float(share @ (np.logaddexp(0, z) - y * z)), np.append(x.T @ slope + l2 * w, slope.sum())


def flat(params):
    return np.append(np.asarray(params["head"]["kernel"]).ravel(), np.asarray(params["head"]["bias"]))


@pytest.mark.parametrize("columns", [("x", "y"), ("x", "y", "weight")])
@pytest.mark.parametrize("rows", [3, 64, 150])
def test_full_answers_are_means_over_all_rows(rows, columns):
    oracle, b = plain(TASK), batches(20, rows, 1, 0, columns=columns)
    part = {name: c[20 : 20 + rows] for name, c in TABLE.items()}
    weight = part["weight"].astype(np.float64) if "weight" in columns else np.ones(rows)
    loss, gradient = by_hand(part["x"], part["y"], weight)
    key = jax.random.key(0)
    np.testing.assert_allclose(flat(oracle.full_gradient(MODEL, b, key)), gradient, rtol=1e-5, atol=1e-6)
    assert float(oracle.full_loss(MODEL, b, key)) == pytest.approx(loss, rel=1e-5)
    # The same questions of a batch that is all rows.
    whole = b.take(jnp.int32(0))
    found, state = oracle.gradient(MODEL, whole, key)
    np.testing.assert_allclose(flat(found), gradient, rtol=1e-5, atol=1e-6)
    assert state == MODEL.state and float(oracle.loss(MODEL, whole, key)) == pytest.approx(loss, rel=1e-5)


@pytest.mark.parametrize("columns", [("x", "y"), ("x", "y", "weight")])
def test_answers_about_a_batch_leave_masked_rows_out(columns):
    batch = batches(0, 5, 1, 8, columns=columns).take(jnp.int32(0))
    batch["x"] = jnp.where(batch["mask"][:, None], batch["x"], 1e9)  # not even where it is huge
    mask = np.asarray(batch["mask"])
    weight = np.asarray(batch.get("weight", np.ones(8)), np.float64)[mask]
    loss, gradient = by_hand(np.asarray(batch["x"])[mask], np.asarray(batch["y"])[mask], weight)
    oracle, key = plain(TASK), jax.random.key(0)
    np.testing.assert_allclose(flat(oracle.gradient(MODEL, batch, key)[0]), gradient, rtol=1e-5, atol=1e-6)
    assert float(oracle.loss(MODEL, batch, key)) == pytest.approx(loss, rel=1e-5)


def test_a_batch_of_nothing_has_no_gradient_but_the_penalty():
    batch = batches(0, 5, 1, 8).take(jnp.int32(0))
    batch["mask"] = jnp.zeros(8, bool)
    found = flat(plain(TASK).gradient(MODEL, batch, jax.random.key(0))[0])
    np.testing.assert_allclose(found[:-1], 0.3 * flat(MODEL.params)[:-1], rtol=1e-6)
    assert found[-1] == 0


# --- steps -----------------------------------------------------------------------------------


def counting(model, batch, key):
    """A direction of ones, drawing from the step's key into the state."""
    ones = jax.tree.map(jnp.ones_like, model.params)
    return ones, model.state + jax.random.uniform(key, (), jnp.float32)


@pytest.mark.long
def test_items_stop_at_their_own_number_of_steps():
    opt = optimizer(config.OptimizerConfig(step_size=0.5), jnp.int32(0))
    start = Model(jnp.zeros(2, jnp.float32), jnp.float32(0))

    def steps(n):
        return run_steps(counting, opt, start, batches(0, 5, n, 4), jax.random.key(3))

    together = jax.vmap(steps)(jnp.array([0, 1, 5, 2], jnp.int32))
    np.testing.assert_allclose(together.params[:, 0], [0, -0.5, -2.5, -1])
    np.testing.assert_array_equal(together.state[1], steps(jnp.int32(1)).state)
    assert together.state[0] == 0 and len(np.unique(together.state)) == 4  # each step has a key of its own


def test_the_step_size_decays_by_round():
    cfg, w = config.OptimizerConfig(step_size=0.5, decay=0.5), jnp.zeros((), jnp.float32)
    every = [optimizer(cfg, jnp.int32(rnd)) for rnd in range(3)]
    moved = [float(opt.update(jnp.ones_like(w), opt.init(w), w)[0]) for opt in every]
    np.testing.assert_allclose(moved, [-0.5, -0.25, -0.125])
    assert float(every[2].step_size) == 0.125


def test_a_chain_is_optax_and_its_floats_may_be_traced():
    stages = ({"name": "clip_by_global_norm", "max_norm": 1.0}, {"name": "trace", "decay": 0.5})

    @jax.jit
    def two_steps(decay):
        cfg = config.OptimizerConfig(step_size=1.0, chain=(stages[0], {"name": "trace", "decay": decay}))
        opt = optimizer(cfg, jnp.int32(0))
        w = jnp.zeros(2, jnp.float32)
        w, state = opt.update(jnp.array([3.0, 4.0], jnp.float32), opt.init(w), w)
        return opt.update(jnp.array([0.3, 0.4], jnp.float32), state, w)[0]

    np.testing.assert_allclose(two_steps(0.5), [-0.6 - 0.3 - 0.3, -0.8 - 0.4 - 0.4], rtol=1e-6)
    np.testing.assert_allclose(two_steps(0.0), [-0.9, -1.2], rtol=1e-6)
    server = server_optimizer(stages[1:], 2.0)
    w = jnp.zeros(1, jnp.float32)
    after, _ = server.update(jnp.ones(1, jnp.float32), server.init(w), w)
    np.testing.assert_allclose(after, [2.0])


@pytest.mark.parametrize(
    ("stage", "message"),
    [
        ({"name": "tracee"}, r"optimizer\.chain\[0\]\.name='tracee' is not .*did you mean 'trace'"),
        ({"name": "_src"}, r"optimizer\.chain\[0\]\.name='_src' is not an Optax transformation"),
        ({"name": "trace", "decays": 0.1}, r"optimizer\.chain\[0\] optax\.trace: .*decays"),
        (
            {"name": "constant_schedule", "value": 1.0},
            r"optimizer\.chain\[0\]\.name='constant_schedule' does not",
        ),
    ],
)
def test_a_wrong_chain_is_refused(stage, message):
    with pytest.raises(RequestError, match=message):
        chain([stage], "optimizer.chain")
