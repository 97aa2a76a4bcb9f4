"""Metrics at a site and their bootstrap, by hand and by slow loops."""

from functools import partial

import numpy as np
import pytest
from scipy import special, stats

from fedsim import metrics
from fedsim.config.validation import MEASURES
from fedsim.validation import measures
from fedsim.validation.measures import Bootstrap


def test_net_benefit_and_observed_expected_by_hand():
    y = np.array([1.0, 0.0, 1.0, 0.0])
    p = np.array([0.9, 0.6, 0.3, 0.1])
    found = measures.measure(y, special.logit(p), ("observed_expected", "net_benefit", "auroc"), (0.2, 0.5))
    assert found["observed_expected"] == pytest.approx(2 / 1.9)
    assert found["net_benefit@0.2"] == pytest.approx(2 / 4 - 1 / 4 * 0.25)
    assert found["net_benefit@0.5"] == pytest.approx(1 / 4 - 1 / 4)
    assert found["auroc"] == pytest.approx(0.75)
    everybody = measures.measure(y, special.logit(p), (measures.TREAT_ALL,), (0.2,))
    assert everybody == {"treat_all@0.2": pytest.approx(0.5 - 0.5 * 0.25)}


def test_counts_weigh_as_rows_repeated():
    rng = np.random.default_rng(0)
    y, lp = (rng.random(60) < 0.5).astype(np.float64), rng.normal(size=60)
    counts = rng.integers(0, 4, 60)
    names = ("auroc", "auprc", "brier", "calibration_slope", "observed_expected", "net_benefit")
    weighted = measures.measure(y, lp, names, (0.3,), counts.astype(np.float64))
    repeated = measures.measure(np.repeat(y, counts), np.repeat(lp, counts), names, (0.3,))
    assert weighted == pytest.approx(repeated)


def test_the_bootstrap_draws_patients_whole_and_the_same_at_every_pass():
    patient = np.array([7, 7, 7, 9, 9, 4])
    drawn = Bootstrap(6, patient, 50, 0, "S")
    first = list(drawn)
    assert drawn.patients == 3 and len(first) == 50
    for counts in first:
        assert counts[0] == counts[1] == counts[2] and counts[3] == counts[4]
        assert counts[0] + counts[3] + counts[5] == 3
    assert all((a == b).all() for a, b in zip(first, drawn, strict=True))
    other = list(Bootstrap(6, patient, 50, 0, "T"))
    assert any((a != b).any() for a, b in zip(first, other, strict=True))


def test_replicates_are_the_metrics_of_each_draw():
    """Every metric that a plan may name, of many draws at once and one by one; with ties, of few patients."""
    rng = np.random.default_rng(1)
    patient = np.repeat(np.arange(20), 3)
    y, lp = (rng.random(60) < 0.3).astype(np.float64), np.round(rng.normal(size=60), 1)
    drawn = Bootstrap(60, patient, 200, 0, "S")
    models = {"kept": lp, "bold": 3 * lp, "none": np.zeros(60)}
    found = measures.replicates(y, models, (*MEASURES, measures.TREAT_ALL), (0.3,), drawn)
    for name, scores in models.items():
        each = [measures.measure(y, scores, (*MEASURES, measures.TREAT_ALL), (0.3,), w) for w in drawn]
        assert set(found[name]) == set(each[0])
        for metric, values in found[name].items():
            wanted = np.array([one[metric] for one in each], np.float64)
            np.testing.assert_allclose(values, wanted, rtol=1e-8, atol=1e-9, err_msg=f"{name} {metric}")


def test_blocks_hold_the_draws_in_bounded_memory(monkeypatch):
    monkeypatch.setattr(measures, "_BLOCK", 100)
    drawn = Bootstrap(30, None, 20, 0, "S")
    blocks = list(drawn.blocks())
    assert [len(block) for block in blocks] == [3] * 6 + [2]
    np.testing.assert_array_equal(np.concatenate(blocks), np.stack(list(drawn)))


def test_intervals_cover_a_mean():
    hits = 0
    for seed in range(150):
        y = (np.random.default_rng(seed).random(200) < 0.3).astype(np.float64)
        drawn = Bootstrap(200, None, 100, seed, "S")
        low, high = measures.ends(drawn.of(partial(mean, y))[""])
        assert low is not None and high is not None
        hits += low < 0.3 < high
    assert hits >= stats.binom.ppf(1e-3, 150, 0.93)


def mean(y, weights):
    return {"": np.average(np.broadcast_to(y, weights.shape), axis=1, weights=weights)}


def test_what_is_often_undefined_has_no_interval():
    assert measures.ends([None, None]) == (None, None)
    assert measures.ends([0.5] * 90 + [None] * 10) == (None, None)
    assert measures.ends([0.5] * 96 + [None] * 4) == (0.5, 0.5)


def test_goodness_is_larger_the_better():
    assert measures.goodness("auroc", 0.8) > measures.goodness("auroc", 0.7)
    assert measures.goodness("log_loss", 0.4) > measures.goodness("log_loss", 0.5)
    assert measures.goodness("calibration_slope", 0.9) > measures.goodness("calibration_slope", 1.3)
    assert measures.goodness("observed_expected", 1.1) > measures.goodness("observed_expected", 0.7)
    assert measures.goodness("net_benefit@0.1", 0.2) > measures.goodness("net_benefit@0.1", 0.1)
    assert set(metrics.names("binary")) >= {"auroc", "auprc", "brier", "log_loss"}
