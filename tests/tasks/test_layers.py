"""The layers against XLA's own convolution, pooling, and counts."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from fedsim import config
from fedsim.model import Model, Spec
from fedsim.tasks import build, layers

KEY = jax.random.key(1)


def conv(x, kernel):
    dims = ("NHWC", "HWIO", "NHWC")
    return lax.conv_general_dilated(x, kernel, (1, 1), "VALID", dimension_numbers=dims)


def pool(x):
    low = jnp.asarray(-jnp.inf, x.dtype)
    return lax.reduce_window(x, low, lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID")


@pytest.fixture(params=[True, False], ids=["one by one", "whole batch"])
def form(request, monkeypatch):
    monkeypatch.setattr(layers, "_one_by_one", lambda: request.param)


def test_convolution_and_its_gradients(form):
    rng = np.random.default_rng(0)
    x, kernel, g = (
        jnp.asarray(rng.normal(size=s), "float32") for s in [(4, 9, 7, 3), (3, 3, 3, 5), (4, 7, 5, 5)]
    )

    def ask(f):
        value, back = jax.vjp(f, x, kernel)
        return value, *back(g)

    # A function of its own each time: jit would find the other form's program.
    ours, wanted = jax.jit(lambda: ask(layers.conv3x3))(), jax.jit(lambda: ask(conv))()
    for a, b in zip(ours, wanted, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("shape", [(2, 8, 6, 3), (2, 7, 5, 3)])
def test_max_pool(shape):
    x = jax.random.normal(KEY, shape, jnp.float32)
    np.testing.assert_array_equal(layers.max_pool(x), pool(x))


@pytest.mark.long
def test_the_cnn_is_the_published_one():
    task = build(config.Cnn(), Spec((32, 32, 3), "multiclass", 10), "float32")
    model = jax.jit(task.init)(KEY)
    params = model.params
    assert sum(p.size for p in jax.tree.leaves(params)) == 1_626_442
    for name, inputs, features in [("first", 27, 32 * 9), ("second", 288, 64 * 9), ("dense", 12544, 128)]:
        bound = np.sqrt(6 / (inputs + features))  # Glorot and Bengio 2010, eq. 16
        largest = float(jnp.abs(params[name]["kernel"]).max())
        assert 0.97 * bound < largest <= bound
        assert not params[name]["bias"].any()

    def reference(params, x):
        h = jax.nn.relu(conv(x, params["first"]["kernel"]) + params["first"]["bias"])
        h = pool(jax.nn.relu(conv(h, params["second"]["kernel"]) + params["second"]["bias"]))
        h = jax.nn.relu(h.reshape(2, -1) @ params["dense"]["kernel"].T + params["dense"]["bias"])
        return jax.nn.softmax(h @ params["head"]["kernel"].T + params["head"]["bias"])

    # Biases that are not zero, so that their place in the network counts.
    params = jax.tree.map(lambda a: a + 0.01, params)
    x = jnp.asarray(np.random.default_rng(0).random((2, 32, 32, 3)), "float32")
    ours = jax.jit(task.predict)(Model(params, ()), {"x": x})
    np.testing.assert_allclose(ours, jax.jit(reference)(params, x), atol=1e-5)


def test_pictures_without_a_channel_axis_have_one_channel():
    cfg = config.Cnn(channels=(2, 3), dense=4)
    flat, deep = (build(cfg, Spec(s, "binary", 2), "float32") for s in [(8, 7), (8, 7, 1)])
    assert jax.eval_shape(flat.init, KEY) == jax.eval_shape(deep.init, KEY)
    model = jax.jit(flat.init)(KEY)
    x = jnp.asarray(np.random.default_rng(0).random((3, 8, 7)), "float32")
    a = jax.jit(flat.predict)(model, {"x": x})
    np.testing.assert_array_equal(a, jax.jit(deep.predict)(model, {"x": x[..., None]}))


@pytest.mark.parametrize("rate", [0.0, 0.1, 0.25, 0.5, 0.9])
def test_dropout_keeps_its_share_and_the_mean(rate):
    x = jnp.ones((401, 501), jnp.float32)
    y = np.asarray(layers.dropout(x, rate, KEY), "float64")
    spread = 5 * np.sqrt(rate * (1 - rate) / x.size)
    assert abs((y == 0).mean() - rate) <= spread
    assert abs(y.mean() - 1) <= 1e-4 + spread / (1 - rate)
    assert len(np.unique(y[y > 0])) == 1
    # Both halves of a word are used, and differ.
    if rate:
        assert (y[:, :251] != np.pad(y[:, 251:], ((0, 0), (0, 1)))).mean() > rate * (1 - rate)


def test_dropout_of_a_row_does_not_depend_on_how_many_follow():
    x = jnp.ones((9, 7), jnp.float32)
    np.testing.assert_array_equal(layers.dropout(x, 0.5, KEY)[:4], layers.dropout(x[:4], 0.5, KEY))


@pytest.mark.parametrize(
    ("form", "shape"),
    [(layers.inputs_first, (7, 3)), (layers.outputs_first, (3, 7))],
    ids=["dense", "narrow"],
)
def test_products_have_all_derivatives_of_plain_ones(form, shape):
    rng = np.random.default_rng(0)
    x, kernel, g = (jnp.asarray(rng.normal(size=s), "float32") for s in ((5, 7), shape, (5, 3)))

    def plain(x, kernel):
        return x @ (kernel if form is layers.inputs_first else kernel.T)

    def derivatives(f):
        def loss(x, kernel):
            return jnp.sum(jnp.tanh(f(x, kernel)) * g)

        both = (0, 1)
        forward = jax.jvp(f, (x, kernel), (x, kernel))
        return jax.grad(loss, both)(x, kernel), forward, jax.hessian(loss, both)(x, kernel)

    for a, b in zip(
        jax.tree.leaves(jax.jit(lambda: derivatives(form))()),
        jax.tree.leaves(jax.jit(lambda: derivatives(plain))()),
        strict=True,
    ):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)
