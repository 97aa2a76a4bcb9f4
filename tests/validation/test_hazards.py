# mypy: disable-error-code="arg-type, operator"
"""Updates of a frozen Cox model: fits against lifelines, and the closed test's level and power."""

import numpy as np
import pandas as pd
import pytest
from lifelines import CoxPHFitter
from scipy import stats

from fedsim import survival
from fedsim.validation import cox
from fedsim.validation.hazards import fit_update
from fedsim.validation.updates import choose, estimates
from tests.validation import made

FROZEN = np.array([0.8, -0.6, 0.5, 0.0])
ORDER = ("keep", "baseline", "slope", "refit")
RATE, HORIZON = 0.4, 2.0


def site(truth, n=600, seed=0, digits=None):
    """Features, frozen log relative risks, events and times, and the frozen hazard at these: baseline hazards
    rise with time, a third is censored, and follow-up ends at the horizon."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, len(FROZEN)))
    lp = x @ FROZEN
    happens = np.sqrt(rng.exponential(size=n) / np.exp(truth(x, lp)) / RATE)
    left = np.minimum(rng.uniform(0, 6, n), HORIZON)
    time = np.minimum(happens, left)
    if digits is not None:
        time = np.ceil(time * 10**digits) / 10**digits
    return x, lp, (happens <= left).astype(np.float64), time, RATE * np.square(time)


def all_of(rows):
    return [fit_update(name, *rows) for name in ORDER]


@pytest.mark.parametrize("digits", [None, 1])
def test_coefficients_and_likelihood_are_lifelines_with_ties_too(digits):
    x, lp, event, time, _ = site(lambda x, lp: 0.5 * lp + 0.6 * x[:, 3], digits=digits)
    found = cox.fit(x, event, time, np.zeros(len(lp)))
    frame = pd.DataFrame(x, columns=list("abcd")).assign(time=time, event=event)
    fitted = CoxPHFitter().fit(frame, "time", "event", fit_options={"precision": 1e-10})
    np.testing.assert_allclose(found.coefficients, fitted.params_, rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(np.sqrt(np.diag(found.covariance)), fitted.standard_errors_, rtol=1e-4)
    assert found.log_likelihood == pytest.approx(fitted.log_likelihood_, rel=1e-8)
    shifted = cox.fit(x, event, time, lp)
    np.testing.assert_allclose(shifted.coefficients, found.coefficients - FROZEN, atol=1e-7)
    plain = cox.fit(x[:, :0], event, time, lp).log_likelihood
    loss = survival.cox_loss(event > 0, time, lp, np.ones(len(lp)))
    assert plain == pytest.approx(-loss * event.sum())


def test_tests_are_of_partial_likelihoods_and_of_observed_against_expected_events():
    rows = site(lambda x, lp: 0.5 * lp + 0.6 * x[:, 3])
    x, lp, event, time, hazard = rows
    found = choose(all_of(rows), 0.05)
    assert found.update == "refit" and [t.df for t in found.tests] == [5, 4, 3]
    against = {test.against: test.statistic for test in found.tests}
    refit, plain = (cox.fit(one, event, time, lp).log_likelihood for one in (x, x[:, :0]))
    assert against["baseline"] == pytest.approx(2 * (refit - plain))
    d, e = event.sum(), np.sum(hazard * np.exp(lp))
    poisson = 2 * (stats.poisson.logpmf(d, d) - stats.poisson.logpmf(d, e))
    assert against["keep"] - against["baseline"] == pytest.approx(poisson)


CASES = {
    "keep": lambda x, lp: lp,
    "baseline": lambda x, lp: lp + 0.5,
    "slope": lambda x, lp: 0.2 + 0.4 * lp,
    "refit": lambda x, lp: x @ FROZEN[::-1],
}


@pytest.mark.parametrize("update", CASES)
def test_what_changed_is_what_is_chosen(update):
    """Far from the borders, so that 95 % of sites decide rightly: fewer than 16 of 20 once in 400."""
    chosen = [choose(all_of(site(CASES[update], 2000, seed)), 0.05).update for seed in range(20)]
    assert chosen.count(update) >= 16, chosen


@pytest.mark.parametrize("sites", [200, pytest.param(3000, marks=pytest.mark.long)])
def test_a_right_model_is_given_up_at_the_level_of_the_test(sites):
    found = [choose(all_of(site(CASES["keep"], 600, seed)), 0.05).update for seed in range(sites)]
    low, high = stats.binom.ppf([0.001, 0.999], sites, 0.05)
    assert low <= sites - found.count("keep") <= high


@pytest.mark.long
@pytest.mark.parametrize("truth", ["baseline", "slope"])
def test_nothing_smaller_than_the_truth_is_given_up_too_often(truth):
    found = [choose(all_of(site(CASES[truth], 1000, seed)), 0.05).update for seed in range(1000)]
    larger = sum(ORDER.index(update) > ORDER.index(truth) for update in found)
    assert larger <= stats.binom.ppf(0.999, 1000, 0.05)


def test_recalibration_finds_factor_and_slope_and_refit_the_coefficients():
    rows = site(lambda x, lp: 0.4 + 0.6 * lp, 20_000)
    x, lp, event, _, hazard = rows
    slope = fit_update("slope", *rows)
    a, b = estimates(slope, [], FROZEN, np.ones(4))
    assert made.near(a, 0.4) and made.near(b, 0.6) and b["frozen"] == 1.0
    assert np.sum(hazard * np.exp(slope.predict(x, lp))) == pytest.approx(event.sum())
    refit = estimates(fit_update("refit", *rows), list("abcd"), FROZEN * 2, np.full(4, 2.0))
    for row, wanted in zip(refit[1:], FROZEN * 2 * 0.6, strict=True):
        assert made.near(row, wanted)


def test_intervals_of_factor_and_slope_cover():
    hits = np.zeros(2)
    for seed in range(200):
        rows = estimates(fit_update("slope", *site(CASES["slope"], 300, seed)), [], FROZEN, np.ones(4))
        truth = zip(rows, (0.2, 0.4), strict=True)
        hits += [row["low"] < wanted < row["high"] for row, wanted in truth]
    low, high = stats.binom.ppf([1e-3, 1 - 1e-3], 200, 0.95)
    assert (hits >= low).all() and (hits <= high).all(), hits


def test_a_feature_that_does_not_vary_keeps_its_coefficient_and_a_monotone_likelihood_is_said():
    x, lp, event, time, hazard = site(CASES["keep"])
    x[:, 1] = 0.7
    refit = fit_update("refit", x, lp, event, time, hazard)
    assert refit.parameters == 4 and not refit.separated
    (row,) = [r for r in estimates(refit, list("abcd"), FROZEN, np.ones(4)) if r["term"] == "b"]
    assert not row["estimated"] and row["value"] == row["frozen"]
    x[:, 1] = event
    assert fit_update("refit", x, lp, event, time, hazard).separated
