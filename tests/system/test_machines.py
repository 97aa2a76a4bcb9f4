"""The model of docs/system-cost.md, leg by leg."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedsim.system import Load, Machines, Profiles
from fedsim.system.machines import cut

# Two clients; every number a power of two or ten, so that results are exact.
PROFILES = Profiles(
    compute_watts=np.array([100.0, 50.0]),
    transfer_watts=np.array([20.0, 10.0]),
    idle_watts=np.array([8.0, 4.0]),
    flops_per_second=np.array([1000.0, 500.0]),
    up=np.array([10.0, 20.0]),
    down=np.array([40.0, 80.0]),
    latency=np.array([0.25, 0.5]),
)
LOAD = Load(down_bytes=80, up_bytes=40, flops=10.0, batch=4)
ROWS = np.array([6, 25])
BOTH = np.array([0, 1])


def machines(batch=4, rows=ROWS):
    return Machines(PROFILES, LOAD._replace(batch=batch), rows)


def visited(rows, batch, steps):
    """Rows that local steps visit, one step after another."""
    total = left = 0
    for _ in range(steps):
        left = left or rows
        now = min(batch or rows, left)
        total, left = total + now, left - now
    return total


def test_seconds_of_every_leg():
    legs = machines().legs(BOTH, np.array([4, 3]))
    # 6 rows in batches of 4: 4 steps are two epochs. Of 25 rows, 3 steps visit 12.
    assert legs.tolist() == [[0.25, 2.0, 0.12, 0.25, 4.0], [0.5, 1.0, 0.24, 0.5, 2.0]]
    assert machines(batch=0).legs(BOTH, np.array([2, 2]))[:, 2].tolist() == [0.12, 1.0]
    assert machines().legs(np.array([1]), np.array([0])).tolist() == [[0.5, 1.0, 0.0, 0.5, 2.0]]


def test_joules_of_every_leg_and_of_waiting():
    legs = machines().legs(BOTH, np.array([4, 3]))
    first = 0.25 * 8 + 2 * 20 + 0.12 * 100 + 0.25 * 8 + 4 * 20
    second = 0.5 * 4 + 1 * 10 + 0.24 * 50 + 0.5 * 4 + 2 * 10
    assert machines().joules(BOTH, legs, np.array([0.0, 3.0])).tolist() == [first, second + 3 * 4]


def test_of_two_exchanges_the_slower_client_is_waited_for():
    first = Load(down_bytes=20, up_bytes=10, flops=0.0, batch=4, once=5.0)
    found = Machines(PROFILES, LOAD._replace(once=2.0, survey=first), ROWS)
    steps = np.array([4, 3])
    alone = machines().legs(BOTH, steps)
    # Latency twice, 20 bytes down, 10 up, 5 FLOPs a row.
    survey = np.array([0.5 + 0.5 + 1.0 + 0.03, 1.0 + 0.25 + 0.5 + 0.25])
    wait = survey.max() - survey
    extra = [
        [0.5 + wait[0], 0.5 + 1.0, 0.03 + 6 * 2 / 1000, 0, 0],
        [1.0 + wait[1], 0.25 + 0.5, 0.25 + 25 * 2 / 500, 0, 0],
    ]
    np.testing.assert_allclose(found.legs(BOTH, steps), alone + extra)
    # Who is not there is not waited for.
    assert found.legs(BOTH[:1], steps[:1]).sum() == pytest.approx(alone[0].sum() + survey[0] + 0.012)


def test_methods_without_local_steps_are_late_or_in_time():
    found = Machines(PROFILES, LOAD._replace(flops=0.0, once=3.0), ROWS)
    needed = found.legs(BOTH, np.array([5, 5])).sum(axis=1)
    assert needed.tolist() == found.legs(BOTH, np.array([0, 0])).sum(axis=1).tolist()
    five = np.array([5, 5], np.int32)
    assert found.within(needed.min() + 1e-6, BOTH, five).tolist() == [
        5 * int(n == needed.min()) for n in needed
    ]


def test_legs_are_cut_where_time_is_up():
    legs = np.array([[0.5, 1.0, 2.0, 0.5, 1.0]])
    assert cut(legs, 2.0).tolist() == [[0.5, 1.0, 0.5, 0.0, 0.0]]
    assert cut(legs, 9.0).tolist() == legs.tolist()


@pytest.mark.parametrize("batch", [0, 4, 7])
@given(rows=st.integers(1, 30), steps=st.integers(0, 40), seconds=st.floats(0.0, 8.0))
def test_as_many_steps_as_fit(batch, rows, steps, seconds):
    found = machines(batch, np.array([rows, 1]))
    at = np.array([0])

    def total(done):
        return found.legs(at, np.array([done])).sum()

    (done,) = found.within(seconds, at, np.array([steps], np.int32))
    brute = [n for n in range(steps + 1) if total(n) <= seconds + 1e-9]
    fewer = [n for n in range(steps + 1) if total(n) <= seconds - 1e-9]
    assert max(fewer, default=0) <= done <= max(brute, default=0)
    seen = visited(rows, batch, steps) * 10.0 / 1000
    assert found.legs(at, np.array([steps]))[0, 2] == pytest.approx(seen)
