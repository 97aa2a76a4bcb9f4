"""A drawing inside a page: its SVG, coloured by the page, with a place to point at for every number."""

from __future__ import annotations

import re
from html import escape

from fedsim.report.drawing import GREY, Drawing

REACH = 8  # points around a mark that count as pointing at it
# Matplotlib's colours for paper, ink, labels and grid, and the page's own.
_COLOURS = {"#ffffff": "paper", "#000000": "ink", GREY: "dim", "#e6e6e6": "line"}


def figure(drawing: Drawing) -> str:
    """`<figure>` with the drawing, and its numbers as a list."""
    listed = "".join(f"<li>{escape(mark.text)}</li>" for mark in drawing.marks)
    numbers = f"<details><summary>Numbers</summary><ul>{listed}</ul></details>" if listed else ""
    return f'<figure id="figure-{escape(drawing.name)}">{picture(drawing)}{numbers}</figure>'


def picture(drawing: Drawing) -> str:
    """The `<svg>` with a place to point at for every number."""
    marks = "".join(
        f'<circle class="mark" cx="{m.x}" cy="{m.y}" r="{REACH}" data-text="{escape(m.text)}"/>'
        for m in drawing.marks
    )
    return svg(drawing).replace("</svg>", f'<g class="marks">{marks}</g></svg>')


def svg(drawing: Drawing) -> str:
    """The `<svg>` element alone, ids made its own, named for those who cannot see it."""
    text = drawing.svg.decode()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>|<style.*?</style>|<!--.*?-->", "", text, flags=re.DOTALL)
    text = re.sub(r'\sxmlns(:\w+)?="[^"]*"', "", text).replace("xlink:href", "href")
    own = re.sub(r"\W", "-", drawing.name)
    text = re.sub(r'\bid="', f'id="{own}-', text)
    text = re.sub(r'href="#', f'href="#{own}-', text).replace("url(#", f"url(#{own}-")
    for colour, variable in _COLOURS.items():
        text = re.sub(f"(fill|stroke): {colour}", rf"\1: var(--{variable})", text, flags=re.IGNORECASE)
    label = escape(drawing.title or drawing.name)
    return text.replace("<svg", f'<svg role="img" tabindex="0" aria-label="{label}"', 1).strip()
