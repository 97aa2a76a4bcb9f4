"""Mechanisms that protect a client from the server too: what leaves it is noisy already."""

from __future__ import annotations

from dataclasses import dataclass
from math import exp
from typing import TYPE_CHECKING, Literal

from fedsim.base import number, require
from fedsim.config.algorithm import Local, Pooled
from fedsim.config.privacy import Accounted, PrivacyConfig, require_clip
from fedsim.config.shift import Drift
from fedsim.config.world import Asynchronous, BySize

if TYPE_CHECKING:
    from fedsim.config import Experiment


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

    def check(self, experiment: Experiment) -> None:
        require(
            not isinstance(experiment.split, Drift),
            "privacy=randomised_response answers once for each of a client's rows, by its place among them, "
            "and with split=drift rows change places, so that labels would be answered for again and again; "
            "choose another split, or privacy=local_gaussian",
        )


@dataclass(frozen=True, kw_only=True)
class RandomisedCounts(PrivacyConfig):
    """How many training rows a client says it has, by which its messages are weighted: a sum of answers, one
    for each of `places` places, whether a row is in it, each told or turned round at random, once.

    epsilon: of a row's being there.
    places: of every client, however many rows it has: public, and no fewer than any client may have rows.
    """

    epsilon: float = number(1.0)
    places: int = 1000

    def __post_init__(self) -> None:
        require(0 < self.epsilon <= 16, f"privacy.epsilon must be in (0, 16], got {self.epsilon}")
        require(
            1 <= self.places <= 2**24,
            f"privacy.places must be in [1, 2^24], got {self.places}; set it to what no client may exceed",
        )

    def check(self, experiment: Experiment) -> None:
        e, name = experiment, "privacy=randomised_counts"
        require(
            e.algorithm.weighting == "examples" and not isinstance(e.algorithm, Local | Pooled),
            f"{name} protects the counts by which messages are weighted, and with algorithm="
            f"{e.algorithm.name} and algorithm.weighting={e.algorithm.weighting} none are sent; set "
            "privacy=none, or an algorithm that averages with algorithm.weighting=examples",
        )
        require(
            not isinstance(e.split, Drift) and not e.tune.grid,
            f"{name} answers once for the rows that a client trains on, and with "
            f"{'tune.grid' if e.tune.grid else 'split=drift'} it trains on some and then on others, whose "
            "answers would be of one another; set it aside, or algorithm.weighting=uniform and privacy=none",
        )
        require(
            not isinstance(e.world, BySize | Asynchronous) and getattr(e.system, "deadline", None) is None,
            f"{name} hides how many rows a client has, and "
            + (f"world={e.world.name}" if isinstance(e.world, BySize | Asynchronous) else "system.deadline")
            + " lets them decide who takes part; set world=uniform, all or poisson, and no deadline",
        )


MEMBERS: dict[str, type] = {
    "local_gaussian": LocalGaussian,
    "randomised_response": RandomisedResponse,
    "randomised_counts": RandomisedCounts,
}
