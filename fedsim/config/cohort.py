"""Made-up patients with heart failure: how many, of which regions, and how far these differ."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Literal

from fedsim.base import require
from fedsim.config.data import DataConfig

FIRST_YEAR, LAST_YEAR = 2005, 2024
MOST_PATIENTS = 2_000_000_000


@dataclass(frozen=True, kw_only=True)
class Dials:
    """How far regions differ, way by way: 0 identical, 1 as real ones, up to 3 exaggerated.

    size: number of patients. age: their age. mortality: at equal risk factors. phenotyping: who has an
      echocardiography. coding: how readily diagnoses are coded. units: share of measurements in a region's
      own units. referral: how sick those are who are sent there. selection: how many of the frail and old
      are missed. drift: how fast practice changes over the years; 0: never.
    """

    size: float = 1.0
    age: float = 1.0
    mortality: float = 1.0
    phenotyping: float = 1.0
    coding: float = 1.0
    units: float = 1.0
    referral: float = 1.0
    selection: float = 1.0
    drift: float = 1.0

    def __post_init__(self) -> None:
        for f in fields(self):
            value = getattr(self, f.name)
            require(
                0 <= value <= 3,
                f"data.dials.{f.name} must be in [0, 3] (0: regions are identical, 1: as real), got {value}",
            )


@dataclass(frozen=True, kw_only=True)
class HeartFailure(DataConfig):
    """The cohort simulator.

    regions: three (Halland, Kronoberg, Örebro), sweden (21), a number of hospitals, or names of regions.
    patients: of all these together; null: as many as Halland has per inhabitant in seven years.
    external: regions kept out of training, beside those in `regions`, in proportion to their people.
    selection: population: everyone, at the first diagnosis; registry: who is enrolled in the national
      registry, most of them later.
    outcome: what is to be predicted: death within a year, the time to it, unplanned readmission within 30
      or 100 days of the first discharge, days of that stay, or SEK of the first year.
    first_year, last_year: of the index dates; the data end two years later.
    harmonise: false: measurements stay in the units that each region uses.
    """

    regions: tuple[str, ...] | int | str = "three"
    patients: int | None = None
    external: tuple[str, ...] | str = "karolinska"
    selection: Literal["population", "registry"] = "population"
    outcome: Literal[
        "death_1y", "survival", "readmission_30", "readmission_100", "length_of_stay", "cost"
    ] = "death_1y"
    first_year: int = 2013
    last_year: int = 2022
    harmonise: bool = True
    seed: int = 0
    dials: Dials = field(default_factory=Dials)

    def __post_init__(self) -> None:
        require(
            self.patients is None or 1 <= self.patients <= MOST_PATIENTS,
            f"data.patients must be in [1, {MOST_PATIENTS}], or null for as many as the regions have, got "
            f"{self.patients}",
        )
        require(
            FIRST_YEAR <= self.first_year <= self.last_year <= LAST_YEAR,
            f"data.first_year and data.last_year must rise within [{FIRST_YEAR}, {LAST_YEAR}], got "
            f"{self.first_year} and {self.last_year}",
        )


MEMBERS: dict[str, type] = {"heart_failure": HeartFailure}
