"""The protocol on patients whose truth is known."""

from dataclasses import replace

import numpy as np
import pytest

from fedsim.base import RequestError
from fedsim.validation import protocol, updates
from tests.validation import made


def by(rows, **wanted):
    return [row for row in rows if all(row[key] == value for key, value in wanted.items())]


def test_a_higher_prevalence_is_an_intercept_and_repairs_calibration():
    site = made.rows("S", 2000, 1, truth=lambda x: made.score(x) + 0.8)
    found = protocol.evaluate(made.frozen(site), made.plan())
    assert found.choice.update == "intercept" and found.warnings == []
    assert (found.n, found.events) == (2000, int(site.y.sum()))
    (intercept,) = by(found.updates, update="intercept")
    assert made.near(intercept, 0.8)
    (before,) = by(found.metrics, update="keep", metric="observed_expected")
    (after,) = by(found.metrics, update="intercept", metric="observed_expected")
    assert before["low"] > 1.1 and made.near(after, 1.0) and after["fitted"] == "crossed"
    assert len({(r["update"], r["metric"]) for r in found.metrics}) == len(found.metrics) == 4 * 9 + 3


def test_case_mix_and_coefficients_are_told_apart():
    """Alike patients with other effects, and other patients with the same ones, lose concordance alike."""
    narrow = made.rows("S", 2500, 2, scale=0.4)
    other = made.rows("S", 2500, 3, truth=lambda x: 0.4 * made.score(x))
    for site, lost, kept in ((narrow, "case mix", "coefficients"), (other, "coefficients", "case mix")):
        found = protocol.evaluate(made.frozen(site), made.plan(folds=3)).case_mix
        (lost_row,) = by(found, quantity=f"c statistic, by {lost}")
        (kept_row,) = by(found, quantity=f"c statistic, by {kept}")
        assert lost_row["high"] < -0.05, lost
        assert made.near(kept_row, 0.0), kept
        (total,) = by(found, quantity="c statistic")
        parts = [row["value"] for row in found if row["quantity"].startswith("c statistic, by")]
        assert sum(parts) == pytest.approx(total["value"])
        (ratio,) = by(found, quantity="linear predictor, deviation (ratio)")
        assert made.near(ratio, 0.4 if site is narrow else 1.0)


def test_features_differ_by_their_shift_and_missing_ones_are_counted():
    site = made.rows("S", 1000, 4, shift=0.5)
    site.raw[:250, 1] = np.nan
    found = protocol.evaluate(made.frozen(site), made.plan())
    assert [row["feature"] for row in found.features] == list(made.NAMES)
    for row in found.features:
        assert made.near(row, 0.5, "difference")
    assert found.features[1]["missing_outside"] == 0.25
    assert found.features[0]["missing_outside"] == found.features[1]["missing_development"] == 0.0


def test_a_feature_that_is_absent_is_said_and_keeps_its_coefficient():
    site = made.rows("S", 1000, 5)
    site.raw[:, 2] = np.nan
    site.x[:, 2] = 0.2  # the development's imputation
    site = replace(site, lp=made.score(site.x))
    found = protocol.evaluate(made.frozen(site), made.plan())
    assert any("S has no value of creatinine" in warning for warning in found.warnings)
    (row,) = by(found.updates, update="refit", term="creatinine")
    assert not row["estimated"] and row["value"] == row["frozen"] == 0.5 and row["low"] is None
    assert found.features[2]["difference"] is None and found.features[2]["missing_outside"] == 1.0


def test_few_patients_are_warned_of_and_too_few_refused():
    site = made.rows("S", 120, 6)
    found = protocol.evaluate(made.frozen(site), made.plan())
    assert "below 100 of either" in found.warnings[0]
    rare = made.rows("S", 300, 7, truth=lambda x: made.score(x) - 4)
    events = int(rare.y.sum())
    assert 0 < events < 10
    with pytest.raises(RequestError, match=f"S has {events} events in 300 rows, and at least 10"):
        protocol.evaluate(made.frozen(rare), made.plan())
    one = replace(rare, y=np.ones(300))
    with pytest.raises(RequestError, match="S has 0 patients without the event in 300 rows"):
        protocol.evaluate(made.frozen(one), made.plan())


def test_refit_of_few_is_warned_of_and_separation_makes_no_choice():
    site = made.rows("S", 200, 8)
    parted = replace(site, y=(site.x[:, 0] > 0).astype(np.float64))
    found = protocol.evaluate(made.frozen(parted), made.plan())
    assert found.choice.update is None and "S: refit has no maximum" in found.choice.reason
    assert by(found.metrics, update="refit", metric="auroc")[0]["value"] is None
    assert not by(found.updates, update="refit")
    smaller = protocol.evaluate(made.frozen(parted), made.plan(updates=("keep", "intercept", "slope")))
    assert smaller.choice.update is not None


def test_rows_of_one_patient_stay_together():
    whose = np.repeat(np.arange(250), 4)
    site = made.rows("S", 1000, 9, patient=whose)
    found = protocol.evaluate(made.frozen(site), made.plan())
    assert any("patients have several rows" in warning for warning in found.warnings)
    fold = made.folds_of(site, 10, np.random.default_rng(0))
    assert all(len(set(fold[whose == k])) == 1 for k in range(250))


def test_folds_spread_outcomes():
    site = made.rows("S", 503, 10)
    fold = made.folds_of(site, 10, np.random.default_rng(0))
    for label in (0, 1):
        counts = np.bincount(fold[site.y == label], minlength=10)
        assert counts.max() - counts.min() <= 1


def test_a_network_is_not_refitted():
    network = replace(made.frozen(made.rows("S", 400, 11)), coefficients=None)
    with pytest.raises(RequestError, match="stores a network"):
        protocol.evaluate(network, made.plan())
    found = protocol.evaluate(network, made.plan(updates=("keep", "intercept", "slope")))
    assert found.choice.update in ("keep", "intercept", "slope")


def test_patients_are_judged_by_updates_that_have_not_seen_them():
    """Of noise alone a refit fits something, and predicts none of it."""
    site = made.rows("S", 200, 12, truth=lambda x: 0 * x[:, 0])
    found = protocol.evaluate(made.frozen(site), made.plan(folds=5))
    (crossed,) = by(found.metrics, update="refit", metric="log_loss")
    refit = updates.fit_update("refit", site.x, site.lp, site.y)
    assert crossed["value"] > -refit.log_likelihood / 200
