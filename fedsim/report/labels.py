"""Labels of many runs, by dimension: each is looked up once, however many tables and figures ask for it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fedsim.report.spec import INSIDE

if TYPE_CHECKING:
    from fedsim.report.rows import Key, Run, Value


class Labels:
    """What runs are called, a column for each dimension that was asked for.

    Every method raises RequestError where a run that it looks at has neither such a label nor such an option.
    """

    def __init__(self, runs: Sequence[Run]) -> None:
        self._runs = runs
        self._codes: dict[str, NDArray[np.int64]] = {}
        self._values: dict[str, list[Value]] = {}
        self._place: dict[tuple[str, type, Value], int] = {}

    def codes(self, dimension: str, at: NDArray[np.int64]) -> tuple[NDArray[np.int64], list[Value]]:
        """(i64[n], a code for the label of each run at these positions; the label of each code)."""
        codes = self._codes.setdefault(dimension, np.full(len(self._runs), -1, np.int64))
        values = self._values.setdefault(dimension, [])
        for i in at[codes[at] < 0].tolist():
            value = self._runs[i].label(dimension)
            place = self._place.setdefault((dimension, type(value), value), len(values))
            if place == len(values):
                values.append(value)
            codes[i] = place
        return codes[at], values

    def of(self, dimension: str, at: NDArray[np.int64]) -> list[Value]:
        """The label of each run at these positions."""
        codes, values = self.codes(dimension, at)
        return [values[code] for code in codes.tolist()]

    def keys(self, dimensions: Sequence[str], at: NDArray[np.int64]) -> list[Key]:
        """The labels of each run at these positions, in the order of the dimensions."""
        return list(zip(*(self.of(d, at) for d in dimensions), strict=True)) if dimensions else [()] * at.size

    def chosen(self, where: Mapping[str, Any], at: NDArray[np.int64] | None = None) -> NDArray[np.int64]:
        """Positions of the runs (of all, or of those at `at`) whose labels `where` keeps."""
        at = np.arange(len(self._runs), dtype=np.int64) if at is None else at
        for dimension, wanted in where.items():
            if dimension not in INSIDE:
                codes, values = self.codes(dimension, at)
                at = at[np.asarray([among(value, wanted) for value in values], np.bool_)[codes]]
        return at


def options(wanted: Any) -> list[Any]:
    return list(wanted) if isinstance(wanted, list | tuple) else [wanted]


def among(value: Value, wanted: Any) -> bool:
    return any(value == w or str(value) == str(w) for w in options(wanted))
