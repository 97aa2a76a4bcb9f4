"""Metrics of many draws at once are those of each draw by itself."""

import numpy as np
import pytest

from fedsim import metrics
from fedsim.metrics import draws
from fedsim.metrics.draws import Ranked

THRESHOLDS = (0.2, 0.7)
NAMES = tuple(name for name in metrics.names("binary", thresholds=THRESHOLDS) if name != "ece")


def each(y, p, w):
    found = [metrics.evaluate("binary", y, p, one, thresholds=THRESHOLDS) for one in w]
    return {name: np.array([one[name] for one in found], np.float64) for name in NAMES}


def rows(n, seed, digits=16):
    rng = np.random.default_rng(seed)
    y = (rng.random(n) < 0.3).astype(np.float64)
    return rng, y, np.round(1 / (1 + np.exp(1.5 - 1.3 * y - rng.normal(size=n))), digits)


@pytest.mark.parametrize(
    ("n", "digits", "whole"),
    [(300, 16, True), (300, 1, True), (300, 2, False), (12, 1, True), (3, 16, True), (1, 16, True)],
)
def test_every_metric_is_that_of_the_draw(n, digits, whole, monkeypatch):
    """Ties, fractions, and so few rows that draws have one class, parted classes, or no end of steps."""
    rng, y, p = rows(n, n, digits)
    w = rng.poisson(1.0, (150, n)).astype(np.float64) if whole else rng.gamma(1.0, size=(150, n))
    w[:, 0] += w.sum(axis=1) == 0
    monkeypatch.setattr(draws, "_BLOCK", 4 * n)  # several blocks, the last a short one
    found = Ranked(y, p).evaluate(w, NAMES)
    assert set(found) == set(NAMES)
    for name, wanted in each(y, p, w).items():
        np.testing.assert_allclose(found[name], wanted, rtol=1e-7, atol=1e-8, err_msg=name)


def test_certain_scores_and_draws_far_from_all_rows():
    """Newton's steps from the fit to all rows lead away, and the slower ones are taken."""
    rng = np.random.default_rng(5)
    p = np.concatenate([[0.0, 1.0], rng.random(200)])
    y = (rng.random(202) < p).astype(np.float64)
    against = np.where((p > 0.5) == (y == 1), 0.0, 1.0)
    w = np.stack([against + 0.001 * k for k in range(5)] + [against])
    found = Ranked(y, p).evaluate(w, NAMES)
    for name, wanted in each(y, p, w).items():
        np.testing.assert_allclose(found[name], wanted, rtol=1e-6, atol=1e-6, err_msg=name)


def test_what_it_does_not_know_is_left_out_and_what_is_not_finite_has_no_value():
    _, y, p = rows(20, 0)
    assert set(Ranked(y, p).evaluate(np.ones((2, 20)), ("auroc", "ece", "r2"))) == {"auroc"}
    p[3] = np.nan
    assert np.isnan(Ranked(y, p).evaluate(np.ones((2, 20)), ("auroc", "brier"))["brier"]).all()
