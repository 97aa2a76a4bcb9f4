"""The page of a sweep: its sections as HTML, put into the template."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from pathlib import Path

from fedsim.report.drawing import Drawing
from fedsim.report.page import About, facts
from fedsim.report.page.frame import Frame, filled, framed, read
from fedsim.report.page.inline import figure
from fedsim.report.rows import Rows
from fedsim.report.table import Cell, Table

MOST_RUNS = 1_000  # listed one by one
SECTIONS = {
    "tables": "Tables",
    "figures": "Figures",
    "privacy": "Privacy",
    "cost": "Cost",
    "origin": "Origin",
    "runs": "Runs",
}
_HERE = Path(__file__).parent


def page(about: About, rows: Rows, tables: Sequence[Table], drawings: Sequence[Drawing]) -> str:
    """The page, with everything that it needs inside."""
    warned = facts.warnings(rows, about.left_out)
    promises = "".join(f"<h3>{escape(who)}</h3>{_list(said)}" for who, said in facts.privacy(rows))
    parts = {
        "lead": escape(about.lead),
        "state": escape(facts.state(rows)),
        "warnings": f'<div class="warning"><strong>Mind</strong>{_list(warned)}</div>' if warned else "",
        "tables": "".join(map(_table, tables)) or "<p>None is declared.</p>",
        "figures": "".join(map(figure, drawings)) or "<p>None is declared.</p>",
        "privacy": "".join(f"<p>{escape(text)}</p>" for text in facts.ALWAYS) + promises,
        "cost": _pairs(facts.cost(rows, about.watts)),
        "origin": f"<pre>{escape(chr(10).join(about.commands))}</pre>" + _pairs(facts.origin(rows)),
        "runs": _runs(rows),
    }
    frame = Frame(about.title, about.version, kind="fedsim report", nav=SECTIONS, first="tables")
    return framed(frame, filled(read(_HERE / "sections.html"), parts))


def _table(table: Table) -> str:
    left = len(table.stubs[0])
    head = "".join(_head(word, k >= left) for k, word in enumerate(table.header))
    body = "".join(
        f"<tr>{_stubs(stub)}{''.join(_cell(table, i, j, cell) for j, cell in enumerate(row))}</tr>"
        for i, (stub, row) in enumerate(zip(table.stubs, table.cells, strict=True))
    )
    notes = "".join(f"<li>{escape(note)}</li>" for note in table.notes)
    name, title = escape(table.name), escape(table.spec.title)
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{title}">'
        f'<table class="sortable" id="table-{name}"><caption>{title}</caption>'
        f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
        f'<ul class="notes">{notes}<li>Runs behind each cell: tables/{name}.runs.json.</li></ul>'
    )


def _head(word: str, number: bool) -> str:
    kind = ' class="number"' if number else ""
    return f'<th scope="col"{kind} aria-sort="none"><button type="button">{escape(word)}</button></th>'


def _stubs(stub: Iterable[str]) -> str:
    return "".join(f'<th scope="row">{escape(word)}</th>' for word in stub)


def _cell(table: Table, i: int, j: int, cell: Cell) -> str:
    text = escape(table.texts[i][j])
    shown = f"<strong>{text}</strong>" if (i, j) in table.bold else text
    if "[" in text:  # the interval steps back
        mean, _, rest = shown.partition(" [")
        shown = f'{mean} <span class="ends">[{rest}</span>' if "</strong>" not in rest else shown
    shown = shown.replace(" Δ ", "<br>Δ ")  # else a table with a reference is too wide for most screens
    value = "" if cell.mean is None else repr(cell.mean)
    seeds = f"{cell.seeds} seed{'s' if cell.seeds != 1 else ''}"
    exact = seeds if cell.mean is None else f"{cell.mean:.6g}, {seeds}"
    return f'<td data-value="{value}" title="{exact}">{shown}</td>'


def _runs(rows: Rows) -> str:
    """Every run by its labels; of very many, those that are not done."""
    runs = list(rows.runs)
    said = ""
    if len(runs) > MOST_RUNS:
        runs = [run for run in runs if not run.done][:MOST_RUNS]
        said = f"<p>{len(rows.runs):,} runs: only those that are not done are listed.</p>"
    if not runs:
        return said
    axes = list(dict.fromkeys(axis for run in runs for axis in run.cell))
    names = [*axes, "state", "seconds", "run"]
    head = "".join(_head(name, name == "seconds") for name in names)
    lines = []
    for run in runs:
        words = [*(str(run.cell.get(axis, "")) for axis in axes), str(run.manifest.get("status"))]
        seconds = run.manifest.get("seconds")
        took = "" if seconds is None else f"{seconds:.3g}"
        line = "".join(f'<td class="word">{escape(word)}</td>' for word in words)
        line += f'<td data-value="{"" if seconds is None else float(seconds)!r}">{took}</td>'
        lines.append(f'<tr>{line}<td class="word"><code>{escape(run.id)}</code></td></tr>')
    return (
        f"{said}<details><summary>{len(runs):,} runs</summary>"
        '<div class="scroll" tabindex="0" role="region" aria-label="Runs"><table class="sortable">'
        f"<thead><tr>{head}</tr></thead><tbody>{''.join(lines)}</tbody></table></div></details>"
    )


def _pairs(found: Mapping[str, str]) -> str:
    return f"<dl>{''.join(f'<dt>{escape(k)}</dt><dd>{escape(v)}</dd>' for k, v in found.items())}</dl>"


def _list(words: Iterable[str]) -> str:
    return f"<ul>{''.join(f'<li>{escape(word)}</li>' for word in words)}</ul>"
