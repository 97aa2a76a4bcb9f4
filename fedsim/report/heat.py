"""A heat map: a metric by two dimensions of the sweep, or several metrics by one, numbers in the cells."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Normalize

from fedsim.report.drawing import (
    HEAT,
    Drawing,
    Point,
    canvas,
    caption,
    drawing,
    in_plan,
    left_out,
    numeric,
    seeds_of,
)
from fedsim.report.intervals import NOTE, Interval, mean_interval
from fedsim.report.rows import NoRuns, Rows, Value
from fedsim.report.spec import FigureSpec
from fedsim.report.values import observe
from fedsim.report.words import say

Cells = dict[tuple[Value, Value], dict[Value, float]]


def cells(rows: Rows, spec: FigureSpec) -> Cells:
    """{(value of `by`, value of `x` or metric): {seed: value}}; seeds without a value are left out."""
    across = spec.x or "metric"
    found = observe(
        rows,
        level=spec.source,
        metrics=spec.metrics or (spec.metric,),
        dimensions=[spec.by, across],
        where=spec.where,
    )
    made = {(key[0], key[1]): {s: v for s, v in values.items() if v == v} for key, values in found.items()}
    made = {key: values for key, values in made.items() if values}
    if not made:
        raise NoRuns(f"no finished run has {spec.metric} under {spec.where}; loosen it, or run the sweep")
    return made


def heat(rows: Rows, spec: FigureSpec, labels: Mapping[str, str], footnote: list[str]) -> Drawing:
    """Draw it: one scale of colour, or with several metrics one for each column."""
    found = cells(rows, spec)
    down = in_plan({by for by, _ in found}, spec, rows)
    there = {column for _, column in found}
    across: list[Value] = [m for m in spec.metrics if m in there]
    if spec.x:
        across = in_plan(there, replace(spec, by=spec.x), rows)
    ends = {key: mean_interval(list(values.values()), spec.over_seeds) for key, values in found.items()}
    means = np.array([[ends[d, a][0] if (d, a) in ends else np.nan for a in across] for d in down])
    words = [say(a, labels) for a in across]
    widest = max(0.085 * max(map(len, words)), 0.95)
    fig, ax = canvas(2.4 + widest * len(across), 1.5 + 0.52 * len(down))
    colours = means
    if spec.metrics:  # each column has a unit of its own
        low, high = np.nanmin(means, axis=0), np.nanmax(means, axis=0)
        colours = np.where(high > low, (means - low) / np.where(high > low, high - low, 1.0), 0.5)
    least, most = float(np.nanmin(colours)), float(np.nanmax(colours))
    scale = Normalize(least, most) if least < most else Normalize(least - 1.0, most + 1.0)
    shade = ax.imshow(colours, cmap=HEAT, norm=scale, aspect="auto")
    points = [
        Point(ax, a, d, f"{say(by, labels)}, {words[a]}: {_said(ends[key], found[key])}")
        for d, by in enumerate(down)
        for a, column in enumerate(across)
        if (key := (by, column)) in ends
    ]
    for d, by in enumerate(down):
        for a, column in enumerate(across):
            if (by, column) in ends:
                write_in(ax, a, d, _text(ends[by, column]), HEAT(scale(colours[d, a])))
    grid(ax, words, [say(d, labels) for d in down])
    ax.set_title(spec.title or f"{say(spec.metric, labels)} by {say(spec.by, labels)}")
    if spec.x:
        ax.set_xlabel(say(spec.x, labels))
        fig.colorbar(shade, ax=ax, label=say(spec.metric, labels), pad=0.02)
    count = {len(values) for values in found.values()}
    each = " Colour: each column from its least to its greatest." if spec.metrics else ""
    caption(
        fig,
        f"Mean over {seeds_of(count)} ± half its 95 % interval ({NOTE[spec.interval]}).{each}",
        *left_out(rows, spec),
        *footnote,
    )
    lines = [
        (by, column, seed, value)
        for by in down
        for column in across
        for seed, value in sorted(found.get((by, column), {}).items(), key=lambda item: numeric(item[0]))
    ]
    return drawing(spec.name, fig, (spec.by, spec.x or "metric", "seed", "value"), lines, points)


def grid(ax: Axes, across: Sequence[str], down: Sequence[str]) -> None:
    """Words along both sides, and lines between the cells."""
    ax.set_xticks(range(len(across)), across)
    ax.set_yticks(range(len(down)), down)
    ax.tick_params(length=0)
    ax.grid(visible=False)
    ax.set_xticks(np.arange(len(across) - 1) + 0.5, minor=True)
    ax.set_yticks(np.arange(len(down) - 1) + 0.5, minor=True)
    ax.grid(visible=True, which="minor", color="white", linewidth=2)
    ax.tick_params(which="minor", length=0)
    for side in ax.spines.values():
        side.set_visible(False)


def write_in(ax: Axes, x: float, y: float, text: str, colour: Sequence[float]) -> None:
    """Text in a cell, black or white, whichever is told apart from the cell's colour."""
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in colour[:3]]
    luminance = float(np.dot((0.2126, 0.7152, 0.0722), linear))  # WCAG 2.1, relative luminance
    ink = "#fdfdfd" if luminance < 0.18 else "#0d0d0d"
    ax.text(x, y, text, ha="center", va="center", color=ink, fontsize=8.5, linespacing=1.15)


def _text(interval: Interval) -> str:
    mean, _, high = interval
    return f"{mean:#.3g}" + (f"\n± {high - mean:#.2g}" if high is not None else "").replace("-", "−")


def _said(interval: Interval, values: Mapping[Value, float]) -> str:
    mean, low, high = interval
    ends = "" if low is None or high is None else f" [{low:.4g}, {high:.4g}]"
    return f"{mean:.4g}{ends}, {seeds_of({len(values)})}"
