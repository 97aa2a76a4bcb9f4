"""Local adaptation: what is gained at home is measured, and what is lost elsewhere."""

from dataclasses import replace

import numpy as np
import pytest

from fedsim.validation import adapting
from fedsim.validation.rows import Region
from tests.validation import made


def by(rows, **wanted):
    return [row for row in rows if all(row[key] == value for key, value in wanted.items())]


def own(truth):
    """A region whose patients follow `truth`, and one whose follow the frozen model."""
    odd = Region(made.rows("H", 1500, 20, truth=truth), made.rows("H", 1500, 21, truth=truth))
    return [odd, Region(made.rows("K", 1500, 22), made.rows("K", 1500, 23))]


def test_an_intercept_of_its_own_helps_at_home_and_is_forgetting_elsewhere():
    regions = own(lambda x: made.score(x) + 1.2)
    found = adapting.adaptations(made.frozen(made.rows("S", 1000, 24), regions), made.plan())
    for update in ("intercept", "slope", "full"):
        home, away = made.at_home_and_away(found, update, "log_loss")
        assert home["low"] > 0.05 and away["high"] < -0.05 and away["n"] == 2500, update
    (rank,) = by(found, region="H", update="intercept", judged_at="H", metric="auroc")
    assert rank["gain"] == pytest.approx(0, abs=1e-12)
    (right,) = by(found, region="K", update="intercept", judged_at="others", metric="log_loss")
    assert abs(right["gain"]) < 0.01


def test_other_effects_need_the_full_update():
    regions = own(lambda x: -0.3 + x @ np.array([0.0, -0.8, 1.5]))
    found = adapting.adaptations(made.frozen(made.rows("S", 1000, 25), regions), made.plan())
    gains = {
        update: by(found, region="H", update=update, judged_at="H", metric="auroc")[0]
        for update in ("slope", "full")
    }
    assert gains["full"]["low"] > 0.05 and abs(gains["slope"]["gain"]) < 1e-12


def test_the_penalty_holds_the_model_and_leaves_the_intercept_free():
    train = made.rows("H", 800, 26, truth=lambda x: 1.0 + x @ made.WEIGHTS[::-1])
    model = made.frozen(made.rows("S", 100, 27))
    held = adapting.adapt(model, "full", train, 1e9)
    assert not isinstance(held, str)
    x = made.rows("T", 50, 28).x
    moved = held(x) - made.score(x)
    assert np.ptp(moved) < 1e-4 and moved.mean() > 0.5


def test_a_region_with_few_events_has_no_update_and_says_why():
    train = made.rows("H", 200, 29)
    train = replace(train, y=np.r_[np.ones(7), np.zeros(193)])
    model = made.frozen(made.rows("S", 200, 30), [Region(train, None), Region(made.rows("K", 200, 31), None)])
    found = adapting.adaptations(model, made.plan())
    rows = by(found, region="H")
    assert {row["update"] for row in rows} == {"intercept", "slope", "full"}
    for row in rows:
        assert row["gain"] is None and "7 events or non-events among its training rows" in row["reason"]
    assert {row["judged_at"] for row in by(found, region="K")} == {"S", "others"}


def test_separated_rows_of_training_need_the_penalty():
    train = made.rows("H", 200, 32)
    train = replace(train, y=(train.x[:, 0] > 0).astype(np.float64))
    model = made.frozen(made.rows("S", 100, 33))
    assert "no maximum" in str(adapting.adapt(model, "full", train, 0.0))
    assert not isinstance(adapting.adapt(model, "full", train, 1.0), str)


def test_a_network_has_a_head():
    model = replace(made.frozen(made.rows("S", 100, 34)), represent=lambda x: x[:, :1], coefficients=None)
    assert adapting.menu(model) == ("intercept", "slope", "head", "full")

    def truth(x):
        return made.score(x) + 0.9 * x[:, 0]

    head = adapting.adapt(model, "head", made.rows("H", 4000, 35, truth=truth), 0.0)
    assert not isinstance(head, str)
    x = made.rows("T", 50, 36).x
    change = np.polyfit(x[:, 0], head(x) - made.score(x), 1)
    assert change[0] == pytest.approx(0.9, abs=0.2)
