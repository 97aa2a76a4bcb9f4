"""Updates of a frozen model: nested fits, and the closed test of Vergouwe et al. (2017) among them."""

import numpy as np
import pytest
from scipy import special, stats
from sklearn.linear_model import LogisticRegression

from fedsim.config.validation import ORDER
from fedsim.validation.updates import choose, estimates, fit_update
from tests.validation import made

FROZEN = np.array([0.8, -0.6, 0.5, 0.0])


def site(truth, n=600, seed=0):
    """Features, the frozen logits, and outcomes whose logits are `truth(x, lp)`."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, len(FROZEN)))
    lp = -0.5 + x @ FROZEN
    y = (rng.random(n) < special.expit(truth(x, lp))).astype(np.float64)
    return x, lp, y


def all_of(x, lp, y):
    return [fit_update(name, x, lp, y) for name in ORDER]


def log_loss_of(x, y):
    if x.shape[1] == 0:
        p = np.full(len(y), y.mean())
    else:
        p = LogisticRegression(C=np.inf, tol=1e-10, max_iter=2000).fit(x, y).predict_proba(x)[:, 1]
    return np.sum(np.log(np.where(y == 1, p, 1 - p)))


def test_likelihoods_and_tests_are_those_of_separate_fits():
    x, lp, y = site(lambda x, lp: 0.5 * lp + 0.6 * x[:, 3])
    keep, intercept, slope, refit = all_of(x, lp, y)
    p = special.expit(lp)
    plain = np.sum(np.log(np.where(y == 1, p, 1 - p)))
    assert keep.log_likelihood == pytest.approx(plain)
    assert slope.log_likelihood == pytest.approx(log_loss_of(lp[:, None], y), abs=1e-5)
    assert refit.log_likelihood == pytest.approx(log_loss_of(x, y), abs=1e-5)
    assert [u.parameters for u in (keep, intercept, slope, refit)] == [0, 1, 2, 5]
    found = choose([keep, intercept, slope, refit], 0.05)
    assert found.update == "refit" and [t.against for t in found.tests] == ["keep", "intercept", "slope"]
    assert [t.df for t in found.tests] == [5, 4, 3]
    first = found.tests[0]
    assert first.statistic == pytest.approx(2 * (log_loss_of(x, y) - plain), abs=1e-4)
    assert first.p == pytest.approx(stats.chi2.sf(first.statistic, 5))


CASES = {
    "keep": lambda x, lp: lp,
    "intercept": lambda x, lp: lp + 1.0,
    "slope": lambda x, lp: 0.2 + 0.3 * lp,
    "refit": lambda x, lp: -0.5 + x @ FROZEN[::-1],
}


@pytest.mark.parametrize("update", CASES)
def test_what_changed_is_what_is_chosen(update):
    """Far from the borders: 4,000 patients, and keep is given up in 1 of 20 sites, so most of 20 decide."""
    chosen = [choose(all_of(*site(CASES[update], 4000, seed)), 0.05).update for seed in range(20)]
    assert chosen.count(update) >= 16, chosen  # 95 % each: fewer than 16 once in 400


def rejected(sites, n):
    """How often the frozen model is given up although it is right, of as many sites."""
    found = [choose(all_of(*site(CASES["keep"], n, seed)), 0.05).update for seed in range(sites)]
    return sites - found.count("keep")


@pytest.mark.parametrize("sites", [200, pytest.param(5000, marks=pytest.mark.long)])
def test_a_right_model_is_given_up_at_the_level_of_the_test(sites):
    low, high = stats.binom.ppf([0.001, 0.999], sites, 0.05)
    assert low <= rejected(sites, 1000) <= high


@pytest.mark.long
def test_nothing_smaller_than_the_truth_is_given_up_too_often():
    """The closed test holds its level for intercept and slope as well, where these are the truth."""
    for truth in ("intercept", "slope"):
        found = [choose(all_of(*site(CASES[truth], 2000, seed)), 0.05).update for seed in range(2000)]
        larger = sum(ORDER.index(update) > ORDER.index(truth) for update in found)
        assert larger <= stats.binom.ppf(0.999, 2000, 0.05), truth


def test_recalibration_finds_intercept_and_slope_and_refit_predicts():
    x, lp, y = site(lambda x, lp: 0.4 + 0.6 * lp, 50_000)
    slope = fit_update("slope", x, lp, y)
    (a, b) = estimates(slope, [], FROZEN, np.ones(4))
    assert made.near(a, 0.4) and made.near(b, 0.6) and b["frozen"] == 1.0
    np.testing.assert_allclose(slope.predict(x, lp), a["value"] + b["value"] * lp)
    half = fit_update("refit", x, lp, y)
    rows = estimates(half, ["a", "b", "c", "d"], FROZEN * 2, np.full(4, 2.0))
    assert [row["term"] for row in rows] == ["intercept", "a", "b", "c", "d"]
    for row, wanted in zip(rows[1:], FROZEN * 2 * 0.6, strict=True):
        assert made.near(row, wanted)
    again = (y.mean(), special.expit(half.predict(x, lp)).mean())
    assert again[0] == pytest.approx(again[1])


def test_a_feature_that_does_not_vary_keeps_its_frozen_coefficient():
    x, _, _ = site(CASES["keep"])
    x[:, 1] = 0.7
    lp = -0.5 + x @ FROZEN
    y = (np.random.default_rng(1).random(len(lp)) < special.expit(lp)).astype(np.float64)
    refit = fit_update("refit", x, lp, y)
    assert refit.parameters == 4
    row = estimates(refit, list("abcd"), FROZEN, np.ones(4))[2]
    assert row == {"term": "b", "frozen": -0.6, "value": -0.6, "low": None, "high": None, "estimated": False}


def test_one_feature_has_nothing_beyond_the_slope():
    x, _, y = site(CASES["refit"])
    lp = 0.3 + 0.8 * x[:, 0]
    found = choose(all_of(x[:, :1], lp, y), 0.05)
    assert found.update == "slope" and (found.tests[-1].df, found.tests[-1].p) == (0, 1.0)


def test_separation_makes_no_choice_and_a_menu_of_one_is_kept():
    x, lp, _ = site(CASES["keep"], 60)
    y = (x[:, 0] > 0).astype(np.float64)
    found = choose(all_of(x, lp, y), 0.05)
    assert found.update is None and found.tests == () and "refit has no maximum" in found.reason
    assert choose(all_of(x, lp, y)[:2], 0.05).update in ("keep", "intercept")
    assert choose(all_of(x, lp, y)[:1], 0.05).update == "keep"


def test_the_level_decides():
    """Just above its p a test is significant, and just below it is not."""
    fitted = all_of(*site(CASES["intercept"], 150))
    p = choose(fitted, 1e-12).tests[0].p
    assert choose(fitted, p * 0.999).update == "keep"
    assert choose(fitted, p * 1.001).update != "keep"
