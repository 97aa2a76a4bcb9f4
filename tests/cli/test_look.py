"""The verbs that only look: list, data, doctor."""

import json
import sys

from fedsim.cli import doctor
from fedsim.plan import CHOICES


def test_list_names_every_member_with_its_paper(fedsim, here):
    said = fedsim("list")
    assert said.code == 0
    assert [line for line in said.out.splitlines() if not line.startswith(" ")] == [*CHOICES, "experiments"]
    assert "  scaffold    SCAFFOLD: " in said.out and "(Karimireddy et al. 2020, Alg. 1)" in said.out
    experiments = [" ".join(line.split()) for line in fedsim("list experiments").out.splitlines()]
    assert any(line.startswith("heart_disease What each of four hospitals gains") for line in experiments)
    assert fedsim("list world").out.split()[0] == "world"


def test_data_describe(fedsim, here):
    found = json.loads(fedsim("data describe heart_disease --json").out)
    assert (found["rows"], found["clients"], len(found["features"])) == (920, 4, 16)
    assert [c["rows"] for c in found["per_client"]] == [303, 294, 200, 123]
    said = fedsim("data describe heart_disease")
    assert said.code == 0 and "CC BY 4.0" in said.out and "Cleveland     303" in said.out


def test_data_describe_takes_options(fedsim, here):
    (here / "Örebro.csv").write_text("hospital,age,died\na,50,1\na,60,0\nb,55,1\nb,66,0\n")
    line = "data describe table data.path=Örebro.csv data.client=hospital data.label=died --json"
    found = json.loads(fedsim(line).out)
    assert (found["rows"], found["clients"], found["features"]) == (4, 2, ["age"])
    assert fedsim(line.replace("table", "data=table", 1)).code == 0
    said = fedsim("data describe table")
    assert said.code == 2 and "data.path is required" in said.err


def test_data_describe_ends_with_notes(fedsim, here):
    (here / "cohort.csv").write_text("hospital,age,sex,died\na,50,F,1\na,60,F,0\nb,55,F,1\nb,66,F,0\n")
    line = "data describe table data.path=cohort.csv data.client=hospital data.label=died"
    assert fedsim(line).out.splitlines()[-1].startswith("note: column 'sex' has one level (F)")
    assert [note.split()[1] for note in json.loads(fedsim(f"{line} --json").out)["notes"]] == ["'sex'"]


def test_data_fetch_verifies_what_comes_with_fedsim(fedsim, here, monkeypatch):
    said = fedsim("data fetch heart_disease")
    assert said.code == 0 and said.out.startswith("heart_disease: nothing to fetch, here and intact\n")
    module = sys.modules["fedsim.data.heart_disease"]  # whose name the package gives to its function
    monkeypatch.setattr(module, "SHA256", "0" * 64)
    said = fedsim("data fetch heart_disease")
    assert said.code == 2 and "expected 0000" in said.err


def test_data_list(fedsim, here):
    assert "heart_disease  UCI heart disease: 920 patients" in fedsim("data list").out
    assert "table" in json.loads(fedsim("data list --json").out)


def test_doctor_makes_nothing_and_names_problems(fedsim, here, monkeypatch):
    monkeypatch.setattr(
        doctor, "PROBE", 'print(\'warning\'); print(\'[{"platform": "cpu", "kind": "cpu"}]\')'
    )
    monkeypatch.setattr("shutil.which", lambda name: None)
    said = fedsim("doctor --json")
    found = json.loads(said.out)
    assert said.code == 0 and found["problems"] == [] and found["slurm"] is None
    assert found["devices"] == [{"platform": "cpu", "kind": "cpu"}] and found["memory_gb"] > 0
    assert list(here.iterdir()) == []
    said = fedsim("doctor")
    assert said.code == 0 and "problems       none" in said.out

    monkeypatch.setattr("shutil.which", lambda name: f"/usr/bin/{name}")
    (here / "file").write_text("")
    said = fedsim("doctor --results file/store --json")
    assert said.code == 1
    assert [text.split()[0] for text in json.loads(said.out)["problems"]] == ["there", "results"]


def test_a_jax_that_hangs_or_breaks_does_not_hang_or_break_doctor(fedsim, here, monkeypatch):
    monkeypatch.setattr(doctor, "PROBE", "import time; time.sleep(60)")
    said = fedsim("doctor --timeout 0.2")
    assert said.code == 1 and "JAX did not start within 0.2 s" in said.out
    monkeypatch.setattr(doctor, "PROBE", "raise RuntimeError('no driver')")
    assert "JAX does not start: RuntimeError: no driver" in fedsim("doctor").out
