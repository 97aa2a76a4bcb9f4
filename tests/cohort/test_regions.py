"""Regions differ by their dials, and by nothing else."""

import csv
from dataclasses import replace

import numpy as np
import pytest

from fedsim.base import RequestError
from fedsim.cohort import Cohort, records, regions, table
from fedsim.config import Dials, HeartFailure
from tests.cohort.made import NATIONAL, dead_by, region


def mean(name, key, patients=20_000, **dials):
    """Mean of a column of a region's patients with all dials at 0 but some."""
    who, _ = region(name, patients, **vars(NATIONAL) | dials)
    return float(who[key].mean())


@pytest.mark.parametrize(
    ("dial", "name", "key", "sign"),
    [
        ("age", "karolinska", "age", -1),
        ("phenotyping", "karolinska", "has_lvef", 1),
        ("phenotyping", "kronoberg", "has_lvef", -1),
        ("coding", "kronoberg", "coded_hypertension", 1),
        ("coding", "orebro", "coded_hypertension", -1),
        ("referral", "karolinska", "crt_icd", 1),
        ("referral", "karolinska", "lvef", -1),
        ("selection", "karolinska", "dementia", -1),
        ("units", "orebro", "unit_nt_probnp", 1),
    ],
)
def test_a_dial_moves_what_it_is_about(dial, name, key, sign):
    none, half, whole, more = (mean(name, key, **{dial: value}) for value in (0, 0.5, 1, 2))
    assert none == pytest.approx(mean("halland", key), abs=0.02 * abs(none) + 0.02)
    steps = sign * np.diff([none, half, whole, more])
    assert (steps[:2] > 0).all() and (steps[2] > 0 or dial == "units")


def test_mortality_has_its_dial():
    none, real, more = (
        dead_by(region("halland", 20_000, **vars(NATIONAL) | {"mortality": value})[1], 365)
        for value in (0.0, 1.0, 2.0)
    )
    assert none + 0.05 < real < more - 0.03


def test_coding_changes_what_is_recorded_and_nobody_s_health():
    plain, coded = (region("kronoberg", 5000, **vars(NATIONAL) | {"coding": v}) for v in (0, 1))
    for key in ("copd", "age", "nt_probnp"):
        assert np.array_equal(plain[0][key], coded[0][key])
    for key in ("death", "cost", "unplanned"):
        assert np.array_equal(plain[1][key], coded[1][key])
    assert (coded[0]["coded_copd"] >= plain[0]["coded_copd"]).all()


def test_with_all_dials_at_zero_regions_are_the_same_but_for_chance():
    cohort = Cohort(HeartFailure(patients=21_000, dials=NATIONAL))
    assert len(set(cohort.sizes)) == 1
    assert all(cohort.setting(k) == cohort.setting(0) for k in range(4))
    x = [rows.x for rows in table(cohort)]
    means = np.stack([np.nanmean(part, axis=0) for part in x])
    error = np.nanstd(x[0], axis=0) / np.sqrt(0.3 * len(x[0]))  # of the least measured
    assert (np.ptp(means, axis=0) <= 7 * error).all()


def test_karolinska_is_younger_sicker_of_phenotype_and_has_more_devices():
    (own, _), (home, _) = region("karolinska"), region("halland")
    assert own["age"].mean() < home["age"].mean() - 4
    assert (own["lvef"] < 40).mean() > (home["lvef"] < 40).mean() + 0.1
    assert (own["device"] >= 2).mean() > 1.5 * (home["device"] >= 2).mean()


def test_a_patient_is_a_function_of_seed_region_and_index():
    """Not of who else is there, nor of how many."""
    alone = Cohort(HeartFailure(regions="orebro", external=(), patients=500, seed=4)).made(0, 100, 110)[0]
    among = Cohort(HeartFailure(regions="sweden", patients=90_000, seed=4))
    k = [r.name for r in among.regions].index("orebro")
    again = among.made(k, 90, 120)[0]
    assert all(np.array_equal(alone[key], again[key][10:20]) for key in alone)
    other = Cohort(replace(among.cfg, seed=5)).made(k, 90, 120)[0]
    assert (other["age"] != again["age"]).all()


def test_threads_change_nothing(monkeypatch):
    cohort = Cohort(HeartFailure(patients=2000, outcome="cost"))
    one, three = table(cohort, 1), table(cohort, 3)
    monkeypatch.setattr("fedsim.cohort.population.CHUNK", 301)
    pieces = table(cohort, 2)
    for a, b, c in zip(one, three, pieces, strict=True):
        for key in ("patient", "x", "y"):
            np.testing.assert_array_equal(getattr(a, key), getattr(b, key))
            np.testing.assert_array_equal(getattr(a, key), getattr(c, key))


def test_sizes_follow_populations():
    three = [regions.KNOWN[name] for name in regions.THREE]
    assert regions.sizes(three, None, 1.0)[0] == 8775  # Halland's own number
    assert regions.sizes(three, 3000, 0.0) == [1000] * 3
    real, more = (regions.sizes(three, 10_000, dial) for dial in (1.0, 2.0))
    assert sum(real) == sum(more) == 10_000 and max(more) > max(real)
    assert regions.sizes(three, 1, 1.0) == [1, 1, 1]  # nobody is empty


def test_sweden_has_its_21_regions_and_people(shared_data):
    assert len(regions.SWEDEN) == 21 and "karolinska" not in regions.SWEDEN
    with (shared_data / "swedish-hf-marginals" / "published_figures.csv").open(encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["quantity"] == "population"]
    known = {row["area"]: int(row["value"]) for row in rows}  # the latest of each
    assert sum(r.population for r in regions.SWEDEN.values()) == pytest.approx(known["Sweden"], rel=0.005)
    for name in ("Halland", "Orebro", "Kronoberg"):
        assert regions.KNOWN[name.lower()].population == known[name]
    assert regions.KNOWN["stockholm"].population == known["Stockholm (Karolinska catchment)"]


def test_hospitals_are_as_many_as_asked_and_differ():
    cohort = Cohort(HeartFailure(regions=300, external=(), patients=30_000))
    names = [r.name for r in cohort.regions]
    assert names == sorted(names) and names[0] == "hospital_000" and len(names) == 300
    assert sum(cohort.sizes) == pytest.approx(30_000, abs=150) and min(cohort.sizes) >= 1
    for way in ("age", "mortality", "phenotyping", "coding", "referral", "selection", "drift"):
        assert len({getattr(r, way) for r in cohort.regions}) == 300
    found = records(cohort, 7)
    assert found.region == "hospital_007" and len(found.person["id"]) == cohort.sizes[7]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"regions": "hallnad"}, r"data.regions names no region 'hallnad'.*did you mean 'halland'"),
        ({"regions": ("halland", "skåne")}, r"names no region 'skåne'.*did you mean 'skane'"),
        ({"regions": ("halland", "halland")}, r"names a region twice"),
        ({"regions": ()}, r"data.regions is empty"),
        ({"regions": 0}, r"data.regions must be in \[1, 100000\] hospitals, got 0"),
        (
            {"external": "karolinsak"},
            r"data.external names no region 'karolinsak'.*did you mean 'karolinska'",
        ),
        ({"external": "halland"}, r"data.external=halland is in data.regions, too"),
    ],
)
def test_wrong_regions_are_named(options, message):
    with pytest.raises(RequestError, match=message):
        _ = Cohort(HeartFailure(**options)).regions


def test_dials_hold_their_range():
    with pytest.raises(RequestError, match=r"data.dials.age must be in \[0, 3\].*got -0.1"):
        Dials(age=-0.1)
    with pytest.raises(RequestError, match=r"data.dials.drift must be in \[0, 3\].*got 3.5"):
        Dials(drift=3.5)
