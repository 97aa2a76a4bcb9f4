"""Mechanisms whose noise the clients add themselves: in shares that a secure sum brings together, or each
all that its own message needs."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, exp, log, sqrt
from typing import TYPE_CHECKING, ClassVar, Literal

from fedsim.base import number, require
from fedsim.config.privacy import Accounted, require_clip
from fedsim.config.secure import SecureSum

if TYPE_CHECKING:
    from fedsim.config import Experiment

SIGNIFICANT = 8  # bits of a Skellam variance, which is a sum of powers of two
# Taken off before rounding up, so that 3.0000001 steps are 3: more than programs take off, for their error.
_FLOAT_ERROR = 1 - 2.0**-19
_DEVIATIONS = 4  # of a number in the sum, which the ring must hold on both sides


@dataclass(frozen=True, kw_only=True)
class InRing(Accounted):
    """What mechanisms in a ring share: messages are clipped, scaled, rotated and rounded to whole numbers,
    each client adds its share of the noise, and a secure sum adds them up modulo 2**bits.

    noise_multiplier: deviation of the noise on the sum, in units of `clip_norm`, where `contributors`
      clients send; each adds a share of deviation noise_multiplier * clip_norm / sqrt(contributors).
    contributors: clients whose shares of noise are counted on: more bring more noise, fewer less.
    clip_norm: a message's Euclidean norm at most. bits: of the ring.
    scale: whole steps that `clip_norm` is cut into.
    bias: beta: at most this share of roundings may be drawn again for making a message too long.
    relation: not add_or_remove_one: a client that is missing takes its share of the noise with it.
    """

    most_noise: ClassVar[int]  # deviation of a client's share that can be drawn, in steps

    relation: Literal["add_or_remove_one", "replace_one", "replace_special"] = "replace_special"
    clip_norm: float = number(1.0)
    contributors: float = number()
    bits: int = 20
    scale: int = 256
    bias: float = exp(-0.5)

    def __post_init__(self) -> None:
        super().__post_init__()
        require_clip(self.clip_norm)
        require(self.contributors >= 1, f"privacy.contributors must be >= 1, got {self.contributors}")
        require(
            self.relation != "add_or_remove_one",
            f"privacy={self.name} has no account under privacy.relation=add_or_remove_one: a client that is "
            "missing takes its share of the noise with it; set privacy.relation=replace_special",
        )
        require(2 <= self.bits <= 30, f"privacy.bits must be in [2, 30], got {self.bits}")
        require(1 <= self.scale <= 2**14, f"privacy.scale must be in [1, 2^14], got {self.scale}")
        require(0 <= self.bias < 1, f"privacy.bias must be in [0, 1), got {self.bias}")
        require(
            self.noise_multiplier is None or self.share() <= self.most_noise,
            f"privacy={self.name} draws a client's share of the noise up to a deviation of {self.most_noise} "
            f"steps, and privacy.noise_multiplier={self.noise_multiplier} is more; lower privacy.scale",
        )

    def check(self, experiment: Experiment) -> None:
        require(
            isinstance(experiment.secure, SecureSum),
            f"privacy={self.name} has each client add a share of the noise, and with secure=none the server "
            "would see every message with its own share alone; choose a secure sum, such as secure=bonawitz, "
            "or privacy=local_gaussian",
        )

    def share(self) -> float:
        """Deviation of one client's share of the noise, in steps."""
        return self.noise() * self.scale / sqrt(self.contributors)

    def variance(self) -> int:
        """Of the noise that one client adds, in squared steps: what is accounted for."""
        raise NotImplementedError

    def squared_norm(self, dimension: int) -> int:
        """The most that the squares of a message's whole numbers may sum to: a whole number itself.

        Kairouz, Liu, Steinke, ICML 2021, Alg. 1, line 6 of the client's half.
        """
        always = self.scale**2 + dimension + 2 * self.scale * sqrt(dimension)  # (c + sqrt d)^2
        if self.bias == 0:
            return int(always)
        often = sqrt(2 * log(1 / self.bias)) * (self.scale + sqrt(dimension) / 2)
        return int(min(always, self.scale**2 + dimension / 4 + often))

    def check_ring(self, dimension: int, cohort: float) -> None:
        """Refuse a ring that does not hold the sum of a cohort's messages of `dimension` numbers, and a
        cohort that brings less noise than is counted on.

        In the sum a number has a deviation of at most sqrt(n^2 c^2 / d + n s^2 + n / 4) steps, where all
        messages agree and rotation spreads them over d numbers (ibid., section 4).
        """
        require(
            self.contributors <= cohort * (1 + 1e-6),
            f"privacy.contributors={self.contributors:g} clients' noise is counted on, and {cohort:.4g} take "
            f"part in a round on average; set it to {int(cohort)} or fewer",
        )
        spread = sqrt(cohort**2 * self.scale**2 / dimension + cohort * (self.share() ** 2 + 0.25))
        needed = 2 * _DEVIATIONS * spread
        bits = max(2, (int(needed)).bit_length())
        require(
            needed <= 2**self.bits,
            f"privacy.bits={self.bits} is too small a ring: {_DEVIATIONS} deviations of a sum of {cohort:.4g}"
            f" messages, clipped to privacy.scale={self.scale} steps, and of its noise take {needed:.4g}; "
            f"set privacy.bits={bits}, or a smaller privacy.scale",
        )
        require(
            (self.scale + sqrt(dimension)) ** 2 < 2**32,
            f"privacy.scale={self.scale} is too fine for messages of {dimension} numbers, whose squares must "
            "sum to less than 2^32; lower it",
        )


@dataclass(frozen=True, kw_only=True)
class DiscreteGaussian(InRing):
    """Each client adds discrete Gaussian noise, of a whole number of steps in deviation (Kairouz, Liu,
    Steinke, ICML 2021)."""

    most_noise: ClassVar[int] = 2**13

    def variance(self) -> int:
        """The deviation is rounded up to a whole number."""
        return ceil(self.share() * _FLOAT_ERROR) ** 2


@dataclass(frozen=True, kw_only=True)
class Skellam(InRing):
    """Each client adds Skellam noise, of a whole number of steps squared in variance (Agarwal, Kairouz, Liu,
    NeurIPS 2021)."""

    most_noise: ClassVar[int] = 2**10

    def variance(self) -> int:
        """Rounded up to a whole number of `SIGNIFICANT` bits."""
        square = ceil(self.share() ** 2 * _FLOAT_ERROR)
        cut = max(0, square.bit_length() - SIGNIFICANT)
        return -(-square >> cut) << cut


MEMBERS: dict[str, type] = {"discrete_gaussian": DiscreteGaussian, "skellam": Skellam}
