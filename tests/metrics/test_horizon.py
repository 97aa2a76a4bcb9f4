"""Probabilities by a horizon under censoring, against loops over rows and against data without censoring."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedsim import metrics, survival
from fedsim.metrics import Absolute, horizon, smooth

FEW = settings(max_examples=25)
CUTS = (0.2, 0.5)


def judged(event, time, score, w, horizon=4.0, hazard=0.1, steps=8):
    grid = np.linspace(0, horizon, steps + 1)
    with np.errstate(divide="ignore"):
        log_hazard = np.log(hazard * grid)[None]
    absolute = Absolute(grid, log_hazard, np.zeros(len(time), np.int64))
    found = metrics.evaluate(
        "survival", event.astype(int), score, w, time=time, absolute=absolute, thresholds=CUTS
    )
    assert tuple(found) == metrics.names("survival", True, CUTS, True)
    return found, absolute


@st.composite
def cohorts(draw):
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    n = draw(st.integers(8, 40))
    time = 1.0 + rng.integers(0, draw(st.sampled_from([4, 8, 1000])), n) / 1.5
    w = rng.integers(1, 4, n).astype(float) if draw(st.booleans()) else np.ones(n)
    time[0], w[0] = 1000.0, 1.0  # somebody is followed up beyond the horizon
    event = rng.random(n) < 0.6
    event[0] = False
    return event, time, rng.integers(-5, 6, n) / 4, w


def uncensored_before(event, time, w, t):
    """Kaplan-Meier of censoring just before t, events of a time coming before its censorings."""
    share = 1.0
    for u in np.unique(time[~event & (time < t)]):
        at_risk = w[(time > u) | ((time == u) & ~event)].sum()
        share *= 1 - w[(time == u) & ~event].sum() / at_risk
    return share


def died(event, time, w, t):
    share = 1.0
    for u in np.unique(time[event & (time <= t)]):
        share *= 1 - w[(time == u) & event].sum() / w[time >= u].sum()
    return 1 - share


def inverse(event, time, w, t):
    return np.array(
        [
            1 / uncensored_before(event, time, w, min(u, t)) if (e and u <= t) or u >= t else 0.0
            for e, u in zip(event, time, strict=True)
        ]
    )


def capacity(found, early, p, omega):
    """Rows one by one, the highest first, equal ones by equal shares, until K % of the weight is used up."""
    for k in (1, 5, 10):
        left = room = 0.01 * k * omega.sum()
        hit = 0.0
        for value in np.unique(p)[::-1]:
            tied = p == value
            share = min(1.0, left / omega[tied].sum())
            hit += share * omega[tied & early].sum()
            left -= share * omega[tied].sum()
        assert found[f"ppv_top{k}"] == pytest.approx(hit / room, abs=1e-9)
        if early.any():
            assert found[f"sensitivity_top{k}"] == pytest.approx(hit / omega[early].sum(), abs=1e-9)
        assert (found[f"nne_top{k}"] is None) == (hit < 1e-12)


@FEW
@given(cohorts())
def test_it_is_what_the_papers_say(cohort):
    event, time, score, w = cohort
    found, absolute = judged(*cohort)
    t, p = 4.0, 1 - np.exp(-0.4 * np.exp(score))
    np.testing.assert_allclose(absolute.risk(score), p, atol=1e-15)
    omega, early = w * inverse(event, time, w, t), event & (time <= t)
    assert found["brier_t"] == pytest.approx((omega * (early - p) ** 2).sum() / w.sum(), abs=1e-12)
    assert found["o_e"] == pytest.approx(died(event, time, w, t) * w.sum() / (w * p).sum(), abs=1e-12)
    curve = []
    for u in absolute.times:
        wrong = (event & (time <= u)) - (1 - np.exp(-0.1 * u * np.exp(score)))
        curve.append((w * inverse(event, time, w, u) * wrong**2).sum())
    assert found["ibs"] == pytest.approx(np.trapezoid(curve, absolute.times) / w.sum() / t, abs=1e-12)
    right = pairs = concordant = comparable = 0.0
    for i in np.flatnonzero(event):
        for j in range(len(time)):
            order = (score[i] > score[j]) + 0.5 * (score[i] == score[j])
            if time[i] <= t <= time[j] and not early[j]:
                pairs += omega[i] * omega[j]
                right += omega[i] * omega[j] * order
            if time[i] < t and (time[i] < time[j] or (time[i] == time[j] and not event[j])):
                weight = w[i] * w[j] / uncensored_before(event, time, w, time[i]) ** 2
                comparable += weight
                concordant += weight * order
    for name, ratio in (("auc_t", (right, pairs)), ("uno_c", (concordant, comparable))):
        assert found[name] == (pytest.approx(ratio[0] / ratio[1], abs=1e-12) if ratio[1] else None), name
    known = omega > 0
    capacity(found, early[known], p[known], omega[known])
    if early[known].any() and not early[known].all():
        q, logit = omega[known], np.log(p[known] / (1 - p[known]))
        at = 1 / (1 + np.exp(-(found["calibration_intercept"] + logit)))
        assert q @ (early[known] - at) == pytest.approx(0, abs=1e-6 * q.sum())
    for x in CUTS:
        for name, acted in (("", p >= x), ("all_", p >= 0)):
            share = w[acted].sum() / w.sum()
            known = (
                not acted.any() or time[acted].max() >= t or died(event[acted], time[acted], w[acted], t) == 1
            )
            wrong = died(event[acted], time[acted], w[acted], t) if acted.any() else 0.0
            wanted = share * wrong - share * (1 - wrong) * x / (1 - x)
            value = found[f"net_benefit_{name}{x:g}"]
            assert value == (pytest.approx(wanted, abs=1e-12) if known else None)


@FEW
@given(cohorts(), st.sampled_from(metrics.names("survival", True, CUTS, True)))
def test_one_alone_is_what_it_is_among_all(cohort, name):
    found, absolute = judged(*cohort)
    event, time, score, w = cohort
    alone = metrics.evaluate(
        "survival", event.astype(int), score, w, time=time, absolute=absolute, thresholds=CUTS, only=[name]
    )
    assert alone == {name: found[name]}


def test_what_is_not_asked_for_is_not_worked_out(monkeypatch):
    rng = np.random.default_rng(0)
    event, time, score = rng.random(50) < 0.7, rng.exponential(4, 50), rng.normal(size=50)
    absolute = Absolute(np.linspace(0, 4, 9), np.log(np.linspace(1e-9, 0.4, 9))[None], np.zeros(50, np.int64))
    asked: dict[str, Any] = {"time": time, "absolute": absolute}
    one = metrics.evaluate("survival", event.astype(int), score, **asked)["brier_t"]

    def refuse(*args):
        raise AssertionError("not asked for")

    for module, name in ((smooth, "curve"), (horizon, "_integrated"), (survival, "c_index")):
        monkeypatch.setattr(module, name, refuse)
    assert metrics.evaluate("survival", event.astype(int), score, **asked, only=["brier_t"]) == {
        "brier_t": one
    }
    with pytest.raises(AssertionError):
        metrics.evaluate("survival", event.astype(int), score, **asked, only=["ibs"])
    with pytest.raises(ValueError, match="survival has no ibs; choose of c_index, cox_loss"):
        metrics.evaluate("survival", event.astype(int), score, time=time, only=["ibs"])


def test_without_censoring_these_are_the_binary_metrics():
    rng = np.random.default_rng(2)
    score = rng.normal(size=300)
    time = rng.exponential(10 / np.exp(score))
    event = np.ones(300, bool)
    found, absolute = judged(event, time, score, np.ones(300))
    binary = metrics.evaluate("binary", time <= 4, absolute.risk(score), thresholds=CUTS)
    same = {"auc_t": "auroc", "brier_t": "brier", "o_e": "o_e", "ici": "ici"}
    same |= {
        name: name for name in found if name.startswith(("net_benefit", "calibration")) or "_top" in name
    }
    assert len(same) == 4 + 2 + 9 + 4
    for name, other in same.items():
        assert found[name] == pytest.approx(binary[other], abs=1e-12), name


def test_censoring_is_undone():
    """Of the same patients, some of whom leave early, about the same is found; ignoring it would not."""
    rng = np.random.default_rng(5)
    n = 40_000
    score = rng.normal(size=n)
    time, leaves = rng.exponential(10 / np.exp(score)), rng.exponential(8, n)
    whole, absolute = judged(np.ones(n, bool), time, score, np.ones(n))
    seen, _ = judged(time <= leaves, np.minimum(time, leaves), score, np.ones(n))
    for name, value in whole.items():
        if name not in ("c_index", "cox_loss"):
            assert seen[name] == pytest.approx(value, abs=0.02), name
    naive = (time <= leaves) & (time <= 4)
    assert naive.mean() / absolute.risk(score).mean() < 0.9  # where o_e is 1
    assert whole["ici"] < 0.01 and whole["o_e"] == pytest.approx(1, abs=0.02)


def test_follow_up_that_ends_before_the_horizon_tells_nothing():
    event, time = np.array([True, False, True, False]), np.array([1.0, 2.0, 3.0, 3.5])
    found, _ = judged(event, time, np.arange(4.0), np.ones(4))
    assert {name for name, value in found.items() if value is not None} == {"c_index", "cox_loss"}
    # Who leaves at the horizon itself is known to have had no event by then.
    found, _ = judged(event, np.array([1.0, 2.0, 3.0, 4.0]), np.arange(4.0), np.ones(4))
    assert all(found[name] is not None for name in ("brier_t", "ibs", "o_e", "auc_t", "uno_c"))


def test_strata_have_baselines_of_their_own():
    absolute = Absolute(
        np.array([4.0]), np.array([[np.log(0.1)], [-np.inf], [700.0]]), np.array([0, 1, 2, 0])
    )
    np.testing.assert_allclose(
        absolute.risk(np.array([0.0, 0.0, 800.0, 1.0])), 1 - np.exp([-0.1, 0, -1e9, -0.1 * np.e])
    )
    assert absolute.of(np.array([2, 0])).stratum.tolist() == [2, 0]
    event, time = np.array([True, False, True, False]), np.array([1.0, 5.0, 3.0, 6.0])
    found = metrics.evaluate("survival", event, np.zeros(4), time=time, absolute=absolute)
    assert found["ibs"] is None and found["brier_t"] is not None  # one time is no curve


@FEW
@given(cohorts())
def test_breslow_is_a_sum_over_event_times(cohort):
    event, time, risk, w = cohort
    times, log_hazard = survival.breslow(event, time, risk, w)
    np.testing.assert_array_equal(times, np.unique(time[event]))
    steps = [w[event & (time == t)].sum() / (w * np.exp(risk))[time >= t].sum() for t in times]
    np.testing.assert_allclose(log_hazard, np.log(np.cumsum(steps)), atol=1e-12)
    shifted = survival.breslow(event, time, risk + 900, w)[1]  # exp(900) is no number
    np.testing.assert_allclose(shifted + 900, log_hazard, atol=1e-9)
