"""What is asked of a region's records, written down in YAML: index event, features, outcomes.

Every number is of days counted from the index date, 0, so what lies before it is negative: the window
[-365, -1] is the year that ends the day before. Nothing dated after the index date can be reached by a
feature; whether its own day is seen is the window's choice.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from math import inf
from pathlib import Path
from typing import Any, Literal

import yaml

from fedsim.base import RequestError, build, nearest, require
from fedsim.omop.vocabulary import unit_key

BUILT_IN = "heart_failure"
FIRST, DISCHARGE = "first_diagnosis", "discharge"
Event = Literal["first_diagnosis", "discharge"]

# Table of a feature -> what may be taken of it.
TAKES: dict[str, tuple[str, ...]] = {
    "person": ("age", "male"),
    "index": ("year", "inpatient", "length_of_stay"),
    "visit": ("any", "count", "days_since"),
    "condition": ("any", "count", "days_since", "days_since_first"),
    "drug": ("any", "count", "days_since", "days_since_first"),
    "device": ("any", "count", "days_since", "days_since_first"),
    "measurement": (
        *("last", "first", "mean", "minimum", "maximum", "count", "any", "missing", "below", "days_since"),
    ),
    "observation": ("last", "is", "any"),
    "cost": ("total",),
}
CODED = ("visit", "condition", "drug", "device", "observation")


@dataclass(frozen=True, kw_only=True)
class Index:
    """Whom a region's rows are about.

    codes, concepts: of conditions, by the beginning of their source value or by standard concept.
    within_visit: only conditions recorded during a visit count.
    """

    codes: tuple[str, ...] = ()
    concepts: tuple[int, ...] = ()
    within_visit: bool = True

    def __post_init__(self) -> None:
        require(self.codes or self.concepts, "index needs codes or concepts of conditions, such as [I50]")


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """unit: the one that features have. conversions: other unit -> what a value in it is multiplied by."""

    unit: str
    codes: tuple[str, ...] = ()
    concepts: tuple[int, ...] = ()
    conversions: dict[str, Any] = field(default_factory=dict, hash=False)

    def factors(self) -> dict[str, float]:
        """Unit, as `vocabulary.unit_key` writes it -> factor."""
        found = {unit_key(self.unit): 1.0}
        for unit, factor in self.conversions.items():
            good = isinstance(factor, int | float) and 0 < factor < inf
            require(good, f"conversions.{unit} must be a number in (0, inf), got {factor!r}")
            found[unit_key(unit)] = float(factor)
        return found


@dataclass(frozen=True, kw_only=True)
class Feature:
    """One column.

    table, take: of what, and what of it (`TAKES`). any: 1 or 0; missing: 1 where nothing is in the window;
      below: 1 where the last value is below its detection limit; last, mean, ...: null where nothing is;
      days_since: the last one, in days; is: whether the last observation is `value`.
    codes, concepts: which rows; conditions and drugs by the beginning of their code, others by all of it.
    measurement: which of `measurements`.
    window: first and last day, counted from the index date; null: as far back as records go.
    from_start: days count from the first day of the index visit, which an index at discharge ends.
    log: natural logarithm of the value; of values that are not positive there is none.
    index: with which index event there is this feature.
    """

    table: Literal[
        "person", "index", "visit", "condition", "drug", "device", "measurement", "observation", "cost"
    ]
    take: str
    codes: tuple[str, ...] = ()
    concepts: tuple[int, ...] = ()
    measurement: str | None = None
    value: str | None = None
    window: tuple[int | None, ...] = (None, 0)
    from_start: bool = False
    log: bool = False
    index: Literal["any", "first_diagnosis", "discharge"] = "any"

    def __post_init__(self) -> None:
        allowed = TAKES[self.table]
        require(
            self.take in allowed,
            f"take of table {self.table}: no {self.take!r}; {nearest(self.take, allowed)}",
        )
        selected = bool(self.codes or self.concepts)
        require(
            selected == (self.table in CODED),
            f"table {self.table} {'needs' if self.table in CODED else 'takes no'} codes or concepts",
        )
        require(
            (self.measurement is not None) == (self.table == "measurement"),
            f"table {self.table} {'needs the name of a' if self.table == 'measurement' else 'has no'} "
            "measurement",
        )
        require(
            (self.value is not None) == (self.take == "is"), "value belongs to take: is, and is needed there"
        )
        window = self.window
        require(
            len(window) == 2
            and window[1] is not None
            and window[1] <= 0
            and (window[0] is None or window[0] <= window[1]),
            f"window must be [first, last] with first <= last <= 0, the index date (null for a first without "
            f"bound), got {list(window)}; a day after the index date is no feature's",
        )
        require(
            self.take != "length_of_stay" or self.index == DISCHARGE,
            "length_of_stay is known at discharge only; add index: discharge",
        )


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What is to be predicted.

    event: death; admission (the first unplanned one that begins after the index date); days of the index
      stay; or cost of visits that begin within the horizon.
    horizon: days after the index date; of whom nothing is known for so long is left out, and counted. null:
      the time to the event, censored at the end of observation.
    competing: what a death before an admission is: no_event (the time ends there), event, or exclude.
    """

    event: Literal["death", "admission", "stay", "cost"]
    index: Event = "first_diagnosis"
    horizon: int | None = None
    competing: Literal["no_event", "event", "exclude"] = "no_event"

    def __post_init__(self) -> None:
        require(self.horizon is None or self.horizon >= 1, f"horizon must be >= 1 day, got {self.horizon}")
        require(
            self.horizon is not None or self.event in ("death", "admission", "stay"),
            "the cost of an outcome needs a horizon, in days",
        )
        require(
            self.event != "stay" or (self.horizon is None and self.index == FIRST),
            "the stay as an outcome has no horizon, and is known at discharge: its index is first_diagnosis",
        )
        require(
            self.competing == "no_event" or self.event == "admission",
            f"competing: {self.competing} is about admissions; leave it out for {self.event}",
        )

    @property
    def kind(self) -> Literal["binary", "survival", "regression"]:
        if self.event in ("stay", "cost"):
            return "regression"
        return "survival" if self.horizon is None else "binary"


@dataclass(frozen=True, kw_only=True)
class Definition:
    """All of it. measurements, features and outcomes are by name; `parsed` makes what is in them."""

    index: Index
    features: dict[str, Any]
    outcomes: dict[str, Any]
    measurements: dict[str, Any] = field(default_factory=dict)

    def feature(self, event: str, drop: tuple[str, ...] = ()) -> dict[str, Feature]:
        """The features that there are with an index event, but those dropped."""
        for name in drop:
            require(name in self.features, f"data.drop: no feature {name!r}; {nearest(name, self.features)}")
        found = {
            name: one
            for name, one in self.features.items()
            if one.index in ("any", event) and name not in drop
        }
        require(found, "no feature is left; see data.features and data.drop")
        return found

    def outcome(self, name: str) -> Outcome:
        require(name in self.outcomes, f"data.outcome: no outcome {name!r}; {nearest(name, self.outcomes)}")
        found: Outcome = self.outcomes[name]
        return found


def parsed(values: Any) -> Definition:
    """A definition from plain data. RequestError for what it must not hold, naming its place."""
    found = build(Definition, values)
    for name, kind in (("measurements", Measurement), ("features", Feature), ("outcomes", Outcome)):
        made = getattr(found, name)
        for key, value in made.items():
            try:
                made[key] = build(kind, value)
                if isinstance(made[key], Measurement):
                    made[key].factors()
            except RequestError as error:
                raise RequestError(f"{name}.{key}: {error}") from None
    for key, feature in found.features.items():
        known = found.measurements
        require(
            feature.measurement is None or feature.measurement in known,
            f"features.{key}: no measurement {feature.measurement!r}; "
            f"{nearest(str(feature.measurement), known)}",
        )
    require(found.features, "features: there is none")
    require(found.outcomes, "outcomes: there is none")
    return found


def load(name: str) -> Definition:
    """The built-in definition, or that of a YAML file.

    Raises:
      RequestError: no such file, no YAML, or no definition; the message names file and place.
    """
    path = Path(__file__).with_name(f"{BUILT_IN}.yaml") if name == BUILT_IN else Path(name)
    require(
        path.is_file(),
        f"data.features: no file {name!r}; name a YAML file, or {BUILT_IN} for the built-in definition",
    )
    try:
        return parsed(yaml.safe_load(path.read_text(encoding="utf-8")))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        said = " ".join(str(error).split())
        raise RequestError(f"data.features: {path.name} is no YAML: {said}") from None
    except RequestError as error:
        raise RequestError(f"data.features: {path.name}: {error}") from None
