# mypy: disable-error-code="operator"
"""Calibration curves against fits one point at a time, and where they are known."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedsim.metrics import evaluate, smooth


def loess(p, y, w, span=0.75):
    """Local quadratics by least squares, point by point: of the nearest `span` of the weight."""
    found = []
    for x in np.unique(p):
        distance = np.abs(p - x)
        order = np.argsort(distance, kind="stable")
        width = distance[order][np.searchsorted(np.cumsum(w[order]), span * w.sum() * (1 - 1e-12))]
        k = w * np.clip(1 - (distance / width) ** 3, 0, None) ** 3
        some = k > 0
        design = np.vander((p[some] - x) / width, 3)
        root = np.sqrt(k[some])
        fit = np.linalg.lstsq(design * root[:, None], y[some] * root, rcond=None)[0]
        found.append(fit[-1])
    return np.clip(found, 0, 1)


@given(st.integers(0, 2**32), st.integers(20, 64), st.sampled_from([None, 25, 60]), st.booleans())
def test_it_is_the_local_fit(key, n, grid, weigh):
    rng = np.random.default_rng(key)
    p = rng.random(n) if grid is None else rng.integers(0, grid + 1, n) / grid
    y = (rng.random(n) < p**2).astype(float)
    w = rng.integers(1, 4, n).astype(float) if weigh else np.ones(n)
    x, fitted = smooth.curve(p, y, w)
    np.testing.assert_array_equal(x, np.unique(p))
    np.testing.assert_allclose(fitted, loess(p, y, w), atol=1e-7)


def test_a_line_and_a_parabola_are_themselves():
    p = np.linspace(0.05, 0.95, 60)
    for y in (0.2 + 0.5 * p, 0.9 - 0.8 * p**2):
        x, fitted = smooth.curve(p, y, np.ones(60))
        np.testing.assert_allclose(fitted, y, atol=1e-12)
        assert smooth.ici(p, np.ones(60), (x, fitted)) == pytest.approx(np.abs(p - y).mean(), abs=1e-12)


def test_few_scores_have_the_shares_that_they_are_given_with():
    p, y = np.repeat([0.2, 0.7], 50), np.tile([0.0, 1.0], 50)
    x, fitted = smooth.curve(p, y, np.ones(100))
    np.testing.assert_array_equal(x, [0.2, 0.7])
    np.testing.assert_allclose(fitted, [0.5, 0.5])
    assert evaluate("binary", y, p)["ici"] == pytest.approx(0.25)  # |0.2 - 0.5| and |0.7 - 0.5|
    assert evaluate("binary", [0, 1, 1, 1], [0.5] * 4)["ici"] == pytest.approx(0.25)


@pytest.mark.long
@given(st.integers(0, 2**32))
def test_groups_of_neighbours_move_the_index_little(key):
    rng = np.random.default_rng(key)
    p = rng.beta(1, 4, 700)
    y = (rng.random(700) < 1 / (1 + np.exp(1 - 5 * p))).astype(float)
    ones = np.ones(700)
    x, fitted = smooth.curve(p, y, ones)
    assert len(x) <= smooth.GROUPS
    exact = np.abs(np.sort(p) - loess(p, y, ones)).mean()
    assert smooth.ici(p, ones, (x, fitted)) == pytest.approx(exact, abs=1e-3)


@given(st.integers(0, 2**32), st.integers(10, 60))
def test_weights_are_repeats(key, n):
    rng = np.random.default_rng(key)
    p, y, w = rng.integers(0, 30, n) / 30, rng.integers(0, 2, n), rng.integers(0, 4, n)
    y[:2], w[:2] = (0, 1), 1
    rows = np.repeat(np.arange(n), w)
    one, other = evaluate("binary", y, p, w), evaluate("binary", y[rows], p[rows])
    assert one.keys() == other.keys()
    for name, value in one.items():
        assert value == pytest.approx(other[name], abs=1e-6), name


def test_it_finds_what_is_wrong():
    rng = np.random.default_rng(1)
    p = rng.beta(1, 3, 20_000)
    right = evaluate("binary", rng.random(20_000) < p, p)
    high = evaluate("binary", rng.random(20_000) < 0.5 * p, p)
    assert right["ici"] < 0.01 and right["o_e"] == pytest.approx(1, abs=0.03)
    assert high["ici"] == pytest.approx(0.5 * p.mean(), abs=0.01)
    assert high["o_e"] == pytest.approx(0.5, abs=0.03)


@pytest.mark.parametrize("values", [[3], [0, 0, 2, 2, 5], [5, 1, 5, 2], [0.25, 0.25], [-0.5, 0.0, 0.0, 7.5]])
def test_distinct_values_are_those_of_numpy_whether_they_rise_or_not(values):
    found, wanted = smooth._distinct(np.array(values)), np.unique(values, return_inverse=True)
    np.testing.assert_array_equal(found[0], wanted[0])
    np.testing.assert_array_equal(found[1], wanted[1])
