"""Tables: mean and interval over seeds, of the rows that a tables.yaml asks for."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from fedsim.base import RequestError, require
from fedsim.metrics import RANGE, TARGET, badness, direction
from fedsim.report import few, patients, reference, shapley
from fedsim.report.intervals import Interval, cut
from fedsim.report.labels import options
from fedsim.report.notes import DIVERGED, notes, published_notes
from fedsim.report.over import observe_over
from fedsim.report.paired import Difference
from fedsim.report.published import Comparison, compare
from fedsim.report.rows import Key, NoRuns, Rows, Value
from fedsim.report.seeds import Seeds, interval, merge
from fedsim.report.spec import COUNTED, ReportSpec, TableSpec
from fedsim.report.table import Cell, Table
from fedsim.report.values import observe
from fedsim.report.words import say


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
            source = str(run.about.get("source"))
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
    asked = (*dimensions, *spec.strata)
    by_stratum = (
        observe_over(rows, spec, spec.over, asked)
        if spec.over
        else observe(
            rows, level=spec.level, metrics=spec.metrics, dimensions=asked, where=spec.where, at=spec.round
        )
    )
    found = merge(by_stratum, len(spec.strata))
    seeds = Seeds(rows, spec, dimensions)
    lost = seeds.lost_keys(spec.metrics)
    behind = {key: seeds.behind(key) for key in found}
    if game := spec.shapley:
        shapley.same_rows(rows, spec, game, dimensions)
        found, lost = shapley.by_player(game, dimensions, found), []
    keys = [*found, *lost]
    if not keys:
        raise NoRuns(f"no run fits where {spec.where}; loosen it, or run the sweep first")
    order = _Order(spec, rows)
    cut = len(spec.rows)
    row_keys = order.sort(spec.rows, [k[:cut] for k in keys])
    column_keys = order.sort(columns, [k[cut:] for k in keys])
    at = dimensions.index("metric")
    draws = _drawn(rows, spec, dimensions, found, seeds)
    events = {} if spec.strata else few.events(rows, spec.level, dimensions, spec.where, spec.round)

    def made(key: Key) -> Cell:
        cell = _cell(key, found.get(key, {}), seeds, spec, str(key[at]), draws.get(key))
        if game:
            cell = replace(cell, runs=shapley.runs_of(game, dimensions, behind, key))
        count = events.get(key[:at] + key[at + 1 :], few.ENOUGH)
        return replace(cell, few=count) if count < few.ENOUGH and str(key[at]) not in COUNTED else cell

    cells = tuple(tuple(made(r + c) for c in column_keys) for r in row_keys)

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
    paired = reference.differences(spec, dimensions, found)
    if draws:
        paired = patients.differences(paired, reference.bases(spec, dimensions, found), draws)
    texts = tuple(
        tuple(
            _show(cell, spec, metric(i, j), shown, published.get(key), paired.get(key))
            for j, cell in enumerate(row)
            for key in [row_keys[i] + column_keys[j]]
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
            + reference.notes(spec, labels, paired)
            + ([shapley.note(game)] if game else [])
            + published_notes(spec, labels, keyed, published, absent, dimensions)
            + footnote
        ),
        published=published,
        differences=paired,
    )


def _drawn(
    rows: Rows, spec: TableSpec, dimensions: Sequence[str], found: Mapping[Key, Mapping[Value, float]],
    seeds: Seeds,
) -> dict[Key, patients.Drawn]:  # fmt: skip
    """Draws of the patients behind each cell, where intervals are over patients."""
    if spec.interval not in ("patients", "both"):
        return {}
    behind = {key: seeds.behind(key) for key in found}
    defined = {
        key: {seed: behind[key][seed] for seed, value in values.items() if value == value}
        for key, values in found.items()
    }
    return patients.drawn(rows, spec, dimensions, {key: runs for key, runs in defined.items() if runs})


def _cell(
    key: Key,
    values: Mapping[Value, float],
    seeds: Seeds,
    spec: TableSpec,
    metric: str,
    draws: patients.Drawn | None,
) -> Cell:
    diverged = seeds.diverged_at(key) - values.keys()
    defined = {seed: v for seed, v in values.items() if v == v}
    ends: Interval | None = interval(defined, spec) if defined else None
    if ends and draws:
        ends = draws.interval(ends[0], list(defined))
    inside = cut(ends, _bounds(spec, metric)) if ends else None
    mean, low, high = inside or (None, None, None)
    return Cell(
        mean=mean,
        low=low,
        high=high,
        seeds=len(defined),
        undefined=len(values) - len(defined),
        diverged=len(diverged),
        missing=tuple(s for s in seeds.wanted(key) if s not in values and s not in diverged),
        runs={seed: run for seed, run in seeds.behind(key).items() if seed in values},
        cut=ends != inside,
    )


def _bounds(spec: TableSpec, metric: str) -> tuple[float, float]:
    """What a value can be."""
    if spec.shapley:
        return -math.inf, math.inf
    return (0.0, math.inf) if _spread(spec) else RANGE.get(metric, (-math.inf, math.inf))


class _Order:
    """Rows and columns in the order of `where`, then of the spec's metrics, then of the plan."""

    def __init__(self, spec: TableSpec, rows: Rows) -> None:
        self.spec, self.plan = spec, rows.order

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
        planned = self.plan.get(dimension, ())
        rest = sorted({str(v) for v in values}, key=_natural)
        return {v: i for i, v in enumerate(dict.fromkeys([*listed, *planned, *rest]))}


def _natural(text: str) -> tuple[int, float, str]:
    try:
        return 0, float(text), text
    except ValueError:
        return 1, 0.0, text


def _show(
    cell: Cell,
    spec: TableSpec,
    metric: str,
    counted: bool,
    known: Comparison | None,
    difference: Difference | None,
) -> str:
    """`0.812 [0.800, 0.824] (9)† ✓ 0.815`: the count only where counts differ, then what is published.

    Beside a reference: `0.812 Δ +0.010 [0.002, 0.018]*`, the interval that of the difference.
    """
    marks = (spec.mark if cell.missing else "") + (DIVERGED if cell.diverged else "")
    marks += few.SIGN if cell.few is not None else ""
    gone = f"– ({cell.undefined})" if cell.undefined else ""
    if cell.mean is None:
        return (gone or ("–" if marks else "")) + marks
    text = spec.show(metric, cell.mean)
    if difference:
        text += f" {reference.show(difference, spec)}"
    elif cell.low is not None and cell.high is not None:
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
            if cell.mean is not None and (direction(name) is not None or name in TARGET):
                lines.setdefault((j if spec.best == "column" else i, name), []).append((i, j))
    best: set[tuple[int, int]] = set()
    for (_, name), places in lines.items():
        if len(places) > 1:
            mean = {p: cells[p[0]][p[1]].mean or 0.0 for p in places}
            top = min(badness(name, v) for v in mean.values())
            shown = {spec.show(name, v) for v in mean.values() if badness(name, v) == top}
            best |= {p for p in places if spec.show(name, mean[p]) in shown}
    return frozenset(best)
