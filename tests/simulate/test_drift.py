# mypy: disable-error-code="arg-type, index, operator, union-attr"
"""Under drift a round trains on the rows of its window, and on no other."""

from dataclasses import replace
from functools import cache

import numpy as np
import pytest

from fedsim.data.splits.drift import window
from fedsim.plan import structure_key
from fedsim.simulate import choosing
from fedsim.simulate.engine import simulate
from fedsim.simulate.items import Items, fields
from fedsim.simulate.lanes import Lane
from tests.simulate import small

ROUNDS = 3
DRIFT = {"name": "drift", "base": "natural", "window": 0.4, "mixing": 0.2, "test": 0.2}


def experiment(**changes):
    data = {"name": "digits", "preprocess": {"impute": "none", "standardise": False}} | changes.pop(
        "data", {}
    )
    return small.experiment(split=DRIFT, world="all", data=data, rounds=ROUNDS, **changes)


def lane(seed=3, part=None, **changes):
    return small.lane(experiment(seed=seed, **changes), small.federation(missing=False), part)


@cache
def engine():
    return small.engine([lane()], small.federation(missing=False))


def rows_of_round(mine: Lane, rnd: int) -> np.ndarray:
    part = mine.clients
    first, count = window(mine.experiment.split, part.train, rnd, ROUNDS)
    begin = part.offsets[:-1] + first
    return np.concatenate([part.rows[b : b + n] for b, n in zip(begin, count, strict=True)])


@pytest.mark.parametrize("rnd", range(ROUNDS))
def test_rows_outside_the_window_are_never_used(rnd: int) -> None:
    """They are NaN, and the bits are the same."""
    fed, mine = small.federation(missing=False), lane()
    x = np.full_like(fed.columns["x"], np.nan)
    used = rows_of_round(mine, rnd)
    assert 0 < len(used) < mine.clients.train.sum() / 2
    x[used] = fed.columns["x"][used]
    poisoned = replace(fed, columns=fed.columns | {"x": x})
    states = []
    for data in (fed, poisoned):
        en = small.engine([lane(part=mine.clients)], data)
        ((handles, result),) = simulate(en, en.init(), [rnd + 1], first=rnd)
        assert result.finite.all()
        states.append(small.by_lane(en, en.fetch(handles)))
    small.assert_same_bits(*states)


def test_steps_and_weights_follow_from_the_window() -> None:
    (team,) = engine().teams
    for rnd in range(ROUNDS):
        items = fields(team.pack(rnd).items)
        here = items.present
        first, count = window(lane().experiment.split, team.layout.table.rows, rnd, ROUNDS)
        lists = zip(*(x[here].tolist() for x in items), strict=True)
        of_client = dict(zip(items.client[here].tolist(), lists, strict=True))
        assert len(of_client) == len(small.SIZES)
        for k, values in of_client.items():
            item = Items(*values)
            assert item.begin == team.layout.table.begin[k] + first[k] and item.rows == count[k]
            assert item.steps == -(-count[k] // 4) * 2 and item.weight == count[k]
    assert not team.steady


def test_packed_resumed_and_in_one_call_or_many() -> None:
    fed = small.federation(missing=False)
    whole = small.train([lane()], fed)
    packed = small.train([lane(9), lane()], fed, stops=[2, 3])
    small.assert_same_bits(packed.states[1], whole.states[0])


def test_never_packed_with_runs_whose_rounds_are_all_the_same() -> None:
    """Their program is another one, and what a run is packed with must not decide which it gets."""
    drifting, still = experiment(), replace(experiment(), split=small.experiment().split)
    assert structure_key(drifting) != structure_key(still)
    again = replace(drifting, split=replace(drifting.split, window=0.1), seed=9)
    assert structure_key(drifting) == structure_key(again)


def test_streamed_rows_are_those_of_the_window() -> None:
    fed = small.federation(missing=False)
    en = small.engine([lane(data={"mode": "streamed"})], fed)
    (team,) = en.teams
    for rnd in range(ROUNDS):
        plan, _, covered = team.plan(rnd, 1)
        columns, moved = en._buffered(team, plan, covered)
        before, after = fields(plan.items[0]), fields(moved.items[0])
        for at in zip(*np.nonzero(before.present), strict=True):
            n = before.rows[at]
            index = team.layout.row_table[before.begin[at] :][:n]
            np.testing.assert_array_equal(columns["x"][after.begin[at] :][:n], fed.columns["x"][index])


def test_candidates_are_scored_on_the_rows_of_the_round() -> None:
    (team,) = engine().teams
    who = np.array([0, 2, 5])
    for rnd in range(ROUNDS):
        segment = choosing._training(team, 0, rnd, who)
        first, count = window(lane().experiment.split, team.layout.table.rows, rnd, ROUNDS)
        assert segment.first.tolist() == first[who].tolist() and segment.rows.tolist() == count[who].tolist()
