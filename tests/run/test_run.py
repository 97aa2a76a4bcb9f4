# mypy: disable-error-code="index"
"""What becomes of runs: stored once, diverged ones too, several packed or alone, two processes at once."""

import itertools
import json
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pyarrow.compute as pc
import pytest

from fedsim import config, metrics
from fedsim.base import Interrupted, RequestError
from fedsim.plan import Cell
from fedsim.run import run_experiments
from fedsim.run.sources import Sources
from fedsim.simulate.judged import labels_of
from fedsim.store import Hold, ResultStore
from tests.run.hospitals import BASE

TUNE = {"grid": {"optimizer.step_size": [0.1, 0.5]}, "rounds": [2, 4]}


def make(**changes):
    return config.experiment(BASE | changes)


def cells(*experiments):
    return [Cell(e, {"n": i}) for i, e in enumerate(experiments)]


def rows_of(store, run):
    """Everything a run stored, but for seconds."""
    tables = [store.read(run, name).to_pylist() for name in ("rounds", "clients", "predictions")]
    return store.manifest(run)["model_sha256"], tables


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    root = tmp_path_factory.mktemp("store")
    experiments = [make(seed=s, tune=TUNE) for s in range(3)]
    outcome = run_experiments(cells(*experiments), root)
    return root, experiments, outcome


def test_runs_are_stored_once(stored):
    root, experiments, outcome = stored
    assert len(outcome.done) == 3 and not outcome.skipped and not outcome.failed
    again = run_experiments(cells(*experiments), root)
    assert again.skipped == outcome.done and not again.done


@pytest.mark.parametrize("asked", [0, 2, 3])
def test_who_is_asked_to_stop_saves_and_goes_on_from_there(stored, tmp_path, asked):
    root, experiments, outcome = stored
    looks = itertools.count()
    with pytest.raises(Interrupted, match="the same command"):
        run_experiments(cells(experiments[0]), tmp_path, stopped=lambda: next(looks) >= asked)
    assert ResultStore(tmp_path).ids() == []
    assert any(tmp_path.glob(".checkpoints/*")) == (asked > 0)
    again = run_experiments(cells(experiments[0]), tmp_path)
    assert again.done == outcome.done[:1]
    assert rows_of(ResultStore(tmp_path), again.done[0]) == rows_of(ResultStore(root), again.done[0])
    assert not any(tmp_path.glob(".checkpoints/*"))


def test_rows_say_what_happened(stored):
    root, _, outcome = stored
    store = ResultStore(root)
    manifest = store.manifest(outcome.done[0])
    assert manifest["status"] == "done" and manifest["metrics"]["set"] == "test"
    assert set(manifest["metrics"]["clients"]) == {"Cleveland", "Hungary", "Switzerland", "Long Beach"}
    assert manifest["metrics"]["pooled"]["n"] == 920  # every row is tested once over the folds
    assert manifest["metrics"]["pooled"]["auroc"] > 0.84
    assert len(manifest["chosen"]) == 2 and {c["rounds"] for c in manifest["chosen"]} <= {2, 4}
    assert manifest["privacy"]["mechanism"] is None and manifest["privacy"]["epsilon"] is None
    predictions = store.read(outcome.done[0], "predictions")
    assert sorted(predictions["row"].to_pylist()) == list(range(920))
    rounds = store.read(outcome.done[0], "rounds")
    assert sorted(set(rounds["round"].to_pylist())) == [2, 4]
    tuning = store.read(outcome.done[0], "tuning")
    assert tuning.num_rows == 2 * 2 * 2  # folds, candidates, rounds
    assert pc.sum(tuning["chosen"]).as_py() == 2


def test_the_choice_is_the_best_on_validation_rows(stored):
    root, _, outcome = stored
    store = ResultStore(root)
    table = store.read(outcome.done[0], "tuning").to_pylist()
    for fold, choice in enumerate(store.manifest(outcome.done[0])["chosen"]):
        mine = [r for r in table if r["replica"] == fold]
        best = min(mine, key=lambda r: r["loss"])
        assert choice["rounds"] == best["round"]
        assert choice["numbers"]["optimizer.step_size"] == pytest.approx(best["optimizer.step_size"])


def test_alone_is_packed_bit_for_bit(stored, tmp_path):
    root, experiments, outcome = stored
    alone = run_experiments(cells(experiments[1]), tmp_path)
    assert alone.done == [outcome.done[1]]
    assert rows_of(ResultStore(tmp_path), alone.done[0]) == rows_of(ResultStore(root), outcome.done[1])


def test_lanes_of_other_packs_change_no_bit(stored, tmp_path):
    root, experiments, outcome = stored
    small = [replace(e, executor=config.Inline(lanes=4, devices=1)) for e in experiments]
    again = run_experiments(cells(*small), tmp_path)
    assert sorted(again.done) == sorted(outcome.done)
    for run in again.done:
        assert rows_of(ResultStore(tmp_path), run) == rows_of(ResultStore(root), run)


def test_a_diverged_run_is_a_row_and_the_sweep_goes_on(tmp_path):
    wild = make(optimizer={"batch_size": 0, "step_size": 1e38, "epochs": 3})
    outcome = run_experiments(cells(wild, make()), tmp_path)
    assert len(outcome.done) == 1 and len(outcome.diverged) == 1
    manifest = ResultStore(tmp_path).manifest(outcome.diverged[0])
    assert manifest["status"] == "diverged"
    assert "lower optimizer.step_size=1e+38" in manifest["error"]
    # It is an answer: asked again, it is not run again.
    assert run_experiments(cells(wild), tmp_path).skipped == outcome.diverged


def test_coefficients_are_on_the_scale_of_the_input(tmp_path):
    """The stored coefficients reproduce the stored scores from raw rows."""
    from fedsim.data import load

    experiment = make(split={"name": "natural", "test": 0.2})
    outcome = run_experiments(cells(experiment), tmp_path)
    store = ResultStore(tmp_path)
    found = store.manifest(outcome.done[0])["coefficients"]
    federation = load(experiment.data)
    complete = ~np.isnan(federation.columns["x"]).any(axis=1)
    table = store.read(outcome.done[0], "predictions").to_pydict()
    weights = np.array([found[name] for name in federation.features])
    checked = 0
    for row, score in zip(table["row"], table["score"], strict=True):
        if complete[row]:
            logit = found["intercept"] + federation.columns["x"][row].astype(np.float64) @ weights
            assert score == pytest.approx(1 / (1 + np.exp(-logit)), rel=1e-3, abs=1e-5)
            checked += 1
    assert checked > 20


def test_local_models_are_stored_by_client(tmp_path):
    outcome = run_experiments(cells(make(algorithm="local", split={"name": "natural"})), tmp_path)
    model = ResultStore(tmp_path).model(outcome.done[0])
    assert {name.split("/")[0] for name in model} == {"Cleveland", "Hungary", "Switzerland", "Long Beach"}
    kernels = [v for name, v in model.items() if "kernel" in name]
    assert len(kernels) == 4 and not np.allclose(kernels[0], kernels[1])


@pytest.mark.long
def test_own_models_are_stored_whole(tmp_path):
    """Of a method that shares a part of the model, and as they scored."""
    per = {"name": "fedper", "personal": ["head/bias"]}
    outcome = run_experiments(cells(make(algorithm=per, split={"name": "natural"})), tmp_path)
    held = ResultStore(tmp_path).model(outcome.done[0])
    names = ("Cleveland", "Hungary", "Switzerland", "Long Beach")
    assert held.keys() == {f"{n}/params/head/{part}" for n in names for part in ("kernel", "bias")}
    kernels = [held[f"{n}/params/head/kernel"] for n in names]
    assert all(np.array_equal(k, kernels[0]) for k in kernels) and np.any(kernels[0])
    assert len({float(held[f"{n}/params/head/bias"][0]) for n in names}) == 4


def test_rows_without_a_server(tmp_path):
    """The average judges all rows together, clients' own models the clients; bytes are of all messages."""
    graph = {"algorithm": "dpsgd", "topology": "ring", "split": {"name": "natural"}}
    outcome = run_experiments(cells(make(**graph)), tmp_path)
    store, run = ResultStore(tmp_path), outcome.done[0]
    held = store.model(run)
    names = ("Cleveland", "Hungary", "Switzerland", "Long Beach")
    models = np.array(
        [np.append(held[f"{n}/params/head/kernel"], held[f"{n}/params/head/bias"]) for n in names], np.float64
    )
    rows = store.read(run, "rounds").to_pylist()
    for row in rows:
        assert row["bytes_up"] == row["bytes_down"] == row["round"] * 4 * 2 * 4 * models.shape[1]
    last = {row["aggregate"]: row for row in rows if row["round"] == 4}
    distance = ((models - models.mean(axis=0)) ** 2).sum(axis=1).mean()
    assert last["pooled"]["consensus_distance"] == pytest.approx(distance, rel=1e-4) and distance > 0
    own = store.read(run, "predictions").to_pylist()
    by_own = np.mean([-np.log(p["score"] if p["label"] else 1 - p["score"]) for p in own])
    assert last["weighted_mean"]["log_loss"] == pytest.approx(by_own, rel=1e-5)
    assert abs(last["pooled"]["log_loss"] - by_own) > 1e-3
    pooled = store.manifest(run)["metrics"]["pooled"]
    assert pooled["log_loss"] == last["pooled"]["log_loss"] and "consensus_distance" not in pooled


@pytest.mark.long
def test_late_clients_are_a_set_of_their_own_and_choose_nothing(tmp_path):
    experiment = make(
        split={"name": "natural", "late": 0.25},
        tune=TUNE,
        algorithm="local",
    )
    outcome = run_experiments(cells(experiment), tmp_path)
    store = ResultStore(tmp_path)
    manifest = store.manifest(outcome.done[0])
    clients = store.read(outcome.done[0], "clients").to_pylist()
    (late,) = manifest["metrics"]["late"]
    assert {late} == {row["name"] for row in clients if row["set"] == "late" and row["group"] == "client"}
    assert late not in manifest["metrics"]["clients"] and len(manifest["metrics"]["clients"]) == 3
    rounds = store.read(outcome.done[0], "rounds").to_pylist()
    assert {row["round"] for row in rounds if row["set"] == "late"} == {2, 4}
    predictions = store.read(outcome.done[0], "predictions").to_pylist()
    assert {row["client"] for row in predictions if row["set"] == "late"} == {late}
    assert late not in {row["client"] for row in predictions if row["set"] != "late"}
    # Three clients' models are kept; the one that was made to judge is not.
    assert late not in {name.split("/")[0] for name in store.model(outcome.done[0])}
    (lane,) = Sources().lanes(experiment, holding_out=0.25)
    _, owner = labels_of(lane.judged, "valid")
    assert len(owner) and lane.judged.valid[list(lane.judged.late)].all() and not lane.judged.late & {*owner}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"world": {"name": "uniform", "cohort": 5}}, "world.cohort=5 is larger than the federation's 4"),
        (
            {"tune": {"grid": {"optimizer.steps": [1, 2]}}},
            "tune.grid.optimizer.steps is not a number that can be tuned",
        ),
        (
            {"tune": {"grid": {"optimizer.step_size": [0.1, -1.0]}}},
            r"optimizer.step_size must be in \[0, inf\), got -1",
        ),
        ({"task": "linear"}, "linear"),
        ({"privacy": "gaussian"}, "algorithm.weighting"),
        (
            {
                "privacy": "gaussian",
                "aggregator": "median",
                "algorithm": {"name": "fedavg", "weighting": "uniform"},
            },
            "what aggregator=median makes of their messages is not a sum",
        ),
        ({"numerics": {"x64": True}}, "JAX already runs in this process with other settings"),
    ],
)
def test_wrong_requests_are_refused_and_nothing_is_stored(changes, message, tmp_path):
    with pytest.raises(RequestError, match=message):
        run_experiments(cells(make(**changes)), tmp_path)
    assert ResultStore(tmp_path).ids() == []


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"aggregator": "median", "algorithm": "local"}, "aggregator=median .* algorithm=local takes none"),
        ({"tune": {"grid": {"optimizer.step_size": [0.1, -1.0]}}}, "step_size must be .* got -1"),
        ({"world": {"name": "uniform", "cohort": 5}}, "world.cohort=5 is larger than the federation's 4"),
    ],
)
def test_a_cell_that_cannot_be_is_named_before_another_begins(changes, message, tmp_path):
    """The others have programs of their own and come first."""
    experiments = make(), make(algorithm="local"), make(**changes)
    with pytest.raises(RequestError, match=f"^n=2: .*{message}"):
        run_experiments(cells(*experiments), tmp_path)
    assert ResultStore(tmp_path).ids() == []


@pytest.mark.long
def test_two_processes_run_each_cell_once(tmp_path):
    """Both end well, and every run was made by exactly one of them."""
    code = (
        "import sys, json; from pathlib import Path; from fedsim import config; from fedsim.plan import Cell;"
        "from fedsim.run import run_experiments; base = json.loads(sys.argv[1]);"
        "cells = [Cell(config.experiment(base | {'seed': s, 'algorithm': a}), {'s': s})"
        " for a in ('fedavg', 'fedprox', 'local') for s in range(2)];"
        "print(json.dumps(run_experiments(cells, Path(sys.argv[2])).done))"
    )
    command = [sys.executable, "-c", code, json.dumps(BASE), str(tmp_path)]
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    done = [json.loads(p.communicate(timeout=300)[0].splitlines()[-1]) for p in both]
    assert [p.returncode for p in both] == [0, 0]
    assert len(done[0]) + len(done[1]) == 6 and not set(done[0]) & set(done[1])
    states = ResultStore(tmp_path).states(done[0] + done[1])
    assert set(states.values()) == {"done"}


def test_what_was_taken_over_is_left_to_the_other(tmp_path, monkeypatch):
    """It was suspended for so long that another process has run the cell, and stored it."""
    experiments = [make(seed=s) for s in range(2)]
    root, elsewhere = tmp_path / "store", tmp_path / "elsewhere"
    [theirs] = run_experiments(cells(experiments[0]), elsewhere).done
    lost = []

    def keeps(hold, run):
        if run != theirs:
            return True
        (elsewhere / run).rename(root / run)
        lost.append(run)
        return False

    monkeypatch.setattr(Hold, "keeps", keeps)
    outcome = run_experiments(cells(*experiments), root)
    assert lost == [theirs]
    assert outcome.skipped == [theirs] and len(outcome.done) == 1
    assert not outcome.failed and not outcome.errors


@pytest.mark.parametrize("split", ["natural", "iid"])
def test_natural_sites_are_judged_by_their_own_rows(tmp_path, split):
    """Whether or not the clients are these sites."""
    experiment = make(split={"name": split, "folds": 2})
    outcome = run_experiments(cells(experiment), tmp_path)
    store = ResultStore(tmp_path)
    federation = Sources().federation(experiment)
    predictions = store.read(outcome.done[0], "predictions")
    row, label, score = (predictions[name].to_numpy() for name in ("row", "label", "score"))
    site = federation.client_of_row()[row]
    found = store.read(outcome.done[0], "clients").to_pylist()
    of_sites = {r["name"]: r for r in found if r["group"] == "site"}
    assert list(of_sites) == list(federation.names)
    for k, name in enumerate(federation.names):
        mine = site == k
        judged = metrics.evaluate("binary", label[mine], score[mine])
        assert {metric: of_sites[name][metric] for metric in judged} == judged
        assert (of_sites[name]["n"], of_sites[name]["positives"]) == (mine.sum(), label[mine].sum())
    of_clients = {r["name"]: r for r in found if r["group"] == "client" and r["round"] == 4}
    same = {name: {**r, "group": "client"} for name, r in of_sites.items()} == of_clients
    assert same == (split == "natural")
