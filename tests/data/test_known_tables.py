# mypy: disable-error-code="arg-type, index, union-attr"
"""Diabetes 130, SUPPORT2 and sepsis in Norway: what is selected, what is a feature, and what is refused."""

import json
from collections import Counter

import numpy as np
import pytest

from fedsim.base import RequestError
from fedsim.config import Diabetes130, Natural, SepsisNorway, Support2
from fedsim.data import describe, icd9, load
from fedsim.data.partition import partitions
from fedsim.data.sepsis_norway import without
from fedsim.data.splits import assign
from fedsim.data.support2 import LEAKS, NORMAL, NUMBERS, WORDS
from tests.data.known import TEXTS, published, write

WITH = {
    "diabetes_130": (Diabetes130, "diabetic_data.csv"),
    "support2": (Support2, "support2.csv"),
    "sepsis_norway": (SepsisNorway, "sepsis_primary_cohort.csv"),
}


@pytest.fixture
def folder(tmp_path):
    with published(TEXTS):
        yield write(tmp_path, TEXTS)


def column(fed, name):
    return fed.columns["x"][:, fed.features.index(name)]


# --- what they share -------------------------------------------------------------------------


@pytest.mark.parametrize("name", WITH)
def test_another_file_is_refused_with_both_hashes(tmp_path, name):
    make, file = WITH[name]
    write(tmp_path, TEXTS)
    with pytest.raises(
        RequestError, match=rf"{file} in .* has SHA-256 [0-9a-f]{{64}}.*one has [0-9a-f]{{64}}"
    ):
        load(make(path=str(tmp_path)))


@pytest.mark.parametrize("name", WITH)
def test_absent_and_broken_files_are_explained(tmp_path, name):
    make, file = WITH[name]
    with pytest.raises(RequestError, match=rf"no folder .*data={name} needs one with {file}"):
        load(make(path=str(tmp_path / "absent")))
    with pytest.raises(RequestError, match=rf"no file {file} or {file}.gz"):
        load(make(path=str(tmp_path)))
    (tmp_path / f"{file}.gz").write_bytes(b"no gzip")
    with pytest.raises(RequestError, match=rf"{file} in .* cannot be read"):
        load(make(path=str(tmp_path)))


@pytest.mark.parametrize("name", WITH)
def test_licence_and_citation_are_described(folder, name):
    found = describe(load(WITH[name][0](path=folder)))
    assert "CC BY 4.0" in found["licence"] and any(
        word in found["source"] for word in ("Strack", "Knaus", "Chicco")
    )
    json.dumps(found, allow_nan=False)


# --- diabetes --------------------------------------------------------------------------------


def test_the_first_admission_of_each_patient_who_went_home(folder):
    fed = load(Diabetes130(path=folder, clients="admission_source", min_rows=1))
    assert dict(zip(fed.names, fed.sizes.tolist(), strict=True)) == {
        "emergency room": 2, "physician referral": 1, "unknown": 1,
    }  # fmt: skip
    assert fed.columns["y"].tolist() == [0, 0, 0, 1]  # of 11 the one that came first, readmitted later
    assert column(fed, "age").tolist() == [75, 5, 75, 75]
    both = load(Diabetes130(path=folder, clients="admission_source", min_rows=1, exclude_deaths=False))
    assert both.rows == 6 and {"discharge=died", "discharge=hospice"} <= set(both.features)
    later = load(Diabetes130(path=folder, min_rows=1, outcome="readmission_any"))
    assert later.columns["y"].sum() == 2


def test_heart_failure_is_428_in_any_of_three_diagnoses(folder):
    fed = load(
        Diabetes130(
            path=folder, clients="admission_source", min_rows=1, encounters="all", heart_failure_only=True
        )
    )
    # 4280 is no code of heart failure, and 428.22 is one.
    assert fed.rows == 4 and fed.columns["y"].sum() == 1
    assert sorted(column(fed, "heart_failure_main").tolist()) == [0, 1, 1, 1]
    # First the admissions with heart failure, then the first of each patient.
    first = load(Diabetes130(path=folder, min_rows=1, heart_failure_only=True))
    assert first.rows == 3


def test_diagnoses_are_grouped_as_in_the_study():
    codes = ["428", "785.4", "459", "460", "786", "250.83", "250", "251", "580", "788", "140", "239", "240"]
    wanted = [
        *("circulatory", "circulatory", "circulatory", "respiratory", "respiratory", "diabetes", "diabetes"),
        *("other", "genitourinary", "genitourinary", "neoplasms", "neoplasms", "other"),
    ]
    assert [icd9.group(code) for code in codes] == wanted
    others = ["787", "799", "800", "999", "739", "V57", "E909", ""]
    assert [icd9.group(code) for code in others] == [
        "digestive", "other", "injury", "injury", "musculoskeletal", "other", "other", "none",
    ]  # fmt: skip
    assert icd9.heart_failure(np.array(["428", "428.1", "4280", "", "V42"])).tolist() == [
        True, True, False, False, False,
    ]  # fmt: skip


def test_small_clients_are_one_and_specialties_are_as_written(folder):
    fed = load(Diabetes130(path=folder, encounters="all", min_rows=2))
    assert dict(zip(fed.names, fed.sizes.tolist(), strict=True)) == {
        "Cardiology": 2,
        "other": 1,
        "unknown": 3,
    }
    assert "admission_source=physician referral" in fed.features
    assert not any(name.startswith("specialty") for name in fed.features)


def test_the_length_of_stay_is_seen_by_nothing_that_is_known_later(folder):
    fed = load(Diabetes130(path=folder, outcome="length_of_stay", min_rows=1, encounters="all"))
    assert fed.kind == "regression" and sorted(fed.columns["y"].tolist()) == [2, 3, 3, 3, 3, 7]
    allowed = ("age", "sex", "race", "log1p(", "admission_type", "admission_source", "specialty")
    assert fed.features and all(name.startswith(allowed) for name in fed.features)


def test_a_patient_is_known_at_all_clients(folder):
    fed = load(Diabetes130(path=folder, clients="admission_source", encounters="all", min_rows=1))
    assert fed.person is not None
    twice = [code for code, count in Counter(fed.person.tolist()).items() if count == 3]
    assert len(twice) == 1
    clients = fed.client_of_row()[fed.person == twice[0]]
    assert len(set(clients.tolist())) == 2
    assert len(set(fed.columns["patient"][fed.person == twice[0]].tolist())) == 2


# --- SUPPORT ---------------------------------------------------------------------------------


def test_outcomes_of_support(folder):
    y = {
        outcome: load(Support2(path=folder, outcome=outcome)).columns["y"].tolist()
        for outcome in ("death_180", "hospital_death", "survival", "length_of_stay", "cost")
    }
    # Rows in order of their groups: CHF, CHF, COPD, Coma, Coma.
    assert y == {
        "death_180": [1, 1, 0, 0, 0], "hospital_death": [1, 0, 0, 0, 0], "survival": [1, 1, 1, 0, 0],
        "length_of_stay": [4, 180, 181, 700, 900], "cost": [1000, 0, 2000, 1500.5],
    }  # fmt: skip
    timed = load(Support2(path=folder, outcome="survival", clients="class"))
    assert timed.names == ("COPD/CHF/Cirrhosis", "Coma") and timed.kind == "survival"
    assert timed.columns["time"].tolist() == [4, 180, 181, 700, 900]


@pytest.mark.parametrize("clients", ["group", "class"])
def test_nothing_that_tells_the_outcome_is_a_feature(folder, clients):
    """In these rows every such column is the outcome, or one minus it."""
    fed = load(Support2(path=folder, outcome="survival", clients=clients))
    died = fed.columns["y"].astype(np.float32)
    for name, values in zip(fed.features, fed.columns["x"].T, strict=True):
        assert name.partition("=")[0] in (*NUMBERS, *WORDS)
        assert name.startswith("dzgroup") or not np.array_equal(values, died), name
        assert name.startswith("dzgroup") or not np.array_equal(values, 1 - died), name
    assert not {*NUMBERS, *WORDS} & set(LEAKS)


@pytest.mark.parametrize("name", LEAKS)
def test_what_tells_the_outcome_cannot_be_asked_for(folder, name):
    with pytest.raises(RequestError, match=rf"data.features: {name} .*leave it out"):
        load(Support2(path=folder, features=("age", name)))


def test_features_are_chosen_by_name(folder):
    assert load(Support2(path=folder, features=("age", "alb"))).features == ("age", "alb")
    with pytest.raises(RequestError, match=r"no feature 'albumin'; choose one of .*alb"):
        load(Support2(path=folder, features=("albumin",)))
    with pytest.raises(RequestError, match="no feature 'dzgroup'"):  # it is the client
        load(Support2(path=folder, features=("dzgroup",)))


def test_normal_values_fill_what_is_missing(folder):
    bare, filled = (load(Support2(path=folder, impute_normal=on)) for on in (False, True))
    assert np.isnan(column(bare, "alb")).tolist() == [False, False, True, False, True]
    assert column(filled, "alb").tolist() == pytest.approx([2.5, 3.1, 3.5, 2.5, 3.5])
    assert set(NORMAL) <= set(NUMBERS)


# --- sepsis ----------------------------------------------------------------------------------


def test_cohorts_of_sepsis(folder):
    primary = load(SepsisNorway(path=folder))
    assert (primary.names, primary.rows, primary.columns["y"].sum()) == (("norway",), 6, 2)
    assert load(SepsisNorway(path=folder, cohort="study")).columns["y"].tolist() == [1, 0]
    both = load(SepsisNorway(path=folder, cohort="both"))
    assert (list(both.names), both.sizes.tolist()) == (["norway", "sepsis-3"], [4, 2])
    assert both.external == {1}
    # Of two admissions with the same four values, one of which is in the study cohort, one is left to train.
    assert both.columns["x"].tolist()[:4] == [[70, 1, 1], [70, 1, 1], [50, 0, 2], [20, 1, 3]]
    assert both.columns["y"].tolist() == [0, 1, 0, 0, 1, 0]


def test_a_cohort_that_is_no_part_of_the_other_is_refused():
    rows = np.array([[1, 2], [1, 2], [3, 4]])
    assert without(rows, rows[:1]).tolist() == [[1, 2], [3, 4]]
    with pytest.raises(RequestError, match="no part of the primary"):
        without(rows, np.array([[3, 4], [3, 4]]))


# --- the published tables --------------------------------------------------------------------


def there(shared_data, name):
    path = shared_data / name
    if not path.is_dir():
        pytest.skip(f"no folder {name} in {shared_data}")
    return str(path)


def test_the_published_diabetes_table(shared_data):
    path = there(shared_data, "diabetes-130-hospitals")
    whole = load(Diabetes130(path=path, encounters="all", exclude_deaths=False, heart_failure_only=True))
    assert whole.rows == 17464 and whole.columns["y"].mean() == pytest.approx(0.1311, abs=5e-5)
    first = load(Diabetes130(path=path))
    assert first.rows == 69973 and len(np.unique(first.person)) == 69973
    assert np.isfinite(first.columns["x"]).all() and first.sizes.min() >= 100


def test_no_patient_trains_who_is_tested(shared_data):
    path = there(shared_data, "diabetes-130-hospitals")
    fed = load(Diabetes130(path=path, clients="admission_source", encounters="all", heart_failure_only=True))
    cfg = Natural(folds=5, unit="patient")
    tested = []
    for part in partitions(fed, assign(fed, cfg, 0), cfg, 0):
        rows, train = part.part("test")[0], part.part("train")[0]
        assert not set(fed.person[rows].tolist()) & set(fed.person[train].tolist())
        assert len(rows) + len(train) == fed.rows
        tested += rows.tolist()
    assert sorted(tested) == list(range(fed.rows))


def test_the_published_support_table(shared_data):
    path = there(shared_data, "support2")
    fed = load(Support2(path=path))
    assert fed.rows == 9105 and int(fed.columns["y"].sum()) == 4265
    assert fed.sizes[fed.names.index("CHF")] == 1387
    inside = load(Support2(path=path, outcome="hospital_death"))
    chf = inside.client_of_row() == inside.names.index("CHF")
    assert inside.columns["y"][chf].mean() == pytest.approx(0.063, abs=5e-4)
    assert load(Support2(path=path, outcome="cost")).rows == 9105 - 888


def test_the_published_sepsis_tables(shared_data):
    path = there(shared_data, "sepsis-survival-norway")
    whole, both = load(SepsisNorway(path=path)), load(SepsisNorway(path=path, cohort="both"))
    assert whole.rows == 110204 and whole.columns["y"].mean() == pytest.approx(0.0735, abs=5e-5)
    assert both.sizes.tolist() == [91153, 19051]
    assert int(both.columns["y"].sum()) == int(whole.columns["y"].sum())
    outside = both.columns["y"][both.offsets[1] :]
    assert outside.mean() == pytest.approx(0.189, abs=5e-4)
