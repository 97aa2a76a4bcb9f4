"""From a better model to bed days and money: by hand, where the answer turns, and draws of all numbers."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedsim.report.decision import model
from fedsim.report.decision.model import Fixed
from fedsim.report.decision.spec import BOUNDS, Range

FIXED = Fixed(regions=("A", "B"), capacity=0.1, years=3, seconds=3600.0, gigabytes=0.5)
VALUES = {
    "reach": 0.5,
    "effect": 0.2,
    "bed_days": 4.0,
    "bed_day_cost": 10_000.0,
    "setup_hours": 300.0,
    "running_hours": 50.0,
    "hour_cost": 600.0,
    "retrainings": 2.0,
    "compute_cost": 100.0,
    "traffic_cost": 10.0,
    "patients/A": 1000.0,
    "patients/B": 1000.0,
    "difference/A": 0.5,
    "difference/B": 0.0,
}


def net(**changes: float) -> float:
    return float(model.together(model.worth(VALUES | changes, FIXED)).net)


def test_worth_by_hand():
    a, b = model.worth(VALUES, FIXED).values()
    # 1,000 patients, 100 flagged, 50 more of them rightly; half reached, a fifth of four days avoided each.
    assert (a.found, a.avoided, a.value) == pytest.approx((50, 20, 200_000))
    # A third of 300 hours and 50 more at 600 SEK; two trainings of an hour at 100 SEK, shared by two; 1 GB.
    assert (a.staff, a.compute, a.traffic) == pytest.approx((90_000, 100, 10))
    assert (a.net, b.net) == pytest.approx((109_890, -90_110))
    assert model.together({"A": a, "B": b}).net == pytest.approx(19_780)


def test_every_number_moves_the_net_as_it_should():
    up = {"reach", "effect", "bed_days", "bed_day_cost", "patients/A", "difference/A", "difference/B"}
    for name, value in VALUES.items():
        moved = net(**{name: value + 0.1}) - net()
        assert (moved > 0) == (name in up) and (moved == 0) == (name == "patients/B"), name


def test_bars_of_the_tornado_and_where_the_net_is_zero():
    ranges = {name: (0.5 * v, v, 2 * v) for name, v in VALUES.items()}
    bars = {bar.name: bar for bar in model.tornado(ranges, BOUNDS, FIXED)}
    wide = [abs(bar.at_high - bar.at_low) for bar in bars.values()]
    assert set(bars) == set(VALUES) and wide == sorted(wide, reverse=True)
    # 200,000 SEK of value against 180,220 of cost: the net is zero at 0.9011 of each factor of the value.
    for name in ("reach", "effect", "bed_days", "bed_day_cost"):
        assert bars[name].turns == pytest.approx(0.9011 * VALUES[name])
        assert bars[name].at_low == pytest.approx(100_000 - 180_220)
        assert bars[name].decides
    assert bars["patients/B"].turns is None and not bars["patients/B"].decides  # does not matter
    # No price of traffic is low enough to matter, and none within bounds is high enough at 1 GB.
    assert not bars["traffic_cost"].decides and bars["traffic_cost"].turns == pytest.approx(10 + 19_780 / 2)


def test_a_value_that_cannot_be_is_none():
    poor = {name: (v, v, v) for name, v in {**VALUES, "difference/A": 0.01}.items()}
    bars = {bar.name: bar for bar in model.tornado(poor, BOUNDS, FIXED)}
    assert bars["reach"].turns is None  # it would have to be above 1
    assert bars["hour_cost"].turns is not None


@given(st.sampled_from(sorted(VALUES)), st.floats(0.01, 5.0))
def test_the_net_is_zero_where_it_turns(name: str, factor: float):
    values = {k: v * (factor if k == "bed_day_cost" else 1.0) for k, v in VALUES.items()}
    bar = next(
        b for b in model.tornado({k: (v, v, v) for k, v in values.items()}, {}, FIXED) if b.name == name
    )
    if bar.turns is not None:
        there = model.together(model.worth({**values, name: bar.turns}, FIXED))
        assert abs(there.net) <= 1e-9 * (abs(there.value) + there.cost)


def test_draws_follow_their_distributions():
    told = Range(low=0.0, base=1.0, high=5.0, unit="share", source="")
    ranges = {"a": told, "b": replace(told, shape="uniform"), "c": replace(told, low=1.0, high=1.0)}
    got = model.drawn(ranges, {"X": np.arange(10.0), "Y": -np.arange(10.0)}, 200_000)
    # A triangle's mean is that of its corners; its median by the inverse of its distribution function.
    assert got["a"].mean() == pytest.approx(2.0, abs=0.01)
    assert np.median(got["a"]) == pytest.approx(5 - np.sqrt(0.5 * 5 * 4), abs=0.02)
    assert got["b"].mean() == pytest.approx(2.5, abs=0.02) and got["b"].max() < 5
    assert (got["c"] == 1.0).all()
    assert np.corrcoef(got["a"], got["b"])[0, 1] == pytest.approx(0.0, abs=0.01)
    # The same resample in all regions.
    assert (got["difference/X"] == -got["difference/Y"]).all() and len(np.unique(got["difference/X"])) == 10
    again = model.drawn(ranges, {"X": np.arange(10.0)}, 200_000)
    assert (again["a"] == got["a"]).all()


@pytest.mark.parametrize(
    ("low", "high", "worthwhile", "said"),
    [
        (0.1, 2.0, 0.0, "gain"),
        (0.0, 2.0, 0.0, "cannot_tell"),
        (-1.0, 2.0, 0.0, "cannot_tell"),
        (-1.0, 0.0, 0.0, "no_gain"),
        (0.1, 2.0, 1.0, "cannot_tell"),
        (0.1, 1.0, 1.0, "no_gain"),
    ],
)
def test_verdicts(low: float, high: float, worthwhile: float, said: str):
    assert model.verdict(low, high, worthwhile) == said
