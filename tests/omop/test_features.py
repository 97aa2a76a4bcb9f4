"""Every way to take a feature, against rows that were counted by hand."""

import numpy as np
import pytest

from fedsim.base import RequestError
from tests.omop.made import INDEX, base, cost, device, drug, found, lab, observation, person, put, visit
from tests.omop.made import condition as diagnosed

NAN = np.nan


def column(path, feature, **reading):
    """One feature's values, by person."""
    return found(path, {"it": feature}, **reading).x[:, 0].tolist()


def check(got, wanted):
    np.testing.assert_allclose(got, wanted, rtol=1e-6)


def test_persons(tmp_path):
    tables = base(3)
    tables["person"] = [
        person(1),
        person(2, gender_concept_id=8532, month_of_birth=None),
        person(3, gender_concept_id=0),
    ]
    path = put(tmp_path, tables)
    # 2020-04-10; born on 1950-01-01, on the middle of the year where only that is known.
    check(column(path, {"table": "person", "take": "age"}), np.array([25667, 25486, 25667]) / 365.25)
    one = found(path, {"male": {"table": "person", "take": "male"}})
    check(one.x[:, 0], [1, 0, NAN])
    assert one.notes["unknown_sex"] == {"patients": 1}


LABS = [
    lab(1, 1, INDEX - 50, 4.0), lab(2, 1, INDEX - 10, 20.0, unit="mg/dL"), lab(3, 1, INDEX - 400, 9.0),
    lab(4, 1, INDEX, 4.5), lab(6, 1, INDEX, 5.5), lab(5, 1, INDEX, 9.5, code="sodium"),
    lab(7, 2, INDEX - 366, 3.0),
]  # fmt: skip
TAKEN = {
    "last": (5.5, NAN),
    "first": (4.0, NAN),
    "mean": ((4.0 + 5.0 + 4.5 + 5.5) / 4, NAN),
    "minimum": (4.0, NAN),
    "maximum": (5.5, NAN),
    "count": (4, 0),
    "any": (1, 0),
    "missing": (0, 1),
    "days_since": (0, NAN),
}


@pytest.mark.parametrize("take", TAKEN)
def test_measurements_in_a_window(tmp_path, take):
    path = put(tmp_path, base(2, measurement=LABS))
    feature = {"table": "measurement", "take": take, "measurement": "potassium", "window": [-365, 0]}
    check(column(path, feature), TAKEN[take])


def test_a_window_may_end_before_the_index_day_and_have_no_beginning(tmp_path):
    path = put(tmp_path, base(2, measurement=LABS))
    feature = {"table": "measurement", "take": "last", "measurement": "potassium"}
    check(column(path, feature | {"window": [-365, -1]}), [5.0, NAN])
    check(column(path, feature | {"window": [None, -100]}), [9.0, 3.0])
    check(column(path, feature, same_day="exclude"), [5.0, 3.0])
    check(column(path, feature | {"log": True}), np.log([5.5, 3.0]))


def test_the_logarithm_of_what_is_not_positive_is_missing(tmp_path):
    path = put(tmp_path, base(1, measurement=[lab(1, 1, 0, 0.0)]))
    feature = {"table": "measurement", "take": "last", "measurement": "potassium", "log": True}
    check(column(path, feature), [NAN])


def test_conditions_are_found_by_the_beginning_of_a_code_or_by_concept(tmp_path):
    rows = [
        diagnosed(1, INDEX - 5, "I10"), diagnosed(1, INDEX - 9, "i109"), diagnosed(2, INDEX - 1, "J10.9"),
        diagnosed(3, INDEX - 3, "unheard of", concept=320128), diagnosed(4, INDEX - 2, "", concept=99),
    ]  # fmt: skip
    path = put(tmp_path, base(4, condition_occurrence=rows))
    feature = {"table": "condition", "codes": ["I10"]}
    check(column(path, feature | {"take": "any"}), [1, 0, 1, 0])
    check(column(path, feature | {"take": "count"}), [2, 0, 1, 0])
    check(column(path, feature | {"take": "days_since"}), [5, NAN, 3, NAN])
    check(column(path, feature | {"take": "days_since_first"}), [9, NAN, 3, NAN])
    check(column(path, {"table": "condition", "take": "any", "concepts": [99]}), [0, 0, 0, 1])


def test_a_drug_is_there_while_it_covers_a_day_of_the_window(tmp_path):
    rows = [
        drug(1, 1, INDEX - 300, INDEX - 200), drug(2, 2, INDEX - 300, INDEX + 50),
        drug(3, 3, INDEX - 2, INDEX - 2), drug(4, 4, INDEX - 400, INDEX - 181),
    ]  # fmt: skip
    path = put(tmp_path, base(4, drug_exposure=rows))
    feature = {"table": "drug", "take": "any", "codes": ["C07"]}
    check(column(path, feature | {"window": [-180, 0]}), [0, 1, 1, 0])
    check(column(path, feature | {"window": [-220, -190]}), [1, 1, 0, 1])
    check(column(path, feature | {"window": [-150, -100]}), [0, 1, 0, 0])


def test_devices_and_observations(tmp_path):
    rows = [
        observation(1, 1, -5, "smoking", text="former"), observation(2, 1, INDEX, "smoking", text="current"),
        observation(3, 2, 0, "smoking", text="former"), observation(4, 2, 5, "deprivation", value=4.0),
    ]  # fmt: skip
    path = put(tmp_path, base(3, device_exposure=[device(2, INDEX)], observation=rows))
    check(column(path, {"table": "device", "take": "any", "codes": ["ICD", "CRT-D"]}), [0, 1, 0])
    check(column(path, {"table": "device", "take": "any", "codes": ["IC"]}), [0, 0, 0])
    smoking = {"table": "observation", "take": "is", "codes": ["smoking"]}
    check(column(path, smoking | {"value": "former"}), [0, 1, NAN])
    check(column(path, smoking | {"value": "current"}), [1, 0, NAN])
    check(column(path, {"table": "observation", "take": "last", "codes": ["deprivation"]}), [NAN, 4, NAN])
    check(column(path, {"table": "observation", "take": "any", "codes": ["deprivation"]}), [0, 1, 0])


def test_visits_and_costs(tmp_path):
    visits = [
        visit(1, 1, INDEX - 30, INDEX - 20, "inpatient"), visit(2, 1, INDEX - 366, INDEX - 365, "inpatient"),
        visit(3, 1, INDEX - 7), visit(4, 1, INDEX - 3, INDEX + 9, "inpatient"),
    ]  # fmt: skip
    costs = [
        cost(1, 1, 1000.5), cost(2, 2, 300.25), cost(3, 3, 70.0), cost(4, 4, 5000.0),
        cost(5, 1, 3.0, domain="Drug"), cost(6, 8, 9.0, domain="Procedure"),
    ]  # fmt: skip
    drugs = [drug(1, 1, INDEX - 2, INDEX + 60)]
    path = put(tmp_path, base(2, visit_occurrence=visits, cost=costs, drug_exposure=drugs))
    inside = {"table": "visit", "codes": ["inpatient"], "concepts": [9201], "window": [-365, -1]}
    check(column(path, inside | {"take": "count"}), [2, 0])
    check(column(path, inside | {"take": "days_since"}), [3, NAN])
    # The stay that goes on beyond the index date has cost nothing that is known by then.
    check(
        column(path, {"table": "cost", "take": "total", "window": [-365, 0]}), [1000.5 + 300.25 + 70 + 3, 0]
    )
    check(column(path, {"table": "cost", "take": "total", "window": [-10, -7]}), [70, 0])


def test_days_may_count_from_the_beginning_of_the_index_visit(tmp_path):
    visits = [visit(1, 1, 200, 220, "inpatient"), visit(2, 1, 199 - 364, 195, "inpatient")]
    tables = base(1, visit_occurrence=visits, condition_occurrence=[diagnosed(1, 201, number=1)])
    tables["measurement"] = [lab(1, 1, 215, 5.0), lab(2, 1, 150, 4.0)]
    path = put(tmp_path, tables)
    admitted = {"table": "visit", "take": "count", "codes": ["inpatient"], "window": [-365, -1]}
    potassium = {"table": "measurement", "take": "last", "measurement": "potassium", "window": [-60, 0]}
    reading = {"outcome": "readmission_30"}
    check(column(path, admitted, **reading), [1])
    check(column(path, admitted | {"window": [-400, -1]}, **reading), [2])
    check(column(path, admitted | {"from_start": True}, **reading), [1])
    check(column(path, potassium, **reading), [5.0])
    check(column(path, potassium | {"from_start": True}, **reading), [4.0])
    check(column(path, {"table": "index", "take": "length_of_stay", "index": "discharge"}, **reading), [20])
    check(column(path, {"table": "index", "take": "inpatient"}, **reading), [1])
    check(column(path, {"table": "index", "take": "inpatient"}), [0])
    check(column(path, {"table": "index", "take": "year"}), [2000 + (7305 + INDEX) / 365.25])


# --- units, limits, codes that nobody knows --------------------------------------------------

POTASSIUM = {"table": "measurement", "take": "last", "measurement": "potassium"}


@pytest.mark.parametrize("unit", ["mmol/L", "MMOL/l", "mmol / L", None])
def test_a_unit_is_known_however_it_is_written_or_by_its_concept(tmp_path, unit):
    path = put(tmp_path, base(1, measurement=[lab(1, 1, 0, 4.0, unit=unit, unit_concept_id=8753)]))
    check(column(path, POTASSIUM), [4.0])


def test_mixed_units_are_converted_and_said(tmp_path):
    rows = [lab(1, 1, 0, 4.0), lab(2, 2, 0, 20.0, unit="mg/dL"), lab(3, 2, -9, 24.0, unit="mg/dL")]
    path = put(tmp_path, base(2, measurement=rows))
    one = found(path, {"it": POTASSIUM})
    check(one.x[:, 0], [4.0, 5.0])
    assert one.notes["measurements"] == {"potassium": {"units": {"mmol/L": 1, "mg/dL": 2}}}
    check(column(path, POTASSIUM, harmonise=False), [4.0, 20.0])


@pytest.mark.parametrize("unit", ["furlong", None])
def test_an_unknown_unit_is_refused_or_missing_as_asked(tmp_path, unit):
    rows = [lab(1, 1, 0, 4.0), lab(2, 2, 0, 20.0, unit=unit), lab(3, 2, -9, 5.0)]
    path = put(tmp_path, base(2, measurement=rows))
    said = (
        r"potassium has 1 values in unit '(furlong|none)' in table measurement of lund .*measurement.parquet"
    )
    with pytest.raises(
        RequestError, match=said + r".*no conversion to mmol/L; add one .*unknown_units=missing"
    ):
        found(path, {"it": POTASSIUM})
    one = found(path, {"it": POTASSIUM}, unknown_units="missing")
    check(one.x[:, 0], [4.0, 5.0])
    assert one.notes["measurements"]["potassium"]["unknown_units"] == {unit or "none": 1}


def test_a_value_below_its_limit_is_the_limit_or_half_of_it(tmp_path):
    rows = [lab(1, 1, 0, 4.0, operator="<"), lab(2, 2, 0, 6.0, operator=">"), lab(3, 3, 0, 5.0)]
    path = put(tmp_path, base(4, measurement=rows))
    check(column(path, POTASSIUM), [4.0, 6.0, 5.0, NAN])
    check(column(path, POTASSIUM, below="half"), [2.0, 6.0, 5.0, NAN])
    below = found(path, {"it": POTASSIUM | {"take": "below"}})
    check(below.x[:, 0], [1, 0, 0, 0])
    assert below.notes["measurements"]["potassium"] == {"below_limit": 1}


def test_a_value_that_is_none_does_not_hide_an_earlier_one(tmp_path):
    rows = [lab(1, 1, 0, 4.0), lab(2, 1, 5, None), lab(3, 1, 6, float("nan"))]
    one = found(put(tmp_path, base(1, measurement=rows)), {"it": POTASSIUM})
    check(one.x[:, 0], [4.0])
    assert one.notes["measurements"]["potassium"]["without_value"] == 2


def test_codes_that_nobody_knows_are_counted(tmp_path):
    rows = [diagnosed(1, 0, "Q1"), diagnosed(1, 1, "Q1"), diagnosed(1, 2, "Q2"), diagnosed(1, 2, "J18.9")]
    rows += [diagnosed(1, 3, "ICD-11 BD1", concept=316139), diagnosed(1, 3, "", concept=77)]
    path = put(tmp_path, base(1, condition_occurrence=rows, measurement=[lab(1, 1, 0, 3.0, code="NPU1")]))
    one = found(
        path,
        {"it": POTASSIUM | {"take": "missing"}, "q2": {"table": "condition", "take": "any", "codes": ["Q2"]}},
    )
    check(one.x[0], [1, 1])
    assert one.notes["unknown_codes"] == {
        "condition_occurrence": {"rows": 3, "codes": 2, "such_as": ["Q1", "concept 77"]},
        "measurement": {"rows": 1, "codes": 1, "such_as": ["NPU1"]},
    }


def test_a_measurement_that_is_nowhere_is_missing_and_said(tmp_path):
    ejection = {"table": "measurement", "take": "last", "measurement": "lvef"}
    one = found(put(tmp_path, base(2, measurement=[lab(1, 1, 0, 4.0)])), {"lvef": ejection, "k": POTASSIUM})
    check(one.x, [[NAN, 4.0], [NAN, NAN]])
    assert one.notes["empty"] == ["lvef"]


def test_a_table_that_a_feature_needs_is_missed_by_name(tmp_path):
    tables = base(1)
    del tables["device_exposure"], tables["cost"]
    path = put(tmp_path, tables)
    with pytest.raises(
        RequestError, match=r"no table device_exposure of lund \(.*\), which feature it, or leave"
    ):
        column(path, {"table": "device", "take": "any", "codes": ["ICD"]})
    with pytest.raises(
        RequestError, match=r"no table cost of lund \(.*cost.parquet\), which feature it needs"
    ):
        column(path, {"table": "cost", "take": "total"})
    with pytest.raises(RequestError, match=r"which data\.outcome=cost needs"):
        found(path, outcome="cost")
