# mypy: disable-error-code="index, operator, union-attr"
"""Tables of the cohort simulator as a federation."""

import pickle
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from fedsim.base import RequestError, build
from fedsim.cohort import Cohort
from fedsim.cohort.table import FEATURES, OUTCOMES, features, table
from fedsim.config import NO_PREPROCESS, HeartFailure, Natural, Preprocess, Temporal
from fedsim.data import describe, load
from fedsim.data.partition import partitions
from fedsim.data.preprocess import fit
from fedsim.data.splits import assign

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


@pytest.mark.parametrize("options", [{"cut": "2020-01-01"}, {"cut": None, "test": 0.25}])
def test_a_model_trains_on_earlier_patients_than_it_is_tested_on(options):
    fed = load(SMALL)
    when, year = fed.calendar, fed.columns["x"][:, fed.features.index("year")]
    # Days since 1970 against the feature, which float32 rounds to a day's twentieth.
    np.testing.assert_allclose((when - 10_957) / 365.25 + 2000, year, atol=2e-4)
    (part,) = partitions(fed, assign(fed, Temporal(**options), 0), Temporal(**options), 0)
    train, test = (part.part(name)[0] for name in ("train", "test"))
    where = fed.client_of_row()
    assert not (where[train] == 1).any()
    test = test[where[test] != 1]  # Karolinska, outside, is judged by all its patients
    assert len(train) > 500 and len(test) > 100
    if options["cut"]:
        cut = np.datetime64(options["cut"], "D").astype(int)
        assert when[train].max() < cut <= when[test].min()
    for k in set(range(4)) - fed.external:
        of = where == k
        assert when[train[of[train]]].max() < when[test[of[test]]].min()


def test_patients_made_in_the_program_have_no_dates():
    fed = load(replace(SMALL, mode="generated", outcome="length_of_stay"))
    with pytest.raises(RequestError, match=r"does not say with data.mode=generated; .* \(in memory\)"):
        assign(fed, Temporal(), 0)


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
    with pytest.raises(RequestError, match=r"data.patients must be in \[1, .*got 0"):
        HeartFailure(patients=0)
    with pytest.raises(RequestError, match=r"data.first_year and data.last_year must rise"):
        HeartFailure(first_year=2020, last_year=2019)
    with pytest.raises(RequestError, match=r"data.outcome must be one of death_1y"):
        build(HeartFailure, {"outcome": "death"}, "data")
    with pytest.raises(RequestError, match=r"no patient of .* has a known readmission_30; raise"):
        load(HeartFailure(regions=60, patients=60, outcome="readmission_30"))


# --- data.mode=generated ----------------------------------------------------------------------


def made(**options):
    """(federation, x, y, client of each row) of patients that are made where they are asked for."""
    fed = load(replace(SMALL, mode="generated", **options))
    found = fed.made(np.arange(fed.rows))
    return fed, found["x"], found["y"], fed.client_of_row()


@pytest.mark.parametrize("outcome", ["death_1y", "length_of_stay"])
def test_patients_made_on_demand_are_those_of_the_table(outcome):
    """All of them: of who moved away within the year the table leaves out whether they died."""
    fed, x, y, client = made(outcome=outcome, patients=6000)
    cfg = replace(SMALL, outcome=outcome, patients=6000)
    stored, cohort = load(cfg), Cohort(cfg)
    assert fed.columns is None and tuple(fed.sizes) == cohort.sizes
    for key in ("names", "features", "labels", "kind", "classes", "external"):
        assert getattr(fed, key) == getattr(stored, key)
    for k, rows in enumerate(table(cohort)):
        own = client == k
        np.testing.assert_array_equal(x[own][rows.patient], rows.x)
        np.testing.assert_array_equal(y[own][rows.patient], rows.y)
    left_out = 1 - stored.rows / fed.rows
    assert left_out == 0 if outcome == "length_of_stay" else 0 < left_out < 0.02
    assert abs(y.mean() - stored.columns["y"].mean()) < 0.005 * (1 if outcome == "death_1y" else 10)
    assert np.array_equal(fed.labels_of(np.arange(100)), y[:100]) and y.dtype == stored.columns["y"].dtype


def test_made_patients_follow_from_seed_and_client():
    fed, x, y, client = made()
    again = made()
    assert fed.fingerprint == again[0].fingerprint
    np.testing.assert_array_equal(x, again[1])
    np.testing.assert_array_equal(y, again[2])
    other = made(seed=1)
    assert other[0].fingerprint != fed.fingerprint != load(SMALL).fingerprint
    assert (other[1][:, 0] != x[:, 0]).all()  # age
    few = min(fed.sizes)
    ages = [x[client == k, 0][:few] for k in range(fed.clients)]
    assert all((a != b).all() for a, b in pairwise(ages))


def test_pieces_of_made_patients_change_nothing(monkeypatch):
    fed, x, y, _ = made(patients=2000)
    monkeypatch.setattr("fedsim.data.cohort_rows.CHUNK", 301)
    found = fed.made(np.arange(fed.rows))
    np.testing.assert_array_equal(found["x"], x)
    np.testing.assert_array_equal(found["y"], y)


def test_what_makes_patients_can_be_sent_to_workers_and_knows_nothing_of_preprocessing():
    ranges = Preprocess(standardise=False, ranges={"age": (18, 104)})
    plain, prepared = (load(replace(SMALL, mode="generated", preprocess=p)) for p in (Preprocess(), ranges))
    again = pickle.loads(pickle.dumps(plain.generate))
    assert again == plain.generate == prepared.generate and hash(again) == hash(plain.generate)
    assert repr(again) == repr(plain.generate) and plain.fingerprint == prepared.fingerprint


def test_hundreds_of_hospitals_hold_nothing():
    fed = load(HeartFailure(regions=300, external=(), patients=1_500_000, mode="generated"))
    assert (fed.columns, fed.clients) == (None, 300) and fed.rows == pytest.approx(1_500_000, abs=150)
    some = fed.made(np.arange(0, fed.rows, 20_011))
    assert 0.1 < some["y"].mean() < 0.5 and some["x"].shape == (75, len(fed.features))


def test_constants_of_made_patients_are_those_of_stored_ones():
    cfg = replace(SMALL, patients=6000)
    found = []
    for fed in (load(cfg), load(replace(cfg, mode="generated"))):
        (part,) = partitions(fed, assign(fed, Natural(test=0.2), 0), Natural(test=0.2), 0)
        found.append(fit(fed.x, part, cfg.preprocess))
    stored, made = found
    for name in ("impute", "shift"):  # in deviations; of 4,800 other patients, by 1.4 / sqrt(1,900) of each
        difference = (getattr(made, name) - getattr(stored, name)) * stored.scale
        assert np.abs(difference).max() < 0.15
    # Dialysis is rare: one in a hundred, 50 patients.
    np.testing.assert_allclose(made.scale, stored.scale, rtol=0.3)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"outcome": "survival"},
            r"data.outcome=survival is not known of all .* or comes with a time; choose",
        ),
        ({"outcome": "readmission_30"}, r"data.outcome=readmission_30 is not known of all"),
        ({"outcome": "cost"}, r"one of death_1y, length_of_stay, or data.mode=resident"),
        ({"preprocess": NO_PREPROCESS}, r"data=heart_failure has missing values, and .*impute=none leaves"),
    ],
)
def test_what_cannot_be_made_on_demand_is_refused(options, message):
    with pytest.raises(RequestError, match=message):
        load(replace(SMALL, mode="generated", **options))


def test_every_way_of_naming_regions_is_built():
    for value, count in (("three", 3), ("sweden", 21), (5, 5), (["halland", "skane"], 2), ("halland", 1)):
        cfg = build(HeartFailure, {"regions": value, "external": []}, "data")
        assert len(Cohort(cfg).regions) == count
