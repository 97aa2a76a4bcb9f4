"""What makes regions differ arrives both ways: in the rows of data=heart_failure, and in those that are read
back from the OMOP tables that `fedsim cohort write` writes."""

from functools import cache

import numpy as np
import pytest

from fedsim.cohort import Cohort, codes, records, table
from fedsim.cohort.table import features
from fedsim.config import Dials, HeartFailure
from fedsim.omop import Reading, extract, load, read, write
from tests.cohort.made import NATIONAL
from tests.omop.test_agreement import compare

ASKED = load("heart_failure")
KNOWN = features("survival", "population")
CODED = set(codes.COMORBIDITY)
LIMITS = (50, 35_000)  # of NT-proBNP's assay, ng/L


@pytest.fixture(scope="module")
def sides(tmp_path_factory):
    """dials -> (rows as made, rows as read): 1,500 patients of Örebro, whose NT-proBNP has its own unit."""

    @cache
    def both(harmonise=True, **dials):
        cfg = HeartFailure(
            regions="orebro", external=(), patients=1500, outcome="survival", seed=2, harmonise=harmonise,
            dials=Dials(**vars(NATIONAL) | dials),
        )  # fmt: skip
        cohort = Cohort(cfg)
        folder = tmp_path_factory.mktemp("dials")
        site = read(write(records(cohort, 0), folder))
        one = extract(site, ASKED, Reading(outcome="survival", harmonise=harmonise))
        site.close()
        return table(cohort)[0], one

    return both


def columns(rows, one, name):
    """A feature as made and as read, in order of patients."""
    order = np.argsort(one.person)
    return rows.x[:, KNOWN.index(name)], one.x[order, one.features.index(name)]


OTHERS = ("age", "mortality", "phenotyping", "referral", "selection", "drift")


@pytest.mark.parametrize("dial", ["coding", *(pytest.param(dial, marks=pytest.mark.long) for dial in OTHERS)])
def test_exaggerated_regions_are_the_same_both_ways(sides, dial):
    rows, one = sides(**{dial: 3.0})
    order = np.argsort(one.person)
    names = [name for name in KNOWN if name != "duration_months"]
    compare(rows, slice(None), one, order, KNOWN, names)
    assert np.array_equal(rows.y, one.y[order]) and np.array_equal(rows.time, one.time[order])
    plain, _ = sides()
    moved = ~np.isclose(rows.x, plain.x, rtol=1e-6, atol=0, equal_nan=True).all(axis=0)
    said = {name for name, changed in zip(KNOWN, moved, strict=True) if changed}
    if dial == "coding":
        assert said and said <= CODED
    elif dial == "mortality":
        assert not said and not np.array_equal(rows.time, plain.time)
    else:
        assert said - CODED


def test_coding_practice_arrives_and_nothing_else_does(sides):
    """Örebro codes less readily."""
    (plain, plainly), (rows, one) = sides(), sides(coding=3.0)
    for name in ("hypertension", "diabetes", "atrial_fibrillation", "renal_failure"):
        before, after = columns(plain, plainly, name), columns(rows, one, name)
        for side in (0, 1):
            assert (after[side] <= before[side]).all() and after[side].mean() < before[side].mean() - 0.03
    kept = [name for name in plainly.features if name not in CODED]
    at = [plainly.features.index(name) for name in kept]
    np.testing.assert_array_equal(one.x[:, at], plainly.x[:, at])
    assert np.array_equal(one.time, plainly.time)


@pytest.mark.parametrize("share", [0.4, pytest.param(1.0, marks=pytest.mark.long)])
def test_laboratory_units_arrive_and_are_harmonised_or_not(sides, share):
    """The share of patients whose NT-proBNP comes in pmol/L is the dial's, up to all of them."""
    rows, one = sides(units=share)
    units = one.notes["measurements"]["nt_probnp"]["units"]
    assert units.get("pmol/L", 0) / sum(units.values()) == pytest.approx(share, abs=0.05)
    plain, plainly = sides()
    for side, usual in zip(
        columns(rows, one, "log_nt_probnp"), columns(plain, plainly, "log_nt_probnp"), strict=True
    ):
        np.testing.assert_allclose(side, usual, atol=0.011)  # two decimals of pmol/L, whole ng/L
    rows, one = sides(harmonise=False, units=share)
    factor = np.log(codes.FACTOR["nt_probnp", "pmol/L"])
    for side, usual in zip(
        columns(rows, one, "log_nt_probnp"), columns(plain, plainly, "log_nt_probnp"), strict=True
    ):
        moved = side - usual
        own = np.isclose(moved, factor, atol=0.011)
        seen = ~np.isnan(side)
        assert (own | np.isclose(moved, 0, atol=0.011))[seen].all()
        assert own[seen].mean() == pytest.approx(share, abs=0.05)


def test_detection_limits_arrive(sides):
    """Nothing is beyond them; who lies at the lower one is said to in the tables."""
    rows, one = sides()
    made, seen = columns(rows, one, "log_nt_probnp")
    for side in (made, seen):
        low, high = np.nanmin(side), np.nanmax(side)
        assert low == pytest.approx(np.log(LIMITS[0]), abs=1e-5) and high <= np.log(LIMITS[1]) + 1e-5
    below = one.x[np.argsort(one.person), one.features.index("nt_probnp_below")]
    at_limit = np.isclose(made, np.log(LIMITS[0]), atol=1e-6)
    assert np.array_equal(below == 1, at_limit) and 0 < at_limit.sum() < 0.05 * len(made)
    assert one.notes["measurements"]["nt_probnp"]["below_limit"] >= at_limit.sum()


def test_missingness_is_informative_both_ways(sides):
    """Who has no echocardiography has less measured, and dies sooner."""
    rows, one = sides()
    order = np.argsort(one.person)
    for name in ("log_nt_probnp", "haemoglobin", "sodium", "bmi", "lvef"):
        made, seen = columns(rows, one, name)
        assert np.array_equal(np.isnan(made), np.isnan(seen)) and 0.03 < np.isnan(made).mean() < 0.7
    for side, died in ((0, rows.y), (1, one.y[order])):
        unseen = columns(rows, one, "phenotyped")[side] == 0
        without = np.isnan(columns(rows, one, "log_nt_probnp")[side])
        assert without[unseen].mean() > without[~unseen].mean() + 0.15
        assert died[unseen].mean() > died[~unseen].mean() + 0.05
