"""Who is lost where, when a round is given up, and what is refused before any begins."""

import itertools

import numpy as np
import pytest

from fedsim import config
from fedsim.base import RequestError, build
from fedsim.config.secure import FIELD, STEPS, Bonawitz, LightSecAgg, SecAggPlus, SecureSum
from fedsim.secure import Aborted, Attendance, aborted, attendance, check, graph, terms
from fedsim.secure.graphs import Complete, Harary, neighbours, pairs, regular
from fedsim.secure.statement import statement


def refused(cfg: SecureSum, cohort: float = 3, most: int | None = None) -> str:
    with pytest.raises(RequestError) as error:
        check(cfg, cohort, int(cohort) if most is None else most)
    return str(error.value)


def test_a_modulus_that_a_sum_could_wrap_is_refused_with_the_bound_and_a_way_out() -> None:
    said = refused(Bonawitz(bits=20, modulus_bits=20), 3)
    assert "modulus 1048576 is too small" in said and str(3 * (2**19 - 1)) in said and str(2**19 - 1) in said
    assert "lower secure.bits to 18" in said
    # Exactly so: one bit more wraps, as does one client more.
    check(Bonawitz(bits=18, modulus_bits=20), 3, 3)
    assert "lower secure.bits to 18" in refused(Bonawitz(bits=19, modulus_bits=20), 3)
    most = (2**31 - 1) // (2**19 - 1)
    check(Bonawitz(), most, most)
    assert "modulus 4294967296" in refused(Bonawitz(), most + 1)
    assert f"modulus {FIELD}" in refused(LightSecAgg(), most + 1)
    assert "take smaller cohorts" in refused(Bonawitz(bits=2, modulus_bits=2), 3)


@pytest.mark.parametrize("name", ["bonawitz", "secagg_plus", "lightsecagg"])
def test_thresholds_that_do_not_work_or_promise_nothing(name: str) -> None:
    cls = config.MEMBERS["secure"][name]
    assert "more than the 3 clients" in refused(cls(threshold=4), 3)
    assert "no more than half of up to 10" in refused(cls(threshold=5), 10)
    check(cls(threshold=6), 10, 10)
    # Cohorts that may be larger than on average.
    assert "no more than half of up to 16" in refused(cls(threshold=8), 10, 16)
    assert "take a larger cohort" in refused(cls(), 1)
    with pytest.raises(RequestError, match=r"secure.threshold must be >= 2"):
        cls(threshold=1)


def test_neighbours_and_colluders_have_bounds_of_their_own() -> None:
    assert "more than the 4 neighbours" in refused(SecAggPlus(neighbours=4, shares=5), 10)
    assert "no more than half of 4 neighbours" in refused(SecAggPlus(neighbours=4, shares=2), 10)
    check(SecAggPlus(neighbours=4, shares=3), 10, 10)
    assert "below secure.threshold=7" in refused(LightSecAgg(colluders=7), 10)
    check(LightSecAgg(colluders=6), 10, 10)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"range": 0}, r"secure.range must be in \(0, inf\)"),
        ({"bits": 25}, r"secure.bits must be in \[2, 24\]"),
        ({"dropout": [0, 0, 2, 0]}, "one for each of advertise, share, mask, unmask"),
        ({"dropout": [0.1]}, "one for each of"),
        ({"drop": {"Halland": "masking"}}, "did you mean 'mask'"),
        ({"modulus_bits": 33}, r"secure.modulus_bits must be in \[2, 32\]"),
        ({"mode": "real"}, "secure.mode must be one of fast, exact"),
    ],
)
def test_bad_values_are_named(values: dict[str, object], said: str) -> None:
    with pytest.raises(RequestError, match=said):
        build(Bonawitz, values, "secure")


def test_who_is_lost_follows_from_seed_round_and_client_alone() -> None:
    cfg = Bonawitz(dropout=(0.1, 0.2, 0.3, 0.4))
    few, many = np.array([3, 7, 8]), np.arange(400)
    for rnd in range(3):
        some = attendance(cfg, 5, rnd, few)
        every = attendance(cfg, 5, rnd, np.arange(9))
        assert all((a == b[few]).all() for a, b in zip(some, every, strict=True))
    seen = attendance(cfg, 5, 0, many)
    kept = 1.0
    for there, p in zip(seen, cfg.dropout, strict=True):
        kept *= 1 - p
        assert there.mean() == pytest.approx(kept, abs=0.08)
    assert all((later <= before).all() for before, later in itertools.pairwise(seen))


def test_a_client_is_lost_by_name_in_every_round_of_training() -> None:
    cfg, names = (
        Bonawitz(drop={"Kronoberg": "unmask", "Halland": "share"}),
        ["Halland", "Kronoberg", "Örebro"],
    )
    for rnd in range(3):
        seen = attendance(cfg, rnd, rnd, np.array([0, 1, 2]), names)
        assert [there.tolist() for there in seen] == [
            [True, True, True], [False, True, True], [False, True, True], [False, False, True],
        ]  # fmt: skip


def test_nothing_is_released_below_the_threshold() -> None:
    cfg = Bonawitz(threshold=3)
    for step, name in enumerate(STEPS):
        lost = np.array([step, step, len(STEPS), len(STEPS)])
        why = aborted(cfg, Attendance.lost_in(lost), Complete(4))
        assert isinstance(why, Aborted) and (why.step, why.left, why.threshold) == (name, 2, 3)
        assert "nothing was released" in str(why)
        lost[0] = len(STEPS)
        assert aborted(cfg, Attendance.lost_in(lost), Complete(4)) is None
    assert aborted(cfg, Attendance.lost_in(np.zeros(0, int)), Complete(0)) is not None


# --- graphs -----------------------------------------------------------------------------------


def test_a_random_graph_is_regular_and_its_counts_are_those_of_its_edges() -> None:
    made = regular(11, 4, np.random.default_rng(0))
    assert isinstance(made, Harary)
    edges = {(u, int(v)) for u in range(11) for v in made.adjacent(u)}
    assert len(edges) == 44 and all((v, u) in edges and u != v for u, v in edges)
    rng = np.random.default_rng(1)
    for beside in (made, Complete(11)):
        first, second = rng.random((2, 11)) < 0.5
        mine = [(u, int(v)) for u in range(11) for v in beside.adjacent(u)]
        assert pairs(beside, first, second) == sum(first[u] and second[v] for u, v in mine)
        assert beside.count(second).tolist() == [int(second[beside.adjacent(u)].sum()) for u in range(11)]


def test_neighbours_are_few_of_many_and_all_of_few() -> None:
    degrees = {n: neighbours(n) for n in (3, 50, 1000, 10_000, 100_000)}
    assert degrees[3] == 2 and degrees[50] == 49
    assert 50 < degrees[1000] < degrees[10_000] < degrees[100_000] < 200
    # Each round another graph, of the server's drawing.
    one, two = (graph(SecAggPlus(), 0, rnd, 1000) for rnd in (0, 1))
    assert isinstance(one, Harary) and one.adjacent(0).tolist() != two.adjacent(0).tolist()
    assert isinstance(graph(Bonawitz(), 0, 0, 1000), Complete)


def test_defaults_of_three_regions_and_of_many() -> None:
    assert terms(Bonawitz(), 3) == (3, 3, 3, 2, 2)
    assert terms(LightSecAgg(), 3) == (3, 3, 3, 1, 2)
    assert terms(SecAggPlus(), 3) == (3, 3, 2, 1, 2)
    assert terms(Bonawitz(), 100)[1] == 67 and terms(SecAggPlus(), 100)[1] == 80
    assert terms(SecAggPlus(neighbours=7), 100).degree == 6


# --- words ------------------------------------------------------------------------------------


def test_what_two_of_three_regions_learn_is_said() -> None:
    found = statement(Bonawitz(), 3)
    assert found["learned"][0] == (
        "With three clients, two of them and the server learn the third one's message exactly: the sum minus "
        "their own."
    )
    # With two of three enough, one colludes and another is lost.
    assert (
        "as few as two messages: of these, one client and the server"
        in statement(Bonawitz(threshold=2), 3)["learned"][1]
    )
    assert "More than one client colluding" in statement(LightSecAgg(), 3)["learned"][1]
    assert "keys and shares were not made" in statement(SecAggPlus(), 30)["simulated"]
    for cfg in (Bonawitz(), SecAggPlus(), LightSecAgg(mode="exact")):
        words = str(statement(cfg, 3)).lower()
        assert "anonym" not in words and "personal" not in words
