# mypy: disable-error-code="arg-type, index"
"""Groups of rows by a column, and the gap between them."""

import numpy as np
import pytest

from fedsim import config, metrics
from fedsim.base import RequestError
from fedsim.config import HeartFailure
from fedsim.data import load
from fedsim.data.federation import gather
from fedsim.plan import Cell
from fedsim.run import run_experiments, subgroups
from fedsim.run.sources import Sources
from fedsim.store import ResultStore
from tests.run.hospitals import BASE


@pytest.fixture
def federation():
    x = np.array([[1, 64.9], [0, 65], [1, 79], [0, 80], [np.nan, np.nan]], np.float32)
    return gather(
        list("aabbb"),
        {"x": x, "y": np.array([0, 1, 0, 1, 1], np.int32)},
        kind="binary",
        classes=2,
        features=("sex", "age"),
        kept={"phenotype": np.array(["HFrEF", "", "HFpEF", "HFrEF", "HFpEF"])},
        licence="-",
        source="test",
    )


@pytest.mark.parametrize(
    ("name", "cuts", "expected"),
    [
        ("sex", [], ["sex = 1", "sex = 0", "sex = 1", "sex = 0", "sex missing"]),
        ("age", [65, 80], ["age < 65", "age 65 to 80", "age 65 to 80", "age >= 80", "age missing"]),
        (
            "phenotype",
            [],
            ["phenotype = HFrEF", "phenotype missing", *[f"phenotype = HF{k}EF" for k in "prp"]],
        ),
    ],
)
def test_groups_by_hand(federation, name, cuts, expected):
    names, of_row = subgroups.groups(federation, name, cuts, np.array([4, 0, 1, 2, 3]))
    assert [names[k] for k in of_row] == [expected[4], *expected[:4]]


@pytest.mark.parametrize(
    ("wanted", "words"),
    [
        ({"gender": []}, "'gender' is neither a feature nor a column that data.keep keeps"),
        ({"phenotype": [1]}, "are cut points, and phenotype holds text"),
    ],
)
def test_what_cannot_be_grouped_is_refused(federation, wanted, words):
    with pytest.raises(RequestError, match=words):
        subgroups.check(wanted, federation)
    with pytest.raises(RequestError, match="would make 40 groups"):
        many = {"x": np.arange(40, dtype=np.float32)[:, None], "y": np.arange(40, dtype=np.int32) % 2}
        about = {"kind": "binary", "classes": 2, "features": ("x",), "licence": "-", "source": "test"}
        subgroups.check({"x": []}, gather(["a"] * 40, many, **about))


def test_rows_that_are_generated_have_no_groups():
    made = load(HeartFailure(patients=60, mode="generated"))
    with pytest.raises(RequestError, match=r"generated are not kept, so 'male' cannot.*data.mode=resident"):
        subgroups.check({"male": []}, made)


@pytest.mark.parametrize("cuts", ["old", [3, 2], [1, 1], [True]])
def test_cut_points_rise(cuts):
    with pytest.raises(RequestError, match=r"evaluate.groups.age must be rising numbers"):
        config.Evaluate(groups={"age": cuts})


def test_a_run_stores_groups_and_gaps(tmp_path):
    evaluate = {"groups": {"age": [50, 75], "sex": []}, "every": 2, "thresholds": [0.5]}
    experiment = config.experiment(BASE | {"evaluate": evaluate})
    outcome = run_experiments([Cell(experiment, {})], tmp_path)
    store, run = ResultStore(tmp_path), outcome.done[0]
    rows = [r for r in store.read(run, "clients").to_pylist() if r["group"] in ("subgroup", "gap")]
    assert {r["round"] for r in rows} == {4} and {r["set"] for r in rows} == {"test"}
    found = {r["name"]: r for r in rows}
    assert list(found) == ["age < 50", "age 50 to 75", "age >= 75", "age", "sex = 0", "sex = 1", "sex"]
    predictions = store.read(run, "predictions").to_pydict()
    federation = Sources().federation(experiment)
    age = federation.columns["x"][np.array(predictions["row"]), federation.features.index("age")]
    label, score = np.array(predictions["label"]), np.array(predictions["score"])
    young = metrics.evaluate("binary", label[age < 50], score[age < 50], thresholds=[0.5])
    assert young == {name: found["age < 50"][name] for name in young}
    assert found["age < 50"]["positives"] == label[age < 50].sum()
    old = found["age >= 75"]  # a handful: of them too few have, or have not, the disease
    assert 0 < old["n"] == (age >= 75).sum() < 20 and all(old[name] is None for name in young)
    two = [found[f"age {g}"]["auroc"] for g in ("< 50", "50 to 75")]
    assert found["age"]["auroc"] == pytest.approx(max(two) - min(two)) and found["age"]["group"] == "gap"
    assert found["age"]["n"] == found["sex"]["n"] == 920
