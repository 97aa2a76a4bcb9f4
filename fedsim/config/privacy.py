"""Mechanisms that protect clients or records."""

from __future__ import annotations

from dataclasses import dataclass, fields
from math import inf
from typing import TYPE_CHECKING, Literal

from fedsim.base import Choice, RequestError, number, require

if TYPE_CHECKING:
    from fedsim.config import Experiment


@dataclass(frozen=True, kw_only=True)
class PrivacyConfig(Choice):
    """What protects a message."""

    def check(self, experiment: Experiment) -> None:
        """Refuse experiments that it could not protect as it says."""


def require_clip(norm: float) -> None:
    require(
        0 < norm < inf,
        f"privacy.clip_norm must be in (0, inf), got {norm}; set it near the norm of what is "
        "clipped, such as 1",
    )


@dataclass(frozen=True, kw_only=True)
class NoPrivacy(PrivacyConfig):
    """No protection."""


@dataclass(frozen=True, kw_only=True)
class Accounted(PrivacyConfig):
    """A mechanism whose runs are accounted for (docs/privacy.md).

    noise_multiplier: deviation of the noise, in units of the clip norm; null: as much as `epsilon` asks for.
    epsilon: the budget: with a noise multiplier given, training ends at the last round that fits; null: none.
    delta: null: 1e-5, or a tenth of 1 / n where that is less, n being the units of the largest region.
    relation: what neighbouring data sets are. accountant: null: the first of gdp, pld and rdp that has an
      account of what the run releases. count_tuning: whether the models that `tune` tries are paid for too.
    """

    noise_multiplier: float | None = number(1.0)
    epsilon: float | None = number(None)
    delta: float | None = number(None)
    relation: Literal["add_or_remove_one", "replace_one", "replace_special"] = "add_or_remove_one"
    accountant: Literal["gdp", "pld", "rdp"] | None = None
    count_tuning: bool = False

    def __post_init__(self) -> None:
        noise, budget, delta = self.noise_multiplier, self.epsilon, self.delta
        require(
            noise is None or 0 <= noise < inf,
            f"privacy.noise_multiplier must be in [0, inf), got {noise}; set null to have it found from "
            "privacy.epsilon",
        )
        require(
            budget is None or 0 < budget < inf,
            f"privacy.epsilon must be in (0, inf), got {budget}; set null for none",
        )
        require(
            delta is None or 0 < delta < 1,
            f"privacy.delta must be in (0, 1), got {delta}; set it well below 1 / n, or null",
        )
        require(
            noise is not None or budget is not None,
            "privacy.noise_multiplier=null is found from privacy.epsilon, which is null too; set one of them",
        )
        require(
            noise != 0 or budget is None,
            f"privacy.epsilon={budget} cannot be kept with privacy.noise_multiplier=0; set "
            "privacy.noise_multiplier=null to have it found",
        )

    def noise(self) -> float:
        """The noise multiplier. Raises RequestError where it has still to be found."""
        if self.noise_multiplier is None:
            raise RequestError("privacy.noise_multiplier=null has not been calibrated; set a number")
        return self.noise_multiplier


# Options of an account. None is part of a program, so runs that differ in them share one.
ACCOUNT = tuple(f.name for f in fields(Accounted))


@dataclass(frozen=True, kw_only=True)
class GaussianPrivacy(Accounted):
    """Client level, central: each update clipped to `clip_norm`, Gaussian noise on the sum
    (McMahan et al. 2018, Alg. 1, with a fixed denominator)."""

    clip_norm: float = number(1.0)

    def __post_init__(self) -> None:
        super().__post_init__()
        require_clip(self.clip_norm)


@dataclass(frozen=True, kw_only=True)
class AdaptiveClip(Accounted):
    """Client level, central: the clip norm follows a quantile of the updates' norms (Andrew et al. 2021,
    Alg. 1).

    clip_norm: in the first round. quantile: share of updates that are to be within the bound.
    clip_step_size: of the geometric update of the bound.
    noise_multiplier: of updates and bits together, which together cost what a Gaussian release of this
      multiplier does. bit_noise: standard deviation of the noise on the number of clients within the
      bound, in clients; the paper takes a twentieth of the cohort.
    """

    clip_norm: float = number(0.1)
    quantile: float = number(0.5)
    clip_step_size: float = number(0.2)
    bit_noise: float = number(5.0)

    def __post_init__(self) -> None:
        super().__post_init__()
        require_clip(self.clip_norm)
        require(
            0 < self.quantile < 1,
            f"privacy.quantile must be in (0, 1), got {self.quantile}; set 0.5 for the median",
        )
        require(
            0 <= self.clip_step_size < inf,
            f"privacy.clip_step_size must be in [0, inf), got {self.clip_step_size}",
        )
        require(0 <= self.bit_noise < inf, f"privacy.bit_noise must be in [0, inf), got {self.bit_noise}")
        require(
            # Where there is a budget, the noise is settled later, and then checked without one.
            self.epsilon is not None
            or 2 * self.bit_noise > (self.noise_multiplier or 0)
            or not self.noise_multiplier,
            f"privacy.bit_noise must be more than half of privacy.noise_multiplier={self.noise_multiplier}, "
            f"or the bits alone cost more than that allows; got {self.bit_noise}, raise it above "
            f"{(self.noise_multiplier or 0) / 2:g}",
        )


MEMBERS: dict[str, type] = {
    "none": NoPrivacy,
    "gaussian": GaussianPrivacy,
    "adaptive_clip": AdaptiveClip,
}
