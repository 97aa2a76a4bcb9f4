"""Data of about one size share programs, and what lies beyond their rows is read by nobody."""

from typing import Any

import numpy as np
import pytest

from fedsim.simulate import build, worker
from fedsim.simulate.traits import traits
from tests.simulate import small

SMALLER, LARGER = (9, 5, 17, 1, 8, 13), (10, 4, 18, 2, 9, 12)


def trained(algorithm: str, sizes: tuple[int, ...] = SMALLER) -> small.Trained:
    """On rows of its own, which no device has yet."""
    fed = small.federation.__wrapped__(sizes, seed=sum(sizes))
    return small.train([small.lane(small.experiment(algorithm=algorithm), fed)], fed)


def test_room_is_little_and_of_few_sizes() -> None:
    rows = np.arange(1, 3 * worker.MOST_ROOM, 7)
    rooms = np.array([worker.room(int(n)) for n in rows])
    assert ((rows <= rooms) & (rooms < 2 * rows)).all() and worker.room(0) == 0
    assert (rooms[rows > worker.MOST_ROOM] == rows[rows > worker.MOST_ROOM]).all()
    assert len({*rooms[rows <= worker.MOST_ROOM].tolist()}) <= 16


@pytest.mark.parametrize("algorithm", ["fedavg", "pooled"])
def test_other_rows_of_about_as_many_share_programs(algorithm: str) -> None:
    first = trained(algorithm)
    first.scores()
    before = len(worker.COMPILED)
    second = trained(algorithm, LARGER)
    second.scores()
    assert first.engine.federation.rows != second.engine.federation.rows
    assert before > 0 and len(worker.COMPILED) == before


def test_what_tracing_finds_is_shared_where_structures_are(monkeypatch: pytest.MonkeyPatch) -> None:
    traced: list[object] = []

    def counted(*asked: Any) -> Any:
        traced.append(asked[0])
        return traits(*asked)

    for known in ("_KNOWN", "_TRAITS"):
        monkeypatch.setattr(build, known, {})
    monkeypatch.setattr(build, "traits", counted)
    for sizes in (SMALLER, LARGER):
        fed = small.federation.__wrapped__(sizes, seed=sum(sizes))
        small.engine([small.lane(small.experiment(), fed)], fed)
    assert len(build._KNOWN) == 2 and len(traced) == 1
    small.engine([small.lane(small.experiment(algorithm="scaffold"))])
    assert len(traced) == 2


@pytest.mark.parametrize("algorithm", ["fedavg", "pooled"])
def test_nothing_reads_the_rows_beyond(algorithm: str, monkeypatch: pytest.MonkeyPatch) -> None:
    aligned = worker.aligned

    def poisoned(column: np.ndarray) -> np.ndarray:
        there: Any = aligned(column)
        assert len(there) > len(column)
        there[len(column) :] = np.nan if there.dtype.kind == "f" else 1_000_000
        return there

    expected = trained(algorithm)
    with monkeypatch.context() as patch:
        patch.setattr(worker, "aligned", poisoned)
        found = trained(algorithm)
    small.assert_same_bits((found.states, found.scores()), (expected.states, expected.scores()))
    monkeypatch.setattr(worker, "MOST_ROOM", 0)
    exact = trained(algorithm)
    small.assert_same_bits((exact.states, exact.scores()), (expected.states, expected.scores()))
