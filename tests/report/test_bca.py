# mypy: disable-error-code="arg-type, index, operator"
"""Corrected ends against SciPy's, on the same draws and through a table."""

import numpy as np
import pytest
from scipy import stats

from fedsim import report
from fedsim.base import RequestError
from fedsim.report import bca, patients
from tests.report.made import build, cells
from tests.report.test_patients import N, predicted


def test_one_sample_is_scipys():
    x = np.random.default_rng(0).exponential(size=25) ** 2
    found = stats.bootstrap((x,), np.mean, n_resamples=999, method="BCa", rng=np.random.default_rng(1))
    left = np.array([np.delete(x, i).mean() for i in range(len(x))])
    ends = bca.ends(x.mean(), found.bootstrap_distribution, left, np.zeros(25, np.int64))
    low, high = found.confidence_interval
    assert ends == pytest.approx((low, high), rel=1e-9)
    plain = np.quantile(found.bootstrap_distribution, [0.025, 0.975])
    assert ends[0] > plain[0] * 1.02 and ends[1] > plain[1] * 1.02  # they do something


def test_several_samples_are_scipys():
    rng = np.random.default_rng(2)
    x, y = rng.exponential(size=20), rng.exponential(size=35) ** 2

    def difference(a, b, axis=-1):
        return np.mean(a, axis=axis) - np.mean(b, axis=axis)

    found = stats.bootstrap((x, y), difference, n_resamples=999, method="BCa", rng=np.random.default_rng(1))
    left = [difference(np.delete(x, i), y) for i in range(20)]
    left += [difference(x, np.delete(y, i)) for i in range(35)]
    stratum = np.repeat([0, 1], [20, 35])
    ends = bca.ends(difference(x, y), found.bootstrap_distribution, np.array(left), stratum)
    assert ends == pytest.approx(tuple(found.confidence_interval), rel=1e-9)


def test_groups_estimate_the_same_acceleration():
    """On average: one in ten of the units' moves makes it unsteadier, but no other."""
    exact: list[float] = []
    dealt: list[float] = []
    for seed in range(40):
        x = np.random.default_rng(seed).exponential(size=2000)
        stratum = np.repeat([0, 1], [500, 1500])
        group = bca.groups(stratum, 200)
        assert np.bincount(group).min() >= 9 and len(np.unique(group)) == 200
        assert len(np.unique(np.stack([group, stratum]), axis=1).T) == 200  # each of one stratum
        for found, of in ((exact, np.arange(2000)), (dealt, group)):
            size = np.bincount(of)
            left = (x.sum() - np.bincount(of, x)) / (2000 - size)
            strata = stratum[np.unique(of, return_index=True)[1]]
            found.append(bca.acceleration(left, strata))
    assert np.mean(dealt) == pytest.approx(np.mean(exact), rel=0.15)
    np.testing.assert_array_equal(bca.groups(stratum[:700]), np.arange(700))


def test_what_is_beyond_all_draws_has_no_ends():
    draws, left, stratum = np.arange(10.0), np.arange(5.0), np.zeros(5, np.int64)
    assert np.isnan(bca.ends(-1.0, draws, left, stratum)).all()
    assert bca.ends(3.0, np.full(10, 3.0), np.full(5, 3.0), stratum) == (3.0, 3.0)


def test_a_table_has_them_of_patients(put, tmp_path):
    """One client, so that SciPy draws the same way; of log loss, which is skewed."""
    held = predicted(0) | {"client": ["all"] * N}
    p = np.clip(held["score"].astype(float), 1e-3, 1 - 1e-3) ** 3
    held["score"] = p
    loss = -np.log(np.where(held["label"] == 1, p, 1 - p))
    run = put({"algorithm": "fedavg", "seed": 0}, [{"log_loss": loss.mean()}], predictions=held)
    asked = {"interval": "patients", "metrics": ["log_loss"]}
    (cell,) = cells(build(tmp_path, [run], ends="bca", **asked)).values()
    (plain,) = cells(build(tmp_path, [run], **asked)).values()
    theirs = stats.bootstrap((loss,), np.mean, n_resamples=9999, method="BCa", rng=np.random.default_rng(3))
    low, high = theirs.confidence_interval
    error = loss.std() / np.sqrt(N)
    # An end of 2,000 draws is known to 0.06 of a standard error.
    assert (cell.low, cell.high) == pytest.approx((low, high), abs=0.2 * error)
    assert cell.low > plain.low and cell.high > plain.high and cell.mean == plain.mean
    table = build(tmp_path, [run], ends="bca", **asked)
    assert any("bias-corrected and accelerated bootstrap over patients" in note for note in table.notes)


def test_differences_have_them_too(put, tmp_path):
    losses = []
    for algorithm, power in (("local", 3), ("fedavg", 1)):
        held = predicted(0) | {"client": ["all"] * N}
        p = held["score"] = np.clip(held["score"].astype(float), 1e-3, 1 - 1e-3) ** power
        losses.append(-np.log(np.where(held["label"] == 1, p, 1 - p)))
        put({"algorithm": algorithm, "seed": 0}, [{"log_loss": losses[-1].mean()}], predictions=held)
    runs = [f"algorithm={a}-seed=0" for a in ("local", "fedavg")]
    rows = report.read(tmp_path / "store", runs, levels=["pooled"])
    (found,) = patients.compared(rows, "algorithm", "local", ["log_loss"], ends="bca")
    (plain,) = patients.compared(rows, "algorithm", "local", ["log_loss"])
    moved = losses[1] - losses[0]
    theirs = stats.bootstrap((moved,), np.mean, n_resamples=9999, method="BCa", rng=np.random.default_rng(3))
    error = moved.std() / np.sqrt(N)
    assert (found.low, found.high) == pytest.approx(tuple(theirs.confidence_interval), abs=0.2 * error)
    assert found.low != plain.low and found.p == plain.p and found.mean == plain.mean


def test_ends_are_of_patients(put, tmp_path):
    with pytest.raises(RequestError, match="ends=bca are of interval: patients, got interval=both"):
        build(tmp_path, [], ends="bca", interval="both")
