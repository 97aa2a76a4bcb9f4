"""One region's raw records, as flat arrays: what its patient systems hold, before any feature is made."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import NamedTuple

import numpy as np

from fedsim.base import nearest, require
from fedsim.cohort import codes

EPOCH = np.datetime64("2000-01-01", "D")  # day 0 of every column of days


class Column(NamedTuple):
    """What a column holds. codes: the vocabulary its values are positions in; -1, where allowed: unknown."""

    dtype: type[np.generic]
    says: str
    codes: tuple[str, ...] = ()
    unknown: bool = False


_PERSON = Column(np.int32, "person.id")
_VISIT = Column(np.int32, "visit.id during which it was recorded; -1: outside any", (), True)


def _day(says: str) -> Column:
    return Column(np.int32, f"{says}, days since 2000-01-01")


SCHEMA: dict[str, dict[str, Column]] = {
    "person": {
        "id": Column(np.int32, "0, 1, ..., the patient's index in the region"),
        "male": Column(np.bool_, "sex"),
        "birth_day": _day("birth"),
        "deprivation": Column(np.int8, "quintile of the place where they live, 1 (least) to 5 (most)"),
        "living_alone": Column(np.bool_, "one-person household"),
        "education": Column(np.int8, "highest level", codes.EDUCATION, True),
        "smoking": Column(np.int8, "status at the index visit", codes.SMOKING, True),
    },
    "observation_period": {
        "person": _PERSON,
        "start": _day("first day on which the region would have known"),
        "end": _day("last one: death, move away or end of the data"),
    },
    "visit": {
        "id": Column(np.int32, "0, 1, ..., rising with person, then start"),
        "person": _PERSON,
        "kind": Column(np.int8, "where", codes.VISIT),
        "start": _day("arrival"),
        "end": _day("discharge; the same day outside wards"),
        "planned": Column(np.bool_, "elective"),
        "diagnosis": Column(np.int16, "main diagnosis", codes.ICD),
        "cost": Column(np.float32, "SEK"),
    },
    "condition": {
        "person": _PERSON,
        "visit": _VISIT,
        "code": Column(np.int16, "diagnosis", codes.ICD),
        "day": _day("recorded"),
    },
    "drug": {
        "person": _PERSON,
        "code": Column(np.int16, "substance", codes.ATC),
        "start": _day("first dispensing"),
        "end": _day("last day covered"),
    },
    "device": {
        "person": _PERSON,
        "visit": _VISIT,
        "code": Column(np.int16, "implant", codes.DEVICE),
        "day": _day("recorded"),
    },
    "measurement": {
        "person": _PERSON,
        "visit": _VISIT,
        "code": Column(np.int16, "what was measured", codes.MEASUREMENT),
        "day": _day("taken"),
        "value": Column(np.float32, "in `unit`; the limit where `operator` is not ="),
        "unit": Column(np.int16, "unit", codes.UNIT),
        "operator": Column(np.int8, "beyond a detection limit or not", codes.OPERATOR),
    },
    "death": {
        "person": _PERSON,
        "day": _day("death, if the region heard of it"),
        "cardiovascular": Column(np.bool_, "underlying cause"),
    },
}


@dataclass(frozen=True, kw_only=True, eq=False)
class Records:
    """Tables of one region, each a dict of columns of equal length, as `SCHEMA` has them.

    Rows of all tables lie in order of their persons. A patient's index is the first visit during which a
    condition of heart failure was recorded.

    Raises:
      RequestError: a column is absent, unknown, of another type or length, or refers to nothing.
    """

    region: str
    person: dict[str, np.ndarray]
    observation_period: dict[str, np.ndarray]
    visit: dict[str, np.ndarray]
    condition: dict[str, np.ndarray]
    drug: dict[str, np.ndarray]
    device: dict[str, np.ndarray]
    measurement: dict[str, np.ndarray]
    death: dict[str, np.ndarray]

    def __post_init__(self) -> None:
        for name, columns in self.tables().items():
            self._check(name, columns)

    def tables(self) -> dict[str, dict[str, np.ndarray]]:
        """Table -> its columns."""
        return {f.name: getattr(self, f.name) for f in fields(self) if f.name != "region"}

    def _check(self, table: str, columns: dict[str, np.ndarray]) -> None:
        wanted, where = SCHEMA[table], f"records of {self.region}: {table}"
        for name in columns:
            require(name in wanted, f"{where} has an unknown column {name!r}; {nearest(name, wanted)}")
        rows = len(next(iter(columns.values()))) if columns else 0
        for name, column in wanted.items():
            require(name in columns, f"{where} lacks its column {name}")
            values = columns[name]
            require(
                values.dtype == column.dtype and values.shape == (rows,),
                f"{where}.{name} must be {column.dtype.__name__}[{rows}], got {values.dtype}{values.shape}",
            )
            if not rows or values.dtype.kind not in "iu":
                continue
            least = -1 if column.unknown else 0
            limit = len(column.codes)
            if name in ("person", "visit"):
                limit = len(getattr(self, name)["id"])
                require(
                    name != "person" or bool((np.diff(values) >= 0).all()),
                    f"{where} must lie in order of persons",
                )
            if limit or name in ("person", "visit"):
                low, high = int(values.min()), int(values.max())
                require(
                    least <= low and high < limit,
                    f"{where}.{name} must be in [{least}, {limit}), got {low} to {high}",
                )
        if rows and {"start", "end"} <= columns.keys():
            late = int((columns["end"] < columns["start"]).sum())
            require(not late, f"{where} has {late} rows that end before they start")


def decoded(table: str, column: str, values: np.ndarray) -> np.ndarray:
    """Text of a column of codes; "" where unknown. RequestError for a column without codes."""
    known = SCHEMA[table][column].codes
    require(known, f"{table}.{column} holds no codes")
    return np.array([*known, ""])[values]


def date(days: np.ndarray) -> np.ndarray:
    """datetime64[D] of days since 2000-01-01."""
    return EPOCH + days.astype("timedelta64[D]")
