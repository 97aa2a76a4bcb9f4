"""Randomised response for counts: what it tells, how far off it is, and that messages are weighted by it."""

from dataclasses import replace
from fractions import Fraction
from math import exp

import numpy as np
import pytest
from scipy import stats

from fedsim import config
from fedsim.base import RequestError
from fedsim.data.rng import generator
from fedsim.privacy.randomised_counts import announced, deviation, estimate, threshold
from fedsim.simulate.lanes import layout
from tests.golden import reference
from tests.simulate import small


def counts(epsilon=1.0, places=20):
    return {"name": "randomised_counts", "epsilon": epsilon, "places": places}


def yes(rows, places, kept):
    """Probabilities, exactly, of every number of places said to have a row."""
    law = [Fraction(1)]
    for place in range(places):
        p = kept if place < rows else 1 - kept
        law = [
            (law[i] if i < len(law) else 0) * (1 - p) + (law[i - 1] * p if i else 0)
            for i in range(len(law) + 1)
        ]
    return law


def test_no_answer_tells_more_than_epsilon():
    """Exactly, of the 32 bits that decide: at most, and no less up to where the margin is felt."""
    for epsilon in [*np.linspace(0.01, 16, 400), 1e-6]:
        kept = threshold(float(epsilon))
        assert 2**31 < kept < 2**32
        assert epsilon < 1e-3 or Fraction(kept, 2**32 - kept) <= Fraction(exp(epsilon))
        assert epsilon > 5 or kept / (2**32 - kept) >= exp(epsilon) * (1 - 1e-6)


@pytest.mark.parametrize("rows", [0, 3, 7])
def test_what_is_announced_of_one_row_more_costs_epsilon_and_no_less(rows):
    """Of the whole law of the sum, in fractions: the largest ratio is that of a single answer."""
    kept = Fraction(threshold(0.7), 2**32)
    one, more = yes(rows, 8, kept), yes(rows + 1, 8, kept)
    ratios = [max(a / b, b / a) for a, b in zip(one, more, strict=True)]
    assert sum(one) == 1 and max(ratios) == kept / (1 - kept) <= Fraction(exp(0.7))


@pytest.mark.parametrize("rows", [0, 40, 100])
def test_estimates_are_right_on_average_and_as_far_off_as_stated(rows):
    draws = np.array([estimate(rows, 100, 0.8, generator(0, "counts", i)) for i in range(4000)])
    sigma = deviation(100, 0.8)
    p = 1 / (1 + exp(-0.8))
    assert sigma == pytest.approx((100 * p * (1 - p)) ** 0.5 / (2 * p - 1), rel=1e-6)
    assert abs(draws.mean() - rows) < 4 * sigma / 4000**0.5
    assert deviation(1000, 1.0) == pytest.approx(30.34, abs=0.01)  # docs/privacy-mechanisms.md
    spread = 3999 * draws.var(ddof=1) / sigma**2
    assert 1e-3 < stats.chi2.cdf(spread, 3999) < 1 - 1e-3


def test_a_weight_is_of_a_count_that_there_may_be():
    cfg = config.RandomisedCounts(epsilon=0.05, places=10)
    told = [announced(cfg, 5, generator(0, "counts", i)) for i in range(200)]
    assert min(told) == 1 and max(told) == 10
    assert announced(config.RandomisedCounts(epsilon=16.0, places=10), 7, generator(0)) == pytest.approx(7)


def test_messages_are_weighted_by_what_clients_say():
    """FedAvg once more in a slow loop; a client says the same in every round, and another seed's is new."""
    e = small.experiment(privacy=counts())
    lane = small.lane(e)
    table = layout([lane], ("privacy.epsilon",)).table
    said, rows = table.weight.astype(np.float64), table.rows
    assert said.dtype == np.float64 and (said >= 1).all() and (said <= 20).all()
    assert (np.abs(said - rows) > 0.1).sum() >= 5
    columns = small.federation().columns
    assert columns is not None

    class Loop(reference.Loop):
        def weight(self, k):
            return said[k]

    run = Loop(e, reference.clients_of(lane, columns))
    trained = small.train([lane])
    w = small.weights(trained.engine.models(trained.engine.init())[0][0])
    for t in range(e.rounds):
        cohort = run.cohort(t)
        w = w + run.mean(cohort, [run.local(k, w, t) - w for k in cohort], w)
    np.testing.assert_allclose(small.weights(trained.models[0][0]), w, rtol=1e-5, atol=1e-5)


def test_folds_seeds_and_budgets_have_answers_of_their_own():
    one = small.lane(small.experiment(privacy=counts()))
    fold = replace(one, clients=replace(one.clients, fold=1))
    more = replace(
        one, experiment=replace(one.experiment, privacy=config.RandomisedCounts(epsilon=1.5, places=20))
    )
    found = layout([one, fold, one, more], ("privacy.epsilon",))
    first, other, again, surer = (
        found.table.weight[at : at + n] for at, n in zip(found.offset, found.count, strict=True)
    )
    np.testing.assert_array_equal(first, again)
    assert (first != other).sum() >= 4 and (first != surer).sum() >= 4


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"algorithm": {"name": "fedavg", "weighting": "uniform"}}, "none are sent"),
        ({"algorithm": "local"}, "none are sent"),
        ({"split": {"name": "drift", "base": "natural"}}, "split=drift it trains on some"),
        ({"tune": {"grid": {"optimizer.step_size": [0.1, 0.2]}}}, r"tune\.grid it trains on some"),
        ({"world": {"name": "by_size", "cohort": 2}}, "world=by_size lets them decide"),
        ({"system": {"name": "lognormal", "deadline": 1.0}}, r"system\.deadline lets them decide"),
        ({"privacy": counts(epsilon=0.0)}, r"privacy\.epsilon must be in \(0, 16\], got 0"),
        ({"privacy": counts(places=0)}, r"privacy\.places must be in \[1, 2\^24\], got 0"),
    ],
)
def test_what_it_cannot_protect_is_refused(changes, reason):
    with pytest.raises(RequestError, match=reason):
        small.experiment(**({"privacy": counts()} | changes))


def test_more_rows_than_places_are_refused():
    lane = small.lane(small.experiment(privacy=counts(places=9)))
    with pytest.raises(RequestError, match=r"privacy\.places=9 is fewer than the 1[0-9] training rows"):
        layout([lane], ("privacy.epsilon",))
