"""Events: what one release does, in as much detail as its account needs, whoever keeps the account.

`noise_multiplier` is always the deviation of the noise on a sum (for Laplace its scale), over the most that
one unit's presence adds to that sum: over the clip norm C. How far a neighbour moves the sum follows from
the relation, and is the accountants' business: C where a unit comes, goes or is zeroed, 2 C where its data
are replaced by others'.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, inf

import numpy as np

from fedsim.base import Refusal as Refusal  # also by this name
from fedsim.base import require

RELATIONS: dict[str, str] = {
    "add_or_remove_one": "a unit comes or goes",
    "replace_special": "a unit's contribution is replaced by zeros, its slots kept; how many units there are "
    "is public",
    "replace_one": "a unit's data are replaced by any others; how many units there are is public",
}


@dataclass(frozen=True, kw_only=True)
class Event:
    """One release. Its units are sampled as `sampling` says."""

    noise_multiplier: float

    @property
    def sampling(self) -> str:
        return "all"

    def __post_init__(self) -> None:
        if self.noise_multiplier == 0:
            raise Refusal(
                "without noise there is no epsilon, however large: noise_multiplier is 0",
                "set noise_multiplier above 0",
            )
        require(
            0 < self.noise_multiplier < inf,
            f"noise_multiplier must be in (0, inf), got {self.noise_multiplier}; set it above 0",
        )


Composition = Sequence[tuple[Event, int]]  # events, and how many times each; later ones may see earlier ones


def _rate(rate: float) -> None:
    require(0 < rate <= 1, f"the sampling rate q must be in (0, 1], got {rate}; give a probability")


@dataclass(frozen=True, kw_only=True)
class Gaussian(Event):
    """All units take part in the sum."""


@dataclass(frozen=True, kw_only=True)
class PoissonGaussian(Event):
    """Each unit takes part on its own with probability `rate`."""

    rate: float

    @property
    def sampling(self) -> str:
        return "poisson"

    def __post_init__(self) -> None:
        super().__post_init__()
        _rate(self.rate)


@dataclass(frozen=True, kw_only=True)
class FixedGaussian(Event):
    """`cohort` of `population` units take part, uniformly without replacement."""

    population: int
    cohort: int

    @property
    def sampling(self) -> str:
        return "fixed"

    def __post_init__(self) -> None:
        super().__post_init__()
        require(
            1 <= self.cohort <= self.population,
            f"a cohort b must be in [1, n], got b={self.cohort} of n={self.population}; lower b",
        )


@dataclass(frozen=True, kw_only=True)
class TruncatedGaussian(Event):
    """Each of `population` units is drawn with probability `rate`; of more than `cap`, a uniform `cap` take
    part (Ganesh, arXiv 2508.15089)."""

    rate: float
    population: int
    cap: int

    @property
    def sampling(self) -> str:
        return "truncated_poisson"

    def __post_init__(self) -> None:
        super().__post_init__()
        _rate(self.rate)
        require(self.cap >= 1, f"cap must be >= 1, got {self.cap}; give the largest batch there is room for")
        require(self.population >= 1, f"n must be >= 1, got {self.population}; give the number of units")


@dataclass(frozen=True, kw_only=True)
class RowsGaussian(Event):
    """A unit has up to `rows` rows; each takes part on its own with probability `rate`, and is clipped on its
    own, so that a unit adds a binomial number of clip norms to the sum."""

    rate: float
    rows: int

    @property
    def sampling(self) -> str:
        return "poisson"

    def __post_init__(self) -> None:
        super().__post_init__()
        _rate(self.rate)
        require(self.rows >= 1, f"rows_per_patient must be >= 1, got {self.rows}; give the largest number")


@dataclass(frozen=True, kw_only=True)
class Laplace(Event):
    """Laplace noise on a sum of vectors clipped in the 1-norm; each unit takes part with probability
    `rate`."""

    rate: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        _rate(self.rate)

    @property
    def sampling(self) -> str:
        return "all" if self.rate == 1 else "poisson"


@dataclass(frozen=True, kw_only=True)
class Integer(Event):
    """A sum of integer vectors, with noise that is integer too.

    sensitivity: the clip norm C, in steps of the integer grid, rounding included; dimension: of the vectors.
    """

    sensitivity: float = 1.0
    dimension: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.sensitivity > 0, f"sensitivity must be > 0, got {self.sensitivity}; give the clip norm")
        require(self.dimension >= 1, f"dimension must be >= 1, got {self.dimension}; give the vectors'")

    @property
    def one_norm(self) -> float:
        """The most a unit's integers can come to in the 1-norm: no integer exceeds its own square."""
        return min(self.sensitivity**2, self.dimension**0.5 * self.sensitivity)


@dataclass(frozen=True, kw_only=True)
class DiscreteGaussian(Integer):
    """`clients` draw discrete Gaussian noise each; `noise_multiplier` is of the sum, were it continuous.

    Fewer clients than planned bring less noise: the event of a round is that of those who came.
    """

    clients: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.clients >= 1, f"clients must be >= 1, got {self.clients}; give those who add noise")


@dataclass(frozen=True, kw_only=True)
class Skellam(Integer):
    """Skellam noise; the sum of several clients' Skellam noise is Skellam."""


@dataclass(frozen=True, kw_only=True)
class Tree(Event):
    """All prefix sums of `steps` sums by a binary tree with independent noise on every node, where a unit
    takes part in at most one step (Kairouz et al., ICML 2021, appendix D)."""

    steps: int

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.steps >= 1, f"steps must be >= 1, got {self.steps}; give the leaves of the tree")

    @property
    def height(self) -> int:
        """Nodes that a unit's one step is part of."""
        return ceil(np.log2(self.steps + 1))


@dataclass(frozen=True, kw_only=True)
class Matrix(Event):
    """All steps of a run whose noise is correlated by a strategy matrix.

    sensitivity: of the strategy: the 2-norm of the strategy times the steps that a unit takes part in, the
    worst participation there may be; `noise_multiplier` is of the independent noise before correlation.
    """

    sensitivity: float

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.sensitivity > 0, f"sensitivity must be > 0, got {self.sensitivity}; give the strategy's")


def halves(event: Event, relation: str) -> float:
    """The noise multiplier over what a neighbour moves the sum by: half of it where data are replaced."""
    return event.noise_multiplier / (2 if relation == "replace_one" else 1)


def toeplitz_sensitivity(coefficients: np.ndarray, participations: int, separation: int) -> float:
    """Sensitivity of a lower-triangular Toeplitz strategy.

    Non-negative, falling coefficients have it where a unit takes part in steps 0, b, 2 b, ..., b apart at
    least (Kalinin and Lampert, "Banded Square Root Matrix Factorization", NeurIPS 2024, Theorem 2).
    """
    require(
        (coefficients >= 0).all() and (np.diff(coefficients) <= 0).all(),
        "the strategy's coefficients must be non-negative and must not rise; give another strategy",
    )
    total = np.zeros(len(coefficients))
    for begin in range(0, min(participations * separation, len(total)), separation):
        total[begin:] += coefficients[: len(total) - begin]
    return float(np.linalg.norm(total))


def blt_coefficients(decay: Sequence[float], scale: Sequence[float], steps: int) -> np.ndarray:
    """First column of a buffered linear Toeplitz strategy: 1, then sum_j scale_j decay_j^(t - 1)
    (Dvijotham et al., "Efficient and Near-Optimal Noise Generation for Streaming Differential Privacy",
    FOCS 2024)."""
    require(
        len(decay) == len(scale) and all(0 <= d < 1 for d in decay) and all(s >= 0 for s in scale),
        f"decay and scale must be lists of one length, decays in [0, 1), scales >= 0, got {list(decay)} and "
        f"{list(scale)}; give both as the strategy has them",
    )
    powers = np.power.outer(np.array(decay, np.float64), np.arange(max(steps - 1, 0)))
    return np.concatenate([[1.0], np.array(scale, np.float64) @ powers])[:steps]
