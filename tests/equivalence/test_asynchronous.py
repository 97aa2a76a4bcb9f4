"""Asynchronous runs keep their bits: beside others, interrupted, and with rounds one by one."""

from functools import cache
from typing import Any

import jax
import numpy as np
import pytest

from fedsim.simulate.engine import Handles, simulate
from fedsim.simulate.lanes import Lane
from tests.golden.late import CLOCK
from tests.simulate import small

pytestmark = pytest.mark.production


def lane(seed: int = 3, rounds: int | None = None, **changes: Any) -> Lane:
    return small.lane(small.experiment(algorithm="fedbuff", seed=seed, **CLOCK, **changes), rounds=rounds)


@cache
def alone() -> small.Trained:
    return small.train([lane()])


def bits(trained: small.Trained, at: int = 0) -> Any:
    return trained.states[at], trained.scores()[at]


@pytest.mark.long
def test_packed_is_alone() -> None:
    other = lane(8, optimizer={"step_size": 0.05})
    packed = small.train([other, lane(5, rounds=4), lane()])
    small.assert_same_bits(bits(packed, 2), bits(alone()))
    # Each on a clock of its own.
    spent = packed.engine.spent(9)
    assert spent[2] == alone().engine.spent(9)[0] and len({s.seconds for s in spent}) == 3
    assert [s.uploads - s.wasted for s in spent] == [18, 8, 18]


def test_resumed_is_uninterrupted() -> None:
    begun = small.train([lane()], stops=[4])
    saved = begun.engine.fetch(begun.handles)
    en = small.engine([lane()])
    for team, old in zip(en.teams, begun.engine.teams, strict=True):
        team.restore(np.concatenate(old.slots))
    for mine, other in zip(en.schedules, begun.engine.schedules, strict=True):
        mine.restore(other.saved(4))
    handles = [Handles(en.place(t, jax.tree.map(np.array, state))) for t, state in enumerate(saved)]
    (handles,) = (h for h, _ in simulate(en, handles, [9], first=4))
    again = small.Trained(en, handles, small.by_lane(en, en.fetch(handles)), [])
    small.assert_same_bits(bits(again), bits(alone()))
    assert en.spent(9) == alone().engine.spent(9)


def test_round_by_round() -> None:
    small.assert_same_bits(bits(small.train([lane()], stops=range(1, 10))), bits(alone()))


def test_machines_decide_who_comes_and_not_how_it_trains() -> None:
    """Machines twice as fast in all they do have the same order of events."""
    fast = {"flops_per_second": 2e4, "up": 2.5e6, "down": 12.5e6, "latency": 0.025}
    twice = small.train([lane(), small.lane(small.experiment(
        algorithm="fedbuff", **(CLOCK | {"system": CLOCK["system"] | fast})
    ))])  # fmt: skip
    small.assert_same_bits(bits(twice, 1), bits(twice, 0))
    slow, quick = twice.engine.spent(9)
    assert quick.seconds * 2 == slow.seconds
