# mypy: disable-error-code="attr-defined, union-attr"
"""Constants from noised sums in the account of a run: composed with training, region by region."""

import re
from typing import Any

import pytest

from fedsim import config
from fedsim.accounting.accountants import epsilon
from fedsim.accounting.events import Gaussian, PoissonGaussian
from fedsim.accounting.statistics import COVERED
from fedsim.base import RequestError, to_dict
from fedsim.plan import Cell
from fedsim.run import budget, run_experiments, train
from fedsim.run.sources import Sources
from fedsim.store import ResultStore
from tests.run.hospitals import BASE

SOURCES = Sources()
RANGES = {
    "age": [20, 90], "trestbps": [80, 200], "chol": [100, 600], "thalach": [60, 220], "oldpeak": [-3, 7],
    "slope": [1, 3], "ca": [0, 3], "thal": [3, 7],
}  # fmt: skip
NOISED = {"impute": "mean", "noise_multiplier": 3.0, "range": [0, 1], "ranges": RANGES}


def make(privacy: Any, preprocess: Any = None, **changes: Any) -> config.Experiment:
    values: dict[str, Any] = {
        "data": {"name": "heart_disease", "preprocess": preprocess or NOISED},
        "split": {"name": "natural", "test": 0.2},
        "algorithm": {"name": "fedavg", "weighting": "uniform"},
        "privacy": privacy,
        "rounds": 3,
        "optimizer": {"batch_size": 16, "step_size": 0.5},
    }
    return config.experiment(BASE | values | changes)


RECORD = {"name": "record", "noise_multiplier": 4.0}
CLIENT = {"name": "gaussian", "noise_multiplier": 4.0}


def state(experiment: config.Experiment) -> dict[str, Any]:
    return budget.statement(experiment, SOURCES.lanes(experiment), SOURCES.split(experiment)[0])


@pytest.mark.long
def test_every_region_pays_for_its_sums_and_its_training_together():
    said = state(make(RECORD))
    for region in said["regions"]:
        step = PoissonGaussian(noise_multiplier=4.0, rate=16 / region["units"])
        events = [(Gaussian(noise_multiplier=3.0), 1), (step, 3 * -(-region["units"] // 16))]
        assert region["epsilon"] == epsilon(events, 1e-5, "add_or_remove_one", "pld").epsilon
    without = state(make(RECORD, NOISED | {"noise_multiplier": None}))
    assert said["epsilon"] > without["epsilon"] + 0.1
    assert COVERED in said["covered"] and not any("sums" in what for what in said["uncovered"])
    assert any("3 x the most that one record adds" in note for note in said["notes"])
    assert COVERED not in without["covered"] and any("sums" in what for what in without["uncovered"])


@pytest.mark.parametrize(
    ("mechanism", "whom"),
    [("gaussian", "the server adds.*one client"), ("local_gaussian", "each region adds.*one client")],
)
def test_clients_pay_once_for_sums_with_central_noise(mechanism, whom):
    said = state(make({"name": mechanism, "noise_multiplier": 4.0}))
    events = [(Gaussian(noise_multiplier=3.0), 1), (Gaussian(noise_multiplier=4.0), 3)]
    assert said["epsilon"] == epsilon(events, 1e-5, said["relation"]).epsilon
    assert any(re.search(whom, note) for note in said["notes"])


def test_a_budget_pays_for_both():
    """The noise of the training makes up for what the constants cost, and training ends the sooner."""
    asked = CLIENT | {"epsilon": 2.0, "noise_multiplier": None}
    dear, cheap = (
        SOURCES.lanes(make(asked, NOISED | {"noise_multiplier": z}))[0].experiment for z in (3.0, 300.0)
    )
    assert dear.privacy.noise() > 1.05 * cheap.privacy.noise()
    spent = state(make(asked))["epsilon"]
    assert 1.999 < spent <= 2.0
    capped = CLIENT | {"epsilon": 2.3}
    short = SOURCES.lanes(make(capped, rounds=30))[0].rounds
    long = SOURCES.lanes(make(capped, NOISED | {"noise_multiplier": None}, rounds=30))
    assert 0 < short < long[0].rounds < 30
    with pytest.raises(RequestError, match=r"noise_multiplier=3 alone costs epsilon 1\.\d+.*raise data"):
        SOURCES.lanes(make(asked | {"epsilon": 0.5}))


def test_tuned_models_share_constants_that_are_paid_for_once_more():
    tune = {"grid": {"optimizer.step_size": [0.1, 0.5, 1.0]}, "rounds": [2]}
    counted = state(
        make({"name": "gaussian", "noise_multiplier": 9.0, "count_tuning": True}, tune=tune, rounds=2)
    )
    events = [(Gaussian(noise_multiplier=3.0), 2), (Gaussian(noise_multiplier=9.0), 2 + 3 * 2)]
    assert counted["epsilon"] == pytest.approx(epsilon(events, 1e-5, "add_or_remove_one").epsilon)


def test_folds_each_fit_constants_of_their_own():
    e = make(CLIENT, split={"name": "natural", "folds": 2})
    one, two = SOURCES.lanes(e)
    assert (one.constants.shift != two.constants.shift).any()
    events = [(Gaussian(noise_multiplier=3.0), 2), (Gaussian(noise_multiplier=4.0), 6)]
    of_all = epsilon(events, 1e-5, "add_or_remove_one").epsilon
    assert state(e)["epsilon_of_all_models"] == pytest.approx(of_all)


@pytest.mark.parametrize("mechanism", ["none", "randomised_response", "skellam"])
def test_other_mechanisms_hide_nobody_whom_the_noise_would(mechanism, tmp_path):
    more = {"contributors": 4.0} if mechanism == "skellam" else {}
    secure = {"secure": {"name": "bonawitz"}} if mechanism == "skellam" else {}
    with pytest.raises(RequestError, match=rf"privacy={mechanism} hides no.*set privacy=record"):
        run_experiments([Cell(make({"name": mechanism} | more, **secure), {})], tmp_path)
    assert not list(tmp_path.glob("*/manifest.json"))


def test_constants_of_each_client_are_not_said_to_be_harmless():
    """They stay at the client; a record moves them, and with them the gradients of all others."""
    own = {"impute": "mean", "scope": "client"}
    of_records, of_clients = (state(make(privacy, own))["uncovered"] for privacy in (RECORD, CLIENT))
    assert any("each client's own constants" in what for what in of_records)
    assert not any("each client's own constants" in what for what in of_clients)
    for said in (of_records, of_clients):
        assert any("of which some client has no value" in what for what in said)


def test_off_is_todays_run():
    """Ranges that are given and not used change nothing but the id."""
    plain = SOURCES.lanes(make(RECORD, {"impute": "mean"}))[0]
    unused = SOURCES.lanes(make(RECORD, NOISED | {"noise_multiplier": None}))[0]
    for name in ("impute", "shift", "scale"):
        assert getattr(plain.constants, name).tobytes() == getattr(unused.constants, name).tobytes()
    assert to_dict(plain.experiment.privacy) == to_dict(unused.experiment.privacy)


@pytest.mark.long
def test_a_resumed_run_keeps_its_constants_and_its_account(tmp_path, monkeypatch):
    e = make(
        {"name": "gaussian", "noise_multiplier": 2.0}, executor={"name": "inline", "checkpoint_seconds": 0.0}
    )
    run_experiments([Cell(e, {})], tmp_path / "whole")
    saved, calls = train._save, []

    def stop(*arguments):
        saved(*arguments)
        calls.append(arguments[3])
        if len(calls) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(train, "_save", stop)
    monkeypatch.setattr(train, "_CALL_SECONDS", 0.0)
    with pytest.raises(KeyboardInterrupt):
        run_experiments([Cell(e, {})], tmp_path / "parts")
    monkeypatch.setattr(train, "_save", saved)
    run_experiments([Cell(e, {})], tmp_path / "parts")
    whole, parts = (ResultStore(tmp_path / name) for name in ("whole", "parts"))
    (run,) = whole.ids()
    one, other = whole.manifest(run), parts.manifest(run)
    assert one["privacy"] == other["privacy"] and one["model_sha256"] == other["model_sha256"]


def test_shadow_models_get_noise_of_their_own():
    from fedsim.run.audits import _shadow

    lane = SOURCES.lanes(make(RECORD))[0]
    federation = SOURCES.split(lane.experiment)[0]
    made = [_shadow(lane, federation, number).constants for number in range(2)] + [lane.constants]
    assert len({constants.shift.tobytes() for constants in made}) == 3
