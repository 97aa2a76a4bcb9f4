"""Clients that join late: nothing that they hold trains others, and one round of their own judges them."""

from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest

from fedsim.config import Preprocess
from fedsim.data.federation import Federation
from fedsim.data.heterogeneity import measure
from fedsim.data.partition import Partition, pool
from fedsim.data.preprocess import fit
from fedsim.simulate import adapting, judged, streamed
from fedsim.simulate.engine import simulate
from fedsim.simulate.items import COLUMN, fields
from fedsim.simulate.lanes import Lane, root_rows
from tests.golden import reference
from tests.simulate import small

LATE: dict[str, Any] = {"split": {"test": 0.4, "late": 0.4}}
DITTO: dict[str, Any] = {"algorithm": {"name": "ditto", "lam": 0.7}}


@cache
def ditto() -> small.Trained:
    return small.train([small.lane(small.experiment(**DITTO, **LATE))])


def rows_of(lane: Lane, k: int, which: str) -> tuple[np.ndarray, np.ndarray]:
    """A client's rows of a set as a model sees them, and their labels."""
    part, c = lane.judged, lane.judged_constants
    columns = small.federation().columns
    assert part.rows is not None and c is not None and columns is not None
    first, count = judged.segment(part, which)
    rows = part.rows[part.offsets[k] + first[k] :][: count[k]]
    x, i = columns["x"][rows].astype(np.float64), c.of_client[k]
    return (np.where(np.isnan(x), c.impute[i], x) - c.shift[i]) * c.scale[i], columns["y"][rows]


def test_a_late_client_is_judged_after_one_local_round() -> None:
    """By hand: Ditto's own model begins as the server's, and takes the steps of the round that comes next."""
    trained = ditto()
    (lane,) = trained.engine.lanes
    server = small.weights(trained.models[0][0])
    everyone, columns = replace(lane.judged, late=frozenset()), small.federation().columns
    assert columns is not None
    loop = reference.Loop(lane.experiment, reference.clients_of(replace(lane, clients=everyone), columns))
    expected = []
    for k in sorted(lane.judged.late):
        own = loop.local(k, server, lane.rounds, lambda g, v: g + 0.7 * (v - server))
        x, _ = rows_of(lane, k, "late")
        expected += (1 / (1 + np.exp(-(x @ own[:-1] + own[-1])))).tolist()
    (found,) = trained.scores("late")
    assert len(found) == 5
    np.testing.assert_allclose(found, expected, atol=1e-5)
    (before,) = trained.engine.predict(trained.engine.init(), "late")
    assert np.abs(found - before).max() > 1e-2


def test_without_own_models_the_servers_judges() -> None:
    trained = small.train([small.lane(small.experiment(**LATE))])
    (lane,) = trained.engine.lanes
    w = small.weights(trained.models[0][0])
    x = np.concatenate([rows_of(lane, k, "late")[0] for k in sorted(lane.judged.late)])
    np.testing.assert_allclose(trained.scores("late")[0], 1 / (1 + np.exp(-(x @ w[:-1] + w[-1]))), atol=1e-5)


def poisoned(part: Partition) -> Federation:
    """What late clients hold, gone wrong."""
    fed = small.federation()
    assert fed.columns is not None
    theirs = np.isin(fed.client_of_row(), sorted(part.late))
    x = np.where(theirs[:, None], np.float32(1e6), fed.columns["x"])
    return replace(fed, columns={"x": x, "y": np.where(theirs, 1 - fed.columns["y"], fed.columns["y"])})


def test_what_late_clients_hold_moves_nobody() -> None:
    e = small.experiment(**LATE)
    part = small.partition(small.federation(), e.split, e.seed)
    trained = [small.train([small.lane(e, f, part)], f) for f in (small.federation(), poisoned(part))]
    small.assert_same_bits(*[(t.states, t.scores("test")) for t in trained])
    held = sorted(set(range(6)) - part.late)
    assert trained[0].engine.teams[0].layout.table.client.tolist() == held


CLOCK: dict[str, Any] = {"name": "asynchronous", "concurrency": 3, "buffer": 2, "staleness": 2}
PAIRS: dict[str, dict[str, Any]] = {
    "old starts, discounted": {"algorithm": "fedbuff"},
    "old starts, mixed in": {"algorithm": "fedasync"},
    "no rounds": {"algorithm": "fedbuff", "world": CLOCK, "system": "lognormal"},
    "no server": {"algorithm": "dpsgd"},
    "drift": {"split": {"name": "drift", "base": "natural", "window": 0.5, "mixing": 0.2, **LATE["split"]}},
}


@pytest.mark.parametrize("pair", PAIRS)
def test_late_clients_beside_what_moves_starts_rows_and_servers(pair: str) -> None:
    """They move nobody, and what the others share judges them: in a graph the average of all models."""
    e = small.experiment(**LATE | PAIRS[pair])
    part = small.partition(small.federation(), e.split, e.seed)
    trained = [small.train([small.lane(e, f, part)], f) for f in (small.federation(), poisoned(part))]
    small.assert_same_bits(*[(t.states, t.scores("test")) for t in trained])
    lane, w = trained[0].engine.lanes[0], small.weights(trained[0].models[0][0])
    if pair == "no server":
        models = small.own(trained[0], 0)
        assert len(models) == 6 - len(part.late)
        np.testing.assert_allclose(w, np.mean([small.weights(m) for m in models.values()], axis=0), atol=1e-6)
    x = np.concatenate([rows_of(lane, k, "late")[0] for k in sorted(part.late)])
    found = trained[0].scores("late")[0]
    np.testing.assert_allclose(found, 1 / (1 + np.exp(-(x @ w[:-1] + w[-1]))), atol=1e-5)
    (before,) = trained[0].engine.predict(trained[0].engine.init(), "late")
    assert np.abs(found - before).max() > 1e-3
    held = trained[0].engine.teams[0].layout.table.client.tolist()
    assert held == sorted(set(range(6)) - part.late)


def test_the_servers_own_rows_are_not_late_clients() -> None:
    e = small.experiment(aggregator={"name": "fltrust", "root": 12}, data={"preprocess": {"scope": "pooled"}})
    part = small.partition(small.federation(), small.experiment(**LATE).split, 3)
    rows, owner = part.part("train")
    assert not set(rows[np.isin(owner, sorted(part.late))]) & set(root_rows(small.lane(e, None, part)))


@pytest.mark.parametrize("scope", ["federated", "pooled", "client"])
def test_late_clients_have_no_part_in_shared_constants(scope: Any) -> None:
    part = small.lane(small.experiment(**LATE)).judged
    clean, other = small.federation().columns, poisoned(part).columns
    assert clean is not None and other is not None
    a, b = (fit(columns["x"], part, Preprocess(scope=scope, impute="median")) for columns in (clean, other))
    assert a is not None and b is not None
    theirs = np.isin(np.arange(len(a.shift)), sorted(part.late)) & (scope == "client")
    for name in ("impute", "shift", "scale"):
        x, y = getattr(a, name), getattr(b, name)
        np.testing.assert_array_equal(x[~theirs], y[~theirs])
        assert scope != "client" or name == "scale" or (x[theirs] != y[theirs]).all()
    assert measure(small.federation(), part) == measure(poisoned(part), part)


def test_sets_share_the_clients_out() -> None:
    e = small.experiment(**{"split": {"test": 0.4, "valid": 0.3, "late": 0.4}})
    part = small.partition(small.federation(), e.split, e.seed)
    part = replace(part, external=frozenset(set(range(6)) - part.late - {3, 5}))
    clients = {which: set(judged.labels_of(part, which)[1].tolist()) for which in judged.SETS}
    assert clients == {
        "valid": {0, 2, 5}, "test": {5}, "external": {0, 2}, "late": set(part.late)
    }  # fmt: skip
    rows, owner = part.part("train")
    mine = rows[~np.isin(owner, sorted(part.late))]
    np.testing.assert_array_equal(pool(part).part("train")[0], mine)
    assert 0 < len(mine) < len(rows)


def test_packed_late_clients_keep_their_bits() -> None:
    """Beside runs with others that are late, other numbers, and fewer rounds."""
    (mine,) = ditto().engine.lanes
    other = small.lane(small.experiment(algorithm={"name": "ditto", "lam": 0.1}, seed=6, **LATE), rounds=2)
    assert other.judged.late != mine.judged.late
    packed = small.train([other, mine])
    small.assert_same_bits(packed.scores("late")[1], ditto().scores("late")[0])
    small.assert_same_bits(packed.scores("late")[0], small.train([other]).scores("late")[0])
    # Judged on the way, it goes on as if it had not been.
    en = small.engine([mine])
    on_the_way = [en.predict(handles, "late") for handles, _ in simulate(en, en.init(), [1, 3])]
    small.assert_same_bits(on_the_way[1], ditto().scores("late"))
    assert np.abs(on_the_way[1][0] - on_the_way[0][0]).max() > 1e-3


@pytest.mark.parametrize("in_turn", [False, True])
@pytest.mark.parametrize("devices", [1, 2])
def test_every_slice_finds_its_clients_model(devices: int, in_turn: bool) -> None:
    """Host only: groups of four, whose clients may have several slices, or no training rows."""
    lanes = [small.lane(small.experiment(algorithm="ditto", seed=s, **LATE)) for s in (3, 4, 5)]
    (team,) = small.engine(lanes).teams
    team.widths = replace(team.widths, slice=2, block=2, items=4, scored=1, devices=devices)
    assert team.widths.adapted == 4

    def emptied(part: Partition) -> Partition:
        return replace(part, train=part.train * (np.arange(6) != 2).astype(np.int32))

    team.lanes = [replace(lane, judged=emptied(lane.judged)) for lane in lanes]
    slices, _ = judged.slices(team, judged.segments(team, "test"), True)
    groups = adapting.groups(team, slices, in_turn)
    np.testing.assert_array_equal(np.concatenate([g.slices for g in groups]), slices)
    seen = []
    for group in groups:
        assert group.words is not None and group.words.shape == (devices, 2 // devices, 2, 13)
        clients = fields(group.words.reshape(-1, 13))
        used = np.arange(2 // devices)[None] < group.blocks[:, None]
        assert not clients.present.reshape(group.words.shape[:-1])[~used].any()
        seen += [(i, k) for i, k, p in zip(clients.lane, clients.client, clients.present, strict=True) if p]
        assert not in_turn or len({i for i, p in zip(clients.lane, clients.present, strict=True) if p}) == 1
        for words, place in zip(group.slices, group.place, strict=True):
            i, k = words[COLUMN["lane"]], words[COLUMN["client"]]
            assert (place < 0) == (k == 2)
            if k != 2:
                assert (clients.lane[place], clients.client[place]) == (i, k)
                assert clients.rows[place] == lanes[i].judged.train[k]
        assert not in_turn or clients.rows[clients.present].sum() <= streamed.adapting(lanes, team.widths)
    assert (
        len(seen) == len(set(seen)) == sum(len(np.unique(slices[slices[:, 0] == i, 3])) - 1 for i in range(3))
    )
