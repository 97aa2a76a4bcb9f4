"""Bytes of a protocol's round in closed form, from who was there. NumPy on the host.

Without what every message carries beside its content (identities and tags), these are the papers' own
costs, which a test compares: for a client among n with a vector of m numbers below R, Bonawitz et al.
(section 7, key and share of a_K and a_S bits) 2n a_K + (5n - 4) a_S + m log2 R; with k neighbours in
place of n - 1, Bell et al.; for LightSecAgg with U shares of which T tell nothing, (n - 1) m / (U - T)
numbers sent ahead, then m, then m / (U - T).
"""

from __future__ import annotations

from typing import NamedTuple

from fedsim.config.secure import Bonawitz, LightSecAgg, SecureSum
from fedsim.secure.attendance import Attendance, terms
from fedsim.secure.graphs import Graph, pairs


class Format(NamedTuple):
    """Bytes of what messages are made of.

    key: a public key; share: of a seed; identity: of a client, before what is from or for it; tag: of what
    is encrypted.
    """

    key: int = 32
    share: int = 32
    identity: int = 4
    tag: int = 16


FORMAT = Format()


class Traffic(NamedTuple):
    """Bytes of all clients together: sent, and received."""

    up: int = 0
    down: int = 0


def packed(length: int, modulus: int) -> int:
    """Bytes of so many numbers below the modulus."""
    return -(-length * (modulus - 1).bit_length() // 8)


def part_length(length: int, shares: int, hidden: int) -> int:
    """Numbers in a coded share of a mask of `length`."""
    return -(-length // (shares - hidden))


def traffic(cfg: SecureSum, seen: Attendance, graph: Graph, length: int, f: Format = FORMAT) -> Traffic:
    """Of one round, up to where it was given up, for vectors of `length` numbers."""
    agreed = terms(cfg, graph.n)
    advertised, shared, masked, unmasking = seen
    vector = packed(length, cfg.modulus)
    if isinstance(cfg, LightSecAgg):
        keys, part = f.key, packed(part_length(length, agreed.shares, agreed.hidden), cfg.modulus)
        sealed = part + f.tag
        last = int(unmasking.sum()) * part
    else:
        keys, sealed = 2 * f.key, 2 * f.share + 2 * f.identity + f.tag
        own = int(unmasking.sum()) if isinstance(cfg, Bonawitz) else 0
        last = (pairs(graph, unmasking, shared) + own) * (f.identity + f.share)
    rounds = (  # what is sent, and what is told those that sent it once enough have
        (advertised, int(advertised.sum()) * keys,
         pairs(graph, advertised, advertised) * (f.identity + keys)),
        (shared, pairs(graph, shared, advertised) * (f.identity + sealed),
         pairs(graph, shared, shared) * (f.identity + sealed)),
        (masked, int(masked.sum()) * vector, pairs(graph, masked, masked) * f.identity),
        (unmasking, last, 0),
    )  # fmt: skip
    up = down = 0
    for there, sent, told in rounds:
        up += sent
        if there.sum() < agreed.threshold:
            break
        down += told
    return Traffic(up, down)
