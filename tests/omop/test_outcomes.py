"""What became of patients: events, competing ones, and who was not followed for long enough."""

import pytest

from fedsim.base import RequestError
from fedsim.omop import Reading, extract, read
from tests.omop.made import INDEX, base, condition, cost, death, definition, found, period, put, visit


def people(deaths=(), ends=(), admissions=()):
    """A region whose patients differ in death, end of observation and later admissions: person -> day after
    the index; person, day and planned or not."""
    everyone = range(1, 7)
    tables = base(len(everyone), death=[death(i, INDEX + n) for i, n in deaths])
    for i, n in ends:
        tables["observation_period"][i - 1] = period(i, last=INDEX + n)
    # For outcomes after discharge: everyone's index visit is a stay that ends on the index day.
    tables["visit_occurrence"] += [visit(500 + i, i, INDEX - 9, INDEX, "inpatient") for i in everyone]
    tables["condition_occurrence"] += [condition(i, INDEX, number=500 + i) for i in everyone]
    for number, (i, n, planned) in enumerate(admissions):
        tables["visit_occurrence"].append(
            visit(2000 + number, i, INDEX + n, INDEX + n + 3, "inpatient", planned)
        )
    return tables


def rows(one):
    """Person -> outcome, or (time, event)."""
    values = one.y.tolist() if one.time is None else zip(one.time.tolist(), one.y.tolist(), strict=True)
    return dict(zip(one.person.tolist(), values, strict=True))


DEATHS, ENDS = [(1, 365), (2, 366), (3, 0), (6, 400)], [(4, 364), (5, 365), (6, 300)]


def test_death_within_a_year(tmp_path):
    one = found(put(tmp_path, people(DEATHS, ENDS)), outcome="death_1y")
    assert rows(one) == {1: 1, 2: 0, 3: 1, 5: 0}
    # The sixth died when nobody observed any more: that is not known, nor whether others did.
    assert one.notes["excluded"] == {"not_followed": 2}
    assert one.notes["deaths_after_observation"] == 1


def test_time_to_death(tmp_path):
    one = found(put(tmp_path, people(DEATHS, [*ENDS, (5, 0)])), outcome="survival")
    assert rows(one) == {1: (365, 1), 2: (366, 1), 3: (0.5, 1), 4: (364, 0), 6: (300, 0)}
    assert one.notes["excluded"] == {"not_followed": 1}


ADMISSIONS = [
    (1, 30, "unplanned"),
    (2, 31, "unplanned"),
    (3, 5, "planned"),
    (4, 20, "unplanned"),
    (4, 4, "planned"),
]


def test_readmission_and_death_before_it(tmp_path):
    path = put(tmp_path, people([(5, 10), (4, 25)], [(6, 29), (2, 400)], ADMISSIONS))
    one = found(path, outcome="readmission_30")
    assert rows(one) == {1: 1, 2: 0, 3: 0, 4: 1, 5: 0}
    assert one.notes["excluded"] == {"not_followed": 1}
    assert rows(found(path, outcome="either_30")) == {1: 1, 2: 0, 3: 0, 4: 1, 5: 1}
    left = found(path, outcome="alive_30")
    assert rows(left) == {1: 1, 2: 0, 3: 0, 4: 1}
    assert left.notes["excluded"] == {"competing_death": 1, "not_followed": 1}
    times = rows(found(path, outcome="readmission_time"))
    assert times == {1: (30, 1), 2: (31, 1), 3: (1900, 0), 4: (20, 1), 5: (10, 0), 6: (29, 0)}


def test_days_of_the_index_stay(tmp_path):
    tables = people()
    tables["visit_occurrence"] = [
        v for v in tables["visit_occurrence"] if v["visit_occurrence_id"] not in (503, 504)
    ]
    tables["visit_occurrence"] += [visit(503, 3, INDEX, INDEX + 4, "inpatient")]
    tables["visit_occurrence"] += [visit(504, 4, INDEX, kind="inpatient") | {"visit_end_date": None}]
    one = found(put(tmp_path, tables), outcome="length_of_stay")
    assert rows(one) == {1: 9, 2: 9, 3: 4, 5: 9, 6: 9}
    assert one.notes["excluded"] == {"no_discharge": 1}


def test_cost_of_the_first_year(tmp_path):
    tables = people([(2, 100)], [(3, 364)], [(1, 364, "planned"), (1, 365, "planned"), (2, 50, "planned")])
    tables["cost"] = [cost(i, number, 10.5**i) for i, number in enumerate((2000, 2001, 2002, 1001, 1003))]
    one = found(put(tmp_path, tables), outcome="cost")
    assert rows(one) == pytest.approx({1: 1 + 10.5**3, 2: 10.5**2, 4: 0, 5: 0, 6: 0})
    assert one.notes["excluded"] == {"not_followed": 1}


def test_an_outcome_that_is_known_at_the_index_is_refused(tmp_path):
    path = put(tmp_path, people())
    with pytest.raises(
        RequestError, match=r"data.outcome=length_of_stay is known at discharge; use data.index"
    ):
        extract(read(path), definition(), Reading(outcome="length_of_stay", index="discharge"))
    with pytest.raises(RequestError, match=r"no outcome 'death'; choose one of .*did you mean 'death_1y'"):
        found(path, outcome="death")
