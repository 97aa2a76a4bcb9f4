"""fedsim privacy: what it answers, and what it refuses with a reason and the nearest sound alternative."""

import json
import subprocess
import sys

import pytest

from fedsim.cli import main

ONE = "noise_multiplier=1 steps=1 delta=1e-5"
ADD, ZERO = "add_or_remove_one", "replace_special"
SWAP = "set relation=replace_one and accountant=rdp, or draw a Poisson sample"
GAUSS = "q=0.01 noise_multiplier=1.3 steps=1500 delta=1e-5"


def ask(capsys, line, code=0):
    assert main(["privacy", *line.split(), "--json"]) == code
    return json.loads(capsys.readouterr().out)


def test_epsilon(capsys):
    found = ask(capsys, f"epsilon sampling=poisson {GAUSS} accountant=pld")
    assert found.pop("epsilon") == pytest.approx(1.40595, abs=1e-5)
    assert found.pop("conversion").startswith("hockey-stick divergence")
    assert found == {
        "delta": 1e-5,
        "unit": "record",
        "relation": "add_or_remove_one",
        "sampling": "poisson",
        "accountant": "pld",
    }


def test_as_text(capsys):
    assert main(["privacy", "epsilon", *GAUSS.split(), "accountant=rdp"]) == 0
    said = dict(line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines())
    assert (said["epsilon"], said["accountant"]) == ("1.54864", "rdp")


@pytest.mark.parametrize(
    ("line", "relation", "sampling", "accountant", "epsilon"),
    [
        ("sampling=fixed n=1000 b=10 noise_multiplier=4 steps=50", "replace_one", "fixed", "rdp", 0.32),
        ("n=1000 b=1000 noise_multiplier=4 steps=1", "replace_one", "fixed", "rdp", 2.5),
        ("noise_multiplier=4 steps=1 relation=replace_one", "replace_one", "all", "gdp", 2.0),
        ("unit=patient rows_per_patient=4 noise_multiplier=16 steps=1", ADD, "all", "gdp", 1.0),
        ("unit=patient rows_per_patient=1 q=1 noise_multiplier=4 steps=1", ADD, "poisson", "pld", 1.0),
        ("mechanism=laplace noise_multiplier=2 steps=3", ADD, "all", "pld", 1.5),
        ("mechanism=laplace q=0.1 noise_multiplier=2 steps=3", ADD, "poisson", "pld", 0.2),
        ("mechanism=discrete_gaussian noise_multiplier=4 steps=1", ADD, "all", "rdp", 1.0),
        ("mechanism=skellam noise_multiplier=4 steps=1 sensitivity=100", ADD, "all", "rdp", 1.0),
        ("mechanism=tree noise_multiplier=8 steps=7", ZERO, "all", "gdp", 0.83),
        ("mechanism=banded bands=4 participations=4 noise_multiplier=8 steps=16", ZERO, "all", "gdp", 1.0),
        ("mechanism=blt sensitivity=2 noise_multiplier=8 steps=16", ZERO, "all", "gdp", 1.0),
    ],
)
def test_every_mechanism_and_sampling(capsys, line, relation, sampling, accountant, epsilon):
    """Noise of 4 clip norms, once and without sampling, is epsilon 1.0 or so."""
    found = ask(capsys, f"epsilon {line} delta=1e-5")
    assert (found["relation"], found["sampling"], found["accountant"]) == (relation, sampling, accountant)
    assert found["epsilon"] == pytest.approx(epsilon, rel=0.15)


@pytest.mark.parametrize(
    ("line", "error", "advice"),
    [
        (f"epsilon sampling=fixed n=9 b=3 {ONE} relation=add_or_remove_one", "no Poisson sample", SWAP),
        (f"epsilon sampling=fixed n=9 b=3 {ONE} accountant=pld", "by accountant=pld", SWAP),
        (f"epsilon {GAUSS} relation=replace_one accountant=rdp", "Poisson samples", "set relation=add_or"),
        (f"epsilon mechanism=tree {ONE} accountant=pld", "tree aggregation", "set relation=replace_special"),
        (
            f"epsilon mechanism=tree {ONE} relation=replace_one",
            "tree aggregation",
            "relation=replace_special",
        ),
        (
            f"epsilon sampling=truncated_poisson n=9 cap=5 {GAUSS} accountant=rdp",
            "truncated",
            "accountant=pld",
        ),
        (f"epsilon unit=patient rows_per_patient=3 {GAUSS} accountant=rdp", "mixture", "set accountant=pld"),
        (f"epsilon unit=patient {GAUSS}", "how many rows", "rows_per_patient"),
        (f"epsilon unit=patient rows_per_patient=2 n=9 b=3 {ONE}", "several rows", "sampling=poisson"),
        (f"epsilon rows_per_patient=2 {ONE}", "where unit=record", "set unit=patient"),
        (f"epsilon mechanism=skellam q=0.1 {ONE}", "no account of sampling=poisson", "sampling=all"),
        (
            "epsilon mechanism=banded bands=9 participations=2 noise_multiplier=1 steps=9 delta=0.1",
            "overlap",
            "separation",
        ),
        (f"epsilon mechanism=skellam sensitivity=0 {ONE}", "sensitivity must be > 0, got 0", "leave it out"),
        (f"epsilon mechanism=discrete_gaussian clients=0 {ONE}", "clients must be >= 1, got 0", "clients=1"),
        (f"epsilon unit=patient rows_per_patient=0 {ONE}", "rows_per_patient must be >= 1", "=1"),
        ("epsilon q=0.1 noise_multiplier=0 steps=1 delta=1e-5", "without noise there is no epsilon", "above"),
        ("calibrate epsilon=1 noise_multiplier=0 delta=1e-5", "without noise there is no epsilon", "above"),
        ("epsilon noise_multiplier=1 steps=1 delta=1", "delta must be in (0, 1)", "delta=1e-5"),
        ("epsilon noise_multiplier=1 steps=1 delta=0", "delta must be in (0, 1)", "delta=1e-5"),
        ("epsilon noise_multiplier=1 steps=1", "delta is required", "delta=1e-5"),
        (f"epsilon q=2 {ONE}", "q must be in (0, 1]", "probability"),
        ("epsilon q=0.1 noise_multiplier=1 delta=1e-5", "steps is required", "calibrate"),
        (f"epsilon {ONE} epsilon=1", "what is asked for", "calibrate"),
        (f"calibrate {ONE} epsilon=1", "from the other one", "leave out"),
        ("calibrate noise_multiplier=1 delta=1e-5 epsilon=1e-6", "does not pay for one step", "larger"),
        ("calibrate steps=10 delta=1e-5 epsilon=-1", "epsilon must be in (0, inf)", "epsilon=1"),
        (f"epsilon noise=1 {ONE}", "unknown option noise", "choose one of accountant, b,"),
        (f"epsilon noise_multiplyer=1 {ONE}", "unknown option", "did you mean 'noise_multiplier'"),
        ("epsilon sampling=posson q=0.1", "sampling must be one of", ""),
        ("epsilon events=nowhere.yaml", "no such file", "YAML"),
        ("epsilon q", "is no option=value", "q=0.01"),
    ],
)
def test_refusals(capsys, line, error, advice):
    found = ask(capsys, line, code=2)
    assert error in found["error"] and advice in found["advice"]
    assert found.keys() == {"error", "advice"}


def test_calibration(capsys):
    found = ask(capsys, "calibrate q=0.01 steps=1000 epsilon=2 delta=1e-5 accountant=rdp")
    assert found["noise_multiplier"] == pytest.approx(1.02239, abs=1.1e-4)
    assert 1.9999 < found["epsilon"] <= 2 and found["budget"] == 2
    found = ask(capsys, "calibrate q=0.01 noise_multiplier=1.3 epsilon=1.5487 delta=1e-5 accountant=rdp")
    assert found["steps"] == 1500 and found["epsilon"] <= 1.5487


def test_events_from_a_file(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "events.yaml").write_text(
        "delta: 1e-5\naccountant: rdp\nevents:\n"
        "  - {sampling: poisson, q: 0.01, noise_multiplier: 1.3, steps: 1500}\n"
        "  - {mechanism: laplace, noise_multiplier: 10, steps: 2}\n"
    )
    both = ask(capsys, "epsilon events=events.yaml")
    assert both["accountant"] == "rdp" and both["sampling"] == "poisson, all"
    assert 1.54864 < both["epsilon"] < 1.54864 + 2 / 10
    assert ask(capsys, "epsilon events=events.yaml delta=1e-7")["epsilon"] > both["epsilon"]
    (tmp_path / "open.yaml").write_text(
        "delta: 1e-5\naccountant: rdp\nevents:\n"
        "  - {sampling: poisson, q: 0.01, steps: 1500}\n"
        "  - {mechanism: laplace, noise_multiplier: 10, steps: 2}\n"
    )
    found = ask(capsys, f"calibrate events=open.yaml epsilon={both['epsilon']}")
    assert found["noise_multiplier"] == pytest.approx(1.3, abs=1e-5)
    found = ask(capsys, "epsilon events=events.yaml q=0.1", code=2)
    assert "q cannot be set beside events" in found["error"]
    (tmp_path / "bad.yaml").write_text("events: []\n")
    assert "must hold a mapping" in ask(capsys, "epsilon events=bad.yaml", code=2)["error"]


def test_a_large_delta_is_warned_of(capsys):
    line = "epsilon n=1000 b=10 noise_multiplier=4 steps=1"
    assert "not below 1 / n (n = 1000)" in ask(capsys, f"{line} delta=0.001")["warning"]
    assert "warning" not in ask(capsys, f"{line} delta=0.0009")


def test_it_starts_neither_jax_nor_hydra():
    line = "['privacy', 'epsilon', 'noise_multiplier=1', 'steps=3', 'delta=1e-5']"
    code = f"import sys; from fedsim.cli import main; code = main({line}); print(*sys.modules); exit(code)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    loaded = set(done.stdout.splitlines()[-1].split())
    assert loaded.isdisjoint({"jax", "jaxlib", "hydra", "ray", "dp_accounting"})  # exact needs no library
