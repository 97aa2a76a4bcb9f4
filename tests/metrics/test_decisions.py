# mypy: disable-error-code="operator"
"""Net benefit and capacity against counts by hand and draws of ties; amounts against loops over pairs."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedsim.metrics import evaluate

THRESHOLDS = (0.1, 0.25, 0.5)


@st.composite
def cases(draw):
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    n = draw(st.integers(1, 60))
    p = rng.random(n)
    if draw(st.booleans()):
        p = np.round(4 * p) / 4
    return rng.integers(0, 2, n), p, rng.integers(1, 4, n).astype(float)


@given(cases())
def test_net_benefit_is_counted(case):
    y, p, w = case
    found = evaluate("binary", y, p, w, thresholds=THRESHOLDS)
    for t in THRESHOLDS:
        for treated, name in ((p >= t, "net_benefit_"), (p >= 0, "net_benefit_all_")):
            right, wrong = w[treated & (y == 1)].sum(), w[treated & (y == 0)].sum()
            wanted = (right - wrong * t / (1 - t)) / w.sum()
            assert found[f"{name}{t:g}"] == pytest.approx(wanted, abs=1e-12)


def test_ties_at_capacity_are_in_random_order():
    rng = np.random.default_rng(3)
    y, p = rng.integers(0, 2, 200), rng.integers(0, 8, 200) / 8
    found = evaluate("binary", y, p)
    for share in (1, 5, 10):
        first = 2 * share
        drawn = []
        for _ in range(4000):
            order = rng.permutation(200)
            drawn.append(y[order[np.argsort(-p[order], kind="stable")]][:first].mean())
        close = 5 * np.std(drawn) / np.sqrt(4000)
        assert found[f"ppv_top{share}"] == pytest.approx(np.mean(drawn), abs=close)
        hits = found[f"ppv_top{share}"] * first
        assert found[f"sensitivity_top{share}"] == pytest.approx(hits / y.sum())
        assert found[f"nne_top{share}"] == pytest.approx(1 / found[f"ppv_top{share}"])


def test_capacity_by_hand():
    y, p = [1, 0, 1, 0, 0, 0, 0, 0, 0, 0], [0.9, 0.8, 0.7, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1]
    found = evaluate("binary", y, p)  # 10 % is the first row, 5 % one half of it
    assert (found["ppv_top10"], found["sensitivity_top10"], found["nne_top10"]) == (1.0, 0.5, 1.0)
    assert found["ppv_top5"] == pytest.approx(1) and found["sensitivity_top5"] == pytest.approx(0.25)
    none = evaluate("binary", [0, 0, 1], [0.9, 0.8, 0.1])
    assert none["ppv_top10"] == none["sensitivity_top10"] == 0 and none["nne_top10"] is None
    assert evaluate("binary", [0, 0], [0.9, 0.8])["sensitivity_top10"] is None


@given(st.integers(0, 2**32), st.integers(2, 40))
def test_amounts(key, n):
    rng = np.random.default_rng(key)
    y, s, w = rng.integers(0, 5, n), rng.integers(0, 6, n) / 3, rng.integers(1, 4, n)
    y[:2] = 0, 3
    found = evaluate("regression", y, s, w)
    y, s = np.repeat(y, w), np.repeat(s, w)
    assert found["cpm"] == pytest.approx(1 - np.abs(y - s).sum() / np.abs(y - y.mean()).sum())
    if s.sum() > 0:
        assert found["o_e"] == pytest.approx(y.sum() / s.sum())

    def concentration(by):
        """Of all pairs of rows, what the one that is ahead has more; equal ones share."""
        return (np.sign(by[:, None] - by) * (y[:, None] - y)).sum()

    assert found["gini"] == pytest.approx(concentration(s) / concentration(y), abs=1e-12)


def test_amounts_that_have_no_order():
    assert evaluate("regression", [2.0, 2.0], [1.0, 3.0])["gini"] is None
    assert evaluate("regression", [-1.0, 2.0], [1.0, 3.0])["gini"] is None
    found = evaluate("regression", [1.0, 2.0, 9.0], [0.1, 0.2, 0.3])
    assert found["gini"] == pytest.approx(1) and found["o_e"] == pytest.approx(20)
    assert evaluate("regression", [1.0, 2.0], [-3.0, 1.0])["o_e"] is None
