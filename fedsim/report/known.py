"""Whether values in a tables.yaml or decision.yaml can be had at all: a misspelt one looks like no runs."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any, get_args

from fedsim.base import nearest, require
from fedsim.report.decision.spec import Decision
from fedsim.report.labels import among, options
from fedsim.report.spec import NAMED, FigureSpec, Level, ReportSpec, TableSpec

Axes = Mapping[str, Collection[str | int | float]]
# Of every run, where they are no choice of the sweep.
ALWAYS: Axes = {
    "set": ("valid", "test", "external", "late"),
    "aggregate": [level for level in get_args(Level) if level not in NAMED],
}


def require_known(spec: ReportSpec, axes: Axes) -> None:
    """Look for the values of choices of the sweep among those that it declares, and for sets and aggregates
    among those that there are.

    Args:
      axes: {choice: every label of the whole sweep}, those that a command leaves out, too: a table of such a
        value is right, and lacks its runs.

    Raises:
      RequestError: a value under `where`, of `reference` or of `baseline` is in no cell of the sweep.
    """
    for kind, items in (("table", spec.tables), ("figure", spec.figures)):
        for item in items:
            for place, axis, value in _asked(item):
                _require(f"{kind} {item.name}: {place}", axis, value, axes)


def require_arms(decision: Decision, axes: Axes) -> None:
    """The same for the runs that a decision is made of."""
    for axis, value in _wanted(decision.where):
        _require("where", axis, value, axes)
    for arm in decision.arms:
        for axis, value in _wanted(arm.where):
            _require(f"{arm.name}: where", axis, value, axes)


def _require(place: str, axis: str, value: Any, axes: Axes) -> None:
    known = axes.get(axis, ALWAYS.get(axis))
    who = "the sweep has" if axis in axes else "there is"
    require(
        known is None or any(among(label, value) for label in known),
        f"{place}: {who} no {axis}={value}; {nearest(str(value), [*map(str, known or ())])}",
    )


def _asked(item: TableSpec | FigureSpec) -> Iterator[tuple[str, str, Any]]:
    """(the place in tables.yaml, a dimension, a value of it)"""
    for axis, value in _wanted(item.where):
        yield "where", axis, value
    if isinstance(item, TableSpec):
        for axis, value in item.reference.items():
            yield "reference", axis, value
    elif item.kind in ("gain", "size"):
        yield "baseline", item.by, item.baseline


def _wanted(where: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for axis, wanted in where.items():
        for value in options(wanted):
            yield axis, value
