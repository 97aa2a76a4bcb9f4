"""Clients without a server: what they are judged by, who keeps what, how much is sent, what is refused."""

from functools import cache
from typing import Any

import numpy as np
import pytest

from fedsim import topology
from fedsim.base import RequestError
from fedsim.simulate.build import program_structure
from fedsim.simulate.judged import labels_of
from tests.golden.decentralised import VARIANTS, mixing, neighbours
from tests.simulate import small

RARE = VARIANTS["dpsgd, ring, poisson"]


@cache
def trained() -> small.Trained:
    """Two lanes on a ring of six, whose clients come and go, judged after every round."""
    lanes = [small.lane(small.experiment(**RARE, seed=seed)) for seed in (3, 4)]
    return small.train(lanes, stops=range(1, 9))


@pytest.mark.long
def test_clients_are_judged_by_their_own_models_and_all_together_by_the_average() -> None:
    en, handles = trained().engine, trained().handles
    own, average = en.predict(handles, "test"), en.predict(handles, "test", personal=False)
    columns = small.federation().columns
    assert columns is not None
    for i, lane in enumerate(en.lanes):
        models = np.array([small.weights(m) for m in small.own(trained(), i).values()])
        rows, client = labels_of(lane.judged, "test")
        assert lane.judged_constants is not None
        k = lane.judged_constants.of_client[client]
        impute, shift, scale = (
            np.asarray(getattr(lane.judged_constants, name), np.float64)[k]
            for name in ("impute", "shift", "scale")
        )
        x = columns["x"][rows]
        x = (np.where(np.isnan(x), impute, x) - shift) * scale
        for scores, w in ((own[i], models[client]), (average[i], models.mean(axis=0)[None])):
            chance = 1 / (1 + np.exp(-(x * w[:, :-1]).sum(axis=1) - w[:, -1]))
            np.testing.assert_allclose(scores, chance, rtol=1e-4)
        assert np.abs(own[i] - average[i]).max() > 0.01


def test_the_distance_to_the_average_is_stored() -> None:
    for i, said in enumerate(trained().engine.measures(trained().handles)):
        models = np.array([small.weights(m) for m in small.own(trained(), i).values()])
        distance = ((models - models.mean(axis=0)) ** 2).sum(axis=1).mean()
        assert said == {"consensus_distance": pytest.approx(distance, rel=1e-4)}
        assert distance > 1e-4


def test_who_is_away_keeps_its_model() -> None:
    lane = small.lane(small.experiment(**RARE))
    before = small.train([lane], stops=[3])
    after = small.train([lane], stops=[4])
    (cohort,) = (c.positions for c in after.engine.teams[0].select(3) if c is not None)
    assert 0 < len(cohort) < 6
    for k, model in small.own(after, 0).items():
        same = small.flat(model).tolist() == small.flat(small.own(before, 0)[k]).tolist()
        assert same != (k in cohort)


def test_messages_are_counted_round_by_round() -> None:
    en, total, seen = trained().engine, np.zeros(2, int), set[int]()
    for r, rnd in enumerate(trained().rounds):
        chosen = [c.positions.tolist() for c in en.teams[0].select(r)[:2] if c is not None]
        now = [int((mixing(neighbours("ring", 6), cohort) > 0).sum()) - 6 for cohort in chosen]
        total += now
        seen.update(now)
        assert rnd.cohort.tolist() == [len(cohort) for cohort in chosen]
        for spent, messages in zip(en.spent(r + 1), total, strict=True):
            assert spent.uploads == spent.downloads == messages
    assert len(seen) > 2  # rounds differ


def refused(**changes: Any) -> str:
    with pytest.raises(RequestError) as caught:
        program_structure(small.lane(small.experiment(**changes)), small.federation(), "cpu")
    return str(caught.value)


def test_graphs_and_servers_are_told_apart() -> None:
    said = refused(topology="ring")
    assert "topology=ring" in said and "algorithm=fedavg has them send to a server" in said
    assert "topology=star is one" in refused(algorithm="dpsgd", topology="star")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"channel": "qsgd"}, "channel=qsgd has a half at a server"),
        ({"privacy": "gaussian"}, "privacy=gaussian has a half at a server"),
        ({"attack": {"name": "sign_flip"}}, "attack=sign_flip changes what a server gets"),
        ({"attack": {"name": "alie"}}, "attack=alie changes what a server gets"),
        ({"aggregator": "median"}, "aggregator=median takes the place of a mean"),
        ({"world": {"name": "all", "staleness": 2}}, "world.staleness=2"),
        (
            {"world": {"name": "asynchronous", "concurrency": 2, "buffer": 1}, "system": "lognormal"},
            "world=asynchronous has a server step",
        ),
        (
            {"world": {"name": "power_of_choice", "cohort": 2, "candidates": 3}},
            "world=power_of_choice has a server choose",
        ),
        ({"algorithm": {"name": "dpsgd", "weighting": "examples"}}, "algorithm.weighting must be uniform"),
    ],
)
def test_what_needs_a_server_is_refused(changes: dict[str, Any], said: str) -> None:
    assert said in refused(**{"algorithm": "dpsgd"} | changes)


def test_as_many_clients_as_there_may_be(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(topology, "MOST_CLIENTS", 5)
    said = refused(algorithm="dpsgd", topology="ring", rounds=99)  # a structure that no test has found yet
    assert "for each of 6 training clients, and 5 is the most" in said
