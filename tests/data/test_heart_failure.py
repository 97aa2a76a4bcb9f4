# mypy: disable-error-code="index, union-attr"
"""Tables of the cohort simulator as a federation."""

from dataclasses import replace

import numpy as np
import pytest

from fedsim.base import RequestError, build
from fedsim.cohort import Cohort
from fedsim.cohort.table import FEATURES, OUTCOMES, features
from fedsim.config import HeartFailure
from fedsim.data import describe, load

SMALL = HeartFailure(patients=1500)


def test_three_regions_train_and_karolinska_stays_outside():
    fed = load(SMALL)
    assert fed.names == ("halland", "karolinska", "kronoberg", "orebro") and fed.external == {1}
    assert (fed.kind, fed.labels) == ("binary", ("alive", "died"))
    assert fed.features == features("death_1y", "population") and len(fed.licence) > 4
    assert fed.metadata["halland"]["selection"] == "population"
    assert fed.metadata["halland"]["population"] == 342_805
    assert sum(c["rows"] for c in describe(fed)["per_client"]) == fed.rows
    assert load(SMALL).fingerprint == fed.fingerprint != load(replace(SMALL, seed=1)).fingerprint
    assert load(replace(SMALL, external=())).external == frozenset()


@pytest.mark.parametrize("outcome", OUTCOMES)
def test_outcomes(outcome):
    cfg = replace(SMALL, outcome=outcome, regions="halland", external=())
    fed, (who, then) = load(cfg), Cohort(cfg).made(0, 0, 1500)
    y, alive = fed.columns["y"], ~then["died"]
    if outcome == "survival":
        assert fed.kind == "survival" and fed.rows == 1500
        assert np.array_equal(fed.columns["time"], np.minimum(then["death"], then["end"]))
        assert np.array_equal(y == 1, then["died"]) and 0.4 < y.mean() < 0.9
    elif outcome == "death_1y":
        kept = ~(alive & (then["end"] < 365))
        assert 0 < (~kept).sum() < 75  # who left the region
        assert np.array_equal(y, (then["death"] <= 365)[kept])
    elif outcome == "cost":
        assert fed.kind == "regression" and y.min() >= 0 and y.mean() > 1.3 * np.median(y)
        some = (then["cost_inpatient"] == 0).mean()
        assert 0.1 < some < 0.5  # never on a ward
    elif outcome == "length_of_stay":
        assert np.array_equal(y, then["stay"]) and (y[~who["inpatient"]] == 0).all()
        assert y.mean() > 1.2 * np.median(y)
    else:
        days = int(outcome.rpartition("_")[2])
        assert fed.rows < who["inpatient"].sum() and "length_of_stay" in fed.features
        left = then["discharged"]
        expected = (then["unplanned"] <= days)[left].mean()
        assert y.mean() == pytest.approx(expected, abs=0.01)
    assert ("length_of_stay" in fed.features) == outcome.startswith("readmission")
    assert ("duration_months" in load(replace(cfg, selection="registry")).features) and len(FEATURES) > 50


def test_features_are_of_the_past_only(monkeypatch):
    """Whatever becomes of patients, what is seen at the index date stays the same."""
    from fedsim.cohort import constants as c

    cfg = replace(SMALL, outcome="length_of_stay")  # known of all
    before = load(cfg)
    monkeypatch.setitem(c.FIGURES, "hazard_1y", c.FIGURES["hazard_1y"]._replace(value=0.9))
    monkeypatch.setitem(c.FIGURES, "admission_100d", c.FIGURES["admission_100d"]._replace(value=0.9))
    after = load(cfg)
    np.testing.assert_array_equal(after.columns["x"], before.columns["x"])
    assert (after.columns["y"] < before.columns["y"]).any()  # stays that death ends


def test_missing_values_are_informative_and_left_missing():
    fed = load(replace(SMALL, regions="halland", external=(), patients=6000, outcome="survival"))
    x = fed.columns["x"]
    column = {name: x[:, i] for i, name in enumerate(fed.features)}
    share = {name: float(np.isnan(values).mean()) for name, values in column.items()}
    assert 0.3 < share["log_nt_probnp"] < 0.5 and share["age"] == 0
    assert np.array_equal(np.isnan(column["lvef"]), column["phenotyped"] == 0)
    y = fed.columns["y"]
    assert y[np.isnan(column["lvef"])].mean() > y[~np.isnan(column["lvef"])].mean() + 0.05


def test_units_are_harmonised_or_left_as_regions_have_them():
    one, own = (load(replace(SMALL, harmonise=h)) for h in (True, False))
    at = one.features.index("log_nt_probnp")
    for name, factor in (("halland", 1.0), ("orebro", 1 / 8.457)):
        k = one.names.index(name)
        rows = slice(*one.offsets[k : k + 2])
        difference = own.columns["x"][rows, at] - one.columns["x"][rows, at]
        np.testing.assert_allclose(difference[~np.isnan(difference)], np.log(factor), atol=1e-5)
    assert own.metadata["orebro"]["own_units"] == "nt_probnp"


def test_bad_requests_are_refused():
    with pytest.raises(RequestError, match=r"data=heart_failure computes in floating point.*resident"):
        load(replace(SMALL, mode="generated"))
    with pytest.raises(RequestError, match=r"data.patients must be in \[1, .*got 0"):
        HeartFailure(patients=0)
    with pytest.raises(RequestError, match=r"data.first_year and data.last_year must rise"):
        HeartFailure(first_year=2020, last_year=2019)
    with pytest.raises(RequestError, match=r"data.outcome must be one of death_1y"):
        build(HeartFailure, {"outcome": "death"}, "data")
    with pytest.raises(RequestError, match=r"no patient of .* has a known readmission_30; raise"):
        load(HeartFailure(regions=60, patients=60, outcome="readmission_30"))


def test_every_way_of_naming_regions_is_built():
    for value, count in (("three", 3), ("sweden", 21), (5, 5), (["halland", "skane"], 2), ("halland", 1)):
        cfg = build(HeartFailure, {"regions": value, "external": []}, "data")
        assert len(Cohort(cfg).regions) == count
