# mypy: disable-error-code="arg-type, operator"
"""Differences in case mix, against slow loops and closed forms."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import special, stats

from fedsim import metrics
from fedsim.validation import case_mix


def slow_concordance(p):
    top = bottom = 0.0
    for i, j in itertools.permutations(range(len(p)), 2):
        weight = p[i] * (1 - p[j])
        top += weight * ((p[i] > p[j]) + 0.5 * (p[i] == p[j]))
        bottom += weight
    return top / bottom


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(-4, 4), min_size=2, max_size=12))
def test_expected_concordance_is_the_double_loop(values):
    lp = np.array(values, np.float64) / 2
    assert case_mix.expected_concordance(lp) == pytest.approx(slow_concordance(special.expit(lp)))


def test_expected_concordance_is_what_right_risks_reach():
    rng = np.random.default_rng(0)
    lp = rng.normal(-1, 1.3, size=400)
    p = special.expit(lp)
    reached = [metrics.evaluate("binary", rng.random(400) < p, p, full=False)["auroc"] for _ in range(400)]
    error = np.std(reached) / np.sqrt(len(reached))
    assert case_mix.expected_concordance(lp) == pytest.approx(np.mean(reached), abs=4 * error)


def test_patients_drawn_again_make_no_pairs_with_themselves():
    lp = np.array([-1.0, 0.0, 0.0, 2.0])
    counts = np.array([1.0, 2.0, 0.0, 3.0])
    p, of = special.expit(np.repeat(lp, counts.astype(int))), [0, 1, 1, 3, 3, 3]
    top = bottom = 0.0
    for i, j in itertools.permutations(range(6), 2):
        if of[i] != of[j]:
            top += p[i] * (1 - p[j]) * ((p[i] > p[j]) + 0.5 * (p[i] == p[j]))
            bottom += p[i] * (1 - p[j])
    assert case_mix.expected_concordance(lp, counts) == pytest.approx(top / bottom)
    assert case_mix.expected_concordance(np.array([0.3])) is None


def test_the_parts_of_a_drop_add_up():
    found = case_mix.decomposed(0.8, 0.79, 0.74, 0.70)
    assert found["total"] == pytest.approx(-0.1)
    assert found["development"] + found["case_mix"] + found["coefficients"] == pytest.approx(found["total"])
    assert case_mix.decomposed(None, 0.79, 0.74, 0.70) == {
        "total": None,
        "development": None,
        "case_mix": pytest.approx(-0.05),
        "coefficients": pytest.approx(-0.04),
    }


def test_sums_are_moments():
    rng = np.random.default_rng(1)
    values = rng.gamma(2, 3, size=500)
    parts = [np.append(values[:100], np.nan), values[100:]]
    found = case_mix.sums(parts, 5.0)
    assert found.n == 500
    assert found.mean == pytest.approx(values.mean())
    assert found.variance == pytest.approx(values.var(ddof=1))
    assert found.kurtosis == pytest.approx(stats.kurtosis(values, fisher=False))
    none = case_mix.sums([np.array([np.nan])], 0.0)
    assert (none.mean, none.variance, none.kurtosis) == (None, None, None)


def test_differences_and_their_intervals_cover():
    rng = np.random.default_rng(2)
    hits = {"mean_difference": 0, "deviation_ratio": 0, "standardised": 0}
    truth = {"mean_difference": 1.0, "deviation_ratio": 1.5, "standardised": 1 / np.sqrt((1 + 2.25) / 2)}
    for _ in range(400):
        a, b = rng.normal(0, 1, 150), rng.normal(1, 1.5, 100)
        here, there = case_mix.sums([a[:50], a[50:]], 0.0), case_mix.sums([b], 0.0)
        found = case_mix.spread(here, there) | {"standardised": case_mix.mean_difference(here, there)}
        for name, (_, low, high) in found.items():
            hits[name] += low < truth[name] < high
    for name, count in hits.items():
        assert count >= stats.binom.ppf(1e-3, 400, 0.93), name  # 95 %, less what 100 patients cost


def test_what_does_not_vary_has_no_difference():
    flat, some = case_mix.sums([np.ones(5)], 1.0), case_mix.sums([np.arange(5.0)], 1.0)
    assert case_mix.mean_difference(flat, flat) == (None, None, None)
    assert case_mix.mean_difference(flat, some)[0] == pytest.approx(1 / np.sqrt(2.5 / 2))
    assert case_mix.spread(flat, some)["deviation_ratio"] == (None, None, None)
    assert case_mix.mean_difference(case_mix.sums([np.array([])], 0.0), some) == (None, None, None)


@pytest.mark.parametrize("shift", [0.0, 1.0, 3.0])
def test_membership_is_the_distance_of_two_gaussians(shift):
    rng = np.random.default_rng(3)
    parts = [rng.normal(0, 1, (600, 4)), rng.normal(0, 1, (400, 4)), rng.normal(0, 1, (800, 4))]
    parts[2][:, 0] += shift
    folds = [np.arange(len(part)) % 5 for part in parts]
    found = case_mix.membership(parts, [False, False, True], folds)
    assert found.low <= stats.norm.cdf(shift / np.sqrt(2)) + 0.005 and found.high > found.auroc > found.low
    assert found.auroc == pytest.approx(stats.norm.cdf(shift / np.sqrt(2)), abs=0.04)


def test_a_side_that_lacks_a_feature_is_told_apart_without_an_error():
    rng = np.random.default_rng(4)
    parts = [rng.normal(size=(50, 1)), np.full((40, 1), 9.0)]
    found = case_mix.membership(parts, [False, True], [np.arange(50) % 5, np.arange(40) % 5])
    assert found.auroc == 1.0


def test_concordance_of_counts_is_that_of_the_scores():
    rng = np.random.default_rng(5)
    y, bins = rng.random(300) < 0.4, rng.integers(0, 20, 300)
    counts = np.array([np.bincount(bins[y == label], minlength=20) for label in (False, True)], np.float64)
    c, low, high = case_mix.concordance_of(counts)
    assert c == pytest.approx(metrics.evaluate("binary", y, bins / 20, full=False)["auroc"])
    assert low < c < high
    assert case_mix.concordance_of(np.zeros((2, 4))) == (None, None, None)
