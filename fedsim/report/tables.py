"""Tables: mean and interval over seeds, from rows to Markdown, CSV and the terminal."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich import box
from rich.markup import escape
from rich.table import Table as RichTable

from fedsim.base import RequestError, require
from fedsim.metrics import HIGHER_IS_BETTER, TARGET, badness
from fedsim.report.intervals import mean_interval
from fedsim.report.notes import DIVERGED, notes, published_notes
from fedsim.report.over import observe_over
from fedsim.report.published import Comparison, compare
from fedsim.report.rows import INSIDE, Key, Rows, Run, Value, chosen, observe, options, plain
from fedsim.report.spec import ReportSpec, TableSpec
from fedsim.report.words import say, text_of


@dataclass(frozen=True)
class Cell:
    """One number of a table.

    mean, low, high: over the seeds where the metric is defined; None where there are none (or, for
      the ends, one).
    seeds: seeds behind the mean; undefined: seeds whose run finished without a value; diverged: seeds
      whose run diverged; missing: seeds that the table has elsewhere and not here.
    """

    mean: float | None
    low: float | None
    high: float | None
    seeds: int
    undefined: int
    diverged: int
    missing: tuple[Value, ...]


@dataclass(frozen=True)
class Table:
    """cells: [row][column]; a column is a key of `spec.columns` and the metric, as is each `place`.

    keys: per cell, the values of rows, columns and metric, as CSV has them.
    """

    spec: TableSpec
    dimensions: tuple[str, ...]
    row_keys: tuple[Key, ...]
    column_keys: tuple[Key, ...]
    header: tuple[str, ...]
    stubs: tuple[tuple[str, ...], ...]
    cells: tuple[tuple[Cell, ...], ...]
    texts: tuple[tuple[str, ...], ...]
    bold: frozenset[tuple[int, int]]
    notes: tuple[str, ...]
    published: Mapping[Key, Comparison]

    @property
    def name(self) -> str:
        return self.spec.name

    def markdown(self) -> str:
        left = len(self.stubs[0])
        lines = [f"**{_bar(self.spec.title)}**", ""]
        lines += [_line(self.header), _line(["---"] * left + ["---:"] * (len(self.header) - left))]
        for i, (stub, texts) in enumerate(zip(self.stubs, self.texts, strict=True)):
            strong = [f"**{t}**" if (i, j) in self.bold else t for j, t in enumerate(texts)]
            lines.append(_line([*stub, *strong]))
        return "\n".join([*lines, "", *(f"- {note}" for note in self.notes), ""])

    def csv(self) -> str:
        """One line per cell, full precision; empty where undefined."""
        out = io.StringIO()
        write = csv.writer(out, lineterminator="\n").writerow
        counted = ["seeds", "undefined", "diverged", "missing"]
        others = ["published", "band", "within"] if self.spec.published else []
        write([*self.dimensions, "mean", "low", "high", *counted, *others])
        for (i, j), cell in self.each():
            numbers = ["" if v is None else repr(v) for v in (cell.mean, cell.low, cell.high)]
            counts = [cell.seeds, cell.undefined, cell.diverged]
            line = [*map(text_of, self.key(i, j)), *numbers, *counts, " ".join(map(str, cell.missing))]
            if others and (known := self.published.get(self.key(i, j))):
                line += [repr(known.published.value), repr(known.published.band), text_of(known.within)]
            write([*line, *[""] * (len(self.dimensions) + 7 + len(others) - len(line))])
        return out.getvalue()

    def rich(self) -> RichTable:
        """For the terminal."""
        left = len(self.stubs[0])
        table = RichTable(
            title=escape(self.spec.title),
            caption=escape("\n".join(self.notes)),
            caption_justify="left",
            box=box.SIMPLE_HEAD,
        )
        for k, word in enumerate(self.header):
            table.add_column(escape(word), justify="left" if k < left else "right", no_wrap=k < left)
        for i, (stub, texts) in enumerate(zip(self.stubs, self.texts, strict=True)):
            marked = [
                f"[bold]{escape(t)}[/bold]" if (i, j) in self.bold else escape(t) for j, t in enumerate(texts)
            ]
            table.add_row(*map(escape, stub), *marked)
        return table

    def each(self) -> Iterable[tuple[tuple[int, int], Cell]]:
        for i, row in enumerate(self.cells):
            for j, cell in enumerate(row):
                yield (i, j), cell

    def key(self, i: int, j: int) -> Key:
        return self.row_keys[i] + self.column_keys[j]


class NoRuns(RequestError):
    """No run that was asked for has what a table or figure is to show."""


def tables(
    rows: Rows, spec: ReportSpec, stale: str = "refuse", without_runs: list[str] | None = None
) -> list[Table]:
    """Every declared table.

    Args:
      stale: `keep` tabulates runs of several versions of the code together, with a footnote.
      without_runs: where given, it is told of tables without runs, which are then no error.

    Raises:
      RequestError: several versions of the code without `stale=keep`; a table without runs; an
        unknown dimension or metric; a cell that would mix runs of the same seed.
    """
    footnote = sources(rows, stale)
    made = []
    for table in spec.tables:
        try:
            made.append(_build(rows, table, spec.labels, footnote))
        except RequestError as error:
            leave_out(f"table {table.name}: {error}", error, without_runs)
    return made


def leave_out(message: str, error: RequestError, without_runs: list[str] | None) -> None:
    """Note what has no runs; raise what is wrong."""
    if without_runs is None or not isinstance(error, NoRuns):
        raise RequestError(message) from None
    without_runs.append(message)


def sources(rows: Rows, stale: str) -> list[str]:
    """The footnote on several versions of the code, or none. Raises RequestError unless `keep`."""
    counts: dict[str, int] = {}
    for run in rows.runs:
        if run.done or run.diverged:
            source = str(run.manifest.get("source"))
            counts[source] = counts.get(source, 0) + 1
    if len(counts) < 2:
        return []
    words = ", ".join(f"{source[:12]}: {n} runs" for source, n in counts.items())
    require(
        stale == "keep",
        f"the runs come from {len(counts)} versions of the code ({words}); "
        f"sweep again to replace the older ones, or tabulate them together with stale=keep",
    )
    return [f"Runs of {len(counts)} versions of the code together ({words})."]


def _build(rows: Rows, spec: TableSpec, labels: Mapping[str, str], footnote: list[str]) -> Table:
    named = "metric" in spec.rows + spec.columns
    columns = spec.columns if named else (*spec.columns, "metric")
    dimensions = (*spec.rows, *columns)
    found = (
        observe_over(rows, spec, spec.over, dimensions)
        if spec.over
        else observe(
            rows,
            level=spec.level,
            metrics=spec.metrics,
            dimensions=dimensions,
            where=spec.where,
            at=spec.round,
        )
    )
    seeds = _Seeds(rows, spec, dimensions)
    keys = [*found, *seeds.lost_keys(spec.metrics)]
    if not keys:
        raise NoRuns(f"no run fits where {spec.where}; loosen it, or run the sweep first")
    order = _Order(spec, rows)
    cut = len(spec.rows)
    row_keys = order.sort(spec.rows, [k[:cut] for k in keys])
    column_keys = order.sort(columns, [k[cut:] for k in keys])
    cells = tuple(tuple(seeds.cell(r + c, found.get(r + c, {}), spec) for c in column_keys) for r in row_keys)
    at = dimensions.index("metric")

    def metric(i: int, j: int) -> str:
        return str((row_keys[i] + column_keys[j])[at])

    counts = {c.seeds + c.undefined for row in cells for c in row if c.seeds + c.undefined}
    shown = len(counts) > 1
    keyed = {
        r + c: cell.mean
        for r, row in zip(row_keys, cells, strict=True)
        for c, cell in zip(column_keys, row, strict=True)
    }
    published, absent = compare(spec, dimensions, keyed)
    texts = tuple(
        tuple(
            _show(cell, spec, metric(i, j), shown, published.get(row_keys[i] + column_keys[j]))
            for j, cell in enumerate(row)
        )
        for i, row in enumerate(cells)
    )
    hidden = not named and len(spec.metrics) == 1
    heads = [c[:-1] if hidden else c for c in column_keys]
    header = [say(d, labels) for d in spec.rows]
    header += [" · ".join(say(v, labels) for v in h) or say(spec.metrics[0], labels) for h in heads]
    return Table(
        spec=spec,
        dimensions=dimensions,
        row_keys=row_keys,
        column_keys=column_keys,
        header=tuple(header),
        stubs=tuple(tuple(say(v, labels) for v in key) for key in row_keys),
        cells=cells,
        texts=texts,
        bold=_best(cells, texts, spec, metric),
        notes=tuple(
            notes(rows, spec, labels, cells, row_keys, column_keys, counts)
            + published_notes(spec, labels, keyed, published, absent, dimensions)
            + footnote
        ),
        published=published,
    )


class _Seeds:
    """Which seeds each cell should have, and what became of those without a value.

    Runs that failed or are not in the store count as missing. With the plan's labels each cell's
    own seeds are known; without, each cell is held to all seeds of the table.
    """

    def __init__(self, rows: Rows, spec: TableSpec, dimensions: Sequence[str]) -> None:
        self.spec = spec
        self.dimensions = dimensions
        self.at = [i for i, d in enumerate(dimensions) if d not in INSIDE]
        outside = [dimensions[i] for i in self.at]
        self.planned: dict[Key, list[Value]] | None = None
        self.diverged: dict[Key, set[Value]] = {}
        self.lost: dict[Key, None] = {}
        seen: dict[Value, None] = {}
        for run in rows.runs:
            if chosen(run, spec.where):
                seen[run.seed] = None
                if not run.done:
                    key = tuple(run.label(d) for d in outside)
                    self.lost[key] = None
                    if run.diverged:
                        self.diverged.setdefault(key, set()).add(run.seed)
        self.seen = list(seen)
        if rows.planned is not None:
            known = {**spec.where, **dict.fromkeys(outside)}.keys() - set(INSIDE)
            if all(known <= cell.keys() and "seed" in cell for cell in rows.planned):
                self.planned = {}
                for cell in rows.planned:
                    if chosen(Run("", Path(), {"cell": cell}), spec.where):
                        key = tuple(plain(cell[d]) for d in outside)
                        self.planned.setdefault(key, []).append(plain(cell["seed"]))

    def outside(self, key: Key) -> Key:
        return tuple(key[i] for i in self.at)

    def lost_keys(self, metrics: Sequence[str]) -> list[Key]:
        """Cells of the plan, or of unfinished runs, where these alone tell the cell's whole key."""
        if any(d in INSIDE and d != "metric" for d in self.dimensions):
            return []
        made = []
        for known in [*(self.planned or {}), *self.lost]:
            for metric in metrics:
                rest = iter(known)
                made.append(tuple(metric if d == "metric" else next(rest) for d in self.dimensions))
        return made

    def cell(self, key: Key, values: Mapping[Value, float], spec: TableSpec) -> Cell:
        outside = self.outside(key)
        wanted = self.seen if self.planned is None else self.planned.get(outside, [])
        diverged = self.diverged.get(outside, set()) - values.keys()
        defined = [values[s] for s in sorted(values, key=str) if values[s] == values[s]]
        mean, low, high = mean_interval(defined, spec.interval) if defined else (None, None, None)
        return Cell(
            mean=mean,
            low=low,
            high=high,
            seeds=len(defined),
            undefined=len(values) - len(defined),
            diverged=len(diverged),
            missing=tuple(s for s in wanted if s not in values and s not in diverged),
        )


class _Order:
    """Rows and columns in the order of `where`, then of the spec's metrics, then of the plan."""

    def __init__(self, spec: TableSpec, rows: Rows) -> None:
        self.spec = spec
        cells = rows.planned or tuple(run.cell for run in rows.runs)
        self.first: dict[str, dict[str, int]] = {}
        for cell in cells:
            for dimension, value in cell.items():
                places = self.first.setdefault(dimension, {})
                places.setdefault(str(plain(value)), len(places))

    def sort(self, dimensions: Sequence[str], keys: Iterable[Key]) -> tuple[Key, ...]:
        unique = list(dict.fromkeys(keys))
        ranks = [self._ranks(d, [k[i] for k in unique]) for i, d in enumerate(dimensions)]
        return tuple(
            sorted(unique, key=lambda key: tuple(r[str(v)] for r, v in zip(ranks, key, strict=True)))
        )

    def _ranks(self, dimension: str, values: Iterable[Value]) -> dict[str, int]:
        listed = list(map(str, options(self.spec.where[dimension]))) if dimension in self.spec.where else []
        if dimension == "metric":
            listed = list(self.spec.metrics)
        planned = sorted(self.first.get(dimension, {}), key=self.first.get(dimension, {}).__getitem__)
        rest = sorted({str(v) for v in values}, key=_natural)
        return {v: i for i, v in enumerate(dict.fromkeys([*listed, *planned, *rest]))}


def _natural(text: str) -> tuple[int, float, str]:
    try:
        return 0, float(text), text
    except ValueError:
        return 1, 0.0, text


def _show(cell: Cell, spec: TableSpec, metric: str, counted: bool, known: Comparison | None) -> str:
    """`0.812 [0.800, 0.824] (9)† ✓ 0.815`: the count only where counts differ, then what is published."""
    marks = (spec.mark if cell.missing else "") + (DIVERGED if cell.diverged else "")
    gone = f"– ({cell.undefined})" if cell.undefined else ""
    if cell.mean is None:
        return (gone or ("–" if marks else "")) + marks
    text = spec.show(metric, cell.mean)
    if cell.low is not None and cell.high is not None:
        text += f" [{spec.show(metric, cell.low)}, {spec.show(metric, cell.high)}]"
    if counted:
        text += f" ({cell.seeds})"
    text += marks + (f", {gone}" if gone else "")
    return text if known is None else f"{text} {known.sign} {spec.show(metric, known.published.value)}"


def _spread(spec: TableSpec) -> bool:
    """Whether cells say how steady a metric is, and not how good."""
    return spec.over is not None and spec.over.take == "spread"


def _best(
    cells: Sequence[Sequence[Cell]], texts: Sequence[Sequence[str]], spec: TableSpec, metric: Any
) -> frozenset[tuple[int, int]]:
    """Cells whose mean is the best of their metric in their column (or row), and equals as shown."""
    if spec.best == "none" or _spread(spec):
        return frozenset()
    lines: dict[tuple[int, str], list[tuple[int, int]]] = {}
    for i, row in enumerate(cells):
        for j, cell in enumerate(row):
            name = metric(i, j)
            if cell.mean is not None and (name in HIGHER_IS_BETTER or name in TARGET):
                lines.setdefault((j if spec.best == "column" else i, name), []).append((i, j))
    best: set[tuple[int, int]] = set()
    for (_, name), places in lines.items():
        if len(places) > 1:
            mean = {p: cells[p[0]][p[1]].mean or 0.0 for p in places}
            top = min(badness(name, v) for v in mean.values())
            shown = {spec.show(name, v) for v in mean.values() if badness(name, v) == top}
            best |= {p for p in places if spec.show(name, mean[p]) in shown}
    return frozenset(best)


def _bar(text: str) -> str:
    return text.replace("|", "\\|")


def _line(words: Iterable[str]) -> str:
    return "| " + " | ".join(map(_bar, words)) + " |"
