# mypy: disable-error-code="arg-type, attr-defined"
"""fedsim validate, on real runs: plan, freeze, evaluate, list."""

import json
from dataclasses import replace

import numpy as np
import pytest
from scipy import special

from fedsim.cli import main
from fedsim.cli.validate import rows_sha256
from fedsim.store import ResultStore
from tests.validation import made

RUN = (
    "run data=table data.path=cohort.csv data.client=hospital data.label=died data.external=Karolinska "
    "split.test=0.3 rounds=30 optimizer.step_size=0.5 data.keep=[sex]"
)
FAST = ["bootstrap=100", "folds=5"]


COLUMNS = ("age", "ef", "unit", "sex")


def cohort(path, hospitals, *, shift=0.0, columns=COLUMNS, units=("a", "b"), seed=0, n=150):
    """Patients of hospitals as a CSV file."""
    rng = np.random.default_rng(seed)
    lines = [",".join(["hospital", *columns, "died"])]
    for hospital in hospitals:
        for i in range(n):
            age, ef = round(rng.normal(70, 8), 2), round(rng.normal(40, 10), 2)
            values = {"age": age, "ef": ef, "sex": "fm"[i % 2]}
            risk = special.expit(0.08 * (age - 70) - 0.06 * (ef - 40) + shift)
            values["unit"] = units[rng.integers(len(units))]
            lines.append(
                ",".join([hospital, *(str(values[c]) for c in columns), str(int(rng.random() < risk))])
            )
    path.write_text("\n".join(lines) + "\n")


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A store with a run that kept Karolinska outside, and one that did not know it; and their folder."""
    here = tmp_path_factory.mktemp("validate")
    monkeypatch = pytest.MonkeyPatch()
    with monkeypatch.context() as patch:
        patch.chdir(here)
        cohort(here / "cohort.csv", ["Halland", "Kronoberg", "Karolinska"])
        cohort(here / "regions.csv", ["Halland", "Kronoberg"])
        with_site, without = RUN.split(), RUN.replace("cohort", "regions").split()
        assert main(with_site) == 0
        assert main([word for word in without if "external" not in word]) == 0
    store = ResultStore(here / "results" / "store")
    runs = {store.experiment(run).data.path.removesuffix(".csv"): run for run in store.ids()}
    return here, runs, store


@pytest.fixture
def said(trained, monkeypatch, capsys):
    monkeypatch.chdir(trained[0])

    def call(*words):
        capsys.readouterr()
        code = main(["validate", *words])
        return code, capsys.readouterr()

    return call


def test_plan_evaluate_and_list(said, trained, tmp_path):
    run, store = trained[1]["cohort"], trained[2]
    at = ["--site", "Karolinska"]
    plan = str(tmp_path / "plan.yaml")
    asked = [*FAST, "groups={age: [68, 72], sex: []}"]
    code, out = said(run, *at, "--write-plan", plan, *asked)
    assert code == 0 and "after Karolinska was looked at: the run itself, which stored metrics" in out.out
    assert said(run, *at, "--write-plan", plan, *asked)[0] == 0  # the same plan again
    code, out = said(run, *at, "--write-plan", plan, *FAST)
    assert code == 2 and "holds another plan, and plans are not changed" in out.err

    code, out = said(run, *at, "--plan", plan, "--json")
    assert code == 0
    found = json.loads(out.out)
    assert (found["number"], found["attempts"], found["n"]) == (1, 1, 150)
    stored = store.manifest(run)["metrics"]["external"]["Karolinska"]
    frozen = {r["metric"]: r["value"] for r in found["metrics"] if r["update"] == "keep"}
    for name in ("auroc", "log_loss", "brier", "calibration_intercept", "calibration_slope"):
        assert frozen[name] == pytest.approx(stored[name], abs=1e-5)
    told = {r["name"]: r for r in found["subgroups"] if r["metric"] == "auroc" and r["update"] == "keep"}
    bands = ["age < 68", "age 68 to 72", "age >= 72"]
    assert list(told) == [*bands, "age", "sex = f", "sex = m", "sex"]
    assert sum(told[name]["n"] for name in bands) == 150 and told["sex = f"]["n"] == 75
    values = [told[f"sex = {sex}"]["value"] for sex in "fm"]
    assert told["sex"]["group"] == "gap" and told["sex"]["value"] == pytest.approx(abs(values[0] - values[1]))
    assert any("fewer than 100 events, or without, whose intervals are" in w for w in found["warnings"])
    assert found["choice"]["update"] in ("keep", "intercept", "slope", "refit")
    assert {r["region"] for r in found["adaptation"]} == {"Halland", "Kronoberg"}
    coefficients = {r["term"]: r["frozen"] for r in found["updates"] if r["update"] == "refit"}
    kept = store.manifest(run)["coefficients"]
    assert coefficients["age"] == pytest.approx(kept["age"], rel=1e-5)

    code, out = said("--plan", plan)  # which names run and site; stored: not a second attempt
    assert code == 0 and f"attempt {found['attempt']} (1 of 1 at Karolinska)" in out.out
    assert "closed test:" in out.out and "local adaptations" in out.out
    assert "gap sex 150 " in " ".join(out.out.split())
    other = str(tmp_path / "other.yaml")
    assert said(run, *at, "--write-plan", other, *FAST, "alpha=0.01")[0] == 0
    code, out = said(run, *at, "--plan", other, "--quiet")
    assert "(2 of 2 at Karolinska)" in out.out and f"attempt {found['attempt']}" in out.out
    code, out = said(run, "--attempts", "--json")
    assert json.loads(out.out)["attempts"][0]["attempt"] == found["attempt"]


def test_a_file_that_nobody_looked_at(said, trained, tmp_path):
    """The plan is written before the file exists; the site lacks a column and has an unknown category."""
    run, plan = trained[1]["regions"], str(tmp_path / "plan.yaml")
    at = ["--site", "Karolinska"]
    code, out = said(run, *at, "--write-plan", plan, *FAST, "groups={sex: []}")
    assert code == 0 and "before anything was evaluated at Karolinska" in out.out
    site = tmp_path / "karolinska.csv"
    cohort(site, ["Karolinska"], columns=("unit", "age"), units=("a", "c"), seed=5)
    code, out = said(run, *at, "--plan", plan, "--table", str(site), "--json")
    found = json.loads(out.out)
    assert code == 0 and found["n"] == 150
    assert any("has no value of ef" in warning for warning in found["warnings"])
    assert any("has no value of sex, and so no subgroups" in warning for warning in found["warnings"])
    assert found["subgroups"] == []
    assert 0 < found["unknown"]["unit"] < 150
    assert any("unit is a category that no region has" in warning for warning in found["warnings"])
    (absent,) = [r for r in found["features"] if r["feature"] == "ef"]
    assert absent["missing_outside"] == 1.0
    code, out = said(run, *at, "--plan", plan)
    assert code == 2 and "the plan takes Karolinska's rows from a file; name it by --table" in out.err
    # Other rows are another attempt.
    cohort(site, ["Karolinska"], seed=6)
    assert "(2 of 2" in said(run, *at, "--plan", plan, "--table", str(site), "--quiet")[1].out


@pytest.mark.long
def test_a_network_is_recalibrated_and_adapted_by_head_and_whole(said, trained, tmp_path):
    plan, store = str(tmp_path / "plan.yaml"), trained[2]
    before = set(store.ids())
    assert main([*RUN.split(), "task=mlp", "task.hidden=[8]"]) == 0
    (run,) = set(store.ids()) - before
    at = ["--site", "Karolinska"]
    code, out = said(run, *at, "--write-plan", plan, *FAST, "updates=[keep,refit]")
    assert code == 2 and "stores a network" in out.err
    assert said(run, *at, "--write-plan", plan, *FAST)[0] == 0
    found = json.loads(said(run, *at, "--plan", plan, "--json")[1].out)
    assert found["plan"]["updates"] == ["keep", "intercept", "slope"]
    stored = store.manifest(run)["metrics"]["external"]["Karolinska"]
    frozen = {r["metric"]: r["value"] for r in found["metrics"] if r["update"] == "keep"}
    assert frozen["log_loss"] == pytest.approx(stored["log_loss"], abs=1e-5)
    gains = {r["update"] for r in found["adaptation"] if r["gain"] is not None}
    assert gains == {"intercept", "slope", "head", "full"}


def test_wrong_requests(said, trained, tmp_path):
    run, regions = trained[1]["cohort"], trained[1]["regions"]
    plan, at = str(tmp_path / "plan.yaml"), ["--site", "Karolinska"]
    assert said(run, *at, "--write-plan", plan, *FAST)[0] == 0
    bad = tmp_path / "bad.csv"
    bad.write_text("hospital,age,ef,unit\nKarolinska,1,2,a\n")
    later = str(tmp_path / "later.yaml")
    assert said(regions, *at, "--write-plan", later, *FAST)[0] == 0
    text = tmp_path / "text.csv"
    text.write_text("age,ef,unit,died\nold,40,a,1\nyoung,30,b,0\n")
    few = tmp_path / "few.csv"
    cohort(few, ["Karolinska"], n=12)
    third = tmp_path / "third.csv"
    third.write_text(few.read_text() + "Karolinska,70,40,a,f,2\n")
    unregistered = tmp_path / "copy.yaml"
    unregistered.write_text((tmp_path / "plan.yaml").read_text().replace("seed: 0", "seed: 9"))
    for words, expected in (
        (["nope", *at, "--write-plan", later], "no run nope"),
        (["nope", "--plan", plan], "is for run"),
        ([run, regions, "--attempts"], "one run at a time"),
        (["results=elsewhere", "--attempts"], "no run in"),
        ([run, *at], "give one of --write-plan FILE, --plan FILE and --attempts"),
        ([run, "--write-plan", plan], "--site NAME is required"),
        ([run, "--site", "Halland", "--write-plan", later], "Halland had a part in the training"),
        ([run, "--site", "Halland", "--plan", plan], "is for run"),
        ([run, *at, "--write-plan", plan, "alfa=1"], "unknown option alfa"),
        ([run, *at, "--write-plan", plan, "run=1"], "run of the plan follows from the run"),
        ([run, *at, "--write-plan", plan, "=1"], "is no option=value"),
        ([run, *at, "--write-plan", later, "groups={gender: []}"], "'gender' is neither a feature nor"),
        ([run, *at, "--write-plan", later, "groups={sex: [1]}"], "groups.sex=[1] are cut points"),
        ([run, *at, "--write-plan", later, "groups={age: [2, 1]}"], "groups.age must be rising numbers"),
        ([run, *at, "--plan", plan, "alpha=0.1"], "alpha belongs to the plan"),
        ([run, *at, "--plan", str(unregistered)], "was not written for this store"),
        ([run, *at, "--plan", plan, "--table", str(few)], "leave --table out"),
        ([regions, *at, "--plan", later, "--table", str(bad)], "has no column 'died'"),
        ([regions, *at, "--plan", later, "--table", str(text)], "column 'age' holds"),
        (
            [regions, *at, "--plan", later, "--table", str(third)],
            "label has values that the run does not know",
        ),
        ([regions, *at, "--plan", later, "--table", str(few)], "at least 10 are needed"),
        ([regions, *at, "--plan", later, "--table", str(tmp_path / "no.csv")], "no file"),
    ):
        code, out = said(*words)
        assert code == 2 and expected in out.err, (words, out.err)


def test_other_times_groups_and_patients_are_other_rows():
    site = made.timed("S", 20, 1)
    of_row = np.arange(20) % 2
    first = replace(made.frozen(site), groups={"sex": (("sex = f", "sex = m", "sex missing"), of_row)})
    others = [
        first,
        replace(first, site=replace(site, time=site.time + 1)),
        replace(first, site=replace(site, patient=of_row)),
        replace(first, groups={"sex": (("sex = f", "sex = m", "sex missing"), 1 - of_row)}),
        replace(first, groups={"sex": (("sex = m", "sex = f", "sex missing"), of_row)}),
    ]
    assert len({rows_sha256(one) for one in others}) == len(others)
    assert rows_sha256(replace(first)) == rows_sha256(first)


def test_a_region_that_a_fold_left_out_is_outside_of_that_folds_model(said, trained, tmp_path):
    plan, store = str(tmp_path / "plan.yaml"), trained[2]
    words = RUN.replace("cohort", "regions").replace("data.external=Karolinska", "split.leave_one_out=true")
    before = set(store.ids())
    assert main([word for word in words.split() if word != "split.test=0.3"]) == 0
    (run,) = set(store.ids()) - before
    at = ["--site", "Kronoberg"]
    assert said(run, *at, "--write-plan", plan, *FAST)[0] == 0
    found = json.loads(said(run, *at, "--plan", plan, "--json")[1].out)
    stored = store.manifest(run)["metrics"]["clients"]["Kronoberg"]
    frozen = {r["metric"]: r["value"] for r in found["metrics"] if r["update"] == "keep"}
    assert frozen["brier"] == pytest.approx(stored["brier"], abs=1e-5) and found["n"] == 150
    assert {r["region"] for r in found["adaptation"]} == {"Halland"}
    assert any("the run held no rows back" in warning for warning in found["warnings"])
    code, out = said(run, "--site", "Karolinska", "--write-plan", str(tmp_path / "other.yaml"))
    assert code == 2 and "holds 2 models (split.folds); validate a run of one" in out.err


def test_data_that_changed_since_are_refused(said, trained, tmp_path):
    here, runs, _ = trained
    path, plan = here / "cohort.csv", str(tmp_path / "plan.yaml")
    kept = path.read_text()
    try:
        path.write_text(kept + "Halland,70,40,a,f,1\n")
        code, out = said(runs["cohort"], "--site", "Karolinska", "--write-plan", plan)
        assert code == 2 and "have changed since it was trained" in out.err
    finally:
        path.write_text(kept)


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ("algorithm=ditto", "stores no single model"),
        ("algorithm=local", "stores no single model"),
        ("data.preprocess.scope=client", "data.preprocess.scope=client"),
        ("data.weight=age", "weights its rows"),
        ("data.time=age task=cox", "set horizon=..., in their unit"),
    ],
)
@pytest.mark.long
def test_runs_without_one_model_for_two_classes(said, trained, tmp_path, asked, expected):
    store = trained[2]
    before = set(store.ids())
    assert main([*RUN.split(), *asked.split()]) == 0
    (run,) = set(store.ids()) - before
    code, out = said(run, "--site", "Karolinska", "--write-plan", str(tmp_path / "plan.yaml"))
    assert code == 2 and expected in out.err


def test_a_model_that_was_changed_is_not_judged(said, trained, tmp_path):
    run, plan, store = trained[1]["cohort"], str(tmp_path / "plan.yaml"), trained[2]
    at = ["--site", "Karolinska"]
    assert said(run, *at, "--write-plan", plan, *FAST, "seed=3")[0] == 0
    path = store.root / run / "model.safetensors"
    content = path.read_bytes()
    try:
        path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        code, out = said(run, *at, "--plan", plan)
        assert code == 1 and "is damaged" in out.err
    finally:
        path.write_bytes(content)
    manifest = store.root / run / "manifest.json"
    kept = manifest.read_text()
    try:
        manifest.write_text(kept.replace(json.loads(kept)["model_sha256"], "f" * 64))
        code, out = said(run, *at, "--plan", plan)
        assert code == 2 and "another model" in out.err and "than the plan froze" in out.err
    finally:
        manifest.write_text(kept)


COX = (
    "run data=table data.path=days.csv data.client=hospital data.label=died data.time=days task=cox "
    "optimizer.batch_size=0 optimizer.step_size=0.3 rounds=10 split.test=0.3 data.external=Karolinska "
    "evaluate.horizon=365 evaluate.thresholds=[0.2] evaluate.groups={age:[70]}"
)


def test_times_to_an_event_are_judged_as_the_run_judges_them(said, trained, tmp_path):
    here, _, store = trained
    made.followed(here / "days.csv", ["Halland", "Kronoberg", "Karolinska"])
    before = set(store.ids())
    assert main(COX.split()) == 0
    (run,) = set(store.ids()) - before
    plan, at = str(tmp_path / "plan.yaml"), ["--site", "Karolinska"]
    asked = [*FAST, "thresholds=[0.2]", "updates=[keep,refit]"]
    assert said(run, *at, "--write-plan", plan, *asked)[0] == 0
    code, out = said(run, *at, "--plan", plan, "--json")
    assert code == 0, out.err
    found = json.loads(out.out)
    assert {row["name"] for row in found["subgroups"]} == {"age < 70", "age >= 70", "age"}
    assert found["plan"]["groups"] == {"age": [70]}  # the run's own, as the horizon is
    assert found["plan"]["horizon"] == 365 and found["n"] == 150 and found["adaptation"] == []
    stored = store.manifest(run)["metrics"]["external"]["Karolinska"]
    frozen = {r["metric"]: r["value"] for r in found["metrics"] if r["update"] == "keep"}
    called = {"observed_expected": "o_e", "net_benefit@0.2": "net_benefit_0.2"}
    for name, value in frozen.items():
        assert value == pytest.approx(stored[called.get(name, name)], rel=1e-4), name
    coefficients = {r["term"]: r["frozen"] for r in found["updates"] if r["update"] == "refit"}
    kept = store.manifest(run)["coefficients"]
    assert coefficients["age"] == pytest.approx(kept["age"], rel=1e-5)
    code, out = said("--plan", plan)
    assert code == 0 and "of an event by 365" in out.out and "closed test:" in out.out
    for words, expected in (
        (["updates=[keep,intercept]"], "updates must be of keep, baseline, slope, refit"),
        (["horizon=-1"], "horizon must be in (0, inf)"),
    ):
        code, out = said(run, *at, "--write-plan", str(tmp_path / "other.yaml"), *words)
        assert code == 2 and expected in out.err, words
    two = trained[1]["cohort"]
    code, out = said(two, *at, "--write-plan", str(tmp_path / "other.yaml"), "horizon=365")
    assert code == 2 and "outcome with two classes, which has no horizon" in out.err


@pytest.mark.long
def test_a_network_of_times_is_recalibrated(said, trained, tmp_path):
    here, _, store = trained
    made.followed(here / "days.csv", ["Halland", "Kronoberg", "Karolinska"])
    before = set(store.ids())
    assert main([*COX.split(), "task.hidden=[4]"]) == 0
    (run,) = set(store.ids()) - before
    plan, at = str(tmp_path / "plan.yaml"), ["--site", "Karolinska"]
    asked = [*FAST, "metrics=[c_index,brier_t]", "thresholds=[]", "adapt=true"]
    assert said(run, *at, "--write-plan", plan, *asked)[0] == 0
    found = json.loads(said(run, *at, "--plan", plan, "--json")[1].out)
    assert found["plan"]["updates"] == ["keep", "baseline", "slope"]
    stored = store.manifest(run)["metrics"]["external"]["Karolinska"]
    frozen = {r["metric"]: r["value"] for r in found["metrics"] if r["update"] == "keep"}
    assert frozen["c_index"] == pytest.approx(stored["c_index"])
    assert frozen["brier_t"] == pytest.approx(stored["brier_t"], rel=1e-4)
    assert {r["update"] for r in found["adaptation"] if r["gain"] is not None} == {"baseline", "slope"}
    refused = {r["update"]: r["reason"] for r in found["adaptation"] if r["reason"] is not None}
    assert set(refused) == {"head", "full"} and refused["head"].startswith("no head of a network of times")
    told = said("--plan", plan)[1].out
    assert "local adaptations, improvement in brier_t on the frozen model" in told and refused["full"] in told
