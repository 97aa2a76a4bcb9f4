"""What lies in a patient's future changes no feature, to the bit; on the day itself it does, unless left
out.

Into tables of the simulator, rows are planted a number of days after each patient's index date: new ones,
ones numbered as if they had been entered long before, and changes to what had begun before and went on.
"""

import shutil

import duckdb
import numpy as np
import pytest

from fedsim.cohort import Cohort, records
from fedsim.config import HeartFailure
from fedsim.omop import Reading, extract, load, read, write
from fedsim.omop.definition import Feature

INDEX = """CREATE TEMP TABLE idx AS
SELECT c.person_id, min(v.visit_start_date) AS day, min(v.visit_occurrence_id) AS visit
FROM site.condition_occurrence c JOIN site.visit_occurrence v USING (visit_occurrence_id)
WHERE c.condition_source_value[1:3] = 'I50' OR c.condition_source_value IN ('I11.0', 'I25.5')
GROUP BY 1"""


def rows(table, **columns):
    """SQL that gives every patient a row of a table, with these columns."""
    names = ", ".join(["person_id", *columns])
    values = ", ".join(["i.person_id", *columns.values()])
    return f"INSERT INTO site.{table} ({names}) SELECT {values} FROM idx i"


DAY = "i.day + {n}"
# What is planted -> its SQL; {n}: days after the index date.
PLANTED = {
    "a diagnosis": [
        rows("condition_occurrence", condition_concept_id="0", condition_start_date=DAY,
            condition_source_value="'N18.9'")
    ],
    "a diagnosis filed under an earlier visit": [
        rows(
            "condition_occurrence",
            condition_concept_id="46271022",
            condition_start_date=DAY,
            visit_occurrence_id="i.visit",
        )
    ],
    "a drug": [
        rows(
            "drug_exposure",
            drug_exposure_id="-i.person_id",
            drug_concept_id="0",
            drug_exposure_start_date=DAY,
            drug_exposure_end_date=f"{DAY} + 90",
            drug_source_value="'C01AA05'",
        )
    ],
    "a device": [
        rows("device_exposure", device_concept_id="0", device_exposure_start_date=DAY,
            device_source_value="'ICD'")
    ],
    "a measurement": [
        rows(
            "measurement",
            measurement_id="100000000 + i.person_id",
            measurement_concept_id="0",
            measurement_date=DAY,
            value_as_number="6.9",
            measurement_source_value="'potassium'",
            unit_source_value="'mmol/L'",
        )
    ],
    "a measurement entered long before, below its limit": [
        rows(
            "measurement",
            measurement_id="-i.person_id",
            measurement_concept_id="3029187",
            measurement_date=DAY,
            operator_concept_id="4171756",
            value_as_number="50",
            unit_source_value="'ng/L'",
        )
    ],
    "an answer": [
        rows(
            "observation",
            observation_id="100000000 + i.person_id",
            observation_concept_id="0",
            observation_date=DAY,
            value_as_number="9",
            value_as_string="'current'",
            observation_source_value="'smoking'",
        )
    ],
    "an admission booked long before, and its cost": [
        rows(
            "visit_occurrence",
            visit_occurrence_id="-i.person_id",
            visit_concept_id="9201",
            visit_start_date=DAY,
            visit_end_date=DAY,
            visit_source_value="'inpatient'",
        ),
        "INSERT INTO site.cost (cost_event_id, cost_domain_id, total_cost) "
        "SELECT -person_id, 'Visit', 12345.678 FROM idx",
    ],
    "the cost of a stay that began before": [
        rows(
            "visit_occurrence",
            visit_occurrence_id="-1000000 - i.person_id",
            visit_concept_id="0",
            visit_start_date="i.day - 30",
            visit_end_date=DAY,
        ),
        "INSERT INTO site.cost (cost_event_id, cost_domain_id, total_cost) "
        "SELECT -1000000 - person_id, 'Visit', 777.7 FROM idx",
    ],
}  # fmt: skip
# All of them together are planted by the last test, too.
LONG = PLANTED.keys() - {"a diagnosis", "the cost of a stay that began before"}
# What could be seen on no day: it is about days after the index date whatever it says.
NEVER = {
    "deaths": ["DELETE FROM site.death", rows("death", death_date="i.day + {n}")],
    "ends of observation": [
        "UPDATE site.observation_period SET observation_period_end_date = observation_period_end_date + 999"
    ],
    "how long drugs go on": [
        "UPDATE site.drug_exposure SET drug_exposure_end_date = drug_exposure_end_date + 9999 "
        "FROM idx i WHERE i.person_id = drug_exposure.person_id AND drug_exposure_end_date >= i.day"
    ],
    "a measurement in a unit that nobody knows": [
        rows(
            "measurement",
            measurement_id="200000000 + i.person_id",
            measurement_concept_id="0",
            measurement_date="i.day + 1 + {n}",
            value_as_number="1",
            measurement_source_value="'potassium'",
            unit_source_value="'furlong'",
        )
    ],
}
MORE: dict[str, dict] = {
    "visits": {"table": "visit", "take": "count", "concepts": [9201, 9202, 9203, 581477]},
    "mean_potassium": {"table": "measurement", "take": "mean", "measurement": "potassium"},
    "days_since_potassium": {"table": "measurement", "take": "days_since", "measurement": "potassium"},
    "days_since_kidney": {"table": "condition", "take": "days_since", "codes": ["N18"]},
    "digoxins": {"table": "drug", "take": "count", "codes": ["C01AA"]},
    "cost_ever": {"table": "cost", "take": "total"},
}
FEW = (
    *("renal_failure", "digoxin", "crt_icd", "potassium", "log_nt_probnp", "nt_probnp_below"),
    *("smoking=current", "prior_admissions"),
)


@pytest.fixture(scope="module")
def asked():
    from fedsim.base import build

    found = load("heart_failure")
    found.features.update({name: build(Feature, one) for name, one in MORE.items()})
    return found


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    folder = tmp_path_factory.mktemp("plain")
    cohort = Cohort(HeartFailure(regions="orebro", patients=150, external=(), seed=5))
    return write(records(cohort, 0), folder, "duckdb")


def extracted(path, asked, same_day="include", kept=(*FEW, *MORE)):
    """float32[persons, features]."""
    site = read(path)
    drop = tuple(name for name in asked.features if name not in kept)
    one = extract(site, asked, Reading(outcome="survival", same_day=same_day, drop=drop))
    site.close()
    assert one.person.tolist() == list(range(1, 151))
    return one.x


@pytest.fixture(scope="module")
def untouched(plain, asked):
    return {same_day: extracted(plain, asked, same_day) for same_day in ("include", "exclude")}


@pytest.fixture
def seen(plain, tmp_path, asked):
    def seen(statements, n, same_day="include", kept=(*FEW, *MORE)):
        """Features after statements on a copy of the tables."""
        path = shutil.copy(plain, tmp_path / "orebro.duckdb")
        with duckdb.connect() as connection:
            connection.execute(f"ATTACH '{path}' AS site")
            connection.execute(INDEX)
            for text in statements:
                connection.execute(text.format(n=n))
        return extracted(path, asked, same_day, kept)

    return seen


def same(a, b):
    return a.tobytes() == b.tobytes()


@pytest.mark.parametrize("case", PLANTED)
def test_the_future_is_not_seen_and_the_day_itself_only_where_it_should(seen, untouched, case):
    assert same(seen(PLANTED[case], n=1), untouched["include"])
    assert not same(seen(PLANTED[case], n=0), untouched["include"])  # else no feature could see it
    assert same(seen(PLANTED[case], n=0, same_day="exclude"), untouched["exclude"])


@pytest.mark.parametrize("case", NEVER)
def test_what_is_about_later_is_not_seen_on_any_day(seen, untouched, case):
    assert same(seen(NEVER[case], n=0), untouched["include"])


def test_all_of_it_together_changes_no_feature_of_the_built_in_definition(seen, plain, asked):
    planted = [text for texts in (PLANTED | NEVER).values() for text in texts]
    here = extracted(plain, asked, kept=asked.features)
    assert same(seen(planted, n=1, kept=asked.features), here)
    assert here.shape[1] > 60 and np.isfinite(here).mean() > 0.8
