"""LightSecAgg: masks are coded over all clients, so that the sum of masks is decoded at once.

Client i draws a mask z_i, cuts it into U - T parts, puts T random parts behind them, and hands client j the
value at alpha_j of the polynomial that runs through them at beta_1 .. beta_U. It sends x_i + z_i. The server
names those whose vectors came; U of them return the sum of these clients' values; a polynomial through
them gives the sum of masks. T of the values tell nothing of a mask.

Source: So et al., "LightSecAgg: a Lightweight and Versatile Design for Secure Aggregation in Federated
Learning", MLSys 2022, Alg. 1, with Lagrange's coding (Yu et al., AISTATS 2019) for its matrix; all in the
field of 2**32 - 5. Values go between clients through the server, sealed with keys that clients agree on.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from fedsim.config.secure import FIELD, LightSecAgg
from fedsim.secure import crypto, shamir
from fedsim.secure.attendance import Terms
from fedsim.secure.cost import part_length
from fedsim.secure.graphs import Graph
from fedsim.secure.wire import Parts, member, pack, unpack

Vector = np.ndarray  # u64[m], below FIELD
_Q = np.uint64(FIELD)


def interpolate(known: Sequence[int], wanted: Sequence[int]) -> np.ndarray:
    """u64[wanted, known]: takes a polynomial's values at `known` places to those at `wanted` ones."""
    rows = []
    for w in wanted:
        row = []
        for i in known:
            above = below = 1
            for j in known:
                if j != i:
                    above, below = above * (w - j) % FIELD, below * (i - j) % FIELD
            row.append(above * pow(below, -1, FIELD) % FIELD)
        rows.append(row)
    return np.array(rows, np.uint64)


def combine(matrix: np.ndarray, parts: np.ndarray) -> np.ndarray:
    """matrix @ parts in the field; a product of two elements fits 64 bits."""
    total = np.zeros((len(matrix), parts.shape[1]), np.uint64)
    for column, part in zip(matrix.T, parts, strict=True):
        total = (total + column[:, None] * part % _Q) % _Q
    return total


def places(terms: Terms) -> tuple[list[int], list[int]]:
    """(beta_1 .. beta_U, alpha_1 .. alpha_n), all different."""
    return list(range(1, terms.shares + 1)), list(range(terms.shares + 1, terms.shares + terms.n + 1))


@dataclass
class Client:
    """u: which one; vector: what it adds to the sum, None for one that is lost before it sends it."""

    cfg: LightSecAgg
    terms: Terms
    u: int
    length: int
    vector: Vector | None
    rng: np.random.Generator

    def __post_init__(self) -> None:
        self.channel = shamir.secret(self.rng)
        self.keys: Parts = {}
        self.part = part_length(self.length, self.terms.shares, self.terms.hidden)
        self.mine: dict[int, Vector] = {}  # values it holds, by whose mask they are of
        whole = self.terms.shares * self.part
        parts = self.rng.integers(FIELD, size=whole, dtype=np.uint64)
        self.parts = parts.reshape(self.terms.shares, self.part)

    def advertise(self) -> bytes:
        """A public key."""
        return crypto.public(self.channel)

    def share(self, told: Parts) -> Parts:
        """For each other client, sealed, its value of the coded mask."""
        self.keys = told
        betas, alphas = places(self.terms)
        everyone = sorted([*told, self.u])
        values = combine(interpolate(betas, [alphas[v] for v in everyone]), self.parts)
        coded = dict(zip(everyone, values, strict=True))
        self.mine[self.u] = coded.pop(self.u)
        return {v: crypto.seal(self._key(self.u, v), pack(value, FIELD)) for v, value in coded.items()}

    def mask(self, told: Parts) -> bytes:
        """The vector under the mask."""
        assert self.vector is not None
        for v, sealed in told.items():
            self.mine[v] = unpack(crypto.unseal(self._key(v, self.u), sealed), self.part, FIELD)
        mask = self.parts[: self.terms.shares - self.terms.hidden].reshape(-1)[: self.length]
        return pack((self.vector + mask) % _Q, FIELD)

    def unmask(self, survivors: frozenset[int]) -> bytes:
        """The sum of the survivors' values, its own among them."""
        total = self.mine[self.u]
        for v in sorted(survivors):
            total = (total + self.mine[v]) % _Q
        return pack(total, FIELD)

    def _key(self, sender: int, receiver: int) -> bytes:
        other = receiver if sender == self.u else sender
        return crypto.agree(self.channel, self.keys[other], member(sender) + member(receiver))


@dataclass
class Server:
    """Sees what clients send, and no more."""

    cfg: LightSecAgg
    terms: Terms
    graph: Graph
    length: int
    vectors: dict[int, Vector] = field(default_factory=dict)

    def tell_keys(self, came: Mapping[int, bytes]) -> dict[int, Parts]:
        """To each, the others' keys."""
        return {u: {v: key for v, key in came.items() if v != u} for u in came}

    def tell_shares(self, came: Mapping[int, Parts]) -> dict[int, Parts]:
        """To each, what was sealed for it."""
        return {u: {v: parts[u] for v, parts in came.items() if v != u} for u in came}

    def tell_survivors(self, came: Mapping[int, bytes]) -> dict[int, frozenset[int]]:
        """To each, whose vectors came beside its own."""
        self.vectors = {u: unpack(message, self.length, FIELD) for u, message in came.items()}
        return {u: frozenset(came) - {u} for u in came}

    def total(self, came: Mapping[int, bytes]) -> Vector | int:
        """The sum of the vectors that came."""
        part = part_length(self.length, self.terms.shares, self.terms.hidden)
        used = sorted(came)[: self.terms.shares]
        values = np.stack([unpack(came[u], part, FIELD) for u in used])
        betas, alphas = places(self.terms)
        wanted = betas[: self.terms.shares - self.terms.hidden]
        mask = combine(interpolate([alphas[u] for u in used], wanted), values).reshape(-1)[: self.length]
        total = np.zeros(self.length, np.uint64)
        for vector in self.vectors.values():
            total = (total + vector) % _Q
        return (total + _Q - mask) % _Q
