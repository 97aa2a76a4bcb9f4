"""Double masking: a mask for each pair of clients, which cancel, and one of each client's own.

Client u sends y_u = x_u + PRG(b_u) + sum over v of +-PRG(s_uv) mod R. Seeds b_u and key pairs behind s_uv
are shared among the others by Shamir's scheme. Of a client whose y_u came the server gets shares of b_u,
of one that was lost shares of its key, never both: the sum can be unmasked, no message can.

Source: Bonawitz et al., "Practical Secure Aggregation for Privacy-Preserving Machine Learning", CCS 2017,
Fig. 4, without the rounds against a server that lies; with neighbours in place of all clients Bell et al.,
"Secure Single-Server Aggregation with (Poly)Logarithmic Overhead", CCS 2020, Alg. 2.

A client of Bonawitz keeps a share of its own seed too, and hands it in at the end.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from fedsim.config.secure import Bonawitz, SecAggPlus
from fedsim.secure import crypto, shamir
from fedsim.secure.attendance import Terms
from fedsim.secure.graphs import Graph
from fedsim.secure.wire import Parts, member, pack, unpack

Vector = np.ndarray  # u64[m], below the modulus


@dataclass
class Client:
    """u: which one; vector: what it adds to the sum, None for one that is lost before it sends it."""

    cfg: Bonawitz | SecAggPlus
    terms: Terms
    u: int
    length: int
    vector: Vector | None
    rng: np.random.Generator

    def __post_init__(self) -> None:
        self.channel, self.masking, self.seed = (shamir.secret(self.rng) for _ in range(3))
        self.keys: dict[int, tuple[bytes, bytes]] = {}  # neighbour -> its public keys
        self.own: dict[int, bytes] = {}  # its share of its own seed
        self.sealed: Parts = {}

    def advertise(self) -> bytes:
        """Two public keys: of the channel, and of the masks."""
        return crypto.public(self.channel) + crypto.public(self.masking)

    def share(self, told: Parts) -> Parts:
        """For each neighbour, sealed: who it is from and for, a share of the key and one of the seed."""
        self.keys = {v: (keys[:32], keys[32:]) for v, keys in told.items()}
        everyone = sorted([*self.keys, self.u]) if isinstance(self.cfg, Bonawitz) else sorted(self.keys)
        places = [v + 1 for v in everyone]
        key_shares = shamir.split(self.masking, self.terms.shares, places, self.rng)
        seed_shares = shamir.split(self.seed, self.terms.shares, places, self.rng)
        if isinstance(self.cfg, Bonawitz):
            self.own = {self.u: seed_shares[self.u + 1]}
        return {
            v: crypto.seal(
                self._key(self.u, v),
                member(self.u) + member(v) + key_shares[v + 1] + seed_shares[v + 1],
            )
            for v in self.keys
        }

    def mask(self, told: Parts) -> bytes:
        """The vector under the client's own mask and one for each neighbour that has shared."""
        self.sealed = told
        assert self.vector is not None
        total = self.vector + expand(self.seed, self.length, self.cfg.modulus)
        for v in told:
            seed = crypto.agree(self.masking, self.keys[v][1], b"mask")
            mask = expand(seed, self.length, self.cfg.modulus)
            total = total + mask if self.u > v else total + np.uint64(self.cfg.modulus) - mask
        return pack(total % np.uint64(self.cfg.modulus), self.cfg.modulus)

    def unmask(self, survivors: frozenset[int]) -> Parts:
        """Of each neighbour that has shared, one share: of the seed of one that survives, else of the key."""
        shares = dict(self.own)
        for v, sealed in self.sealed.items():
            plain = crypto.unseal(self._key(v, self.u), sealed)
            if plain[:8] != member(v) + member(self.u):
                raise ValueError(f"client {self.u} was handed a message that is not from {v} to it")
            shares[v] = plain[40:] if v in survivors else plain[8:40]
        return shares

    def _key(self, sender: int, receiver: int) -> bytes:
        """Of the one message from sender to receiver, one of whom is this client."""
        other = receiver if sender == self.u else sender
        return crypto.agree(self.channel, self.keys[other][0], member(sender) + member(receiver))


def expand(seed: bytes, length: int, modulus: int) -> Vector:
    """PRG: a seed to numbers below a modulus that is a power of two."""
    words = np.frombuffer(crypto.stream(seed, 4 * length), "<u4")
    return words.astype(np.uint64) % np.uint64(modulus)


@dataclass
class Server:
    """Sees what clients send, and no more."""

    cfg: Bonawitz | SecAggPlus
    terms: Terms
    graph: Graph
    length: int
    keys: dict[int, bytes] = field(default_factory=dict)
    shared: frozenset[int] = frozenset()
    vectors: dict[int, Vector] = field(default_factory=dict)

    def tell_keys(self, came: Mapping[int, bytes]) -> dict[int, Parts]:
        """To each, its neighbours' keys."""
        self.keys = dict(came)
        return {u: {v: came[v] for v in self._beside(u) if v in came} for u in came}

    def tell_shares(self, came: Mapping[int, Parts]) -> dict[int, Parts]:
        """To each, what was sealed for it."""
        self.shared = frozenset(came)
        return {u: {v: came[v][u] for v in self._beside(u) if v in came} for u in came}

    def tell_survivors(self, came: Mapping[int, bytes]) -> dict[int, frozenset[int]]:
        """To each, which of its neighbours' vectors came."""
        self.vectors = {u: unpack(message, self.length, self.cfg.modulus) for u, message in came.items()}
        return {u: frozenset(v for v in self._beside(u) if v in came) for u in came}

    def total(self, came: Mapping[int, Parts]) -> Vector | int:
        """The sum of the vectors that came; or how many shares there are of a seed that has too few."""
        survivors = frozenset(self.vectors)
        modulus = np.uint64(self.cfg.modulus)
        total = sum(self.vectors.values(), start=np.zeros(self.length, np.uint64))
        lost = self.shared - survivors
        lost = frozenset(u for u in lost if any(v in survivors for v in self._beside(u)))
        for u in sorted(survivors | lost):
            shares = {v + 1: parts[u] for v, parts in came.items() if u in parts}
            if len(shares) < self.terms.shares:
                return len(shares)
            found = shamir.join(dict(list(shares.items())[: self.terms.shares]))
            if u in survivors:
                total = total + modulus - expand(found, self.length, self.cfg.modulus)
                continue
            if crypto.public(found) != self.keys[u][32:]:
                raise ValueError(f"the shares of client {u}'s key do not give it")
            for v in self._beside(u):
                if v in survivors:  # what v added for u is still in the sum
                    seed = crypto.agree(found, self.keys[v][32:], b"mask")
                    mask = expand(seed, self.length, self.cfg.modulus)
                    total = total + modulus - mask if v > u else total + mask
        return total % modulus

    def _beside(self, u: int) -> list[int]:
        return [int(v) for v in self.graph.adjacent(u)]
