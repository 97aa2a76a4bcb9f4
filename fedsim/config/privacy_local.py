"""Mechanisms that protect a client from the server too: what leaves it is noisy already."""

from __future__ import annotations

from dataclasses import dataclass
from math import exp
from typing import Literal

from fedsim.base import number, require
from fedsim.config.privacy import Accounted, PrivacyConfig, require_clip


@dataclass(frozen=True, kw_only=True)
class LocalGaussian(Accounted):
    """Gaussian noise at the client, on its own message clipped to `clip_norm`.

    noise_multiplier: deviation of the noise on a message, in units of `clip_norm`.
    """

    relation: Literal["add_or_remove_one", "replace_one", "replace_special"] = "replace_one"
    clip_norm: float = number(1.0)

    def __post_init__(self) -> None:
        super().__post_init__()
        require_clip(self.clip_norm)
        require(
            self.relation != "add_or_remove_one",
            "privacy=local_gaussian has no account under privacy.relation=add_or_remove_one: the server sees "
            "who sends; set privacy.relation=replace_one",
        )


@dataclass(frozen=True, kw_only=True)
class RandomisedResponse(PrivacyConfig):
    """Labels of training rows, each kept or exchanged at random, once.

    epsilon: of a label.
    """

    epsilon: float = number(1.0)

    def __post_init__(self) -> None:
        require(0 < self.epsilon <= 16, f"privacy.epsilon must be in (0, 16], got {self.epsilon}")

    def keep(self, classes: int) -> float:
        """Probability that a label of so many classes is told as it is."""
        return exp(self.epsilon) / (exp(self.epsilon) + classes - 1)


MEMBERS: dict[str, type] = {"local_gaussian": LocalGaussian, "randomised_response": RandomisedResponse}
