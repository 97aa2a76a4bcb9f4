"""What canaries show: never anything on pure noise, and what is there where it is."""

import math

import numpy as np
import pytest
from scipy import stats

from fedsim.audit import bounds


def slow_p_value(m, r, v, epsilon, delta):
    """Steinke et al. 2023, Theorem 5.2, term by term: f(w) = P[Binomial(r, e^eps / (1 + e^eps)) >= w], and
    f(v) + 2 m delta max_i (f(v - i) - f(v)) / i."""
    q = math.exp(epsilon) / (1 + math.exp(epsilon))

    def f(w):
        return sum(math.comb(r, k) * q**k * (1 - q) ** (r - k) for k in range(max(w, 0), r + 1))

    gain = max(((f(v - i) - f(v)) / i for i in range(1, v + 1)), default=0.0)
    return min(1.0, f(v) + 2 * m * delta * gain)


@pytest.mark.parametrize("delta", [0.0, 1e-5, 1e-2])
@pytest.mark.parametrize(("m", "r", "v"), [(10, 10, 9), (40, 20, 20), (40, 40, 27), (12, 6, 0)])
@pytest.mark.parametrize("epsilon", [0.0, 0.7, 3.0])
def test_the_p_value_is_the_theorems(m, r, v, epsilon, delta):
    assert bounds.p_value(m, r, v, epsilon, delta) == pytest.approx(slow_p_value(m, r, v, epsilon, delta))


def test_the_bound_is_where_the_p_value_meets_the_risk():
    found = bounds.lower(100, 40, 38, 1e-5, 0.05)
    assert bounds.p_value(100, 40, 38, found - 1e-6, 1e-5) < 0.05
    assert bounds.p_value(100, 40, 38, found + 1e-6, 1e-5) >= 0.05
    assert bounds.lower(100, 40, 20, 0.0, 0.05) == 0  # as many as by chance


def test_all_guesses_right_is_the_most_that_can_be_shown():
    """Without delta, q^r >= risk: q = (0.05 / 3)^(1 / 100), and epsilon is its log odds."""
    q = (0.05 / 3) ** (1 / 100)
    assert bounds.highest(100, 0.0, 0.95) == pytest.approx(math.log(q / (1 - q)), abs=1e-6)
    several = [bounds.highest(m, 1e-5, 0.95) for m in (10, 100, 1000)]
    assert several == sorted(several) and several[0] > 0
    assert several[1:] == pytest.approx([3.2, 5.5], abs=0.06)  # docs/audits.md
    truth = np.random.default_rng(0).random(100) < 0.5
    # Where more or fewer than half came up, not every guess of a half can be right.
    assert 0 < bounds.one_run(truth.astype(float), truth, 0.0, 0.95).epsilon < several[1]


@pytest.mark.parametrize("confidence", [0.5, 0.9, 0.95])
def test_pure_noise_shows_nothing(confidence):
    """Scores that know nothing of the coins: a bound above 0 is wrong, as often as it may be."""
    rng, draws = np.random.default_rng(1), 2000
    wrong = {"one_run": 0, "gaussian": 0}
    for _ in range(draws):
        m = int(rng.choice([20, 100]))
        scores, included = rng.normal(size=m), rng.random(m) < 0.5
        wrong["one_run"] += bounds.one_run(scores, included, 1e-5, confidence).epsilon > 0
        wrong["gaussian"] += bounds.gaussian(scores, included, confidence).bound > 0
    most = stats.binom.ppf(0.999, draws, 1 - confidence)
    assert all(count <= most for count in wrong.values()), (wrong, most)


def test_bounds_hold_where_the_truth_is_known():
    """Canaries of a Gaussian mechanism of mu = 2: above its epsilon no more often than one in twenty, and not
    far below it."""
    rng, mu, delta, draws = np.random.default_rng(2), 2.0, 1e-5, 200
    truth = bounds.epsilon_of(mu, delta)
    found = []
    for _ in range(draws):
        included = rng.random(500) < 0.5
        scores = rng.normal(size=500) + mu * included
        apart = bounds.gaussian(scores, included, 0.95)
        found.append(
            [bounds.one_run(scores, included, delta, 0.95).epsilon, bounds.epsilon_of(apart.bound, delta)]
        )
    above = (np.array(found) > truth).sum(axis=0)
    assert above.max() <= stats.binom.ppf(0.999, draws, 0.05)
    one_run, gaussian = np.median(found, axis=0)
    assert 1 < one_run < gaussian and gaussian > 0.8 * truth


def test_epsilon_of_a_gaussian_mechanism():
    """One Gaussian of noise 1 at delta 1e-5: 4.377178 (dp-accounting's exact value)."""
    assert bounds.epsilon_of(1.0, 1e-5) == pytest.approx(4.377178, abs=1e-5)
    assert bounds.epsilon_of(0.0, 1e-5) == bounds.epsilon_of(-1.0, 1e-5) == 0
    assert bounds.epsilon_of(1e-6, 1e-5) == 0  # delta alone covers it
    assert bounds.epsilon_of(1.0, 0.0) == math.inf


def test_scores_that_are_not_finite_say_nothing():
    included = np.arange(20) < 10
    scores = np.where(included, 1.0, 0.0)
    assert bounds.summary(scores * np.nan, scores, included, 1e-5, 0.95)["epsilon_bound"] is None
    assert bounds.gaussian(scores * np.nan, included, 0.95).bound == 0
    assert bounds.gaussian(scores, included, 0.95).bound == math.inf  # no spread at all
    assert bounds.gaussian(scores, np.ones(20, bool), 0.95).bound == 0  # nobody to compare with
    whole = bounds.summary(scores, scores, included, 1e-5, 0.95)
    assert whole["epsilon_bound_gaussian"] == bounds.MOST and whole["correct"] == whole["guesses"]
