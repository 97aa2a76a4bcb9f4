"""Protocols run for real: every pattern of dropouts, every byte, and what the server gets to see."""

import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from cryptography.exceptions import InvalidTag

from fedsim.config.secure import STEPS, Bonawitz, LightSecAgg, SecAggPlus, SecureSum
from fedsim.data.rng import generator
from fedsim.secure import Aborted, Attendance, Traffic, aborted, graph, terms, traffic
from fedsim.secure.cost import FORMAT, Format, part_length
from fedsim.secure.exact import aggregate
from fedsim.secure.graphs import Complete
from fedsim.secure.lightsecagg import combine, interpolate
from fedsim.secure.pairwise import Client, Server
from fedsim.secure.shamir import PRIME, join, secret, split
from fedsim.secure.wire import pack, unpack

LENGTH = 7
NOBODY = len(STEPS)

CASES: list[tuple[Any, int]] = [
    (Bonawitz(threshold=2), 3),
    (LightSecAgg(threshold=2), 3),
    (SecAggPlus(threshold=2), 3),
    (Bonawitz(threshold=2, modulus_bits=13, bits=8), 3),
]
SLOW: list[tuple[Any, int]] = [
    (Bonawitz(threshold=3), 4),
    (LightSecAgg(threshold=3, colluders=1), 4),
    (SecAggPlus(threshold=3), 4),
]


def named(case: tuple[Any, int]) -> str:
    cfg, n = case
    return f"{cfg.name}-{n}-{cfg.modulus.bit_length() - 1}"


def drawn(cfg: SecureSum, n: int) -> np.ndarray:
    """Vectors that wrap when they are summed: no sum may depend on their being small."""
    return np.random.default_rng(n).integers(cfg.modulus, size=(n, LENGTH), dtype=np.uint64)


def keys(u: int) -> np.random.Generator:
    return generator(1, "secure keys", u)


def patterns(n: int) -> Iterator[tuple[int, ...]]:
    """For each client the round in which it is lost, or none."""
    return itertools.product(range(NOBODY + 1), repeat=n)


def hold(cfg: SecureSum, n: int, lost: tuple[int, ...], rnd: int = 0) -> bool:
    """Run one pattern: the sum of those whose vectors came, bit for bit, or a typed abort, as foreseen; and
    the bytes of the closed form. Returns whether there was a sum."""
    seen, vectors = Attendance.lost_in(np.array(lost)), drawn(cfg, n)
    beside = graph(cfg, 0, rnd, n)
    why, told = aborted(cfg, seen, beside), list[Traffic]()
    mine = {u: vectors[u] for u in range(n) if seen.masked[u]}
    try:
        total = aggregate(cfg, mine, seen, beside, LENGTH, keys, told.append)
    except Aborted as error:
        assert why is not None and (error.step, error.left, error.threshold) == (
            why.step, why.left, why.threshold,
        ), lost  # fmt: skip
    else:
        assert why is None, lost
        plain = [sum(int(v[i]) for v in mine.values()) % cfg.modulus for i in range(LENGTH)]
        assert total.tolist() == plain, lost
    assert told == [traffic(cfg, seen, beside, LENGTH)], lost
    return why is None


@pytest.mark.parametrize("case", CASES, ids=named)
def test_every_pattern_of_dropouts_gives_the_sum_or_a_typed_abort(case: Any) -> None:
    cfg, n = case
    released = sum(hold(cfg, n, lost) for lost in patterns(n))
    # Neighbours hold no share of their own: of three, each needs both others to the end.
    assert released == (1 if isinstance(cfg, SecAggPlus) else 1 + 3 * len(STEPS))


@pytest.mark.long
@pytest.mark.parametrize("case", SLOW, ids=named)
def test_every_pattern_of_four_clients(case: Any) -> None:
    cfg, n = case
    assert sum(hold(cfg, n, lost) for lost in patterns(n)) == 1 + 4 * len(STEPS)


@pytest.mark.long
def test_every_pattern_in_one_round_on_a_circle_of_six() -> None:
    """A graph that is not complete, another one each round: each pair of neighbours is in some."""
    cfg = SecAggPlus(threshold=4, neighbours=4, shares=3)
    assert terms(cfg, 6).degree == 4 and not isinstance(graph(cfg, 0, 0, 6), Complete)
    released = [
        hold(cfg, 6, tuple(step if u in lost else NOBODY for u in range(6)), rnd=step)
        for step in range(len(STEPS))
        for size in (0, 1, 2, 3)
        for lost in itertools.combinations(range(6), size)
    ]
    assert 10 < sum(released) < len(released)


def test_lost_neighbours_of_one_client_are_enough_to_give_up() -> None:
    """All are told by enough clients in all, but one seed cannot be recovered."""
    cfg = SecAggPlus(threshold=4, neighbours=2, shares=2)
    beside = graph(cfg, 0, 0, 6)
    lost = np.full(6, NOBODY)
    lost[beside.adjacent(0)[0]] = STEPS.index("unmask")
    why = aborted(cfg, Attendance.lost_in(lost), beside)
    assert why is not None and (why.step, why.left, why.threshold) == ("unmask", 1, 2)
    assert not hold(cfg, 6, tuple(lost.tolist()))


@pytest.mark.parametrize("case", CASES[:3], ids=named)
def test_a_sum_does_not_depend_on_the_masks(case: Any) -> None:
    cfg, n = case
    seen, beside = Attendance.lost_in(np.full(n, NOBODY)), graph(cfg, 0, 0, n)
    vectors = dict(enumerate(drawn(cfg, n)))

    def other(u: int) -> np.random.Generator:
        return generator(2, "secure keys", u)

    one, two = (aggregate(cfg, vectors, seen, beside, LENGTH, of) for of in (keys, other))
    assert one.tolist() == two.tolist()


def test_the_server_sees_vectors_under_two_masks() -> None:
    """What reaches it is neither a vector nor a sum of vectors, and changes with the keys."""
    cfg, n = Bonawitz(threshold=2), 3
    vectors, beside = drawn(cfg, n), Complete(3)
    uploads: list[dict[int, bytes]] = []
    for seed in (1, 2):
        agreed = terms(cfg, n)
        clients = [
            Client(cfg, agreed, u, LENGTH, vectors[u], generator(seed, "secure keys", u)) for u in range(n)
        ]
        server = Server(cfg, agreed, beside, LENGTH)
        told = server.tell_keys({u: c.advertise() for u, c in enumerate(clients)})
        sealed = server.tell_shares({u: c.share(told[u]) for u, c in enumerate(clients)})
        uploads.append({u: c.mask(sealed[u]) for u, c in enumerate(clients)})
    seen = np.stack([[unpack(up[u], LENGTH, cfg.modulus) for u in range(n)] for up in uploads])
    assert (seen != vectors).all() and (seen[0] != seen[1]).all()
    for subset in ((0, 1), (0, 2), (1, 2), (0, 1, 2)):  # pairs' masks cancel in the last, clients' own do not
        plain = vectors[list(subset)].sum(axis=0) % np.uint64(cfg.modulus)
        assert (seen[:, list(subset)].sum(axis=1) % np.uint64(cfg.modulus) != plain).all()


def test_shares_of_one_kind_only_are_given_of_each_client() -> None:
    """Of one whose vector came that of its seed, of one that was lost that of its key: never both."""
    cfg, n = Bonawitz(threshold=2), 3
    agreed = terms(cfg, n)
    clients = [Client(cfg, agreed, u, LENGTH, drawn(cfg, n)[u], keys(u)) for u in range(n)]
    server = Server(cfg, agreed, Complete(n), LENGTH)
    told = server.tell_keys({u: c.advertise() for u, c in enumerate(clients)})
    sealed = server.tell_shares({u: c.share(told[u]) for u, c in enumerate(clients)})
    for u in (0, 1):
        clients[u].mask(sealed[u])
    came = {u: clients[u].unmask(frozenset({0, 1})) for u in (0, 1)}
    shares = {v: {u + 1: came[u][v] for u in (0, 1)} for v in range(n)}
    assert [join(shares[u]) for u in (0, 1)] == [clients[u].seed for u in (0, 1)]
    assert join(shares[2]) == clients[2].masking != clients[2].seed


def test_a_sealed_share_is_for_one_client_and_cannot_be_changed() -> None:
    cfg, n = Bonawitz(threshold=2), 3
    clients = [Client(cfg, terms(cfg, n), u, LENGTH, drawn(cfg, n)[u], keys(u)) for u in range(n)]
    server = Server(cfg, terms(cfg, n), Complete(n), LENGTH)
    told = server.tell_keys({u: c.advertise() for u, c in enumerate(clients)})
    sealed = server.tell_shares({u: c.share(told[u]) for u, c in enumerate(clients)})
    everyone = frozenset(range(n))
    clients[0].mask({1: sealed[0][2], 2: sealed[0][1]})  # the two handed over the wrong way round
    with pytest.raises(InvalidTag):
        clients[0].unmask(everyone)
    clients[0].mask({1: bytes([sealed[0][1][0] ^ 1]) + sealed[0][1][1:]})
    with pytest.raises(InvalidTag):
        clients[0].unmask(everyone)


# --- bytes ------------------------------------------------------------------------------------


def test_bytes_are_those_of_the_papers() -> None:
    """Without identities and tags, what each of n clients sends and receives."""
    bare, n, m = Format(key=32, share=32, identity=0, tag=0), 10, 1000
    everyone = Attendance.lost_in(np.full(n, NOBODY))

    def each(cfg: SecureSum) -> float:
        found: Traffic = traffic(cfg, everyone, graph(cfg, 0, 0, n), m, bare)
        return sum(found) / n

    a_k = a_s = 32
    # Bonawitz et al., section 7: 2 n a_K + (5 n - 4) a_S + m log2 R, here in bytes.
    assert each(Bonawitz()) == 2 * n * a_k + (5 * n - 4) * a_s + m * 32 / 8
    assert each(Bonawitz(modulus_bits=24)) == 2 * n * a_k + (5 * n - 4) * a_s + m * 24 / 8
    # Bell et al.: k neighbours in the place of n - 1 others, and no share of one's own.
    k = 4
    assert each(SecAggPlus(neighbours=k)) == 2 * (k + 1) * a_k + 5 * k * a_s + m * 32 / 8
    # So et al., table 1: (n - 1) coded parts to send and as many to get, the vector, a part of the sum.
    cfg = LightSecAgg(threshold=7, colluders=3)
    part = 4 * part_length(m, 7, 3)
    assert part == 4 * m / (7 - 3)
    assert each(cfg) == n * a_k + 2 * (n - 1) * part + 4 * m + part


def test_what_messages_carry_beside_is_little() -> None:
    n, m, cfg = 3, 1000, Bonawitz()
    everyone = Attendance.lost_in(np.full(n, NOBODY))
    bare = sum(traffic(cfg, everyone, Complete(n), m, Format(32, 32, 0, 0)))
    assert 0 < sum(traffic(cfg, everyone, Complete(n), m, FORMAT)) / bare - 1 < 0.05


# --- fields -----------------------------------------------------------------------------------


def test_shares_join_from_as_many_as_are_needed_and_from_no_fewer() -> None:
    value = secret(np.random.default_rng(0))
    assert int.from_bytes(value, "little") < PRIME
    shares = split(value, 3, [1, 2, 3, 4, 5], np.random.default_rng(1))
    for some in itertools.combinations(shares, 3):
        assert join({place: shares[place] for place in some}) == value
    for few in itertools.combinations(shares, 2):
        assert join({place: shares[place] for place in few}) != value


def test_secrets_are_elements_of_the_field_however_they_are_drawn() -> None:
    class Highest:
        def bytes(self, length: int) -> bytes:
            return b"\xff" * length

    top: Any = Highest()
    assert int.from_bytes(secret(top), "little") < PRIME


def test_coded_parts_decode_from_any_of_them() -> None:
    parts = np.random.default_rng(2).integers(2**32 - 5, size=(3, 4), dtype=np.uint64)
    known, places = [1, 2, 3], [4, 5, 6, 7, 8]
    coded = combine(interpolate(known, places), parts)
    for some in itertools.combinations(range(5), 3):
        back = combine(interpolate([places[i] for i in some], known), coded[list(some)])
        assert back.tolist() == parts.tolist()


@pytest.mark.parametrize("modulus", [4, 2**13, 2**20, 2**32, 2**32 - 5])
def test_packed_numbers_come_back_and_leave_no_bit_unused(modulus: int) -> None:
    numbers = np.random.default_rng(3).integers(modulus, size=11, dtype=np.uint64)
    numbers[:2] = 0, modulus - 1
    message = pack(numbers, modulus)
    assert unpack(message, 11, modulus).tolist() == numbers.tolist()
    assert len(message) == -(-11 * (modulus - 1).bit_length() // 8)
