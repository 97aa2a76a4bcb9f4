"""Protocols that sum clients' messages so that the server sees the sum alone."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import inf
from typing import Any, Literal

from fedsim.base import Choice, nearest, number, require

# What a protocol's rounds are called, by what clients send in them.
ADVERTISE, SHARE, MASK, UNMASK = STEPS = ("advertise", "share", "mask", "unmask")


@dataclass(frozen=True, kw_only=True)
class SecureConfig(Choice):
    """How messages are summed."""


@dataclass(frozen=True, kw_only=True)
class NoSecure(SecureConfig):
    """The server sees every message."""


@dataclass(frozen=True, kw_only=True)
class SecureSum(SecureConfig):
    """The server sees sums of whole numbers under masks.

    mode: `exact` runs the protocol with real keys among simulated clients on the host; `fast` draws one
      mask per client in the compiled program. Both give the same sum.
    range: numbers of a message beyond it are clipped, and counted.
    bits: of a number in fixed point, its sign included; no more than float32 has.
    threshold: clients without whom a round is given up; null: more than two thirds of those that begin.
    dropout: probability that a client is lost in each of the protocol's rounds: advertise, share, mask,
      unmask.
    drop: client's name -> the protocol's round in which it is lost, in every round of training.
    """

    mode: Literal["fast", "exact"] = "fast"
    range: float = number(1.0)
    bits: int = 20
    threshold: int | None = None
    dropout: tuple[float, ...] = (0.0, 0.0, 0.0, 0.0)
    drop: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        require(0 < self.range < inf, f"secure.range must be in (0, inf), got {self.range}")
        require(2 <= self.bits <= 24, f"secure.bits must be in [2, 24], got {self.bits}")
        require(
            self.threshold is None or self.threshold >= 2,
            f"secure.threshold must be >= 2, since the sum of one is its own message, got {self.threshold}",
        )
        require(
            len(self.dropout) == len(STEPS) and all(0 <= p <= 1 for p in self.dropout),
            f"secure.dropout must be {len(STEPS)} probabilities, one for each of {', '.join(STEPS)}, "
            f"got {list(self.dropout)}",
        )
        for client, step in self.drop.items():
            require(step in STEPS, f"secure.drop.{client}={step} is no round of it; {nearest(step, STEPS)}")

    @property
    def modulus(self) -> int:
        """Masked numbers are whole numbers below it."""
        raise NotImplementedError

    @property
    def drops(self) -> bool:
        """Whether clients may be lost in the protocol."""
        return any(p > 0 for p in self.dropout) or bool(self.drop)


@dataclass(frozen=True, kw_only=True)
class _Pairwise(SecureSum):
    """modulus_bits: masked numbers have."""

    modulus_bits: int = 32

    def __post_init__(self) -> None:
        super().__post_init__()
        require(
            2 <= self.modulus_bits <= 32,
            f"secure.modulus_bits must be in [2, 32], got {self.modulus_bits}",
        )

    @property
    def modulus(self) -> int:
        return 1 << self.modulus_bits


@dataclass(frozen=True, kw_only=True)
class Bonawitz(_Pairwise):
    """A mask of each pair of clients and one of each client's own, whose seeds are shared among all
    (Bonawitz et al., CCS 2017, Fig. 4)."""


@dataclass(frozen=True, kw_only=True)
class SecAggPlus(_Pairwise):
    """The same among each client's neighbours in a random regular graph (Bell et al., CCS 2020, Alg. 2).

    neighbours: of each client; null: as many as its theorems ask for, or all where these are more.
    shares: of its neighbours, that recover a client's seed; null: more than half of them.
    """

    neighbours: int | None = None
    shares: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        require(
            self.neighbours is None or self.neighbours >= 2,
            f"secure.neighbours must be >= 2, got {self.neighbours}",
        )
        require(self.shares is None or self.shares >= 1, f"secure.shares must be >= 1, got {self.shares}")


@dataclass(frozen=True, kw_only=True)
class LightSecAgg(SecureSum):
    """A mask of each client's own, coded over all, so that the sum of masks is recovered at once
    (So et al., MLSys 2022, Alg. 1).

    colluders: clients whose shares together tell nothing of a mask; null: less than half of those that begin.
    """

    colluders: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        require(
            self.colluders is None or self.colluders >= 1,
            f"secure.colluders must be >= 1, got {self.colluders}",
        )

    @property
    def modulus(self) -> int:
        return FIELD


FIELD = 2**32 - 5  # the largest prime below 2**32, in which LightSecAgg codes masks

MEMBERS: dict[str, type] = {
    "none": NoSecure,
    "bonawitz": Bonawitz,
    "secagg_plus": SecAggPlus,
    "lightsecagg": LightSecAgg,
}
