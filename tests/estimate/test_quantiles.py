import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedsim.base import RequestError
from fedsim.config import Natural, Preprocess
from fedsim.data import preprocess
from fedsim.data.partition import partitions
from fedsim.data.splits import assign
from fedsim.estimate import asked, estimate
from fedsim.estimate.coarsen import batches
from tests.estimate.made import exponential, survival

NUMBERS = st.floats(width=32, min_value=-(2.0**99), max_value=2.0**99)
ROWS = st.lists(
    st.tuples(st.sampled_from("abc"), st.one_of(st.just(math.nan), NUMBERS)), min_size=1, max_size=50
)
Q = [0, 0.1, 0.25, 0.5, 0.75, 1]


def of(rows):
    site, x = zip(*rows, strict=True)
    return survival(site, [1] * len(rows), [1] * len(rows), x, ("x",))


def quantiles(federation, **options):
    return estimate("quantiles", asked("quantiles", options), federation)


@given(ROWS)
def test_bisection_ends_at_the_pooled_quantiles(rows):
    x = np.array([v for _, v in rows], np.float32).astype(np.float64)
    x = x[~np.isnan(x)]
    found = quantiles(of(rows), q=Q)
    (one,) = found["variables"]
    assert one["n"] == len(x) and found["exchanges"] == 33
    if len(x):
        np.testing.assert_allclose(one["values"], np.quantile(x, Q), rtol=1e-15)
    else:
        assert one["values"] == [None] * 6


def test_the_median_is_what_imputation_fills_in():
    rng = np.random.default_rng(1)
    x = rng.normal(size=101)
    x[rng.random(101) < 0.2] = np.nan
    fed = of([(str(i % 3), v) for i, v in enumerate(x)])
    (partition,) = partitions(fed, assign(fed, Natural(test=0.0), 0), Natural(test=0.0), 0)
    constants = preprocess.fit(fed.columns["x"], partition, Preprocess(impute="median"))
    assert constants is not None
    assert quantiles(fed, q=[0.5])["variables"][0]["values"] == pytest.approx(
        [float(constants.impute[0, 0])], rel=1e-6
    )


@given(ROWS, st.integers(3, 5))
def test_batches_are_of_k_rows_or_more_and_lie_within_the_values(rows, k):
    sizes = {s: sum(1 for t, v in rows if t == s and not math.isnan(v)) for s, _ in rows}
    found = quantiles(of(rows), minimum_count=k, q=Q)
    (one,) = found["variables"]
    enough = [s for s, n in sizes.items() if n >= k]
    assert one["n"] == sum(sizes[s] for s in enough)
    assert {o["site"] for o in found["left_out"]} == set(sizes) - set(enough)
    values = [float(np.float32(v)) for s, v in rows if s in enough and not math.isnan(v)]
    if enough:
        assert min(values) <= min(one["values"]) and max(one["values"]) <= max(values)
        assert one["values"] == sorted(one["values"])
    else:
        assert one["values"] == [None] * 6


def test_coarse_quantiles_are_near():
    fed = exponential(3000)
    exact, coarse = (
        quantiles(fed, variables=["time"], minimum_count=k)["variables"][0]["values"] for k in (None, 5)
    )
    assert coarse == pytest.approx(exact, rel=0.02) and coarse != exact


def test_time_may_be_asked_for_and_one_hot_columns_are_left_out():
    fed = survival("ab", [3, 5], [1, 1], [[1, 0], [2, 1]], ("age", "sex=m"))
    assert [v["variable"] for v in quantiles(fed)["variables"]] == ["age"]
    assert quantiles(fed, variables=["time", "sex=m"], q=[0.5])["variables"] == [
        {"variable": "time", "n": 2, "values": [4.0]},
        {"variable": "sex=m", "n": 2, "values": [0.5]},
    ]


# --- with noise ------------------------------------------------------------------------------


def test_with_little_noise_quantiles_are_the_exact_ones():
    fed = exponential(20_000)
    options = {"variables": ["time"], "q": [0.25, 0.5, 0.75]}
    (exact,) = quantiles(fed, **options)["variables"]
    (found,) = quantiles(fed, **options, epsilon=1000, range=[0, 4], bins=512)["variables"]
    assert found["values"] == pytest.approx(exact["values"], abs=0.005)


@pytest.mark.parametrize("mechanism", ["laplace", "discrete_gaussian"])
def test_several_variables_share_the_epsilon(mechanism):
    fed = survival("ab" * 50, [1] * 100, [1] * 100, np.zeros((100, 4)), ("a", "b", "c", "d"))
    options = {"epsilon": 1, "range": [0, 1], "mechanism": mechanism}
    one, four = (quantiles(fed, variables=v, **options)["privacy"] for v in (["a"], ["a", "b", "c", "d"]))
    # A row moves a vector of four counts: by 4 in the 1-norm, by 2 in the 2-norm.
    ratio = four["noise_deviation"] / one["noise_deviation"]
    assert ratio == pytest.approx(4 if mechanism == "laplace" else 2, rel=0.05)
    assert four["epsilon"] <= 1 + 1e-9


def test_intervals_hold_the_truth_as_often_as_they_say():
    hits, runs = np.zeros(3), 200
    q = np.array([0.25, 0.5, 0.75])
    truth = -np.log(1 - q) / (0.5 + 1 / 3)  # were censoring exponential; drawn so below
    for seed in range(runs):
        rng = np.random.default_rng(seed)
        x = rng.exponential(1 / (0.5 + 1 / 3), 800)
        fed = of([(str(i % 3), v) for i, v in enumerate(x)])
        (one,) = quantiles(fed, epsilon=0.5, range=[0, 8], bins=64, seed=seed)["variables"]
        hits += [lo <= t <= hi for lo, t, hi in zip(one["low"], truth, one["high"], strict=True)]
    # Interpolation within a bin of the range adds little: no less than 95 % but for 4.4 deviations.
    assert hits.min() / runs > 0.95 - 4.4 * math.sqrt(0.95 * 0.05 / runs), hits / runs


def test_too_few_rows_for_the_noise_say_nothing():
    (one,) = quantiles(of([("a", 1.0)] * 10), epsilon=0.1, range=[0, 2])["variables"]
    assert one["values"] == [None] * 3 == one["low"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"variables": ["y"]}, "variables: no feature 'y'"),
        ({"q": [1.5]}, r"q must be numbers in \[0, 1\]"),
        ({"q": []}, "q must be numbers"),
        ({"epsilon": 1}, r"x has none; set ranges=\{NAME: \[LEAST, GREATEST\]\}"),
        ({"epsilon": 1, "ranges": {"y": [0, 1]}}, "ranges.y names no variable"),
        ({"epsilon": 1, "range": [1, 0]}, "the least and the greatest"),
        ({"range": [0, 1]}, "set epsilon, or leave them out"),
        ({"epsilon": -2, "range": [0, 1]}, "epsilon must be in"),
        ({"epsilon": 1, "range": [0, 1], "delta": 0}, r"delta must be in \(0, 1\)"),
    ],
)
def test_what_cannot_be_had_is_refused(options, message):
    with pytest.raises(RequestError, match=message):
        quantiles(of([("a", 1.0), ("b", 2.0)]), **options)


@given(st.lists(NUMBERS, max_size=60), st.integers(1, 7))
def test_batches_are_consecutive_values_and_their_means(values, k):
    means, sizes = batches(np.array(values, np.float64), k)
    assert len(means) == len(values) // k
    if len(means):
        assert sizes.sum() == len(values) and sizes.min() >= k and sizes.max() < 2 * k
        ends = np.cumsum(sizes)
        parts = [sorted(values)[end - size : end] for end, size in zip(ends, sizes, strict=True)]
        scale = 1e-12 * max(1.0, max(map(abs, values)))
        assert means.tolist() == pytest.approx([math.fsum(p) / len(p) for p in parts], rel=1e-9, abs=scale)
        assert all(p[0] <= m <= p[-1] for p, m in zip(parts, means, strict=True))
