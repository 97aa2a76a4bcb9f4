"""Committed tables against what the rows give: which numbers moved, and by more than they may."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from fedsim.report.intervals import end_band
from fedsim.report.table import Table

COUNTS = ("seeds", "undefined", "diverged", "missing", "pairs")


@dataclass(frozen=True)
class Drift:
    """A committed number that the rows no longer give. band: how far it may move; None: not at all."""

    table: str
    cell: str
    quantity: str
    old: str
    new: str
    band: float | None

    def __str__(self) -> str:
        allowed = f"band {self.band:.3g}" if self.band else "exact"
        return f"{self.table}: {self.cell}: {self.quantity} was {self.old}, is {self.new} ({allowed})"


def compare(made: Sequence[Table], committed: Path) -> list[Drift]:
    """What differs between tables and the CSV files in `committed`, tables that one side lacks included."""
    drifts: list[Drift] = []
    for table in made:
        path = committed / f"{table.name}.csv"
        if path.is_file():
            drifts += _cells_of(table, path.read_text(encoding="utf-8"))
        else:
            drifts.append(Drift(table.name, "table", "file", "absent", "present", None))
    names = {table.name for table in made}
    for path in sorted(committed.glob("*.csv")):
        if path.stem not in names:
            drifts.append(Drift(path.stem, "table", "file", "present", "absent", None))
    return drifts


def _cells_of(table: Table, text: str) -> Iterator[Drift]:
    new, old = _read(table, table.csv()), _read(table, text)
    for key in dict.fromkeys([*new, *old]):
        place = ", ".join(key)
        if key not in old or key not in new:
            was, now = ("present", "absent") if key in old else ("absent", "present")
            yield Drift(table.name, place, "cell", was, now, None)
            continue
        a, b = old[key], new[key]
        for quantity in COUNTS:
            if a.get(quantity) != b.get(quantity):
                was, now = (x.get(quantity) or "none" for x in (a, b))
                yield Drift(table.name, place, quantity, was, now, None)
        for quantity, band in _bands(table, key[table.dimensions.index("metric")], b):
            was, now = a.get(quantity) or "", b.get(quantity) or ""
            if was != now and (not was or not now or not abs(float(was) - float(now)) <= band):
                yield Drift(table.name, place, quantity, was or "undefined", now or "undefined", band)


def _bands(table: Table, metric: str, line: dict[str, str]) -> Iterator[tuple[str, float]]:
    """How far each number of a cell may move when each seed's value moves by the metric's band: a difference
    of two by twice as much, ends of intervals by what follows. p-values follow from these, and are free."""
    band, method = table.spec.allowed(metric), table.spec.interval
    ends = end_band(band, int(line["seeds"]), method)
    yield from (("mean", band), ("low", ends), ("high", ends))
    if line.get("pairs"):
        ends = end_band(2 * band, int(line["pairs"]), method)
        yield from (("difference", 2 * band), ("difference_low", ends), ("difference_high", ends))


def _read(table: Table, text: str) -> dict[tuple[str, ...], dict[str, str]]:
    lines = list(csv.DictReader(text.splitlines()))
    return {tuple(line.get(d) or "" for d in table.dimensions): line for line in lines}
