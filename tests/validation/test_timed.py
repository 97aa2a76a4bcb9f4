"""The protocol for times to an event, on patients whose truth is known."""

from dataclasses import replace

import numpy as np
import pytest

from fedsim import metrics
from fedsim.base import RequestError
from fedsim.config.validation import TIMED_MEASURES, TIMED_ORDER
from fedsim.validation import protocol
from fedsim.validation.rows import Region
from tests.validation import made

HORIZON = 2.0


def plan(**options):
    fixed = {"metrics": TIMED_MEASURES, "updates": TIMED_ORDER, "horizon": HORIZON, "thresholds": (0.3,)}
    return made.plan(**{**fixed, **options})


def frozen(site, **more):
    regions = [
        Region(made.timed(name, 1500, i), made.timed(name, 200, 10 + i)) for i, name in enumerate(("H", "K"))
    ]
    return replace(made.frozen(site, regions), score=lambda x: x @ made.WEIGHTS, **more)


def by(rows, **wanted):
    return [row for row in rows if all(row[key] == value for key, value in wanted.items())]


def test_more_events_than_expected_are_a_baseline_and_repair_calibration():
    site = made.timed("S", 600, 1, truth=lambda x: 0.6 + x @ made.WEIGHTS)
    found = protocol.evaluate(frozen(site), plan())
    assert found.choice.update == "baseline" and found.warnings == [] and found.adaptation == []
    assert (found.n, found.events) == (600, int((site.y * (site.time <= HORIZON)).sum()))
    (factor,) = by(found.updates, update="baseline")
    assert made.near(factor, 0.6)
    (before,) = by(found.metrics, update="keep", metric="observed_expected")
    (after,) = by(found.metrics, update="baseline", metric="observed_expected")
    assert before["low"] > 1.1 and made.near(after, 1.0) and after["fitted"] == "crossed"
    rank = {row["value"] for row in by(found.metrics, metric="c_index") if row["update"] == "keep"}
    assert len(rank) == 1
    assert len({(r["update"], r["metric"]) for r in found.metrics}) == len(found.metrics) == 4 * 8 + 1


def test_what_is_told_of_the_frozen_model_is_of_breslows_baseline_of_the_regions():
    """By the true hazard instead of the estimated one, nothing is far; and the interval holds the value."""
    site = made.timed("S", 1500, 2)
    told = protocol.evaluate(frozen(site), plan(updates=("keep",))).metrics
    found = {r["metric"]: r for r in by(told, update="keep")}
    times = np.linspace(0, HORIZON, 51)
    with np.errstate(divide="ignore"):
        truth = metrics.Absolute(times, np.log(0.2 * times)[None], np.zeros(1500, np.int64))
    wanted = metrics.evaluate("survival", site.y, site.lp, time=site.time, thresholds=(0.3,), absolute=truth)
    names = {"observed_expected": "o_e", "net_benefit@0.3": "net_benefit_0.3"}
    for name, row in found.items():
        assert row["low"] <= row["value"] <= row["high"], name
        assert row["value"] == pytest.approx(wanted[names.get(name, name)], rel=0.15, abs=0.01), name
    without = plan(updates=("keep",), metrics=tuple(n for n in TIMED_MEASURES if n != "ibs"))
    again = by(protocol.evaluate(frozen(site), without).metrics, update="keep")
    assert again == [row for row in by(told, update="keep") if row["metric"] != "ibs"]
    (everybody,) = by(told, update="treat all")
    assert everybody["value"] == pytest.approx(wanted["net_benefit_all_0.3"])


def test_other_patients_differ_and_other_effects_lose_rank():
    site = made.timed("S", 1200, 3, shift=0.5, truth=lambda x: x @ np.roll(made.WEIGHTS, 1))
    found = protocol.evaluate(frozen(site), plan(metrics=("c_index",), thresholds=()))
    assert found.choice.update == "refit"
    for row in by(found.updates, update="refit")[1:]:
        wanted = dict(zip(made.NAMES, np.roll(made.WEIGHTS, 1), strict=True))[row["term"]]
        assert made.near(row, wanted)
    told = {row["quantity"]: row for row in found.case_mix}
    assert told["c statistic"]["high"] < -0.05
    assert told["c statistic"]["value"] == pytest.approx(
        told["c statistic"]["outside"] - told["c statistic"]["development"]
    )
    assert told["membership (auroc)"]["low"] > 0.6
    assert made.near(told["linear predictor, mean"], 0.5 * made.WEIGHTS.sum())


def test_few_are_warned_of_and_too_few_refused():
    site = made.timed("S", 100, 4)
    assert "events by 2; below 100" in protocol.evaluate(frozen(site), plan()).warnings[0]
    events = int((site.y * (site.time <= 0.1)).sum())
    assert events < 10
    with pytest.raises(RequestError, match=f"S has {events} events by 0.1 in 100 rows, and at least 10"):
        protocol.evaluate(frozen(site), plan(horizon=0.1))
    short = replace(site, time=site.time / 100)
    with pytest.raises(RequestError, match="no training row has an event by the last time"):
        late = [replace(r.train, time=r.train.time + 1) for r in frozen(site).regions]
        protocol.evaluate(replace(frozen(short), regions=tuple(Region(r, None) for r in late)), plan())
    early = replace(site, time=np.minimum(site.time, 1.5), y=site.y * (site.time <= 1.5))
    found = protocol.evaluate(frozen(early), plan(updates=("keep",)))
    assert any("follows nobody up to 2 (the last time is 1.5)" in warning for warning in found.warnings)
    (o_e,) = by(found.metrics, update="keep", metric="observed_expected")
    assert o_e["value"] is None and o_e["low"] is None


def test_a_network_is_not_refitted_and_separation_makes_no_choice():
    site = made.timed("S", 300, 5)
    with pytest.raises(RequestError, match="stores a network"):
        protocol.evaluate(frozen(site, coefficients=None), plan())
    with pytest.raises(RequestError, match="has baseline for its smallest update, and not intercept"):
        protocol.evaluate(frozen(site), plan(updates=("keep", "intercept")))
    ranks = {"metrics": ("c_index",), "thresholds": ()}
    found = protocol.evaluate(frozen(site, coefficients=None), plan(updates=TIMED_ORDER[:3], **ranks))
    assert found.choice.update in TIMED_ORDER[:3]
    x = site.x.copy()
    x[:, 0] = site.y * (site.time <= HORIZON)
    parted = protocol.evaluate(frozen(replace(site, x=x)), plan(**ranks))
    assert parted.choice.update is None and "S: refit has no maximum" in parted.choice.reason
    assert by(parted.metrics, update="refit", metric="c_index")[0]["value"] is None
    # One patient keeps the maximum finite, and the fold that holds it cannot do without.
    first = np.flatnonzero(x[:, 0])[np.argmin(site.time[x[:, 0] > 0])]
    x[first, 0] = 0.0
    found = protocol.evaluate(frozen(replace(site, x=x)), plan(**ranks))
    assert found.choice.update is not None and by(found.updates, update="refit")
    assert by(found.metrics, update="refit", metric="c_index")[0]["value"] is None
    assert any("refit has no maximum of the likelihood without one fold" in said for said in found.warnings)
