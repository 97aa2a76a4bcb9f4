"""Central, client-level mechanisms whose noise is correlated from round to round."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

from fedsim.base import number, require
from fedsim.config.privacy import Accounted, require_clip


@dataclass(frozen=True, kw_only=True)
class Correlated(Accounted):
    """noise_multiplier: standard deviation, in units of `clip_norm`, of the independent noise that is then
    correlated by a strategy with columns of norm 1 at most (`tree`: with entries of 1)."""

    clip_norm: float = number(1.0)
    # A client's turns stay what they are where its contribution is zeros, and move where it was never there.
    relation: Literal["add_or_remove_one", "replace_one", "replace_special"] = "replace_special"

    def __post_init__(self) -> None:
        super().__post_init__()
        require_clip(self.clip_norm)


@dataclass(frozen=True, kw_only=True)
class TreePrivacy(Correlated):
    """Tree aggregation (Kairouz et al. 2021, DP-FTRL).

    restart: rounds after which a new tree begins; 0: never.
    """

    restart: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.restart >= 0, f"privacy.restart must be >= 0, got {self.restart}")


@dataclass(frozen=True, kw_only=True)
class BandedPrivacy(Correlated):
    """Banded matrix noise (Choquette-Choo et al. 2023), with a Toeplitz strategy.

    bands: of the strategy; rounds between a client's turns are a good number, 1 is independent noise.
    rounds: that the strategy is made for; 0: those of the run.
    coefficients: a strategy of your own, scaled to norm 1; none: one that is optimised for these rounds.
    """

    bands: int = 8
    rounds: int = 0
    coefficients: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.bands >= 1, f"privacy.bands must be >= 1, got {self.bands}")
        require(self.rounds >= 0, f"privacy.rounds must be >= 0, got {self.rounds}")
        c = self.coefficients
        require(
            not c or (len(c) == self.bands and c[0] > 0 <= c[-1] and all(a >= b for a, b in pairwise(c))),
            f"privacy.coefficients must be privacy.bands={self.bands} numbers that do not rise, the first "
            f"above 0 and none below, got {list(c)}; leave it empty for a strategy that is optimised",
        )


@dataclass(frozen=True, kw_only=True)
class BltPrivacy(Correlated):
    """Buffered linear Toeplitz noise (Dvijotham et al. 2024, McMahan et al. 2024).

    buffers: of a model's size each, kept at the server.
    rounds: as for `banded`. decay, scale: a strategy of your own, a number of each per buffer; none: one that
      is optimised for these rounds, and for those between a client's turns.
    """

    buffers: int = 2
    rounds: int = 0
    decay: tuple[float, ...] = ()
    scale: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        require(1 <= self.buffers <= 10, f"privacy.buffers must be in [1, 10], got {self.buffers}")
        require(self.rounds >= 0, f"privacy.rounds must be >= 0, got {self.rounds}")
        lengths = {len(self.decay), len(self.scale)}
        require(
            lengths in ({0}, {self.buffers}),
            f"privacy.decay and privacy.scale must both have privacy.buffers={self.buffers} numbers, or "
            f"none, got {len(self.decay)} and {len(self.scale)}",
        )
        require(
            all(0 <= d < 1 for d in self.decay) and all(s >= 0 for s in self.scale) and sum(self.scale) <= 1,
            "privacy.decay must be in [0, 1), and privacy.scale at or above 0 with a sum of 1 at most, got "
            f"{list(self.decay)} and {list(self.scale)}",
        )


MEMBERS: dict[str, type] = {"tree": TreePrivacy, "banded": BandedPrivacy, "blt": BltPrivacy}
