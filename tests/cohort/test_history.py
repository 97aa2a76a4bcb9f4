"""Records are traces of the patients that the model makes: nothing more, nothing that contradicts it."""

import numpy as np
import pytest

from fedsim.cohort import Cohort, codes, records
from fedsim.cohort import history as module
from fedsim.config import HeartFailure

HEART = [codes.ICD.index(code) for code in codes.HEART_FAILURE if code not in ("I42.0",)]


@pytest.fixture(scope="module")
def cohort():
    return Cohort(HeartFailure(patients=6000, seed=3))


@pytest.fixture(scope="module")
def halland(cohort):
    return records(cohort, 0)


@pytest.fixture(scope="module")
def made(cohort):
    return cohort.made(0, 0, cohort.sizes[0])


def index_day(found):
    """Day of the first visit with a condition of heart failure, per person."""
    rows = np.isin(found.condition["code"], HEART) & (found.condition["visit"] >= 0)
    start = found.visit["start"][found.condition["visit"][rows]]
    first = np.full(len(found.person["id"]), np.iinfo(np.int32).max, np.int32)
    np.minimum.at(first, found.condition["person"][rows], start)
    return first


def test_the_index_is_the_first_visit_for_heart_failure(halland, made):
    assert np.array_equal(index_day(halland), made[0]["index_day"])


@pytest.mark.parametrize("selection", ["population", "registry"])
def test_every_coded_condition_is_known_at_the_index_and_no_other(selection):
    cohort = Cohort(HeartFailure(patients=3000, selection=selection, regions="orebro", external=()))
    found, (who, _) = records(cohort, 0), cohort.made(0, 0, 3000)
    past = found.condition["day"] <= who["index_day"][found.condition["person"]]
    assert not past.all()  # some are recorded later, and are no features
    for name, code in codes.COMORBIDITY.items():
        rows = past & (found.condition["code"] == codes.ICD.index(code))
        has = np.zeros(3000, bool)
        has[found.condition["person"][rows]] = True
        assert np.array_equal(has, who[f"coded_{name}"]), name


def test_cost_of_the_first_year_is_the_sum_of_its_visits_and_drugs(halland, made):
    who, then = made
    visit = halland.visit
    since = visit["start"] - who["index_day"][visit["person"]]
    until = np.minimum(then["end"], 365)
    rows = (since >= 0) & (since < until[visit["person"]])
    visits = np.bincount(visit["person"][rows], visit["cost"][rows], len(until))
    drugs = sum(who[name].astype(np.float64) for name in codes.DRUGS) * until * 900 / 365.25
    np.testing.assert_allclose(visits + drugs, then["cost"], rtol=1e-5)
    wards = rows & (visit["kind"] == codes.VISIT.index("inpatient"))
    found = np.bincount(visit["person"][wards], visit["cost"][wards], len(until))
    np.testing.assert_allclose(found, then["cost_inpatient"], rtol=1e-5)


def test_the_next_unplanned_admission_is_the_readmission(halland, made):
    who, then = made
    visit = halland.visit
    after = visit["start"] - (who["index_day"] + then["stay"])[visit["person"]]
    rows = (visit["kind"] == 0) & ~visit["planned"] & (after > 0)
    first = np.full(len(who["male"]), 1_000_000)
    np.minimum.at(first, visit["person"][rows], after[rows])
    assert np.array_equal(first, then["unplanned"]) and (first < 1_000_000).mean() > 0.3


def test_nothing_happens_after_the_end_or_before_birth(halland, made):
    end, birth = halland.observation_period["end"], halland.person["birth_day"]
    for name, day in (("visit", "end"), ("condition", "day"), ("measurement", "day"), ("drug", "end")):
        table = getattr(halland, name)
        assert (table[day] <= end[table["person"]]).all(), name
        assert (table[day] >= birth[table["person"]]).all(), name
    dead = halland.death["person"]
    assert np.array_equal(halland.death["day"], end[dead]) and 0.3 < len(dead) / len(end) < 0.9
    assert np.array_equal(halland.death["day"], (made[0]["index_day"] + made[1]["death"])[dead])


def test_stays_do_not_overlap(halland):
    visit = halland.visit
    stay = visit["kind"] == 0
    person, start, end = (visit[key][stay] for key in ("person", "start", "end"))
    same = np.diff(person) == 0
    assert (start[1:] >= end[:-1])[same].all()


def test_measurements_come_with_the_units_and_limits_of_the_region():
    cohort = Cohort(HeartFailure(regions=("orebro", "halland"), patients=4000, external=()))
    for k, unit in ((0, "ng/L"), (1, "pmol/L")):
        found, size = records(cohort, k).measurement, cohort.sizes[k]
        who, _ = cohort.made(k, 0, size)
        rows = found["code"] == codes.MEASUREMENT.index("nt_probnp")
        assert {codes.UNIT[u] for u in np.unique(found["unit"][rows])} == {unit}
        factor = 1 if k == 0 else codes.FACTOR["nt_probnp", "pmol/L"]
        at_index = rows & (found["day"] == who["index_day"][found["person"]])
        shown = np.zeros(size)
        shown[found["person"][at_index]] = found["value"][at_index]
        has = who["has_nt_probnp"]
        np.testing.assert_allclose(shown[has], who["nt_probnp"][has] * factor, atol=0.51)
        assert not shown[~has].any()
        low = rows & (found["operator"] == codes.OPERATOR.index("<"))
        np.testing.assert_allclose(found["value"][low], 50 * factor, atol=0.01)
        assert 0 < low.sum() < 0.05 * rows.sum()
        assert (found["value"][rows & ~low] > 49.9 * factor).all()


def test_pieces_are_the_whole(cohort, monkeypatch):
    whole = records(cohort, 2)
    monkeypatch.setattr(module, "CHUNK", 501)
    for name, columns in records(cohort, 2).tables().items():
        for column, values in columns.items():
            assert np.array_equal(values, getattr(whole, name)[column]), (name, column)
    part = records(cohort, 2, 100, 200)
    assert np.array_equal(part.person["birth_day"], whole.person["birth_day"][100:200])
