"""What a table is, and how it is written: Markdown, LaTeX, CSV, and the runs behind each cell."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from fedsim.report import latex
from fedsim.report.paired import Difference
from fedsim.report.published import Comparison
from fedsim.report.reference import verdict
from fedsim.report.rows import Key, Value
from fedsim.report.spec import TableSpec
from fedsim.report.words import text_of


@dataclass(frozen=True)
class Cell:
    """One number of a table.

    mean, low, high: over the seeds where the metric is defined; None where there are none (or, for
      the ends, one).
    seeds: seeds behind the mean; undefined: seeds whose run finished without a value; diverged: seeds
      whose run diverged; missing: seeds that the table has elsewhere and not here.
    runs: seed -> id of the finished run behind it, with a value or without.
    few: events behind it (or rows without one), where these are fewer than enough.
    cut: whether an end of the interval lay outside what the metric can be.
    """

    mean: float | None
    low: float | None
    high: float | None
    seeds: int
    undefined: int
    diverged: int
    missing: tuple[Value, ...]
    runs: Mapping[Value, str]
    cut: bool = False
    few: int | None = None


@dataclass(frozen=True)
class Table:
    """cells: [row][column]; a column is a key of `spec.columns` and the metric, as is each `place`.

    keys: per cell, the values of rows, columns and metric, as CSV has them.
    published, differences: what is known beside the means, by key.
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
    differences: Mapping[Key, Difference]

    @property
    def name(self) -> str:
        return self.spec.name

    def files(self) -> dict[str, str]:
        """File name -> content."""
        return {
            f"{self.name}.md": self.markdown(),
            f"{self.name}.tex": self.latex(),
            f"{self.name}.csv": self.csv(),
            f"{self.name}.runs.json": self.runs(),
        }

    def markdown(self) -> str:
        left = len(self.stubs[0])
        lines = [f"**{_bar(self.spec.title)}**", ""]
        lines += [_line(self.header), _line(["---"] * left + ["---:"] * (len(self.header) - left))]
        for i, (stub, texts) in enumerate(zip(self.stubs, self.texts, strict=True)):
            strong = [f"**{t}**" if (i, j) in self.bold else t for j, t in enumerate(texts)]
            lines.append(_line([*stub, *strong]))
        return "\n".join([*lines, "", *(f"- {note}" for note in self.notes), ""])

    def latex(self) -> str:
        """A float with booktabs' rules; the document loads amssymb, booktabs and graphicx."""
        return latex.table(
            self.name, self.spec.title, self.header, self.stubs, self.texts, self.bold, self.notes
        )

    def csv(self) -> str:
        """One line per cell, full precision; empty where undefined."""
        out = io.StringIO()
        write = csv.writer(out, lineterminator="\n").writerow
        columns = ["mean", "low", "high", "seeds", "undefined", "diverged", "missing"]
        if self.spec.reference:
            columns += ["difference", "difference_low", "difference_high", "pairs", "p", "corrected"]
        if self.spec.verdict:
            columns.append("verdict")
        if self.spec.published:
            columns += ["published", "band", "within"]
        write([*self.dimensions, *columns])
        for (i, j), cell in self.each():
            found: dict[str, object] = {c: getattr(cell, c) for c in columns[:6]}
            found["missing"] = " ".join(map(str, cell.missing))
            key = self.key(i, j)
            if d := self.differences.get(key):
                found |= {"difference": d.mean, "difference_low": d.low, "difference_high": d.high}
                found |= {"pairs": d.pairs, "p": d.p, "corrected": d.corrected, "verdict": verdict(d)}
            if known := self.published.get(key):
                entry = known.published
                found |= {"published": entry.value, "band": entry.band, "within": known.within}
            write([*map(text_of, key), *(_exact(found.get(c)) for c in columns)])
        return out.getvalue()

    def runs(self) -> str:
        """The runs behind each cell, as JSON: a cell by its labels, and {seed: run id}."""
        cells = [
            json.dumps(
                {
                    **dict(zip(self.dimensions, self.key(*at), strict=True)),
                    "runs": {str(seed): run for seed, run in cell.runs.items()},
                },
                ensure_ascii=False,
            )
            for at, cell in self.each()
        ]
        return "[\n" + ",\n".join(cells) + "\n]\n"

    def each(self) -> Iterable[tuple[tuple[int, int], Cell]]:
        for i, row in enumerate(self.cells):
            for j, cell in enumerate(row):
                yield (i, j), cell

    def key(self, i: int, j: int) -> Key:
        return self.row_keys[i] + self.column_keys[j]


def _exact(value: object) -> str:
    return repr(value) if isinstance(value, float) else text_of(value)


def _bar(text: str) -> str:
    return text.replace("|", "\\|")


def _line(words: Iterable[str]) -> str:
    return "| " + " | ".join(map(_bar, words)) + " |"
