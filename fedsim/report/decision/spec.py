"""What `decision.yaml` declares: a choice between two ways to train, and what its worth depends on.

    question: {en: "Should the regions train together?", sv: "Ska regionerna träna tillsammans?"}
    data: {en: what was tested on, sv: vad som prövades}
    found: {en: patients who ..., sv: patienter som ...}
    capacity: 0.1
    years: 3
    where: {split: natural}
    baseline: {name: local, label: {en: alone, sv: var för sig}, where: {algorithm: local}}
    choice: {name: federated, label: {en: together, sv: tillsammans}, where: {algorithm: fedavg}}
    regions:
      - site: Halland
        patients: {low: 1000, base: 1250, high: 1500, unit: patients/year, source: ...}
    assumptions:
      reach: {low: 0.3, base: 0.6, high: 0.8, unit: share, source: ..., assumed: true}

A key of `where` is a choice of the sweep or the dotted path of an option, as in tables.yaml.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

import yaml

from fedsim.base import RequestError, build, require

MOST = 1e15  # of any amount: beyond, float64 does not count whole crowns


@dataclass(frozen=True, kw_only=True)
class Text:
    """The same in the languages of the page."""

    en: str
    sv: str


@dataclass(frozen=True, kw_only=True)
class Range:
    """What is assumed of a number that no run shows.

    low, base, high: the range that is taken for likely, and the value taken first.
    unit: as the model counts it, checked.
    source: where the numbers are from, in words; assumed: whether someone's judgement is part of them.
    shape: of the distribution drawn from: triangular over (low, base, high), or uniform over (low, high).
    """

    low: float
    base: float
    high: float
    unit: str
    source: str
    assumed: bool = False
    shape: Literal["triangular", "uniform"] = "triangular"


def unit(name: str, least: float = 0.0, most: float = MOST) -> Any:
    """A field for a range in `unit` whose values lie in [least, most]."""
    return field(metadata={"unit": name, "least": least, "most": most})


@dataclass(frozen=True, kw_only=True)
class Assumptions:
    """What the worth of a better model depends on; units are those of `model.worth`.

    reach: share of flagged patients whom the care that follows reaches.
    effect: share of `bed_days` that this care avoids, in those whom the model was right to flag.
    bed_days: days in hospital of such a patient without it.
    bed_day_cost: what one of these days costs.
    setup_hours, running_hours: staff of one region to set up joint training, once, and to keep it up.
    hour_cost: of that staff.
    retrainings: how often a year the model is trained anew.
    compute_cost, traffic_cost: of an hour of the machines that train, and of 10^9 bytes sent.
    """

    reach: Range = unit("share", most=1.0)
    effect: Range = unit("share", most=1.0)
    bed_days: Range = unit("days/patient")
    bed_day_cost: Range = unit("SEK/day")
    setup_hours: Range = unit("hours/region")
    running_hours: Range = unit("hours/region/year")
    hour_cost: Range = unit("SEK/hour")
    retrainings: Range = unit("times/year")
    compute_cost: Range = unit("SEK/hour")
    traffic_cost: Range = unit("SEK/GB")

    def __post_init__(self) -> None:
        for f in fields(self):
            _check(f"assumptions.{f.name}", getattr(self, f.name), **f.metadata)


NAMES = tuple(f.name for f in fields(Assumptions))
BOUNDS = {f.name: (float(f.metadata["least"]), float(f.metadata["most"])) for f in fields(Assumptions)}


def _check(path: str, told: Range, unit: str, least: float, most: float) -> None:
    require(told.unit == unit, f"{path}.unit must be {unit}, got {told.unit}; give the numbers in {unit}")
    numbers = (told.low, told.base, told.high)
    shown = ", ".join(f"{x:g}" for x in numbers)
    require(
        all(least <= x <= most for x in numbers),
        f"{path} must lie in {least:g} to {most:g} {unit}, got {shown}; correct low, base and high",
    )
    require(
        told.low <= told.base <= told.high,
        f"{path} must have low <= base <= high, got {shown}; put them in order",
    )


@dataclass(frozen=True, kw_only=True)
class Region:
    """site: its name in the runs; patients: whom it would score in a year; label: its name on the page."""

    site: str
    patients: Range
    label: Text | None = None

    def __post_init__(self) -> None:
        _check(f"regions: patients of {self.site}", self.patients, "patients/year", 0.0, MOST)


@dataclass(frozen=True, kw_only=True)
class Arm:
    """A way to train, and which runs did. name: short, for JSON and links."""

    name: str
    label: Text
    where: dict[str, Any]

    def __post_init__(self) -> None:
        plain = self.name.replace("_", "").replace("-", "").isalnum() and self.name.isascii()
        require(plain, f"the name {self.name!r} of an arm must be letters, digits, - and _; rename it")


@dataclass(frozen=True, kw_only=True)
class Decision:
    """A question, and all that its answer depends on.

    data: what the runs were trained and tested on.
    found: whom the model is to find, as a noun phrase: "patients who die within a year".
    capacity: share of patients that can be flagged, in (0, 1).
    years: over which set-up is spread.
    worthwhile: bed days a year below which a region would not call it a gain.
    where: what all arms have in common.
    baseline, choice: what is held against what; others: shown beside them, such as one pooled table, a
      region left out, or with a privacy mechanism.
    not_tested: what the reader must know was left open, beside what follows from the runs.
    draws: of the simulation over all that is uncertain.
    """

    question: Text
    data: Text
    found: Text
    capacity: float
    years: int
    worthwhile: float = 0.0
    where: dict[str, Any] = field(default_factory=dict)
    baseline: Arm
    choice: Arm
    others: tuple[Arm, ...] = ()
    regions: tuple[Region, ...]
    assumptions: Assumptions
    not_tested: tuple[Text, ...] = ()
    draws: int = 10_000

    def __post_init__(self) -> None:
        require(0 < self.capacity < 1, f"capacity must lie in (0, 1), got {self.capacity:g}; 0.1 is 10 %")
        require(1 <= self.years <= 100, f"years must lie in 1 to 100, got {self.years}")
        require(0 <= self.worthwhile < MOST, f"worthwhile must be >= 0 bed days, got {self.worthwhile:g}")
        require(1_000 <= self.draws <= 1_000_000, f"draws must lie in 1,000 to 1,000,000, got {self.draws:,}")
        require(self.regions, "regions must name at least one region")
        _once("regions", [region.site for region in self.regions])
        _once("arms", [arm.name for arm in self.arms])

    @property
    def arms(self) -> tuple[Arm, ...]:
        return (self.baseline, self.choice, *self.others)


def _once(what: str, names: Sequence[str]) -> None:
    for name in names:
        require(names.count(name) == 1, f"{what}: the name {name!r} is used twice; rename or remove one")


def load(path: Path) -> Decision:
    """Read a decision.yaml.

    Raises:
      RequestError: no such file, no YAML, an unknown or missing key, or a value out of range.
    """
    require(path.is_file(), f"{path} does not exist; declare the decision there")
    try:
        values = yaml.load(path.read_text(encoding="utf-8"), yaml.CSafeLoader)
    except yaml.YAMLError as error:
        where = getattr(error, "problem_mark", None)
        line = f", line {where.line + 1}" if where else ""
        problem = getattr(error, "problem", error)
        raise RequestError(f"{path}{line}: not YAML: {problem}; correct it there") from None
    try:
        return build(Decision, values or {})
    except RequestError as error:
        raise RequestError(f"{path.name}: {error}") from None
