"""Audits of runs: what is stored, what is said, and that it is right where the answer is known."""

import json
import sys

import numpy as np
import pytest

from fedsim import config, privacy, trees
from fedsim.audit import records
from fedsim.base import RequestError
from fedsim.cli import audited, main
from fedsim.plan import Cell
from fedsim.privacy.central import central, independent
from fedsim.run import run_experiments
from fedsim.simulate import build, worker
from fedsim.store import ResultStore
from tests.run.hospitals import BASE
from tests.simulate import small

HALF = {"name": "natural", "test": 0.5}
# Fits noise: what an audit should see.
MEMORISES = {
    "task": {"name": "mlp", "hidden": [64]},
    "split": HALF,
    "optimizer": {"batch_size": 16, "step_size": 0.5},
    "rounds": 100,
    "evaluate": {},
}


def run(root, *experiments):
    outcome = run_experiments([Cell(e, {"n": i}) for i, e in enumerate(experiments)], root)
    assert not outcome.failed and not outcome.diverged, outcome.errors
    return [ResultStore(root).manifest(run) for run in outcome.done]


@pytest.mark.long
def test_shadow_models_tell_who_was_trained_on(tmp_path):
    e = config.experiment(
        BASE | MEMORISES | {"audit": {"name": "membership", "shadows": 8, "subgroup": "sex"}}
    )
    [manifest] = run(tmp_path, e)
    found = manifest["audit"]
    assert (found["members"] + found["non_members"] + found["not_told"], found["shadows"]) == (920, 8)
    assert found["attacks"].keys() == {"loss", "lira", "rmia", "bayes"}
    assert all(rates["auc"] > 0.52 for rates in found["attacks"].values())
    assert found["attacks"]["bayes"]["auc"] > 0.6
    by = {g["by"] for g in found["attacks"]["lira"]["groups"]}
    assert by == {"client", "label", "sex"}
    said = "\n".join(audited.lines(manifest))
    assert "8 shadow models" in said and "most exposed: " in said and "not what an attacker with" in said


def test_canary_records_show_what_a_model_memorises(tmp_path):
    audit = {"name": "records", "canaries": 80}
    first = config.experiment(BASE | MEMORISES | {"audit": audit})
    # A step too small to learn anything: nothing to show, at the same confidence.
    idle = config.experiment(
        BASE | MEMORISES | {"audit": audit, "optimizer": {"batch_size": 16, "step_size": 1e-9}}
    )
    taught, untaught = (manifest["audit"] for manifest in run(tmp_path, first, idle))
    assert taught["canaries"] == 80 and 20 < taught["included"] < 60
    assert 0.2 < taught["epsilon_bound"] < taught["epsilon_bound_highest"]
    assert taught["epsilon_estimate_gaussian"] > taught["epsilon_bound_gaussian"] > 0
    assert untaught["epsilon_bound"] == untaught["epsilon_bound_gaussian"] == 0
    assert taught["accounted_epsilon"] is None and taught["contradicts"] is None


def test_canary_clients_are_printed_beside_the_account(tmp_path):
    e = config.experiment(
        BASE
        | {"algorithm": {"name": "fedavg", "weighting": "uniform"}, "privacy": "gaussian", "evaluate": {}}
        | {"audit": {"name": "clients", "canaries": 40}}
    )
    [manifest] = run(tmp_path, e)
    found = manifest["audit"]
    assert found["folds"] == 2 and found["confidence"] == 0.95 and found["canaries"] == 40
    lines = list(audited.lines(manifest))
    assert "40 canaries cannot show more than" in lines[0] and "95 % confidence" in lines[0]
    assert lines[2].strip().startswith("accounted: ")
    assert not any(word in " ".join(lines).lower() for word in ("anonymous", "personal information", "safe"))
    loud = manifest | {"audit": found | {"contradicts": True, "accounted_epsilon": 0.1}}
    assert any("contradicts the account" in line for line in audited.lines(loud))
    assert list(audited.lines({"audit": None})) == []


def nothing_compiled(monkeypatch):
    """Neither before, of the program without the bug, nor after, of that with it."""
    for holder, name in ((build, "_KNOWN"), (worker, "PROGRAMS"), (worker, "COMPILED")):
        monkeypatch.setattr(holder, name, {})


@pytest.mark.parametrize("bug", [False, True])
def test_a_whole_run_with_half_of_its_noise_is_contradicted(tmp_path, monkeypatch, capsys, bug):
    """As a user asks for it, from overrides to JSON; the account knows nothing of the bug."""
    if bug:
        monkeypatch.setitem(
            privacy.MECHANISMS,
            "gaussian",
            lambda cfg: central(cfg.clip_norm, cfg.noise() / 2, independent, {}),
        )
        nothing_compiled(monkeypatch)
    asked = "task=mlp task.hidden=[64] algorithm.weighting=uniform split.test=0.5 rounds=4"
    asked += " privacy=gaussian privacy.noise_multiplier=2 audit=clients audit.canaries=400"
    assert main(["run", *asked.split(), f"results={tmp_path}", "--json", "--quiet"]) == 0
    manifest = json.loads(capsys.readouterr().out)
    found = manifest["audit"]
    assert found["accounted_epsilon"] == manifest["privacy"]["epsilon"] > 0
    assert found["epsilon_bound"] <= found["epsilon_bound_highest"]
    assert found["contradicts"] is bug
    said = list(audited.lines(manifest))
    assert f"epsilon <= {found['accounted_epsilon']:.4f} at delta 1e-05 for each client" in " ".join(said)
    assert ("  the audit contradicts the account: mechanism or accounting is wrong" in said) is bug
    assert "not what metrics, preprocessing or the choice of options tell" in said[-1]


def test_a_whole_run_whose_records_have_no_noise_is_contradicted(tmp_path, monkeypatch):
    silent = sys.modules["fedsim.local.private"]
    monkeypatch.setattr(silent, "noise", lambda total, cfg, key: trees.zeros(total))
    nothing_compiled(monkeypatch)
    protected = {"privacy": {"name": "record", "noise_multiplier": 40.0, "clip_norm": 5.0}}
    e = config.experiment(BASE | MEMORISES | protected | {"audit": {"name": "records", "canaries": 60}})
    [manifest] = run(tmp_path, e)
    found = manifest["audit"]
    assert found["contradicts"] and found["epsilon_bound_gaussian"] > manifest["privacy"]["epsilon"]


# --- planted rows ----------------------------------------------------------------------------


def test_records_that_are_left_out_are_nowhere():
    fed = small.federation((30, 20, 40))
    e = small.experiment(split={"name": "natural", "test": 0.2})
    part = small.partition(fed, e.split, e.seed)
    cfg = config.audit.CanaryRecords(canaries=10)
    made = records.plant(fed, part, cfg, 5)
    assert len(made.canaries) == 10 == len(set(made.canaries.tolist()))
    train, valid, test = (set(made.partition.part(w)[0].tolist()) for w in ("train", "valid", "test"))
    out, within = made.canaries[~made.included], made.canaries[made.included]
    assert set(within.tolist()) <= train and not set(out.tolist()) & (train | valid | test)
    assert train | set(out.tolist()) == set(part.part("train")[0].tolist())
    assert test == set(part.part("test")[0].tolist()) and (made.partition.train >= 1).all()
    every = np.arange(fed.rows)
    changed = np.flatnonzero(made.federation.labels_of(every) != fed.labels_of(every))
    assert set(changed.tolist()) == set(made.canaries.tolist())  # in both groups alike
    own = records.plant(fed, part, config.audit.CanaryRecords(canaries=10, labels="own"), 5)
    assert own.federation is fed and own.canaries.tolist() == made.canaries.tolist()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"audit": "records"}, "folds and tuning make several"),
        ({"audit": {"name": "records", "canaries": 500}, "split": HALF}, "a quarter of the training rows"),
        ({"audit": "membership", "split": {"name": "natural", "test": 0.0}}, "set split.test"),
        ({"audit": "membership", "algorithm": "local"}, "algorithm=local has none of"),
        ({"audit": {"name": "membership", "subgroup": "height"}}, "audit.subgroup=height is no feature"),
        ({"audit": {"name": "membership", "subgroup": "chol"}}, "more than 20 values"),
        ({"audit": "clients"}, "audits what protects a client"),
    ],
)
def test_what_cannot_be_audited_is_refused(changes, message, tmp_path):
    with pytest.raises(RequestError, match=message):
        run(tmp_path, config.experiment(BASE | {"rounds": 1, "evaluate": {}} | changes))
