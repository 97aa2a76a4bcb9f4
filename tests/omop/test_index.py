"""Index dates, and whom they leave out: each for its reason, with its count."""

import numpy as np
import pytest

from tests.omop.made import INDEX, base, condition, death, found, period, person, put, visit

YEAR = {"year": {"table": "index", "take": "year"}, "age": {"table": "person", "take": "age"}}


def days(one):
    """Index dates, days after 2020-01-01."""
    return np.round((one.x[:, 0].astype(np.float64) - 2000) * 365.25 - 7305).astype(int).tolist()


def test_the_index_is_the_first_diagnosis_during_a_visit(tmp_path):
    tables = base(4)
    tables["condition_occurrence"] += [
        condition(1, INDEX - 10),  # outside visits
        condition(2, 20, "I10", number=1), condition(2, 30, "I11.0", number=2),
        condition(3, 40, "foreign", number=3, concept=316139),
        condition(4, INDEX + 5, number=4),
    ]  # fmt: skip
    tables["visit_occurrence"] += [visit(1, 2, 20), visit(2, 2, 30), visit(3, 3, 40), visit(4, 4, INDEX + 5)]
    path = put(tmp_path, tables)
    assert days(found(path, YEAR)) == [100, 30, 40, 100]
    anywhere = {"codes": ["I50", "I11.0"], "within_visit": False}
    assert days(found(path, YEAR, index=anywhere)) == [90, 30, 40, 100]


def test_at_discharge_the_index_is_the_end_of_the_first_admission_for_it(tmp_path):
    tables = base(4)
    tables["visit_occurrence"] += [
        visit(1, 1, 50, 60, "inpatient"), visit(2, 1, 200, 210, "inpatient"),
        visit(3, 2, 300, 330, "inpatient"), visit(4, 2, 10, 20, "inpatient"),
        visit(5, 4, 400, 410, "inpatient") | {"visit_end_date": None},
    ]  # fmt: skip
    tables["condition_occurrence"] += [
        condition(1, 50, "J18.9", number=1), condition(1, 205, number=2), condition(2, 300, number=3),
        condition(2, 21, number=4),  # filed under a stay, but recorded when that was over
        condition(4, 400, number=5),
    ]  # fmt: skip
    one = found(put(tmp_path, tables), YEAR, "readmission_30")
    assert days(one) == [210, 330] and one.person.tolist() == [1, 2]
    assert one.notes["excluded"] == {"no_discharge": 1, "no_index": 1}


def test_of_two_visits_on_a_day_the_one_to_a_ward_is_the_index(tmp_path):
    tables = base(1, visit_occurrence=[visit(2000, 1, INDEX, INDEX + 9, "inpatient")])
    tables["condition_occurrence"] += [condition(1, INDEX, number=2000)]
    one = found(put(tmp_path, tables), {"in": {"table": "index", "take": "inpatient"}}, "length_of_stay")
    assert (one.x.tolist(), one.y.tolist()) == ([[1.0]], [9.0])


def test_an_index_date_after_death_is_left_out_with_a_count_and_a_warning(tmp_path):
    path = put(tmp_path, base(3, death=[death(1, INDEX - 1), death(2, INDEX), death(2, INDEX + 9)]))
    with pytest.warns(UserWarning, match="lund: 1 of 3 patients have an index date after their death"):
        one = found(path, YEAR)
    assert one.person.tolist() == [2, 3] and one.y.tolist() == [1, 0]
    assert one.notes["excluded"] == {"index_after_death": 1}


def test_who_died_in_the_ward_was_not_discharged(tmp_path):
    tables = base(3, death=[death(1, 210), death(2, 205), death(3, 199)])
    tables["visit_occurrence"] += [visit(i, i, 200, 210, "inpatient") for i in (1, 2, 3)]
    tables["condition_occurrence"] += [condition(i, 200, number=i) for i in (1, 2, 3)]
    with pytest.warns(UserWarning, match="1 of 3"):
        one = found(put(tmp_path, tables), YEAR, "readmission_30")
    assert one.notes["excluded"] == {"died_before_discharge": 2, "index_after_death": 1} and not len(one.y)


def test_other_reasons_are_counted_too(tmp_path):
    tables = base(6)
    tables["person"][1] = person(2, year_of_birth=2021)
    tables["observation_period"][2] = period(3, INDEX + 1)
    tables["observation_period"][3] = period(4, INDEX - 30)
    tables["condition_occurrence"] = tables["condition_occurrence"][:-1]
    tables["observation_period"] += [period(5, -3000, -2001)]
    path = put(tmp_path, tables)
    one = found(path, YEAR, history=31)
    assert one.person.tolist() == [1, 5]
    reasons = ("index_before_birth", "index_outside_observation", "no_index", "short_history")
    assert one.notes["excluded"] == dict.fromkeys(reasons, 1)
    assert one.notes["patients"] == 6
    assert found(path, YEAR, history=30).person.tolist() == [1, 4, 5]
