# mypy: disable-error-code="arg-type, operator"
"""Groups of a site's patients, judged apart by the same draws, and the gap between them."""

from dataclasses import replace

import numpy as np
import pytest
from scipy import special

from fedsim import metrics
from fedsim.run.subgroups import Groups
from fedsim.validation import protocol
from fedsim.validation.measures import Bootstrap
from fedsim.validation.rows import Region
from tests.validation import made

SEX = ("sex = 0", "sex = 1", "sex missing")


def by(rows, **wanted):
    return [row for row in rows if all(row[key] == value for key, value in wanted.items())]


def apart(site, of_row, names=SEX, **more):
    return replace(made.frozen(site, **more), groups={"sex": Groups(names, np.asarray(of_row, np.int64))})


def halves(n=1200, seed=40, truth=1.0):
    """Patients of whom every other one has `truth` added to the logit, and a third of whom come twice."""
    of_row = np.arange(n) % 2
    whose = np.arange(n) % (3 * n // 4)
    site = made.rows("S", n, seed, truth=lambda x: made.score(x) + truth * of_row, patient=whose)
    return site, of_row


def test_a_group_is_judged_as_its_rows_alone_by_the_draws_of_all():
    site, of_row = halves()
    plan = made.plan(metrics=("auroc", "calibration_slope", "observed_expected"), thresholds=())
    found = protocol.evaluate(apart(site, of_row), replace(plan, updates=("keep",)))
    draws = list(Bootstrap(site.y.size, site.patient, plan.bootstrap, plan.seed, "S"))
    told = {}
    for k in (0, 1):
        mine = of_row == k
        y, risk = site.y[mine], special.expit(site.lp[mine])
        again = [metrics.evaluate("binary", y, risk, w[mine]) for w in draws]
        whole = metrics.evaluate("binary", y, risk)
        for name, called in (("auroc",) * 2, ("calibration_slope",) * 2, ("observed_expected", "o_e")):
            (row,) = by(found.subgroups, name=SEX[k], metric=name)
            assert (row["group"], row["n"], row["events"]) == ("subgroup", 600, y.sum())
            values = [one[called] for one in again]
            assert row["value"] == pytest.approx(whole[called])
            assert (row["low"], row["high"]) == pytest.approx(tuple(np.quantile(values, [0.025, 0.975])))
            told[name, k] = whole[called], np.array(values)
    for name in ("auroc", "calibration_slope", "observed_expected"):
        (row,) = by(found.subgroups, name="sex", metric=name)
        (a, first), (b, second) = told[name, 0], told[name, 1]
        assert (row["group"], row["n"], row["events"]) == ("gap", 1200, site.y.sum())
        assert row["value"] == pytest.approx(abs(a - b))
        ends = np.quantile(np.abs(first - second), [0.025, 0.975])
        assert (row["low"], row["high"]) == pytest.approx(tuple(ends))
    assert len(found.warnings) == 1 and "patients have several rows" in found.warnings[0]
    assert len(found.subgroups) == 3 * 3


def test_an_intercept_for_all_leaves_a_group_that_is_treated_as_another():
    """Half of the patients have more events: the chosen update is right on average and wrong for both."""
    site, of_row = halves(truth=1.2)
    plan = made.plan(updates=("keep", "intercept"), thresholds=(0.3,))
    found = protocol.evaluate(apart(replace(site, patient=None), of_row), plan)
    assert found.choice.update == "intercept"
    assert {row["update"] for row in found.subgroups} == {"keep", "intercept", "treat all"}
    (whole,) = by(found.metrics, update="intercept", metric="calibration_intercept")
    assert made.near(whole, 0.0)
    low, high = (
        by(found.subgroups, update="intercept", name=name, metric="calibration_intercept")[0]
        for name in SEX[:2]
    )
    assert low["high"] < 0 < high["low"] and low["fitted"] == "crossed"
    (gap,) = by(found.subgroups, update="intercept", name="sex", metric="calibration_intercept")
    assert gap["value"] == pytest.approx(high["value"] - low["value"]) and made.near(gap, 1.2)
    assert not by(found.subgroups, update="treat all", group="gap")
    (everybody,) = by(found.subgroups, update="treat all", name=SEX[1])
    share = site.y[of_row == 1].mean()
    assert everybody["value"] == pytest.approx(share - (1 - share) * 3 / 7)


def test_few_are_warned_of_fewer_are_counted_and_missing_values_are_in_no_gap():
    site = made.rows("S", 1000, 41)
    of_row = np.repeat([0, 1, 2, 3, 4], [15, 120, 400, 435, 30])
    names = ("age < 50", "age 50 to 60", "age 60 to 70", "age >= 70", "age missing")
    plan = made.plan(updates=("keep",), metrics=("auroc",), thresholds=())
    found = protocol.evaluate(apart(site, of_row, names), plan)
    told = {row["name"]: row for row in found.subgroups}
    assert list(told) == [*names, "sex"]
    counts = {name: int(site.y[of_row == k].sum()) for k, name in enumerate(names)}
    assert counts == {name: told[name]["events"] for name in names}
    first = told["age < 50"]
    assert min(counts["age < 50"], 15 - counts["age < 50"]) < 10
    assert (first["n"], first["value"], first["low"]) == (15, None, None)
    assert told["age missing"]["value"] is not None
    judged = [told[name]["value"] for name in names[1:4]]
    assert told["sex"]["value"] == pytest.approx(max(judged) - min(judged)) and told["sex"]["n"] == 970
    assert told["sex"]["low"] <= told["sex"]["value"] <= told["sex"]["high"]
    wide, few = found.warnings[-2:]
    assert wide == (
        "subgroups with fewer than 100 events, or without, whose intervals are wide: "
        f"age 50 to 60 ({counts[names[1]]} of 120), age missing ({counts[names[4]]} of 30)"
    )
    assert few.endswith(f"or without, which are not judged: age < 50 ({counts[names[0]]} of 15)")


def test_a_column_that_the_site_lacks_has_no_subgroups():
    site = made.rows("S", 400, 42)
    found = protocol.evaluate(apart(site, np.full(400, 2)), made.plan(updates=("keep",)))
    assert found.subgroups == [] and "S has no value of sex, and so no subgroups by it" in found.warnings
    one = protocol.evaluate(apart(site, np.zeros(400)), made.plan(updates=("keep",)))
    assert {row["value"] for row in by(one.subgroups, group="gap")} == {None}


def test_groups_of_times_are_judged_by_their_own_follow_up():
    site = made.timed("S", 500, 43)
    of_row = (site.x[:, 0] > 0.4).astype(np.int64)
    horizon = 2.0
    regions = [Region(made.timed(name, 400, i), None) for i, name in enumerate(("H", "K"))]
    frozen = replace(apart(site, of_row, regions=regions), score=lambda x: x @ made.WEIGHTS)
    wanted = ("auc_t", "observed_expected", "net_benefit")
    plan = made.plan(metrics=wanted, updates=("keep",), horizon=horizon, thresholds=(0.3,))
    found = protocol.evaluate(frozen, plan)
    for k in (0, 1):
        mine = of_row == k
        events = int((site.y * (site.time <= horizon))[mine].sum())
        alone = protocol.evaluate(replace(frozen, site=site.of(np.flatnonzero(mine)), groups={}), plan)
        for row in by(found.subgroups, name=SEX[k]):
            assert (row["n"], row["events"]) == (mine.sum(), events)
            (same,) = by(alone.metrics, update=row["update"], metric=row["metric"])
            assert row["value"] == pytest.approx(same["value"]), row["metric"]
            assert row["low"] <= row["value"] <= row["high"]
    values = [by(found.subgroups, name=name, metric="auc_t")[0]["value"] for name in SEX[:2]]
    (gap,) = by(found.subgroups, name="sex", metric="auc_t")
    assert gap["value"] == pytest.approx(abs(values[0] - values[1]))
    assert len(found.subgroups) == 2 * 4 + 3
