"""Whether values in a tables.yaml can be had at all: a misspelt one would look like runs still to come."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any

from fedsim.base import nearest, require
from fedsim.report.labels import among, options
from fedsim.report.spec import FigureSpec, ReportSpec, TableSpec

Axes = Mapping[str, Collection[str | int | float]]


def require_known(spec: ReportSpec, axes: Axes) -> None:
    """Look for the values of choices of the sweep among those that it declares.

    Args:
      axes: {choice: every label of the whole sweep}, those that a command leaves out, too: a table of such a
        value is right, and lacks its runs.

    Raises:
      RequestError: a value under `where`, of `reference` or of `baseline` is in no cell of the sweep.
    """
    for kind, items in (("table", spec.tables), ("figure", spec.figures)):
        for item in items:
            for place, axis, value in _asked(item):
                labels = axes.get(axis, ())
                require(
                    axis not in axes or any(among(label, value) for label in labels),
                    f"{kind} {item.name}: {place}: the sweep has no {axis}={value}; "
                    f"{nearest(str(value), [*map(str, labels)])}",
                )


def _asked(item: TableSpec | FigureSpec) -> Iterator[tuple[str, str, Any]]:
    """(the place in tables.yaml, a dimension, a value of it)"""
    for axis, wanted in item.where.items():
        for value in options(wanted):
            yield "where", axis, value
    if isinstance(item, TableSpec):
        for axis, value in item.reference.items():
            yield "reference", axis, value
    elif item.kind in ("gain", "size"):
        yield "baseline", item.by, item.baseline
