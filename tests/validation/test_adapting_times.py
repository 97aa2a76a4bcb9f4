# mypy: disable-error-code="arg-type, operator, union-attr"
"""Local adaptation of times to an event: gains at home, and what is lost elsewhere."""

from dataclasses import replace

import numpy as np
import pytest
from scipy import optimize

from fedsim import metrics
from fedsim.config.validation import TIMED_ORDER
from fedsim.validation import adapting_times, cox, protocol
from fedsim.validation.proportional import Proportional
from fedsim.validation.rows import Region
from tests.validation import made

HORIZON = 2.0


def by(rows, **wanted):
    return [row for row in rows if all(row[key] == value for key, value in wanted.items())]


def hazard(time):
    return 0.2 * time


def plan(**options):
    fixed = {"metrics": ("c_index",), "updates": TIMED_ORDER[:1], "horizon": HORIZON, "thresholds": ()}
    return made.plan(**{**fixed, **options})


def frozen(truth, **more):
    """Of a region H whose patients follow `truth`, K whose follow the frozen model, and a site that does."""
    odd = Region(made.timed("H", 1500, 50, truth=truth), made.timed("H", 300, 51, truth=truth))
    regions = [odd, Region(made.timed("K", 1500, 52), made.timed("K", 300, 53))]
    model = made.frozen(made.timed("S", 200, 54), regions)
    return replace(model, score=lambda x: x @ made.WEIGHTS, **more)


@pytest.mark.long
def test_a_factor_of_its_own_helps_at_home_and_is_forgetting_elsewhere():
    model = frozen(lambda x: 1.2 + x @ made.WEIGHTS)
    found = adapting_times.adaptations(model, plan(), Proportional(hazard))
    assert {row["metric"] for row in found} == {"brier_t", "c_index"}
    for update in ("baseline", "slope", "full"):
        home, away = made.at_home_and_away(found, update, "brier_t")
        assert home["low"] > 0.01 and away["high"] < -0.01 and away["n"] == 500, update
        assert home["low"] < home["gain"] < home["high"]
    (rank,) = by(found, region="H", update="baseline", judged_at="H", metric="c_index")
    assert rank["gain"] == pytest.approx(0, abs=1e-12)
    (right,) = by(found, region="K", update="baseline", judged_at="others", metric="brier_t")
    assert abs(right["gain"]) < 0.01 < 0.03 < by(found, judged_at="H", metric="brier_t")[0]["frozen"]
    (kept,) = by(found, region="K", update="baseline", judged_at="K", metric="brier_t")
    rows = model.regions[1].test
    absolute = metrics.Absolute(
        np.array([HORIZON]), np.log([[hazard(HORIZON)]]), np.zeros(rows.y.size, np.int64)
    )
    told = metrics.evaluate("survival", rows.y, rows.lp, time=rows.time, absolute=absolute)
    assert kept["frozen"] == pytest.approx(told["brier_t"])


def test_factor_slope_and_coefficients_are_those_of_the_regions_patients():
    """What is fitted looks at follow-up up to the horizon: hazards that double after it change nothing."""
    x = made.rows("T", 50, 28).x
    lp = x @ made.WEIGHTS
    effects = np.array([0.2, 0.4, 1.2])
    for update, truth, near in (
        ("baseline", lambda x: 0.7 + x @ made.WEIGHTS, 0.7 + lp),
        ("slope", lambda x: 0.3 + 0.5 * (x @ made.WEIGHTS), 0.3 + 0.5 * lp),
        ("full", lambda x: x @ effects, x @ effects),
    ):
        model = frozen(truth)
        rows = made.timed("H", 6000, 55, truth=truth)
        now = adapting_times.adapt(model, Proportional(hazard), update, rows, HORIZON, 0.0)
        assert np.abs(now(x) - near).max() < 0.3, update
        late = replace(rows, time=np.where(rows.time > HORIZON, HORIZON + 1, rows.time), y=rows.y.copy())
        late.y[late.time > HORIZON] = 1.0
        np.testing.assert_allclose(
            adapting_times.adapt(model, Proportional(hazard), update, late, HORIZON, 0.0)(x),
            now(x),
            atol=1e-9,
        )


@pytest.mark.parametrize("ridge", [0.0, 3.0, 40.0])
def test_the_penalised_fit_is_that_of_a_general_optimiser(ridge):
    rows = made.timed("H", 150, 56, truth=lambda x: x @ made.WEIGHTS[::-1])

    def cost(b):
        eta = rows.lp + rows.x @ b
        at_risk = rows.time[:, None] >= rows.time  # [who, at whose time]
        terms = eta - np.log(at_risk.T @ np.exp(eta))
        return -terms[rows.y > 0].sum() + 0.5 * ridge * b @ b

    found = cox.fit(rows.x, rows.y, rows.time, rows.lp, ridge)
    wanted = optimize.minimize(cost, np.zeros(3), method="BFGS", options={"gtol": 1e-6}).x
    np.testing.assert_allclose(found.coefficients, wanted, atol=1e-4)
    assert found.log_likelihood == pytest.approx(
        -cost(found.coefficients) + 0.5 * ridge * np.sum(wanted**2), abs=1e-3
    )


def test_the_penalty_holds_the_model_leaves_the_factor_free_and_repairs_separation():
    model = frozen(lambda x: 0.8 + x @ made.WEIGHTS[::-1])
    train = model.regions[0].train
    x = made.rows("T", 50, 28).x
    moved = (
        adapting_times.adapt(model, Proportional(hazard), "full", train, HORIZON, 1e9)(x) - x @ made.WEIGHTS
    )
    assert np.ptp(moved) < 1e-4 and moved.mean() > 0.4
    parted = replace(train, x=train.x.copy())
    parted.x[:, 0] = train.y * (train.time <= HORIZON)
    assert "no maximum" in adapting_times.adapt(model, Proportional(hazard), "full", parted, HORIZON, 0.0)
    assert callable(adapting_times.adapt(model, Proportional(hazard), "full", parted, HORIZON, 1.0))


def test_few_events_and_a_networks_head_are_refused_by_name():
    model = frozen(lambda x: x @ made.WEIGHTS, coefficients=None)
    few = replace(model.regions[0].train, y=np.r_[np.ones(9), np.zeros(1491)])
    model = replace(model, regions=(Region(few, None), Region(model.regions[1].train, None)))
    found = adapting_times.adaptations(model, plan(), Proportional(hazard))
    reasons = {(row["region"], row["update"]): row["reason"] for row in found}
    early = int((few.y * (few.time <= HORIZON)).sum())
    assert reasons["H", "slope"] == f"{early} events by 2 among its training rows, and 10 are needed"
    for update in ("head", "full"):
        assert reasons["K", update].startswith(f"no {update} of a network of times to an event")
    assert reasons["K", "baseline"] is None and reasons["K", "slope"] is None


def test_a_plan_that_adapts_tells_what_is_forgotten_at_the_site():
    """The regions held no rows back, so that nothing is judged at home."""
    model = frozen(lambda x: 2.0 + x @ made.WEIGHTS)
    model = replace(model, regions=tuple(replace(region, test=None) for region in model.regions))
    found = protocol.evaluate(model, plan(adapt=True))
    assert {(r["region"], r["update"]) for r in found.adaptation} == {
        (region, update) for region in "HK" for update in ("baseline", "slope", "full")
    }
    assert {r["judged_at"] for r in found.adaptation} == {"S", "others"}
    (away,) = by(found.adaptation, region="H", update="baseline", judged_at="S", metric="brier_t")
    (less,) = by(found.adaptation, region="K", update="baseline", judged_at="S", metric="brier_t")
    # The frozen baseline is between both regions' own, and the site's is K's.
    assert away["high"] < 0 < less["low"]
    assert less["gain"] == pytest.approx(less["frozen"] - less["value"])
    assert any("adaptations are not judged at home" in warning for warning in found.warnings)
