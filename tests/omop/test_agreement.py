"""Features made directly by the simulator are those read back from the tables it writes."""

import numpy as np
import pytest

from fedsim.cohort import Cohort, records, table
from fedsim.cohort.table import MEASURED, features
from fedsim.config import HeartFailure
from fedsim.omop import Reading, extract, load, read, write

ASKED = load("heart_failure")
# Values are written with the decimals that a laboratory has: half a unit of the last one, and of two decimals
# in a region's own unit. What is written in days is rounded to them.
ROUNDED = dict.fromkeys(MEASURED, 0.5001) | {
    "potassium": 0.0501,
    "bmi": 0.0501,
    "log_nt_probnp": 0.5001 / 50 + 1e-6,  # 50 is the least value there is
    "log_creatinine": 0.5001 / 30 + 1e-6,
    "haemoglobin": 0.5001 + 0.05,
    "age": 1.001 / 365.25,
    "year": 2e-4,  # float32 has three decimals of a year
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("regions")


def sides(folder, outcome, selection="population"):
    """(as made, as read) of each region: matching rows, in order of patients."""
    cohort = Cohort(HeartFailure(patients=2000, external=(), outcome=outcome, selection=selection, seed=1))
    for k, rows in enumerate(table(cohort)):
        path = folder / selection / cohort.regions[k].name
        if not path.exists():
            write(records(cohort, k), folder / selection)
        site = read(path)
        one = extract(site, ASKED, Reading(outcome=outcome))
        site.close()
        _, made, found = np.intersect1d(rows.patient, one.person - 1, return_indices=True)
        yield rows, made, one, found


def compare(rows, made, one, found, known, names):
    """known: names of the columns of `rows`."""
    for name in names:
        a = rows.x[made, known.index(name)].astype(np.float64)
        b = one.x[found, one.features.index(name)].astype(np.float64)
        assert np.array_equal(np.isnan(a), np.isnan(b)), name
        assert np.nanmax(np.abs(a - b), initial=0) <= ROUNDED.get(name, 0), name


@pytest.mark.parametrize("selection", ["population", "registry"])
def test_features_at_the_first_diagnosis_and_time_to_death_are_the_same(folder, selection):
    known = features("survival", selection)
    names = [name for name in known if name != "duration_months"]
    for rows, made, one, found in sides(folder, "survival", selection):
        assert len(made) == len(rows.y) == len(one.y)  # everyone
        compare(rows, made, one, found, known, names)
        assert np.array_equal(rows.y[made], one.y[found]) and np.array_equal(rows.time[made], one.time[found])
        days = one.x[found, one.features.index("days_known")]
        if selection == "population":
            assert not days.any()
            continue
        months = rows.x[made, known.index("duration_months")]
        np.testing.assert_allclose(days, np.minimum(months * 30.4, 5 * 365), atol=1)


def test_death_within_a_year_is_known_of_the_same_patients(folder):
    for rows, made, one, found in sides(folder, "death_1y"):
        assert len(made) == len(rows.y) == len(one.y)
        assert np.array_equal(rows.y[made], one.y[found])


def test_readmission_and_what_is_known_at_discharge_are_the_same(folder):
    """Who was in hospital at the index. From the tables others are found, too: whose first admission for
    heart failure came later. At discharge the region knows what was measured during the stay."""
    names = ["male", "deprivation", "living_alone", "education", "prior_admissions", "length_of_stay"]
    known = features("readmission_30", "population")
    for rows, made, one, found in sides(folder, "readmission_30"):
        assert len(made) == len(rows.y) < len(one.y)
        assert np.array_equal(rows.y[made], one.y[found])
        compare(rows, made, one, found, known, [*names, "diabetes", "statin", "crt_icd"])
        stay = rows.x[made, known.index("length_of_stay")] / 365.25
        age = known.index("age")
        older = one.x[found, one.features.index("age")] - rows.x[made, age]
        np.testing.assert_allclose(older, stay, atol=1.01 / 365.25)


def test_days_of_the_stay_are_the_same_and_cost_is_that_without_drugs(folder):
    for rows, made, one, found in sides(folder, "length_of_stay"):
        assert np.array_equal(rows.y[made], one.y[found])
    for rows, made, one, found in sides(folder, "cost"):
        assert len(made) == len(rows.y) == len(one.y)
        drugs = rows.y[made] - one.y[found]
        count = (
            sum(
                one.x[found, one.features.index(name)]
                for name in ("acei", "arb", "arni", "beta_blocker", "mra", "sglt2i", "diuretic", "digoxin")
            )
            + one.x[found, one.features.index("anticoagulant")]
            + one.x[found, one.features.index("statin")]
        )
        # 900 SEK a drug and year at most, and less for those who died or moved; float32 of up to a million.
        assert (drugs > -0.2).all() and (drugs <= count * 900 + 0.2).all()
        assert np.array_equal(drugs > 0.5, count > 0)
