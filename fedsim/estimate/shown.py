"""An answer as tables: in the terminal, as Markdown, as CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from typing import Any, NamedTuple

HIDDEN = "<k"
Row = Sequence[object]


class Table(NamedTuple):
    title: str
    header: tuple[str, ...]
    rows: list[list[str]]


def tables(found: dict[str, Any]) -> list[Table]:
    """What people read of an answer of `estimate`."""
    return {
        "kaplan_meier": _kaplan_meier,
        "logrank": _logrank,
        "quantiles": _quantiles,
        "table_one": _table_one,
    }[found["what"]](found)


def markdown(table: Table) -> str:
    lines = [[cell.replace("|", "\\|") for cell in row] for row in (table.header, *table.rows)]
    head, *body = (f"| {' | '.join(line)} |\n" for line in lines)
    return "".join([head, "|" + "---|" * len(table.header) + "\n", *body])


def to_csv(table: Table) -> str:
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerows([table.header, *table.rows])
    return out.getvalue()


def notes(found: dict[str, Any]) -> list[str]:
    """What has to be said beside the tables."""
    said = []
    if found.get("left_out"):
        said.append(f"left out, for too few rows: {', '.join(map(_who, found['left_out']))}")
    total = sum(found["bytes"].values())
    said.append(f"{total} bytes left {len(found['bytes'])} sites, in {found['exchanges']} exchanges")
    return said


def _who(one: dict[str, str]) -> str:
    site, *what = one.values()
    return site if what in ([], [site], ["all"]) else f"{what[0]} at {site}"


def number(value: Any) -> str:
    """Four digits, and whole numbers whole."""
    if value is None:
        return "-"
    if isinstance(value, float) and not value.is_integer():
        return f"{value:.4g}" if abs(value) < 1000 else f"{value:.1f}"
    return str(int(value))


def counted(value: Any) -> str:
    """A number of rows, of which noise may have made a negative one: shown as 0, which is post-processing."""
    return number(None if value is None else max(value, 0))


def _interval(one: dict[str, Any]) -> str:
    ends = one["low"], one["high"]
    return "-" if ends == (None, None) else f"{number(ends[0])} to {number(ends[1])}"


def _kaplan_meier(found: dict[str, Any]) -> list[Table]:
    groups = found["groups"]
    horizon = number(groups[0]["restricted_mean"]["horizon"])
    header = ("group", "n", "events", "median", "interval", f"mean to {horizon}", "interval")
    rows = []
    for g in groups:
        mean = g["restricted_mean"]
        numbers = *map(counted, (g["n"], g["events"])), number(g["median"]["value"])
        rows.append([g["group"], *numbers, _interval(g["median"]), number(mean["value"]), _interval(mean)])
    times = [
        [g["group"], number(p["time"]), counted(p["at_risk"]), number(p["survival"]), _interval(p)]
        for g in groups
        for p in g["at"]
    ]
    return [
        Table("survival", header, rows),
        Table("over time", ("group", "time", "at risk", "survival", "interval"), times),
    ]


def _logrank(found: dict[str, Any]) -> list[Table]:
    rows = [[g["group"], *map(number, (g["n"], g["observed"], g["expected"]))] for g in found["groups"]]
    kind = "log-rank test, stratified by site" if found["stratified"] else "log-rank test"
    test = [[number(found["chi_square"]), number(found["df"]), f"{found['p']:.3g}"]]
    compared = Table("groups", ("group", "n", "observed", "expected"), rows)
    return [compared, Table(kind, ("chi2", "df", "p"), test)]


def _quantiles(found: dict[str, Any]) -> list[Table]:
    header = ["variable", "n"]
    for q in found["q"]:
        header += [f"q{q:g}", *(["interval"] if "privacy" in found else [])]
    rows = []
    for one in found["variables"]:
        row = [one["variable"], counted(one["n"])]
        for i, value in enumerate(one["values"]):
            row.append(number(value))
            if "privacy" in found:
                row.append(_interval({"low": one["low"][i], "high": one["high"][i]}))
        rows.append(row)
    return [Table("quantiles", tuple(header), rows)]


def _table_one(found: dict[str, Any]) -> list[Table]:
    columns, k = found["columns"], found["minimum_count"]
    rows = [["n", "", *(number(found["n"][c]) for c in columns), ""]]
    for one in found["variables"]:
        name, cells, smd = one["variable"], one["cells"], number(one["smd"])
        if "levels" in one:
            for level in one["levels"]:
                rows.append([name, level, *(_share(cells[c], level) for c in columns), smd])
                name, smd = "", ""
        else:
            rows.append([name, "mean (sd)", *(_mean(cells[c]) for c in columns), smd])
            rows.append(["", "median [q1, q3]", *(_quartiles(cells[c]["quartiles"]) for c in columns), ""])
        if any(cells[c]["missing"] != 0 for c in columns):
            few = k if "levels" not in one else None
            rows.append(["", "missing", *(_count(cells[c]["missing"], few) for c in columns), ""])
    return [Table("table one", ("variable", "", *columns, "smd"), rows)]


def _count(count: int | None, few: int | None = None) -> str:
    """Of those that miss a number `few` stands for all from 1."""
    return HIDDEN if count is None else f"<={count}" if count == few else str(count)


def _share(cell: dict[str, Any], level: str) -> str:
    count, share = cell["counts"][level], cell["shares"][level]
    return _count(count) if share is None else f"{count} ({100 * share:.1f} %)"


def _mean(cell: dict[str, Any]) -> str:
    return "-" if cell["mean"] is None else f"{number(cell['mean'])} ({number(cell['sd'])})"


def _quartiles(values: Sequence[float | None]) -> str:
    return "-" if values[1] is None else f"{number(values[1])} [{number(values[0])}, {number(values[2])}]"
