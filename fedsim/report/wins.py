"""How often each method is better than each other, on the same seed and setting."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import permutations

import numpy as np
from matplotlib.colors import Normalize

from fedsim.base import require
from fedsim.metrics import HIGHER_IS_BETTER, TARGET, badness, direction
from fedsim.report.drawing import HEAT, Drawing, Point, canvas, caption, drawing, in_plan, left_out
from fedsim.report.heat import grid, write_in
from fedsim.report.rows import Key, NoRuns, Rows, Value
from fedsim.report.spec import NAMED, FigureSpec
from fedsim.report.values import observe
from fedsim.report.words import say

Pair = tuple[Value, Value]


def shares(rows: Rows, spec: FigureSpec) -> dict[Pair, tuple[float, int]]:
    """{(method, rival): (share of pairs where the method is better, pairs)}; equal values count half.

    A pair is two runs that differ in `spec.by` alone; with sites or clients, one at a time.
    """
    require(
        direction(spec.metric) is not None or spec.metric in TARGET,
        f"{spec.metric} has no better side; choose one of {', '.join([*HIGHER_IS_BETTER, *TARGET])}",
    )
    axes = dict.fromkeys(d for run in rows.chosen(spec.where) for d in run.cell)
    others = [d for d in axes if d not in (spec.by, "seed")]
    others += [spec.source] if spec.source in NAMED else []
    found = observe(
        rows, level=spec.source, metrics=[spec.metric], dimensions=[*others, spec.by], where=spec.where
    )
    blocks: dict[tuple[Key, Value], dict[Value, float]] = {}
    for (*setting, by), values in found.items():
        for seed, value in values.items():
            if value == value:
                blocks.setdefault((tuple(setting), seed), {})[by] = badness(spec.metric, value)
    made: dict[Pair, list[float]] = {}
    for of_block in blocks.values():
        for a, b in permutations(of_block, 2):
            won = 0.5 if of_block[a] == of_block[b] else float(of_block[a] < of_block[b])
            made.setdefault((a, b), []).append(won)
    if not made:
        raise NoRuns(f"no two finished runs differ in {spec.by} alone under {spec.where}")
    return {pair: (sum(won) / len(won), len(won)) for pair, won in made.items()}


def wins(rows: Rows, spec: FigureSpec, labels: Mapping[str, str], footnote: list[str]) -> Drawing:
    """Draw it: the method that wins most on top."""
    found = shares(rows, spec)
    methods = in_plan({a for a, _ in found}, spec, rows)

    def overall(method: Value) -> float:
        mine = [share for (a, _), (share, _) in found.items() if a == method]
        return sum(mine) / len(mine)

    methods.sort(key=overall, reverse=True)  # stable: equals stay as planned
    words = [say(m, labels) for m in methods]
    size = max(0.72, 0.085 * max(map(len, words)))
    fig, ax = canvas(2.6 + size * len(methods), 1.6 + 0.46 * len(methods))
    scale = Normalize(0.0, 1.0)
    table = np.array([[found.get((a, b), (np.nan, 0))[0] for b in methods] for a in methods])
    shade = ax.imshow(table, cmap=HEAT, norm=scale, aspect="auto")
    points = []
    for y, a in enumerate(methods):
        for x, b in enumerate(methods):
            if (a, b) in found:
                share, count = found[a, b]
                write_in(ax, x, y, f"{share:.2f}", HEAT(scale(share)))
                text = f"{words[y]} better than {words[x]}: {share:.3f} of {count} pairs"
                points.append(Point(ax, x, y, text))
    grid(ax, words, words)
    ax.set_xlabel("than")
    ax.set_ylabel("better")
    metric = say(spec.metric, labels)
    ax.set_title(spec.title or f"{metric}: how often the row is better than the column")
    fig.colorbar(shade, ax=ax, label="share of pairs", pad=0.02)
    counts = sorted({count for _, count in found.values()})
    pairs = f"{counts[0]} to {counts[-1]}" if len(counts) > 1 else str(counts[0])
    caption(
        fig,
        f"{pairs} pairs of runs with the same seed and setting; equal values count half. "
        "Pairs share patients: a share is no test.",
        *left_out(rows, spec),
        *footnote,
    )
    lines = [(a, b, *found[a, b]) for a in methods for b in methods if (a, b) in found]
    return drawing(spec.name, fig, (spec.by, "rival", "share", "pairs"), lines, points)
