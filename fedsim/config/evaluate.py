"""How runs are judged, and how step sizes and rounds are chosen."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import inf
from typing import Any

from fedsim.base import require


@dataclass(frozen=True, kw_only=True)
class Tune:
    """Choice of step sizes and rounds on validation rows of the training part, per fold.

    grid: config path -> values; all combinations are tried, each for `rounds[-1]` rounds and judged
    after each number of `rounds`; the winner is fitted again on all training rows.
    valid: share of each client's training rows held out for the choice, which is by the task's loss.
    """

    grid: dict[str, Any] = field(default_factory=dict)
    rounds: tuple[int, ...] = ()
    valid: float = 0.25

    def __post_init__(self) -> None:
        require(0 < self.valid < 1, f"tune.valid must be in (0, 1), got {self.valid}")
        require(
            list(self.rounds) == sorted(set(self.rounds)) and all(r >= 1 for r in self.rounds),
            f"tune.rounds must be rising whole numbers, got {list(self.rounds)}",
        )
        for path, values in self.grid.items():
            require(
                isinstance(values, list | tuple) and len(values) > 0,
                f"tune.grid.{path} must be a list of values, got {values!r}",
            )


@dataclass(frozen=True, kw_only=True)
class Target:
    """A value of a metric of all tested rows together, and what it cost to get there; null: none."""

    metric: str | None = None
    value: float | None = None

    def __post_init__(self) -> None:
        require(
            (self.metric is None) == (self.value is None),
            "evaluate.target needs both metric and value, or neither, "
            f"got metric={self.metric} and value={self.value}",
        )


@dataclass(frozen=True, kw_only=True)
class Evaluate:
    """every: rounds between evaluations (0: only after the last round); predictions: keep every
    tested row's score (null: below a million rows); target: what it costs to reach, in rounds judged.

    horizon: time by which the event has happened or not, in the unit of the times: survival is judged by
      probabilities of it, too, after the last round; null: by the order of risks alone.
    thresholds: probabilities in (0, 1) from which on one would act, for net benefit.
    groups: column -> cut points; rows are judged apart by a feature, or a column that data.keep keeps, after
      the last round: by its values, or by the intervals between cut points. fewest: events, and rows without
      one (of a quantity rows), that a group must have for its metrics.
    noise_multiplier: deviation of the noise on regions' counts of scores by label, in units of the most that
      one record or patient adds; null: no such counts. bins: of scores, an even number.
    """

    every: int = 0
    predictions: bool | None = None
    target: Target = field(default_factory=Target)
    horizon: float | None = None
    thresholds: tuple[float, ...] = ()
    groups: dict[str, Any] = field(default_factory=dict, hash=False)
    fewest: int = 10
    noise_multiplier: float | None = None
    bins: int = 10

    def __post_init__(self) -> None:
        require(self.every >= 0, f"evaluate.every must be >= 0, got {self.every}")
        require(
            self.horizon is None or 0 < self.horizon < inf,
            f"evaluate.horizon must be in (0, inf), or null, got {self.horizon}",
        )
        require(
            all(0 < t < 1 for t in self.thresholds) and len({*self.thresholds}) == len(self.thresholds),
            f"evaluate.thresholds must be different numbers in (0, 1), got {list(self.thresholds)}",
        )
        check_groups(self.groups, "evaluate.groups")
        require(self.fewest >= 1, f"evaluate.fewest must be >= 1, got {self.fewest}")
        noise, bins = self.noise_multiplier, self.bins
        require(
            noise is None or 0 < noise < inf,
            f"evaluate.noise_multiplier must be in (0, inf), got {noise}; set null for no counts",
        )
        require(
            2 <= bins <= 1000 and bins % 2 == 0,
            f"evaluate.bins must be even and in [2, 1000], so that 0.5 parts two of them, got {bins}",
        )


def check_groups(groups: Mapping[str, Any], option: str) -> None:
    """Raises RequestError unless every column's cut points rise. option: that holds them, for the message."""
    for name, cuts in groups.items():
        numbers = isinstance(cuts, list | tuple) and all(
            isinstance(c, int | float) and not isinstance(c, bool) and -inf < c < inf for c in cuts
        )
        require(
            numbers and list(cuts) == sorted({*cuts}),
            f"{option}.{name} must be rising numbers, or [] for one group per value, got {cuts!r}",
        )
