"""What may be asked of `fedsim estimate`: options of each statistic, and of what may leave a site."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import inf, isfinite
from typing import Any, Literal

from fedsim.base import require


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What every statistic has.

    sites: the clients that take part; empty: all of them, external ones too.
    minimum_count: the least number that a site may say of its rows; null: sites say exact numbers.
    """

    sites: tuple[str, ...] = ()
    minimum_count: int | None = None

    def __post_init__(self) -> None:
        k = self.minimum_count
        require(k is None or k >= 3, f"minimum_count must be >= 3, got {k}; 5 is usual, null is exact")


@dataclass(frozen=True, kw_only=True)
class Noised(Asked):
    """Statistics that can be had with differential privacy.

    epsilon: what one unit may lose; null: no noise. delta: of mechanism=discrete_gaussian; laplace has none.
    unit: whose presence is hidden; rows_per_patient: the most rows of one patient that count, the first ones.
    relation: add_or_remove_one: a unit comes or goes; replace_one: its data become any others, and the number
      of units is public.
    seed: of the noise.
    """

    epsilon: float | None = None
    delta: float = 1e-5
    mechanism: Literal["laplace", "discrete_gaussian"] = "laplace"
    unit: Literal["record", "patient"] = "record"
    rows_per_patient: int = 1
    relation: Literal["add_or_remove_one", "replace_one"] = "add_or_remove_one"
    seed: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        require(
            self.epsilon is None or 0 < self.epsilon < inf,
            f"epsilon must be in (0, inf), got {self.epsilon}; set epsilon=1, or null for no noise",
        )
        require(
            self.epsilon is None or self.minimum_count is None,
            "minimum_count and epsilon are two ways to protect the same numbers; leave one of them out",
        )
        require(0 < self.delta < 1, f"delta must be in (0, 1), got {self.delta:g}; set delta=1e-5")
        require(
            self.rows_per_patient >= 1,
            f"rows_per_patient must be >= 1, got {self.rows_per_patient}; set rows_per_patient=1",
        )
        require(
            self.unit == "patient" or self.rows_per_patient == 1,
            "rows_per_patient says nothing where unit=record; set unit=patient",
        )


@dataclass(frozen=True, kw_only=True)
class Grouped:
    """by: a feature, or `client`: each site is a group; null: all rows together.

    levels: values of the feature that make a group each; cuts: rising numbers between which groups lie. Both
      are public; without them the groups are the values that sites have, which they then have to say.
    """

    by: str | None = None
    levels: tuple[float, ...] = ()
    cuts: tuple[float, ...] = ()

    def check_groups(self) -> None:
        said = bool(self.levels) + bool(self.cuts)
        require(said < 2, "levels and cuts both make groups; leave one of them out")
        require(
            not said or (self.by is not None and self.by != "client"),
            f"levels and cuts are of a feature, and by is {self.by}; set by=FEATURE, or leave them out",
        )
        _check_rising("cuts", self.cuts)
        require(
            len(set(self.levels)) == len(self.levels),
            f"levels must differ, got {list(self.levels)}; give each once",
        )


@dataclass(frozen=True, kw_only=True)
class KaplanMeier(Grouped, Noised):
    """Survival over time.

    at: times of the table; empty: five in even steps up to the horizon.
    horizon: the end of the restricted mean and of the grid; null: the last time that every group has.
    bins: intervals of equal width up to the horizon, with epsilon; grid: their ends instead, the last one
      being the horizon.
    confidence: of the intervals, at each time by itself.
    """

    at: tuple[float, ...] = ()
    horizon: float | None = None
    bins: int = 20
    grid: tuple[float, ...] = ()
    confidence: float = 0.95

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_groups()
        _check_confidence(self.confidence)
        _check_rising("at", self.at, above=0.0)
        _check_rising("grid", self.grid, above=0.0)
        require(
            self.horizon is None or 0 < self.horizon < inf,
            f"horizon must be in (0, inf), got {self.horizon}; give a time",
        )
        require(2 <= self.bins <= 1000, f"bins must be in [2, 1000], got {self.bins}; set bins=20")
        if self.epsilon is None:
            require(not self.grid, "grid is where counts with noise are taken; set epsilon, or leave it out")
            return
        require(
            self.grid or self.horizon is not None,
            "epsilon needs public times at which counts are taken, whatever the data say; set "
            "horizon=TIME, or grid=[TIME, ...]",
        )
        require(
            not self.grid or self.horizon in (None, self.grid[-1]),
            f"grid={list(self.grid)} does not end at horizon={self.horizon}; leave horizon out",
        )
        require(
            all(t <= self.edges[-1] for t in self.at),
            f"at={list(self.at)} goes beyond the horizon {self.edges[-1]:g}; lower it, or raise that",
        )

    @property
    def edges(self) -> tuple[float, ...]:
        """Ends of the intervals in which counts with noise are taken."""
        if self.grid:
            return self.grid
        assert self.horizon is not None
        return tuple(self.horizon * (i + 1) / self.bins for i in range(self.bins))


@dataclass(frozen=True, kw_only=True)
class LogRank(Grouped, Asked):
    """Whether groups have one hazard. stratified: compared within each site, and added up."""

    stratified: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_groups()
        require(self.by is not None, "a log-rank test compares groups; set by=FEATURE, or by=client")
        require(
            not (self.stratified and self.by == "client"),
            "by=client has one group at each site, so nothing can be compared within a site; set "
            "stratified=false",
        )


@dataclass(frozen=True, kw_only=True)
class Quantiles(Noised):
    """Quantiles over all sites.

    variables: features, or `time`; empty: all that are no one-hot columns. q: which quantiles.
    range: [least, greatest] of the variables not in `ranges`, with epsilon; bins: intervals of each range.
    confidence: of the intervals, with epsilon.
    """

    variables: tuple[str, ...] = ()
    q: tuple[float, ...] = (0.25, 0.5, 0.75)
    bins: int = 64
    range: tuple[float, ...] | None = None
    ranges: dict[str, Any] = field(default_factory=dict, hash=False)
    confidence: float = 0.95

    def __post_init__(self) -> None:
        super().__post_init__()
        require(
            self.q and all(0 <= q <= 1 for q in self.q),
            f"q must be numbers in [0, 1], got {list(self.q)}; set q=[0.25,0.5,0.75]",
        )
        _check_confidence(self.confidence)
        require(2 <= self.bins <= 4096, f"bins must be in [2, 4096], got {self.bins}; set bins=64")
        given = {**self.ranges, **({} if self.range is None else {"range": self.range})}
        for name, limits in given.items():
            right = isinstance(limits, list | tuple) and len(limits) == 2
            right = right and all(isinstance(v, int | float) and isfinite(v) for v in limits)
            require(
                right and limits[0] < limits[1],
                f"the range of {name} must be two numbers, the least and the greatest, got {limits!r}; write "
                "range=[0,100]",
            )
        require(
            self.epsilon is not None or not given,
            "ranges say where counts with noise are taken; set epsilon, or leave them out",
        )


@dataclass(frozen=True, kw_only=True)
class TableOne(Asked):
    """Who is in the data, by site and all together.

    variables: features, `label` and `time`; empty: all. categorical: features of which values are counted;
      one-hot columns and those that are 0 or 1 everywhere always are.
    """

    variables: tuple[str, ...] = ()
    categorical: tuple[str, ...] = ()


def _check_rising(name: str, values: tuple[float, ...], above: float = -inf) -> None:
    least = values[0] if values else inf
    require(
        list(values) == sorted(set(values)) and least > above and all(map(isfinite, values)),
        f"{name} must be rising numbers{'' if above == -inf else f' above {above:g}'}, got {list(values)}",
    )


def _check_confidence(value: float) -> None:
    require(0 < value < 1, f"confidence must be in (0, 1), got {value}; set confidence=0.95")


MEMBERS: dict[str, type] = {
    "kaplan_meier": KaplanMeier,
    "logrank": LogRank,
    "quantiles": Quantiles,
    "table_one": TableOne,
}
