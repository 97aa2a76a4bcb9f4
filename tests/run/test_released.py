# mypy: disable-error-code="attr-defined, union-attr"
"""Counts of scores by label with noise: what a unit adds, how much noise, which metrics, what they cost."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from fedsim import config, metrics
from fedsim.accounting import evaluation
from fedsim.accounting.accountants import epsilon
from fedsim.accounting.events import Gaussian
from fedsim.base import RequestError
from fedsim.plan import Cell
from fedsim.run import budget, released, run_experiments
from fedsim.run.sources import Sources
from fedsim.store import ResultStore
from tests.run.hospitals import BASE

SOURCES = Sources()
RECORD = {"name": "record", "noise_multiplier": 4.0}


def make(privacy: Any = None, **changes: Any) -> config.Experiment:
    values: dict[str, Any] = {
        "split": {"name": "natural", "test": 0.2},
        "algorithm": {"name": "fedavg", "weighting": "uniform"},
        "privacy": privacy or RECORD,
        "rounds": 3,
        "optimizer": {"batch_size": 0, "step_size": 0.5},
        "evaluate": {"every": 2, "noise_multiplier": 1.5},
    }
    return config.experiment(BASE | values | changes)


def state(experiment: config.Experiment) -> dict[str, Any]:
    return budget.statement(experiment, SOURCES.lanes(experiment), SOURCES.split(experiment)[0])


def rows(n=400, seed=0):
    rng = np.random.default_rng(seed)
    label = rng.integers(0, 2, n).astype(np.int32)
    return label, np.clip(rng.normal(0.35 + 0.3 * label, 0.2), 0, 1)


def test_counts_are_rows_by_label_and_bin():
    label = np.array([0, 0, 1, 1, 1])
    score = np.array([0.0, 0.5, 0.5001, 1.0, np.nan])
    found = released.counts(label, score, None, 4)
    np.testing.assert_array_equal(found, [[1, 1, 0, 0], [0, 1, 1, 1]])


@pytest.mark.parametrize("size", [1, 4])
def test_a_unit_moves_the_counts_by_one_at_most(size):
    """Every record, or patient of up to 4 rows, is taken out, one at a time."""
    label, score = rows(80)
    unit = np.arange(80) // size
    given = unit if size > 1 else None
    whole = released.counts(label, score, given, 10)
    moved = []
    for one in range(unit.max() + 1):
        left = unit != one
        rest = released.counts(label[left], score[left], None if given is None else unit[left], 10)
        moved.append(np.linalg.norm(whole - rest))
    assert max(moved) == pytest.approx(1.0) and max(moved) <= 1 + 1e-12
    if given is not None:
        same = released.counts(label[:3], np.full(3, 0.95), np.zeros(3, int), 10)
        assert same.max() <= 1.0


def test_the_noise_is_as_large_as_it_is_said_to_be():
    """Over 500 regions and 20 counts, within 5 deviations of a sample deviation, 1 / sqrt(2 n)."""
    cfg = config.Evaluate(noise_multiplier=1.7)
    zero = np.zeros((2, 10))
    drawn = np.stack([released.noised(zero, cfg, 0, 0, "test", 3, f"region {k}") for k in range(500)])
    assert drawn.std() == pytest.approx(1.7, rel=5 / np.sqrt(2 * drawn.size))
    assert abs(drawn.mean()) < 5 * 1.7 / np.sqrt(drawn.size)
    one = released.noised(zero, cfg, 0, 0, "test", 3, "a")
    for other in ((1, "test", 3, "a"), (0, "valid", 3, "a"), (0, "test", 2, "a"), (0, "test", 3, "b")):
        assert (released.noised(zero, cfg, 0, *other) != one).all()


def test_metrics_are_those_of_scores_in_the_middle_of_their_bins():
    label, score = rows()
    found = released.measured([released.counts(label, score, None, 1000)], full=True)
    exact = metrics.evaluate("binary", label, score)
    assert list(found) == [released.PREFIX + name for name in exact]
    assert found["released_accuracy"] == exact["accuracy"]
    for name in ("auroc", "brier", "ece", "calibration_intercept"):
        assert found[released.PREFIX + name] == pytest.approx(exact[name], abs=5e-3)
    coarse = released.counts(label, score, None, 10)
    middles = (np.ceil(np.maximum(score, 1e-9) * 10 - 1e-12) - 0.5) / 10
    by_hand = metrics.evaluate("binary", label, middles)
    apart = (
        released.counts(label[:150], score[:150], None, 10),
        released.counts(label[150:], score[150:], None, 10),
    )
    for counts in ([coarse], apart):
        found = released.measured(counts, full=True)
        assert {k: pytest.approx(v) for k, v in found.items()} == {
            "released_" + k: v for k, v in by_hand.items()
        }
    assert released.measured([-coarse], full=False)["released_auroc"] is None


def test_the_nearest_counts_keep_the_sum():
    """No other counts of that sum, drawn at random, are nearer; where none is negative nothing is changed."""
    rng = np.random.default_rng(4)
    for _ in range(20):
        noised = rng.normal(1.0, 3.0, (2, 4))
        noised += max(0.0, 1.0 - noised.sum()) / noised.size  # rows there are
        found = released.nearest_counts(noised)
        assert found.min() >= 0 and found.sum() == pytest.approx(noised.sum())
        others = rng.dirichlet(np.ones(8), 500).reshape(-1, 2, 4) * noised.sum()
        towards = found + 0.01 * (others - found)
        distance = np.linalg.norm((towards - noised).reshape(500, -1), axis=1)
        assert (distance >= np.linalg.norm(found - noised) - 1e-12).all()
    whole = rng.uniform(0, 9, (2, 4))
    np.testing.assert_allclose(released.nearest_counts(whole), whole, atol=1e-12)
    assert not released.nearest_counts(-whole).any()


def test_evaluations_are_counted_as_they_are_made():
    def count(trained, **changes):
        return evaluation.evaluations(make(**changes), trained)

    assert [count(r) for r in (1, 2, 3, 4, 5)] == [1, 1, 2, 2, 3]
    assert count(100, evaluate={"noise_multiplier": 1.0}) == 1
    tuned = {"tune": {"grid": {"optimizer.step_size": [0.1]}, "rounds": [1]}, "rounds": 6}
    assert count(1, **tuned) == 3  # a model that tuning ends after a round is judged with the others


def test_a_record_trains_or_judges_and_pays_for_one():
    training = [(Gaussian(noise_multiplier=4.0), 3)]
    judging = [(Gaussian(noise_multiplier=1.5), 2)]
    of = {name: epsilon(events, 1e-5, "add_or_remove_one").epsilon for name, events in
          {"train": training, "judge": judging, "both": [*training, *judging]}.items()}  # fmt: skip
    assert of["train"] < of["judge"] < of["both"]
    said = state(make())
    assert said["epsilon"] == of["judge"]
    assert {region["epsilon"] for region in said["regions"]} == {of["judge"]}
    cheap = state(make(evaluate={"every": 2, "noise_multiplier": 50.0}))
    assert cheap["epsilon"] == of["train"]
    assert evaluation.COVERED in said["covered"]
    assert not any("validation and test" in what for what in said["uncovered"])
    assert any("scores of tested rows" in what for what in said["uncovered"])
    assert any("the simulation knows them" in note for note in said["notes"])


def test_over_folds_a_record_does_both():
    said = state(make(split={"name": "natural", "folds": 2}))
    both = [(Gaussian(noise_multiplier=4.0), 6), (Gaussian(noise_multiplier=1.5), 4)]
    assert said["epsilon_of_all_models"] == pytest.approx(epsilon(both, 1e-5, "add_or_remove_one").epsilon)


def test_a_patient_pays_for_all_rows_wherever_they_are():
    """Some of a patient's rows may train, some validate and some test."""
    clients = evaluation.Clients(("a",), (9,), units=(5,), judged=(("a", 6, 2), ("z", 3, 1)))
    e = make(RECORD | {"unit": "patient", "rows_per_patient": 3})
    training = evaluation.Released("patient", "", {"a": [(Gaussian(noise_multiplier=4.0), 3)]}, {"a": 5})
    found = evaluation.added(training, e, clients, 3)
    judged = Gaussian(noise_multiplier=1.5)
    assert found.events == {"a": [(Gaussian(noise_multiplier=4.0), 3), (judged, 4)]}
    assert found.judged == {"z": [(judged, 2)]}  # a region that only judges
    assert found.units == {"a": 6, "z": 3}


def test_a_budget_includes_them():
    judged = epsilon([(Gaussian(noise_multiplier=1.5), 1)], 1e-5, "add_or_remove_one").epsilon
    two = epsilon([(Gaussian(noise_multiplier=1.5), 2)], 1e-5, "add_or_remove_one").epsilon
    # Training alone would go on; the second evaluation is what the budget does not pay for.
    (lane,) = SOURCES.lanes(
        make(RECORD | {"epsilon": (judged + two) / 2, "noise_multiplier": 40.0}, rounds=9)
    )
    assert lane.rounds == 2
    with pytest.raises(
        RequestError, match=r"evaluate.noise_multiplier=1.5 alone costs epsilon.*raise evaluate"
    ):
        SOURCES.lanes(make(RECORD | {"epsilon": 1.0, "noise_multiplier": None}))
    with pytest.raises(RequestError, match=r"alone costs epsilon inf; raise evaluate\.noise_multiplier"):
        SOURCES.lanes(make(evaluate={"noise_multiplier": 1e-9}))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"privacy": "gaussian"}, "privacy=gaussian hides none of those that train; set privacy=record"),
        ({"privacy": "none"}, "set privacy=record"),
        ({"data": {"name": "heart_disease", "preprocess": {"scope": "client"}}}, "scope=federated"),
        ({"split": {"name": "natural", "test": 0.2, "late": 0.3}}, "set split.late=0"),
        ({"evaluate": {"noise_multiplier": 0.0}}, r"must be in \(0, inf\)"),
        ({"evaluate": {"bins": 7}}, r"evaluate.bins must be even and in \[2, 1000\]"),
    ],
)
def test_what_has_no_account_is_refused(changes, message):
    with pytest.raises(RequestError, match=message):
        make(**changes)


def test_other_data_and_models_are_refused():
    e = make()
    federation = SOURCES.split(e)[0]
    released.check(e, federation, adapts=False)
    with pytest.raises(RequestError, match="adapts the model to training rows"):
        released.check(e, federation, adapts=True)
    with pytest.raises(RequestError, match=r"of kind multiclass; set evaluate\.noise_multiplier=null"):
        released.check(e, replace(federation, kind="multiclass"), adapts=False)


@pytest.mark.long
def test_a_run_stores_them_beside_the_exact_ones(tmp_path):
    loud, off = make(), make(evaluate={"every": 2})
    quiet = make(evaluate={"every": 2, "noise_multiplier": 0.01})
    run_experiments(
        [Cell(e, {"n": n}) for n, e in {"loud": loud, "off": off, "quiet": quiet}.items()], tmp_path
    )
    store = ResultStore(tmp_path)
    runs = {store.manifest(run)["cell"]["n"]: run for run in store.ids()}
    named = {n: store.manifest(run) for n, run in runs.items()}
    # Training and the exact metrics know nothing of it.
    assert named["loud"]["model_sha256"] == named["off"]["model_sha256"]
    exact = {k: v for k, v in named["loud"]["metrics"]["pooled"].items() if not k.startswith("released_")}
    assert exact == named["off"]["metrics"]["pooled"]
    assert not any("released_auroc" in row for row in store.read(runs["off"], "rounds").to_pylist())
    for row in store.read(runs["quiet"], "rounds").to_pylist():
        if row["aggregate"] == "pooled":
            assert row["released_accuracy"] == pytest.approx(row["accuracy"], abs=2e-3)
    said = store.read(runs["quiet"], "predictions")
    middles = (np.ceil(said["score"].to_numpy() * 10) - 0.5) / 10
    binned = metrics.evaluate("binary", said["label"].to_numpy(), middles)
    for name in ("auroc", "brier", "calibration_intercept"):
        shown = named["quiet"]["metrics"]["pooled"]
        assert shown[released.PREFIX + name] == pytest.approx(binned[name], abs=5e-3)
    clients = store.read(runs["loud"], "clients").to_pylist()
    found = [row for row in clients if row["group"] == "client" and row["round"] == 3]
    assert len({row["released_brier"] for row in found}) == 4
    assert all(row["released_brier"] is None for row in clients if row["group"] == "site")
    rounds = [
        r["released_auroc"] for r in store.read(runs["loud"], "rounds").to_pylist() if r["released_auroc"]
    ]
    assert len(set(rounds)) == 2  # noise of its own at each of the two evaluations
