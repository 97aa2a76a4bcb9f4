"""Gamma and two-part losses by hand, in the words of scikit-learn and SciPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import log_loss, mean_gamma_deviance

from fedsim import config
from fedsim.model import Model, Spec
from fedsim.tasks import build
from tests.simulate.quick import jit

SPEC = Spec((3,), "regression", 0)
KEY = jax.random.key(0)
WEIGHTS, CONSTANT = np.array([[0.5, -0.3, 0.2], [0.1, 0.4, -0.6]]), np.array([0.7, 1.5])


def rows(seed=0, n=40, zeros=False):
    rng = np.random.default_rng(seed)
    x, y = rng.normal(size=(n, 3)), rng.gamma(0.8, 5.0, n)
    if zeros:
        y[rng.random(n) < 0.4] = 0
    return x, y.astype(np.float32)


def asked(cfg, x, y, part, more=0.0):
    """(losses, predictions, coefficients) at these rows of WEIGHTS; more: of the constants."""
    task = build(cfg, SPEC, "float32")
    kernel, bias = (jnp.asarray(a, jnp.float32) for a in (WEIGHTS[part], CONSTANT[part] + more))
    model = Model({"head": {"kernel": kernel, "bias": bias}}, ())
    batch = {"x": jnp.asarray(x, jnp.float32), "y": jnp.asarray(y), "mask": jnp.ones(len(y), bool)}
    assert task.coefficients is not None
    losses, predicted = jit(lambda m, b: (task.loss(m, b, KEY)[0], task.predict(m, b)))(model, batch)
    return np.asarray(losses, float), np.asarray(predicted), task.coefficients(model)


def test_gamma_losses_are_half_the_deviance_and_a_likelihood():
    x, y = rows()
    losses, predicted, (weights, intercept) = asked(config.Gamma(), x, y, slice(1))
    mean = np.exp(x @ WEIGHTS[0] + CONSTANT[0])
    np.testing.assert_allclose(predicted, mean, rtol=1e-5)
    assert 2 * losses.mean() == pytest.approx(mean_gamma_deviance(y, mean), rel=1e-5)
    # Differences of losses are those of log-likelihoods times the dispersion, at any.
    shape = 2.5
    likelihood = stats.gamma.logpdf(y, shape, scale=mean / shape)
    best = stats.gamma.logpdf(y, shape, scale=y / shape)
    np.testing.assert_allclose(losses, (best - likelihood) / shape, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(weights, WEIGHTS[0], rtol=1e-6)
    assert intercept.shape == () and float(intercept) == pytest.approx(0.7)


def test_two_part_losses_are_those_of_both_parts():
    x, y = rows(zeros=True)
    losses, predicted, (weights, intercepts) = asked(config.TwoPart(), x, y, slice(2))
    share = 1 / (1 + np.exp(-(x @ WEIGHTS[0] + CONSTANT[0])))
    mean = np.exp(x @ WEIGHTS[1] + CONSTANT[1])
    some = y > 0
    assert 5 < some.sum() < 35
    np.testing.assert_allclose(predicted, share * mean, rtol=1e-5)
    expected = log_loss(some, share, normalize=False) + some.sum() / 2 * mean_gamma_deviance(
        y[some], mean[some]
    )
    assert losses.sum() == pytest.approx(expected, rel=1e-5)
    np.testing.assert_allclose(losses[~some], -np.log1p(-share[~some]), rtol=1e-4)
    assert weights.shape == (3, 2) and intercepts.shape == (2,)
    np.testing.assert_allclose(weights, WEIGHTS.T, rtol=1e-6)


@pytest.mark.parametrize("cfg", [config.Gamma(typical=250.0), config.TwoPart(typical=250.0)])
def test_training_begins_at_the_typical_amount(cfg):
    task = build(cfg, SPEC, "float32")
    x, y = rows(n=4)
    batch = {"x": jnp.asarray(x, jnp.float32), "y": jnp.asarray(y), "mask": jnp.ones(4, bool)}
    share = 0.5 if isinstance(cfg, config.TwoPart) else 1.0
    first = jit(lambda b: task.predict(task.init(KEY), b))(batch)
    np.testing.assert_allclose(first, share * 250, rtol=1e-5)


@pytest.mark.parametrize("cfg", [config.Gamma(), config.TwoPart()])
def test_the_unit_of_amounts_changes_no_loss(cfg):
    """Days or hours: the intercept takes up the factor."""
    two = isinstance(cfg, config.TwoPart)
    x, y = rows(1, zeros=two)
    part, shift = (slice(2), np.array([0, np.log(24)])) if two else (slice(1), np.log(24))
    days, hours = asked(cfg, x, y, part), asked(cfg, x, y * 24, part, shift)
    np.testing.assert_allclose(hours[0], days[0], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(hours[1], 24 * days[1], rtol=1e-4)


@pytest.mark.parametrize("cfg", [config.Gamma(), config.TwoPart()])
def test_padding_of_zeros_has_a_finite_slope(cfg):
    task = build(cfg, SPEC, "float32")
    batch = {"x": jnp.zeros((2, 3)), "y": jnp.zeros(2), "mask": jnp.zeros(2, bool)}

    def total(params):
        return jnp.sum(task.loss(Model(params, ()), batch, KEY)[0])

    slopes = jit(lambda key: jax.grad(total)(task.init(key).params))(KEY)
    assert all(np.isfinite(g).all() for g in jax.tree.leaves(slopes))
