"""Logistic regression from sums, against scikit-learn and against its own equations."""

import numpy as np
import pytest
from scipy import special
from sklearn.linear_model import LogisticRegression

from fedsim.validation import logistic
from fedsim.validation.logistic import Part


def drawn(n=400, features=3, seed=0):
    rng = np.random.default_rng(seed)
    x = np.column_stack([np.ones(n), rng.normal(size=(n, features))])
    b = rng.normal(size=features + 1) * 0.7
    return x, (rng.random(n) < special.expit(x @ b)).astype(np.float64), rng


def test_the_maximum_is_scikit_learns():
    x, y, _ = drawn()
    found = logistic.fit([Part(x, y, np.zeros(len(y)))])
    other = LogisticRegression(C=np.inf, tol=1e-10, max_iter=1000).fit(x[:, 1:], y)
    wanted = np.concatenate([other.intercept_, other.coef_[0]])
    np.testing.assert_allclose(found.coefficients, wanted, atol=1e-5)
    assert not found.separated and found.rank == 4
    p = special.expit(x @ found.coefficients)
    np.testing.assert_allclose(x.T @ (y - p), 0, atol=1e-8)  # the score equations
    assert found.log_likelihood == pytest.approx(np.sum(np.log(np.where(y == 1, p, 1 - p))))
    information = x.T @ (x * (p * (1 - p))[:, None])
    np.testing.assert_allclose(found.covariance @ information, np.eye(4), atol=1e-8)


def test_a_penalty_is_scikit_learns():
    x, y, _ = drawn(seed=1)
    found = logistic.fit([Part(x, y, np.zeros(len(y)))], np.array([0.0, 5.0, 5.0, 5.0]))
    other = LogisticRegression(C=1 / 5, tol=1e-10, max_iter=1000).fit(x[:, 1:], y)
    np.testing.assert_allclose(found.coefficients[1:], other.coef_[0], atol=1e-5)


def test_sites_add_up_to_all_rows_and_an_offset_moves_the_coefficients():
    x, y, rng = drawn(seed=2)
    whole = logistic.fit([Part(x, y, np.zeros(len(y)))])
    cuts = [slice(0, 50), slice(50, 51), slice(51, None)]
    parts = logistic.fit([Part(x[c], y[c], np.zeros(len(y[c]))) for c in cuts])
    np.testing.assert_allclose(parts.coefficients, whole.coefficients, atol=1e-10)
    known = rng.normal(size=4)
    moved = logistic.fit([Part(x, y, x @ known)])
    np.testing.assert_allclose(moved.coefficients, whole.coefficients - known, atol=1e-7)
    assert moved.log_likelihood == pytest.approx(whole.log_likelihood)


def test_columns_that_others_determine_are_left_out():
    x, y, _ = drawn(seed=3)
    wide = np.column_stack([x, np.full(len(y), 3.0), x[:, 1] - 2 * x[:, 2], np.zeros(len(y))])
    found = logistic.fit([Part(wide, y, np.zeros(len(y)))])
    assert found.kept.tolist() == [True] * 4 + [False] * 3 and found.rank == 4
    assert (found.coefficients[4:] == 0).all() and (found.covariance[4:] == 0).all()
    plain = logistic.fit([Part(x, y, np.zeros(len(y)))])
    assert found.log_likelihood == pytest.approx(plain.log_likelihood)
    # A year is large against its spread, and still no constant.
    years = np.column_stack([np.ones(len(y)), 2020 + x[:, 1]])
    assert logistic.fit([Part(years, y, np.zeros(len(y)))]).rank == 2


@pytest.mark.parametrize("overlap", [0, 1])
def test_separation_is_seen_complete_or_not(overlap):
    x = np.linspace(-1, 1, 40)
    y = (x > 0).astype(np.float64)
    if overlap:  # quasi-complete: both classes at one value, and nowhere else side by side
        x[19] = x[20] = 0.0
    design = np.column_stack([np.ones(40), x])
    assert logistic.fit([Part(design, y, np.zeros(40))]).separated
    y[0] = 1.0
    found = logistic.fit([Part(design, y, np.zeros(40))])
    assert not found.separated and np.isfinite(found.coefficients).all()
    rare = np.column_stack([np.ones(40), np.eye(40)[0]])  # one patient's own column
    assert logistic.fit([Part(rare, y, np.zeros(40))]).separated
    assert not logistic.fit([Part(rare, y, np.zeros(40))], np.array([0.0, 1.0])).separated


def test_strong_effects_are_no_separation():
    rng = np.random.default_rng(4)
    x = np.column_stack([np.ones(4000), 20 * rng.normal(size=4000)])
    y = (rng.random(4000) < special.expit(x[:, 1])).astype(np.float64)
    found = logistic.fit([Part(x, y, np.zeros(4000))])
    assert not found.separated and found.coefficients[1] == pytest.approx(1, abs=0.3)
