import numpy as np
import pytest

from fedsim.base import RequestError
from fedsim.cohort.records import SCHEMA, Records, date, decoded


def tables(rows=3):
    """Tables that pass, with `rows` rows each."""
    made = {
        table: {name: np.zeros(rows, column.dtype) for name, column in columns.items()}
        for table, columns in SCHEMA.items()
    }
    for table in ("person", "visit"):
        made[table]["id"] = np.arange(rows, dtype=np.int32)
    made["condition"]["visit"][0] = -1
    return made


@pytest.mark.parametrize("rows", [0, 3])
def test_tables_of_the_schema_pass(rows):
    made = tables(3)
    if not rows:
        made["death"] = {name: values[:0] for name, values in made["death"].items()}
    records = Records(region="halland", **made)
    assert set(records.tables()) == set(SCHEMA) and len(records.death["day"]) == rows


BAD = {
    "lacks": (lambda t: t["drug"].pop("end"), r"records of halland: drug lacks its column end"),
    "unknown": (lambda t: t["drug"].update(stop=t["drug"]["end"]), r"unknown column 'stop'; choose one of"),
    "type": (
        lambda t: t["visit"].update(cost=t["visit"]["cost"].astype(np.float64)),
        r"visit.cost must be float32\[3\], got float64",
    ),
    "length": (lambda t: t["death"].update(day=np.zeros(2, np.int32)), r"death.day must be int32\[3\]"),
    "person": (
        lambda t: t["drug"]["person"].__setitem__(2, 3),
        r"drug.person must be in \[0, 3\), got 0 to 3",
    ),
    "order": (lambda t: t["drug"]["person"].__setitem__(0, 2), r"drug must lie in order of persons"),
    "visit": (
        lambda t: t["condition"]["visit"].__setitem__(0, 9),
        r"condition.visit must be in \[-1, 3\), got 0 to 9",
    ),
    "code": (
        lambda t: t["measurement"]["unit"].__setitem__(0, -1),
        r"measurement.unit must be in \[0, 13\), got -1 to 0",
    ),
    "time": (lambda t: t["visit"]["start"].__setitem__(1, 5), r"visit has 1 rows that end before they start"),
}


@pytest.mark.parametrize("case", BAD)
def test_what_does_not_fit_is_named(case):
    spoil, message = BAD[case]
    made = tables()
    spoil(made)
    with pytest.raises(RequestError, match=message):
        Records(region="halland", **made)


def test_codes_and_days_are_read():
    assert decoded("person", "education", np.array([0, -1, 2], np.int8)).tolist() == [
        "compulsory school", "", "university",
    ]  # fmt: skip
    assert str(date(np.array([31]))[0]) == "2000-02-01"
    with pytest.raises(RequestError, match=r"visit.cost holds no codes"):
        decoded("visit", "cost", np.zeros(1, np.int8))
