# mypy: disable-error-code="arg-type, operator, union-attr"
"""The protocol for hazards in intervals, on patients whose truth is known."""

from dataclasses import replace

import numpy as np
import pytest
from scipy import special

from fedsim import metrics
from fedsim.base import RequestError
from fedsim.config.validation import ORDER, TIMED_MEASURES, TIMED_ORDER
from fedsim.validation import adapting_times, protocol
from fedsim.validation.discrete import discrete
from fedsim.validation.rows import Region
from tests.validation import made

QUICK = {"metrics": ("c_index", "brier_t", "observed_expected"), "thresholds": ()}


def plan(**options):
    fixed = {"metrics": TIMED_MEASURES, "updates": ORDER, "horizon": 4.0, "thresholds": (0.3,)}
    return made.plan(**{**fixed, **options})


def frozen(site, home=made.hazards, n=400, **more):
    regions = [
        Region(made.in_intervals(name, n, i, truth=truth), made.in_intervals(name, 300, 10 + i, truth=truth))
        for i, (name, truth) in enumerate((("H", home), ("K", made.hazards)))
    ]
    model = made.frozen(site, regions)
    return replace(model, score=made.hazards, ends=made.CUTS, **more)


def by(rows, **wanted):
    return [row for row in rows if all(row[key] == value for key, value in wanted.items())]


def test_higher_hazards_are_an_intercept_and_repair_calibration():
    site = made.in_intervals("S", 500, 1, truth=lambda x: 0.7 + made.hazards(x))
    found = protocol.evaluate(frozen(site), plan(**QUICK))
    assert found.choice.update == "intercept" and found.warnings == [] and found.adaptation == []
    assert (found.n, found.events) == (500, int(site.y.sum()))
    (a,) = by(found.updates, update="intercept")
    assert made.near(a, 0.7)
    (before,) = by(found.metrics, update="keep", metric="observed_expected")
    (after,) = by(found.metrics, update="intercept", metric="observed_expected")
    assert before["low"] > 1.1 and made.near(after, 1.0) and after["fitted"] == "crossed"
    assert len(found.metrics) == 4 * 3
    told = {row["quantity"]: row for row in found.case_mix}
    assert told["linear predictor, mean"]["outside"] == pytest.approx(site.lp.mean())
    assert {"membership (auroc)", "c statistic"} < set(told)


def test_probabilities_are_the_models_own_and_step_at_the_ends_of_intervals():
    """Of everybody's state at every time: nobody leaves before the end."""
    site = made.in_intervals("S", 400, 2)
    full = replace(site, time=np.where(site.y > 0, site.time, 9.0))
    told = protocol.evaluate(frozen(full), plan(updates=("keep",))).metrics
    found = {r["metric"]: r["value"] for r in by(told, update="keep")}
    event = full.time < 4
    died = 1 - np.cumprod(1 - special.expit(made.hazards(full.x)), axis=1)
    assert found["brier_t"] == pytest.approx(np.mean((event - died[:, -1]) ** 2))
    assert found["observed_expected"] == pytest.approx(event.mean() / died[:, -1].mean())
    scores = []
    for t in np.linspace(0, 4, 51):
        whole = int(np.floor(t + 1e-9))
        by_then = died[:, whole - 1] if whole else np.zeros(400)
        scores.append(np.mean(((full.time <= t) - by_then) ** 2))
    assert found["ibs"] == pytest.approx(np.trapezoid(scores, np.linspace(0, 4, 51)) / 4)
    benefit = metrics.evaluate("binary", event * 1, died[:, -1], thresholds=(0.3,))["net_benefit_0.3"]
    assert found["net_benefit@0.3"] == pytest.approx(benefit)


def test_effects_at_other_times_are_a_refit_that_repairs_what_is_between():
    truth = made.BASELINE[::-1]
    site = made.in_intervals("S", 600, 3, truth=lambda x: truth + (x @ made.WEIGHTS)[:, None])
    asked = plan(metrics=("ibs",), thresholds=(), updates=("keep", "refit"))
    found = protocol.evaluate(frozen(site), asked)
    assert found.choice.update == "refit"
    terms = {row["term"]: row for row in by(found.updates, update="refit")}
    for k, value in enumerate(truth):
        assert made.near(terms[f"hazard, {k} to {k + 1}"], value)
    ibs = {row["update"]: row for row in found.metrics}
    assert ibs["refit"]["high"] < ibs["keep"]["value"]


def test_subgroups_few_events_and_other_updates():
    site = made.in_intervals("S", 150, 4)
    sex = (("sex = f", "sex = m", "sex missing"), np.arange(150) % 2)
    found = protocol.evaluate(frozen(site, groups={"sex": sex}), plan(**QUICK, updates=ORDER[:2]))
    told = {r["name"]: r for r in by(found.subgroups, metric="brier_t", update="keep")}
    mine = site.of(np.flatnonzero(sex[1] == 0))
    assert told["sex = f"]["n"] == 75 and told["sex = f"]["events"] == int(mine.y.sum())
    alone = protocol.evaluate(frozen(mine), plan(**QUICK, updates=("keep",))).metrics
    assert told["sex = f"]["value"] == pytest.approx(by(alone, metric="brier_t")[0]["value"])
    few = site.of(np.arange(15))
    events = int(few.periods.failed.sum())
    with pytest.raises(RequestError, match=f"S has {events} events by 4 in 15 rows, and at least 10"):
        protocol.evaluate(frozen(few), plan())
    with pytest.raises(RequestError, match=r"intercept for its smallest update, and not baseline"):
        protocol.evaluate(frozen(site), plan(updates=TIMED_ORDER))
    with pytest.raises(
        RequestError, match=r"or effects of each interval, whose .*; plan updates=\[keep,intercept"
    ):
        protocol.evaluate(frozen(site, coefficients=None), plan())


def test_an_event_at_the_horizon_is_in_no_interval():
    site = made.in_intervals("S", 60, 5)
    late = made.of_intervals("S", site.x, np.ones(60, bool), np.full(60, 4.0), made.hazards(site.x))
    assert late.until(4.0).y.sum() == 0 and late.periods.survived.all()


@pytest.fixture(scope="module")
def adapted():
    """Region H's patients have higher hazards than the frozen model's."""
    model = frozen(made.in_intervals("S", 200, 6), home=lambda x: 1.2 + made.hazards(x), n=800)
    return adapting_times.adaptations(model, plan(**QUICK, ridge=0.5), discrete(model))


@pytest.mark.long
@pytest.mark.parametrize("update", ["intercept", "slope", "full"])
def test_adapting_helps_at_home_and_is_forgetting_elsewhere(adapted, update):
    assert {row["update"] for row in adapted} == {"intercept", "slope", "full"}
    home, away = made.at_home_and_away(adapted, update, "brier_t")
    assert home["low"] > 0.01 and away["high"] < -0.01 and away["n"] == 500
    (right,) = by(adapted, region="K", update=update, judged_at="others", metric="brier_t")
    assert abs(right["gain"]) < 0.01


def test_a_penalty_holds_the_model_and_leaves_the_intercept_free():
    model = frozen(made.in_intervals("S", 50, 7), home=lambda x: 1.2 + made.hazards(x[:, ::-1]))
    rows, kind = model.regions[0].train, discrete(model)
    x = model.site.x
    held = adapting_times.adapt(model, kind, "full", rows, 4.0, 1e9)(x) - made.hazards(x)
    assert np.ptp(held) < 1e-5 and held.mean() > 0.5
    free = adapting_times.adapt(model, kind, "full", rows, 4.0, 0.0)(x) - made.hazards(x)
    assert np.ptp(free) > 1


def test_what_a_network_fits_is_up_to_the_horizon():
    """The model's own fits are asked with follow-up that ends there; few events are said."""
    asked = []

    def refine(rows, ridge):
        asked.append((rows.time.max(), rows.y.sum(), ridge))
        return made.hazards

    model = frozen(made.in_intervals("S", 50, 8), coefficients=None, refine=refine, refine_head=refine)
    kind = discrete(model)
    assert adapting_times.menu(model, kind) == ("intercept", "slope", "head", "full")
    assert adapting_times.menu(replace(model, refine_head=None), kind) == ("intercept", "slope", "full")
    rows = model.regions[0].train
    for update in ("head", "full"):
        adapting_times.adapt(model, kind, update, rows, 4.0, 2.0)
    assert asked == [(4.0, rows.periods.failed.sum(), 2.0)] * 2
    few = rows.of(np.flatnonzero(rows.y == 0))
    assert adapting_times.adapt(model, kind, "head", few, 4.0, 2.0).startswith("0 events by 4 among its")
