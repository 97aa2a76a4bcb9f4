import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from fedsim.base import RequestError
from fedsim.estimate import asked, estimate
from tests.estimate.made import leukaemia, slow_logrank, survival

ROWS = st.lists(
    st.tuples(st.sampled_from("abc"), st.integers(1, 10), st.booleans(), st.integers(0, 2)),
    min_size=4,
    max_size=60,
)


def logrank(federation, **options):
    return estimate("logrank", asked("logrank", {"by": "group", **options}), federation)


def test_the_textbook_s_chi_square():
    found = logrank(leukaemia())
    assert found["chi_square"] == pytest.approx(16.79, abs=5e-3) and found["df"] == 1
    assert found["p"] == pytest.approx(4.17e-5, rel=1e-2)
    treated = found["groups"][1]
    assert (treated["observed"], treated["expected"]) == (9, pytest.approx(19.25, abs=5e-3))


def agrees(found, slow, tolerance=1e-9):
    o, e, v = slow
    there = [i for i, g in enumerate(found["groups"]) if g["n"] > 0]
    assert [g["observed"] for g in found["groups"]] == pytest.approx(o.tolist())
    assert [g["expected"] for g in found["groups"]] == pytest.approx(e.tolist())
    gap = (o - e)[there]
    v = v[np.ix_(there, there)]
    wanted = gap @ np.linalg.pinv(v) @ gap
    assert found["chi_square"] == pytest.approx(wanted, rel=1e-6, abs=tolerance)
    assert found["df"] == np.linalg.matrix_rank(v)
    assert found["p"] == pytest.approx(stats.chi2.sf(wanted, found["df"]), abs=1e-6)


def comparable(rows):
    """Whether an event happened beside somebody of another group."""
    return any(
        e and len({h for _, u, _, h in rows if u >= t}) > 1 and sum(u >= t for _, u, _, _ in rows) > 1
        for _, t, e, g in rows
    )


@given(ROWS)
def test_it_is_the_pooled_test_however_rows_are_divided(rows):
    site, time, event, group = zip(*rows, strict=True)
    if not any(event):
        return
    o, e, v = slow_logrank(time, event, group, 3)
    fed = survival(site, time, event, group)
    if len(set(group)) < 2 or not np.any(np.abs(v) > 1e-12):
        with pytest.raises(RequestError, match=r"nothing to compare|lack of rows"):
            logrank(fed, levels=[0, 1, 2])
        return
    agrees(logrank(fed, levels=[0, 1, 2]), (o, e, v))


@given(ROWS)
def test_stratified_it_is_the_sum_of_the_sites_own(rows):
    site, time, event, group = zip(*rows, strict=True)
    if not any(event):
        return
    parts = []
    for name in sorted(set(site)):
        own = [row for row in rows if row[0] == name]
        own_time, own_event, own_group = ([row[i] for row in own] for i in (1, 2, 3))
        parts.append(slow_logrank(own_time, own_event, own_group, 3))
    o, e, v = (np.sum(part, axis=0) for part in zip(*parts, strict=True))
    fed = survival(site, time, event, group)
    if len(set(group)) < 2 or not np.any(np.abs(v) > 1e-12):
        with pytest.raises(RequestError, match=r"nothing to compare|lack of rows"):
            logrank(fed, levels=[0, 1, 2], stratified=True)
        return
    agrees(logrank(fed, levels=[0, 1, 2], stratified=True), (o, e, v))


def test_a_group_that_a_site_does_not_have_changes_nothing():
    fed = survival("aaabbb", [1, 2, 3, 4, 5, 6], [1, 1, 0, 1, 1, 1], [0, 0, 0, 0, 1, 1])
    agrees(logrank(fed), slow_logrank([1, 2, 3, 4, 5, 6], [1, 1, 0, 1, 1, 1], [0, 0, 0, 0, 1, 1], 2))


@pytest.mark.parametrize("stratified", [False, True])
def test_with_minimum_count_it_is_nearly_the_same(stratified):
    x = np.arange(3000) % 2
    rng = np.random.default_rng(0)
    event, censored = rng.exponential(np.where(x == 1, 1.0, 1.15)), rng.uniform(0, 3, 3000)
    site = [f"site {i % 3}" for i in rng.integers(0, 3, 3000)]
    fed = survival(site, np.minimum(event, censored), event <= censored, x)
    exact, coarse = (logrank(fed, levels=[0, 1], stratified=stratified, minimum_count=k) for k in (None, 5))
    assert coarse["chi_square"] != exact["chi_square"]
    assert coarse["chi_square"] == pytest.approx(exact["chi_square"], rel=0.1)
    assert [g["n"] for g in coarse["groups"]] == [g["n"] for g in exact["groups"]]


def test_groups_too_small_for_minimum_count_are_left_out():
    # No placebo patient is censored: their number would say so of each of them.
    x = [0] * 6 + [1] * 6 + [0] * 6 + [1] * 2
    event, time = [1, 0] * 10, [1 + i % 7 for i in range(20)]
    fed = survival("a" * 12 + "b" * 8, time, event, x)
    for stratified in (False, True):
        found = logrank(fed, minimum_count=3, levels=[0, 1], stratified=stratified)
        assert found["left_out"] == [{"site": "b", "group": "group=1"}]
    with pytest.raises(RequestError, match=r"only 1 of the groups .* lower minimum_count"):
        logrank(leukaemia(2), minimum_count=3, levels=[0, 1])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"by": None}, "compares groups; set by=FEATURE"),
        ({"by": "client", "stratified": True}, "one group at each site"),
        ({"levels": [1, 7]}, r"only 1 of the groups group=1, group=7 may be compared"),
        (
            {"epsilon": 1.0},
            "^logrank is not there with differential privacy, .* or epsilon with kaplan_meier or quantiles$",
        ),
    ],
)
def test_what_cannot_be_compared_is_refused(options, message):
    with pytest.raises(RequestError, match=message):
        logrank(leukaemia(), **options)


def test_without_an_event_beside_another_group_there_is_nothing_to_compare():
    fed = survival("ab", [1, 2], [0, 1], [0, 1])
    with pytest.raises(RequestError, match="no event happened while rows of two groups were at risk"):
        logrank(fed)
