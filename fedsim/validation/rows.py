"""Rows of a site as a frozen model sees them, and the model itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fedsim.validation.logistic import Floats

if TYPE_CHECKING:
    from fedsim.run.subgroups import Groups

Scorer = Callable[[Floats], Floats]  # prepared rows [n, F] -> predictors [n, ...], see `Rows.predictor`


class Periods(NamedTuple):
    """Rows in the intervals of a discrete-time model, up to the horizon.

    logits: [n, m], of the frozen model's hazards. survived, failed: bool[n, m], intervals that a row has
    lived through, and the one in which it had its event, by the rule of the task's loss.
    """

    logits: Floats
    survived: NDArray[np.bool_]
    failed: NDArray[np.bool_]

    def of(self, mine: NDArray[np.int64]) -> Periods:
        """Some of the rows."""
        return Periods(self.logits[mine], self.survived[mine], self.failed[mine])


@dataclass(frozen=True)
class Rows:
    """n patients, or rows of them, at one place.

    raw: [n, F] as recorded, NaN where missing; x: [n, F] as they enter the model; y: [n], 0 or 1; lp: [n],
    the frozen model's logits; patient: [n], whose each row is, or None where each is a patient of its own.
    time: [n], of the event (y is 1) or of censoring, and lp is a log relative risk; None: y has two classes.
    periods: of a discrete-time model, and lp is the logarithm of the cumulative hazard at the horizon.
    """

    name: str
    raw: Floats
    x: Floats
    y: Floats
    lp: Floats
    patient: NDArray[Any] | None = None
    time: Floats | None = None
    periods: Periods | None = None

    @property
    def predictor(self) -> Floats:
        """What updates change, as `Frozen.score` gives it: lp [n], or logits of hazards [n, m]."""
        return self.lp if self.periods is None else self.periods.logits

    @property
    def least(self) -> int:
        """Events, or those without, whichever are fewer."""
        events = int(self.y.sum())
        return min(events, self.y.size - events)

    def until(self, horizon: float) -> Rows:
        """The same, whose follow-up ends at the horizon. Events at the horizon itself are events by then, but
        not in intervals, which end before their last moment."""
        assert self.time is not None
        early = self.time <= horizon if self.periods is None else self.periods.failed.any(axis=1)
        return replace(self, y=self.y * early, time=np.minimum(self.time, horizon))

    def of(self, mine: NDArray[np.int64]) -> Rows:
        """Some of the rows."""
        patient, time = (None if x is None else x[mine] for x in (self.patient, self.time))
        periods = None if self.periods is None else self.periods.of(mine)
        some = (self.raw[mine], self.x[mine], self.y[mine], self.lp[mine])
        return Rows(self.name, *some, patient, time, periods)


Refine = Callable[[Rows, float], Scorer]


@dataclass(frozen=True)
class Region:
    """A client that trained. test: None where the run held none of its rows back."""

    train: Rows
    test: Rows | None


@dataclass(frozen=True)
class Frozen:
    """A stored model that is not changed any more, where it came from, and the site outside.

    coefficients: of a linear model on the scale of the input, [F], else None; scale: [F], from input to `x`.
    score: x [n, F] -> predictors: logits [n], log relative risks [n], or logits of hazards [n, m].
    ends: [m + 1], of a discrete-time model's intervals, from 0 to the plan's horizon; None of others.
    outcome: the label's name. unknown: column -> rows at the site with a category that no region has.
    groups: column -> the subgroups of the site's rows by it.
    represent: x [n, F] -> what a network's head reads, [n, D]; None where there is none.
    refine: (rows, ridge) -> the scorer after all parameters were fitted to these rows; None if linear.
    refine_head: the same of the last layer alone; None where `represent` serves, or there is one layer.
    """

    run: str
    model_sha256: str
    features: tuple[str, ...]
    outcome: str
    site: Rows
    regions: tuple[Region, ...]
    scale: Floats
    coefficients: Floats | None
    score: Scorer
    unknown: Mapping[str, int] = field(default_factory=dict)
    groups: Mapping[str, Groups] = field(default_factory=dict)
    represent: Scorer | None = None
    refine: Refine | None = None
    refine_head: Refine | None = None
    ends: Floats | None = None


def folds_of(rows: Rows, folds: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """int64[n]: a fold for each row, the same for all of a patient's, spread over outcomes."""
    if rows.patient is None:
        first, of = np.arange(rows.y.size), np.arange(rows.y.size)
    else:
        _, first, of = np.unique(rows.patient, return_index=True, return_inverse=True)
    order = rng.permutation(first.size)
    order = order[np.argsort(rows.y[first[order]], kind="stable")]
    fold = np.empty(first.size, np.int64)
    fold[order] = np.arange(first.size, dtype=np.int64) % folds
    return fold[of]
