# mypy: disable-error-code="attr-defined, arg-type, index, union-attr"
"""Gradient diversity against NumPy, and which rows it is measured on."""

from dataclasses import replace

import numpy as np
import pytest

from fedsim import config
from fedsim.data import load
from fedsim.data.partition import partitions
from fedsim.data.preprocess import fit
from fedsim.data.splits import assign
from fedsim.model import Model
from fedsim.simulate import diversity
from tests.golden import reference
from tests.simulate import small

E = small.experiment(task={"l2": 0.3})
W = np.array([0.5, -1.0, 0.25, 2.0, -0.5, 0.1])
MODEL = Model({"head": {"kernel": W[None, :-1].astype(np.float32), "bias": W[-1:].astype(np.float32)}}, ())


def measured(lane, fed):
    en = small.engine([lane], fed)
    clients = diversity.drawn(fed, lane.judged, lane.judged_constants, 0)
    return diversity.measured(en.workers, en.structure, lane.experiment.task, MODEL, clients)


def by_hand(lane, fed):
    clients = reference.clients_of(lane, fed.columns)
    loop = reference.Loop(lane.experiment, clients)
    gradients = np.stack([loop.gradient(W, c.x, c.y) for c in clients])
    share = np.array([c.n for c in clients]) / sum(c.n for c in clients)
    return share @ (gradients**2).sum(axis=1) / ((share @ gradients) ** 2).sum()


def test_it_is_the_quotient_of_its_definition():
    fed = small.federation()
    lane, other = small.lane(E, fed), small.lane(small.experiment(task={"l2": 0.0}), fed)
    found = measured(lane, fed)
    assert found == pytest.approx(by_hand(lane, fed), rel=1e-5) and found > 1.1
    assert measured(other, fed) == pytest.approx(by_hand(other, fed), rel=1e-5)
    assert abs(measured(other, fed) - found) > 1e-2  # the task's numbers count


def test_it_is_1_where_clients_are_alike():
    fed = small.federation((8,) * 6)
    twins = {name: np.tile(x[:8], (6,) + (1,) * (x.ndim - 1)) for name, x in fed.columns.items()}
    fed = replace(fed, columns=twins)
    lane = small.lane(replace(E, split=replace(E.split, test=0.0)), fed)
    assert measured(lane, fed) == pytest.approx(1, rel=1e-5)


def test_without_a_gradient_there_is_none():
    en = small.engine([small.lane(E)])
    assert diversity.measured(en.workers, en.structure, E.task, MODEL, []) is None


def drawn(fed, part, seed=0, constants=None):
    return list(diversity.drawn(fed, part, constants, seed))


def test_of_many_clients_and_rows_some_are_drawn_by_the_seed(monkeypatch):
    fed = small.federation()
    part = small.lane(E, fed).judged
    every = drawn(fed, part)
    assert [c.count for c in every] == part.train[part.train > 0].tolist()
    np.testing.assert_allclose(sum(c.weight for c in every), 1, rtol=1e-6)
    for k, client in enumerate(every):
        begin, n = part.offsets[k], part.train[k]
        np.testing.assert_array_equal(client.columns["x"][:n], fed.columns["x"][part.rows[begin : begin + n]])
        assert all(len(x) == diversity.MOST_ROWS and not x[n:].any() for x in client.columns.values())

    monkeypatch.setattr(diversity, "MOST_CLIENTS", 3)
    monkeypatch.setattr(diversity, "MOST_ROWS", 6)
    some = [drawn(fed, part, seed) for seed in range(8)]
    small.assert_same_bits(some[0], drawn(fed, part, 0))
    weights = {tuple(float(c.weight) for c in chosen) for chosen in some}
    assert len(weights) > 1
    for chosen in some:
        assert len(chosen) == 3 and max(c.count for c in chosen) <= 6
        np.testing.assert_allclose(sum(c.weight for c in chosen), 1, rtol=1e-6)
        for c in chosen:  # rows of the training part, none twice
            rows = [row.tobytes() for row in c.columns["x"][: c.count]]
            assert len(set(rows)) == c.count
            assert set(rows) <= {row.tobytes() for client in every for row in client.columns["x"]}
    longest = [c for chosen in some for c in chosen if c.count == 6]
    assert len({c.columns["x"].tobytes() for c in longest}) > 3


def test_rows_are_the_same_wherever_they_lie(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    found = {}
    for mode in ("resident", "streamed", "generated"):
        data = config.Blobs(mode=mode, clients=60, rows_min=5, rows_max=300, preprocess=config.NO_PREPROCESS)
        fed = load(data)
        split = config.Natural(test=0.2)
        (part,) = partitions(fed, assign(fed, split, 0), split, 0)
        found[mode] = drawn(fed, part, 5, fit(fed.x, part, data.preprocess))
    assert len(found["generated"]) == diversity.MOST_CLIENTS
    assert max(c.count for c in found["generated"]) > 200
    small.assert_same_bits(found["streamed"], found["resident"])
    # Which of a client's rows train is another choice where they are made on demand.
    for a, b in zip(found["generated"], found["resident"], strict=True):
        assert (a.count, a.weight) == (b.count, b.weight)
        assert a.columns["x"].dtype == b.columns["x"].dtype and a.columns["x"].shape == b.columns["x"].shape
