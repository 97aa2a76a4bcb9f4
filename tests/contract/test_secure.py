"""Every protocol, found by listing, in the engine: both modes give the same bits, rounds that are given up
change nothing, and what cannot be summed under masks is refused."""

from functools import cache
from typing import Any

import numpy as np
import pytest

from fedsim import config
from fedsim.base import RequestError
from fedsim.run import spending
from tests.simulate import small
from tests.simulate.small import assert_same_bits, flat

PROTOCOLS = [
    # Whose messages flow like Bonawitz's.
    pytest.param(name, marks=[pytest.mark.long] * (name == "secagg_plus"))
    for name in config.MEMBERS["secure"]
    if name != "none"
]
ROUNDS = 5
# Of four, one or two are lost in most rounds, in each of the protocol's rounds at times.
WORLD = {"name": "uniform", "cohort": 4}
LOSING: dict[str, Any] = {"dropout": [0.05, 0.05, 0.1, 0.1], "threshold": 3, "range": 4.0}


def experiment(name: str = "bonawitz", seed: int = 3, **options: Any) -> config.Experiment:
    return small.experiment(world=WORLD, rounds=ROUNDS, seed=seed, secure={"name": name, **options})


@cache
def trained(name: str, mode: str, seed: int = 3, losing: bool = True) -> small.Trained:
    options = LOSING if losing else {"range": 4.0}
    return small.train([small.lane(experiment(name, seed, mode=mode, **options))], stops=range(1, ROUNDS + 1))


def given_up(run: small.Trained) -> list[bool]:
    return [run.engine.schedules[0].meet(rnd).given_up for rnd in range(ROUNDS)]


@pytest.mark.parametrize("name", PROTOCOLS)
def test_both_modes_give_the_same_bits_and_cost(name: str) -> None:
    fast, exact = trained(name, "fast"), trained(name, "exact")
    assert exact.engine.exact and not fast.engine.exact
    assert_same_bits(fast.states[0].server, exact.states[0].server)
    assert_same_bits(fast.states[0].stages, exact.states[0].stages)
    assert str(fast.engine.spent(ROUNDS)) == str(exact.engine.spent(ROUNDS))
    assert 0 < sum(given_up(fast)) < ROUNDS
    assert sum(given_up(fast)) == fast.engine.spent(ROUNDS)[0].aborted
    assert [r.cohort[0] == 0 for r in fast.rounds] == given_up(fast)


def test_a_round_that_is_given_up_leaves_the_server_as_it_was() -> None:
    lane = small.lane(experiment(**LOSING))
    en = small.engine([lane])
    states, before, changed = en.init(), None, []
    for rnd in range(ROUNDS):
        states, _ = en.advance(states, rnd, 1)
        now = flat(en.fetch(states)[0].server)
        changed.append(before is None or bool((now != before).any()))
        before = now
    lost = [en.schedules[0].meet(rnd).given_up for rnd in range(ROUNDS)]
    assert any(lost[1:]) and changed[1:] == [not gone for gone in lost[1:]]


def test_without_losses_it_is_the_plain_mean_but_for_the_rounding() -> None:
    masked = trained("bonawitz", "fast", losing=False)
    plain = small.train([small.lane(small.experiment(world=WORLD, rounds=ROUNDS))])
    difference = np.abs(flat(masked.states[0].server) - flat(plain.states[0].server)).max()
    assert 0 < difference < ROUNDS * 4 * 2.0**-18  # range 4, 20 bits, twice a step for the division
    up = [en.spent(ROUNDS)[0].uploads for en in (masked.engine, plain.engine)]
    assert up[0] == up[1]


def test_packed_as_alone_and_whatever_its_numbers() -> None:
    """Lanes that differ in seed and range share a program and change nothing for each other."""
    one, two = experiment(**LOSING), experiment(seed=5, **LOSING | {"range": 2.0})
    both = small.train([small.lane(one), small.lane(two)], stops=[ROUNDS])
    assert_same_bits(both.states[0].server, trained("bonawitz", "fast").states[0].server)
    other = small.train([small.lane(two)], stops=[ROUNDS])
    assert_same_bits(both.states[1], other.states[0])


@pytest.mark.long  # compiles the mechanism's program twice
def test_whole_numbers_of_a_mechanism_pass_through_as_they_are() -> None:
    """Their sum under masks is their sum, to the bit."""
    mechanism = {"name": "discrete_gaussian", "contributors": 3.0, "noise_multiplier": 0.1}
    found = []
    for mode in ("exact", "fast"):  # exact: as they are until the protocol sums them, modulo 2^32
        e = small.experiment(
            world=WORLD,
            algorithm={"name": "fedavg", "weighting": "uniform"},
            privacy=mechanism,
            secure={"name": "bonawitz", "mode": mode},
        )
        found.append(small.train([small.lane(e)]))
    plain, masked = found
    assert_same_bits(plain.states[0].server, masked.states[0].server)
    assert masked.engine.measures(masked.handles)[0]["clipped_values"] == 0


def test_numbers_beyond_the_range_are_counted_by_lane_and_round() -> None:
    narrow = experiment(range=0.01)
    run = small.train([small.lane(narrow), small.lane(experiment(range=4.0))], stops=[1, ROUNDS])
    clipped = [m["clipped_values"] for m in run.engine.measures(run.handles)]
    assert clipped[0] > 10 and clipped[1] == 0
    assert "clipped_values" in run.engine.traits.measures


def test_bytes_are_those_of_the_protocol_as_it_was_run() -> None:
    """Counted by hand from the messages of the exact protocol, and equal in what a run stores."""
    fast = trained("bonawitz", "fast", losing=False)
    traits = fast.engine.traits
    n = 4
    numbers = small.FEATURES + 1 + 1 + 1  # weights, intercept, the client's weight, how many were clipped
    assert traits.masked == numbers and traits.up_bytes == 4 * numbers
    sealed = 2 * 32 + 2 * 4 + 16
    up = n * 64 + n * (n - 1) * (4 + sealed) + n * n * (4 + 32)
    down = n * (n - 1) * (4 + 64) + n * (n - 1) * (4 + sealed) + n * (n - 1) * 4
    total = spending.total(fast.engine.spent(ROUNDS), traits)
    assert total["bytes_up"] == ROUNDS * (up + n * 4 * numbers)
    assert total["bytes_down"] == ROUNDS * (down + n * traits.down_bytes)
    assert total["aborted_rounds"] == 0


def test_machines_take_longer_by_what_the_protocol_sends() -> None:
    system = {"name": "lognormal", "flops_per_second": 1e9, "up": 50.0, "down": 100.0, "latency": 0.0}
    slow, plain = (
        small.engine([small.lane(small.experiment(world="all", system=system, **more))])
        for more in ({"secure": "bonawitz"}, {})
    )
    loads = [en.schedules[0].machines.load for en in (slow, plain)]  # type: ignore[union-attr]
    n = len(small.SIZES)
    assert loads[0].up_bytes == 4 * 8 + 64 + (n - 1) * (4 + 88) + n * 36
    assert loads[0].down_bytes == loads[1].down_bytes + (n - 1) * (4 + 64 + 4 + 88 + 4)


# --- refusals ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"aggregator": "median"}, "needs to see them all; set aggregator=mean"),
        ({"attack": {"name": "alie", "share": 0.2}}, "choose an attack of each liar alone"),
        ({"algorithm": "qfedavg", "channel": "sign"}, "nothing is saved by channel=sign"),
        ({"algorithm": "fedmgda"}, "aggregate is not a sum"),
        ({"algorithm": "local"}, "sends nothing"),
        ({"algorithm": "mime"}, "asks clients a first time"),
        ({"algorithm": "pooled", "world": "all"}, "1 take part in a round"),
        ({"algorithm": "dpsgd", "topology": "ring"}, "set secure=none"),
        (
            {
                "algorithm": {"name": "fedavg", "weighting": "uniform"},
                "privacy": {"name": "skellam", "contributors": 4.0},
                "secure": {"name": "bonawitz", "drop": {"site 1": "mask"}},
            },
            "counts with secure.threshold=3; set it to 3 or fewer",
        ),
        ({"world": {**WORLD, "staleness": 1}}, "with world.staleness=0"),
        ({"world": {"name": "power_of_choice", "cohort": 3, "candidates": 4}}, "tell their losses"),
        ({"secure": {"name": "bonawitz", "threshold": 5}}, "more than the 4 clients"),
        ({"secure": {"name": "bonawitz", "threshold": 2}}, "no more than half of up to 4"),
        ({"secure": {"name": "bonawitz", "modulus_bits": 20}}, "modulus 1048576 is too small"),
        ({"secure": {"name": "bonawitz", "drop": {"site 9": "mask"}}}, "did you mean 'site"),
    ],
    ids=lambda x: "-".join(x) if isinstance(x, dict) else "",
)
def test_what_cannot_be_summed_under_masks_is_refused(changes: dict[str, Any], said: str) -> None:
    e = small.experiment(**{"world": WORLD, "secure": "bonawitz", **changes})
    with pytest.raises(RequestError) as error:
        small.engine([small.lane(e)])
    assert said in str(error.value)
