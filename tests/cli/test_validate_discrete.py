# mypy: disable-error-code="arg-type, union-attr"
"""fedsim validate of hazards in intervals, on real runs."""

import json
from types import SimpleNamespace

import pytest

from fedsim.base import RequestError
from fedsim.cli import main
from fedsim.store import ResultStore
from fedsim.validation import frozen
from tests.validation import made

RUN = (
    "run data=table data.path=days.csv data.client=hospital data.label=died data.time=days "
    "data.external=Karolinska split.test=0.3 task=survival_discrete task.horizon=730 task.bins=4 rounds=10 "
    "optimizer.step_size=0.5 evaluate.horizon=730 evaluate.thresholds=[0.3] --quiet"
)
AT = ["--site", "Karolinska"]
FAST = ["bootstrap=100", "folds=5", "metrics=[c_index,brier_t,observed_expected]", "thresholds=[]"]


@pytest.fixture
def said(tmp_path, monkeypatch, capsys):
    """What `fedsim validate` says of a run with more options: (its store and id, a function of the words)."""
    monkeypatch.chdir(tmp_path)
    made.followed(tmp_path / "days.csv", ["Halland", "Kronoberg", "Karolinska"])

    def trained(*options):
        assert main([*RUN.split(), *options]) == 0
        store = ResultStore(tmp_path / "results" / "store")
        (run,) = store.ids()

        def call(*words):
            capsys.readouterr()
            code = main(["validate", *words])
            return code, capsys.readouterr()

        return store.manifest(run), call

    return trained


def value(found, update, metric):
    (row,) = [r for r in found["metrics"] if (r["update"], r["metric"]) == (update, metric)]
    return row["value"]


def test_hazards_are_judged_as_the_run_judges_them_and_by_the_end_of_an_interval_before(said):
    manifest, call = said()
    for words, expected in (
        (["horizon=400"], "lies inside an interval"),
        (["horizon=400"], "from 365 to 547.5, of which the hazard is known as a whole; set horizon=365 or"),
        (["horizon=1000"], "lies beyond the intervals of run"),
        (["updates=[keep,baseline,slope]"], "updates must be of keep, intercept, slope, refit for run"),
        (["horizon=0"], "horizon must be in (0, inf)"),
    ):
        code, out = call(*AT, "--write-plan", "no.yaml", *words)
        assert code == 2 and expected in out.err, (words, out.err)
    quick = [*FAST[:2], "thresholds=[0.3]", "updates=[keep,refit]"]
    assert call(*AT, "--write-plan", "whole.yaml", *quick)[0] == 0
    code, out = call("--plan", "whole.yaml", "--json")
    assert code == 0, out.err
    found = json.loads(out.out)
    assert found["plan"]["horizon"] == 730 and found["n"] == 150 and found["adaptation"] == []
    stored = manifest["metrics"]["external"]["Karolinska"]
    called = {"observed_expected": "o_e", "net_benefit@0.3": "net_benefit_0.3"}
    told = {r["metric"]: r["value"] for r in found["metrics"] if r["update"] == "keep"}
    assert len(told) == 8
    for name, one in told.items():
        assert one == pytest.approx(stored[called.get(name, name)], rel=1e-4), name
    terms = [r["term"] for r in found["updates"]]
    assert terms == [
        *("hazard, 0 to 182.5", "hazard, 182.5 to 365", "hazard, 365 to 547.5", "hazard, 547.5 to 730"),
        *("age", "ef"),
    ]

    assert call(*AT, "--write-plan", "half.yaml", *FAST, "horizon=365")[0] == 0
    code, out = call("--plan", "half.yaml")
    assert code == 0 and "of an event by 365" in out.out and "closed test:" in out.out, out.err
    found = json.loads(call("--plan", "half.yaml", "--json")[1].out)
    assert value(found, "keep", "brier_t") != pytest.approx(stored["brier_t"], rel=0.01)


@pytest.mark.parametrize(
    ("asked", "updates"),
    [
        ([], ["intercept", "slope", "full"]),
        (["task.hidden=[4]"], ["intercept", "slope", "head", "full"]),
        (["task.hidden=[4]", "task.proportional=false"], ["intercept", "slope", "head", "full"]),
        (["task.proportional=false"], ["intercept", "slope", "full"]),
    ],
)
@pytest.mark.long
def test_models_are_adapted_by_what_they_have(said, asked, updates):
    manifest, call = said(*asked)
    code, out = call(*AT, "--write-plan", "refit.yaml", "updates=[keep,refit]")
    assert code == 0 if not asked else code == 2 and "leave refit out of updates" in out.err
    assert call(*AT, "--write-plan", "plan.yaml", *FAST, "adapt=true", "ridge=0.1")[0] == 0
    found = json.loads(call("--plan", "plan.yaml", "--json")[1].out)
    assert found["plan"]["updates"] == ["keep", "intercept", "slope", "refit"][: 3 if asked else 4]
    stored = manifest["metrics"]["external"]["Karolinska"]
    for name in ("c_index", "brier_t"):
        assert value(found, "keep", name) == pytest.approx(stored[name], rel=1e-4)
    gains = {
        (r["region"], r["update"]): r["gain"]
        for r in found["adaptation"]
        if (r["judged_at"], r["metric"]) == ("others", "brier_t")
    }
    assert set(gains) == {(region, update) for region in ("Halland", "Kronoberg") for update in updates}
    assert None not in gains.values() and len({*gains.values()}) == len(gains)
    # The horizon of the plan cuts what models are fitted to, and what they say.
    assert call(*AT, "--write-plan", "half.yaml", *FAST, "adapt=true", "horizon=365")[0] == 0
    half = json.loads(call("--plan", "half.yaml", "--json")[1].out)
    assert {r["update"] for r in half["adaptation"] if r["gain"] is not None} == {*updates}


def test_times_of_another_kind_of_model_are_refused():
    experiment = SimpleNamespace(task=SimpleNamespace(name="weibull"))
    with pytest.raises(
        RequestError, match=r"has task=weibull, of whose times .* no hazards; train with task=cox"
    ):
        frozen._check(experiment, SimpleNamespace(kind="survival"), "a1")
