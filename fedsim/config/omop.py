"""Regions whose records lie as tables of the OMOP common data model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from fedsim.base import require
from fedsim.config.data import DataConfig


@dataclass(frozen=True, kw_only=True)
class Omop(DataConfig):
    """Features with an index date, and an outcome after it, from OMOP CDM 5.4 tables.

    path: a folder with a folder of Parquet files, or a .duckdb file, per region.
    features: a YAML file that defines index event, features and outcomes, or the built-in heart_failure.
    outcome: one of its outcomes. index: another index event than that outcome's; null: that one.
    drop: features left out. external: regions kept out of training.
    harmonise: false: measurements stay in the units they have.
    unknown_units: values in a unit without conversion are refused, or missing.
    below: what a value below its detection limit counts as: the limit, or half of it.
    same_day: whether features see what is dated on the index day.
    history: days that a patient must have been observed before the index date.
    """

    path: str
    features: str = "heart_failure"
    outcome: str = "death_1y"
    index: Literal["first_diagnosis", "discharge"] | None = None
    drop: tuple[str, ...] = ()
    external: tuple[str, ...] | str = ()
    harmonise: bool = True
    unknown_units: Literal["refuse", "missing"] = "refuse"
    below: Literal["limit", "half"] = "limit"
    same_day: Literal["include", "exclude"] = "include"
    history: int = 0

    def __post_init__(self) -> None:
        require(self.history >= 0, f"data.history must be >= 0 days, got {self.history}")


MEMBERS: dict[str, type] = {"omop": Omop}
