"""What a split changes reaches a run, and what was measured of it is stored."""

from dataclasses import replace

import numpy as np
import pytest

from fedsim import config
from fedsim.base import RequestError
from fedsim.data.heterogeneity import MEASURES, measure
from fedsim.plan.cells import Cell
from fedsim.run import run_experiments, sources
from fedsim.run.sources import Sources
from fedsim.simulate import diversity
from fedsim.store import ResultStore

BASE = config.experiment(
    {
        "data": {"name": "heart_disease", "preprocess": {"impute": "median"}},
        "split": {"name": "dirichlet_client", "clients": 4, "severity": 0.3},
        "task": "logistic",
        "algorithm": "fedavg",
        "optimizer": {"batch_size": 0},
        "channel": "direct",
        "privacy": "none",
        "world": "all",
        "numerics": {},
        "executor": "inline",
        "rounds": 1,
        "seed": 0,
    }
)


@pytest.mark.long
def test_the_manifest_says_how_far_clients_are_from_iid(tmp_path, monkeypatch):
    measured, calls = diversity.measured, []

    def counted(*what):
        calls.append(what)
        return measured(*what)

    monkeypatch.setattr(diversity, "measured", counted)
    other = replace(BASE, optimizer=replace(BASE.optimizer, step_size=0.01))
    outcome = run_experiments([Cell(BASE, {}), Cell(other, {})], tmp_path)
    federation, (part,) = Sources().split(BASE)
    found = [ResultStore(tmp_path).manifest(run)["heterogeneity"] for run in outcome.done]
    assert found[0] == found[1] and len(calls) == 1  # the same data and first model
    assert 1 < found[0].pop("gradient_diversity") < 100
    assert found[0] == pytest.approx(measure(federation, part))
    assert set(found[0]) == set(MEASURES) and found[0]["label_js"] > 0.05


def test_it_is_measured_once_and_not_of_what_is_too_large(monkeypatch):
    calls = []

    def counted(*what):
        calls.append(what)
        return {"size_gini": 0.0}

    monkeypatch.setattr(sources, "measure", counted)
    held = Sources()
    assert held.heterogeneity(BASE) is held.heterogeneity(replace(BASE, rounds=9)) and len(calls) == 1
    held.heterogeneity(replace(BASE, seed=1))
    assert len(calls) == 2
    monkeypatch.setattr(sources, "_MEASURED_UP_TO", 100)
    nothing = dict.fromkeys(MEASURES)
    assert held.heterogeneity(BASE) == nothing
    made = replace(BASE, data=config.Blobs(mode="generated"), split=config.Natural())
    assert Sources().heterogeneity(made) == nothing


@pytest.mark.parametrize("algorithm", ["fedavg", "pooled"])
def test_judged_rows_can_have_other_constants_than_training_rows(algorithm):
    """By each client, or by all training rows, whatever training did."""
    made = {}
    for scope in ("client", "pooled"):
        for judged in ("same", "client", "federated"):
            prepared = config.Preprocess(impute="median", scope=scope, judged=judged)
            experiment = replace(BASE, data=config.HeartDisease(preprocess=prepared))
            experiment = replace(experiment, algorithm=config.MEMBERS["algorithm"][algorithm]())
            made[scope, judged] = Sources().lanes(experiment)[0]

    def scales(constants):
        return constants.scale[constants.of_client]

    own, together = (scales(made["client", judged].judged_constants) for judged in ("client", "federated"))
    assert len(own) == 4 and not np.allclose(own[0], own[1]) and np.array_equal(together[0], together[3])
    for scope in ("client", "pooled"):
        assert np.array_equal(scales(made[scope, "client"].judged_constants), own)
        assert np.array_equal(scales(made[scope, "federated"].judged_constants), together)
        trained = [scales(made[scope, judged].constants) for judged in ("same", "client", "federated")]
        assert np.array_equal(trained[0], trained[1]) and np.array_equal(trained[0], trained[2])
    by_client = algorithm == "fedavg"  # pooled rows have one set of constants
    same = scales(made["client", "same"].judged_constants)
    np.testing.assert_allclose(same, own if by_client else together, rtol=1e-6)


def test_changed_labels_are_what_is_trained_on_and_judged():
    shifted = replace(BASE, split=config.Concept(clients=4, severity=1.0, test=0.2))
    held = Sources()
    before, (after, (part,)) = held.federation(BASE), held.split(shifted)
    assert before.columns is not None and after.columns is not None
    assert np.array_equal(after.columns["y"], 1 - before.columns["y"])
    assert after.columns["x"] is before.columns["x"]
    tested, _ = part.part("test")
    assert np.array_equal(after.labels_of(tested), 1 - before.columns["y"][tested])


def test_missing_values_that_nothing_fills_are_refused():
    plain = replace(
        BASE, data=config.Synthetic(preprocess=config.NO_PREPROCESS), split=config.Missing(clients=4)
    )
    with pytest.raises(
        RequestError, match=r"split=missing leaves missing values.*use data\.preprocess\.impute="
    ):
        Sources().split(plain)
    filled = replace(plain, data=config.Synthetic(preprocess=config.Preprocess(impute="mean")))
    columns = Sources().split(filled)[0].columns
    assert columns is not None and np.isnan(columns["x"]).any()
