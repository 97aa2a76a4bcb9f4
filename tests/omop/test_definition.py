"""Definitions: the built-in one has what the simulator has; others are refused by the place that is wrong."""

import pytest

from fedsim.base import RequestError
from fedsim.cohort import codes
from fedsim.cohort.table import FEATURES, OUTCOMES
from fedsim.omop import load
from fedsim.omop.vocabulary import unit_key
from tests.omop.made import AGE, definition


def test_the_built_in_definition_has_the_features_and_outcomes_of_the_simulator():
    built = load("heart_failure")
    assert set(FEATURES) - set(built.features) == {"duration_months"}
    assert set(OUTCOMES) <= set(built.outcomes)
    assert set(built.measurements) == set(codes.MEASUREMENT)
    for name, (first, *others) in codes.UNITS_OF.items():
        factors = built.measurements[name].factors()
        assert factors[unit_key(first)] == 1
        for unit in others:
            assert factors[unit_key(unit)] == pytest.approx(1 / codes.FACTOR[name, unit])
    # No code of the simulator is one of two features' but where both are meant.
    conditions = [f for f in built.features.values() if f.table == "condition" and f.take == "any"]
    for code in codes.ICD:
        plain = code.replace(".", "")
        hits = [f for f in conditions if plain.startswith(tuple(c.replace(".", "") for c in f.codes))]
        # A complication of diabetes is diabetes, too, and a metastasis is cancer.
        both = code in (codes.COMORBIDITY["diabetes_complications"], codes.COMORBIDITY["metastases"])
        assert len(hits) == (code in codes.COMORBIDITY.values()) + both, code


FEATURE: dict = {"table": "condition", "take": "any", "codes": ["I10"]}
BAD: dict[str, tuple[dict, str]] = {
    "take": ({"take": "mean"}, r"features.it: take of table condition: no 'mean'; choose one of any, count"),
    "codes": ({"codes": []}, r"table condition needs codes or concepts"),
    "future": ({"window": [-5, 1]}, r"window must be \[first, last\] with first <= last <= 0, the index"),
    "order": ({"window": [-5, -9]}, r"window must be .* got \[-5, -9\]"),
    "open": ({"window": [-5, None]}, r"window must be"),
    "short": ({"window": [-5]}, r"window must be"),
    "key": ({"windows": [-5, 0]}, r"features.it: unknown option windows; .*did you mean 'window'"),
    "table": ({"table": "drugs"}, r"table must be one of person, index, .*got 'drugs'"),
    "measurement": ({"measurement": "potassium"}, r"table condition has no measurement"),
    "value": ({"value": "former"}, r"value belongs to take: is"),
    "no such": (
        {"table": "measurement", "take": "last", "codes": [], "measurement": "sodium"},
        r"features.it: no measurement 'sodium'; choose one of lvef, potassium",
    ),
    "stay": (
        {"table": "index", "take": "length_of_stay", "codes": []},
        r"length_of_stay is known at discharge only; add index: discharge",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_a_feature_that_cannot_be_is_refused(case):
    change, message = BAD[case]
    with pytest.raises(RequestError, match=message):
        definition({"it": FEATURE | change})


OUTCOME: dict = {"event": "death", "horizon": 365}
WRONG: dict[str, tuple[dict, str]] = {
    "horizon": ({"horizon": 0}, r"outcomes.it: horizon must be >= 1 day, got 0"),
    "cost": ({"event": "cost", "horizon": None}, r"needs a horizon"),
    "stay": ({"event": "stay"}, r"known at discharge: its index is first_diagnosis"),
    "competing": ({"competing": "exclude"}, r"competing: exclude is about admissions"),
}


@pytest.mark.parametrize("case", WRONG)
def test_an_outcome_that_cannot_be_is_refused(case):
    change, message = WRONG[case]
    with pytest.raises(RequestError, match=message):
        definition(outcomes={"it": OUTCOME | change})


FILES = {
    "none": (None, r"data.features: no file '.*mine.yaml'; name a YAML file, or heart_failure"),
    "text": ("a: [", r"data.features: mine.yaml is no YAML"),
    "empty": ("", r"data.features: mine.yaml: config must be a mapping"),
    "index": ("index: {}\nfeatures: {}\noutcomes: {}", r"mine.yaml: index needs codes or concepts"),
    "nothing": ("index: {codes: [I50]}\nfeatures: {}\noutcomes: {}", r"mine.yaml: features: there is none"),
    "factor": (
        "index: {codes: [I50]}\nfeatures: {}\noutcomes: {}\n"
        "measurements: {k: {unit: mmol/L, conversions: {mg/dL: -1}}}",
        r"measurements.k: conversions.mg/dL must be a number in \(0, inf\), got -1",
    ),
    "list": (
        "index: {codes: [I50]}\nfeatures: {it: 3}\noutcomes: {}",
        r"mine.yaml: features.it: config must be",
    ),
}


@pytest.mark.parametrize("case", FILES)
def test_a_file_that_is_no_definition_is_refused(tmp_path, case):
    text, message = FILES[case]
    path = tmp_path / "mine.yaml"
    if text is not None:
        path.write_text(text)
    with pytest.raises(RequestError, match=message):
        load(str(path))


def test_dropped_features_must_be_there_and_some_must_be_left():
    made = definition(AGE | {"it": FEATURE})
    assert list(made.feature("discharge", ("age",))) == ["it"]
    with pytest.raises(RequestError, match=r"data.drop: no feature 'ages'; .*did you mean 'age'"):
        made.feature("discharge", ("ages",))
    with pytest.raises(RequestError, match="no feature is left"):
        made.feature("discharge", ("age", "it"))
