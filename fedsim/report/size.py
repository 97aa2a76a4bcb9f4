"""What each site gains over a baseline by its size: a panel per method, a mark per site."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

from matplotlib.ticker import NullFormatter

from fedsim.report.drawing import (
    ACROSS,
    Drawing,
    Point,
    apart,
    caption,
    drawing,
    ends_of,
    in_plan,
    left_out,
    looks_of,
    numeric,
    panels,
    seeds_of,
    stroke_of,
)
from fedsim.report.gain import gain_words, gains, intervals, of_baseline
from fedsim.report.intervals import NOTE
from fedsim.report.rows import NoRuns, Rows, Value
from fedsim.report.spec import FigureSpec
from fedsim.report.values import observe
from fedsim.report.words import say

SLOT = 6.0  # points from one mark to the next: as wide as one
MARGIN = 12.0  # points beyond the outermost


class Places(NamedTuple):
    """at: {site: rows}; low, high: the axis' ends; moved: how far a site is moved at most, as a share of its
    rows."""

    at: dict[Value, float]
    low: float
    high: float
    moved: float


def places(sizes: Mapping[Value, float], width: float) -> Places:
    """Where sites stand on an axis so many points wide, so that none hides another.

    Sites are moved as little as possible, in logarithms, which is how they are drawn.
    """
    by_size = sorted(sizes, key=lambda s: (sizes[s], str(s)))
    logs = [math.log(sizes[s]) for s in by_size]
    middle = (logs[0] + logs[-1]) / 2
    unit = max(logs[-1] - logs[0], math.log(2)) / width  # of the logarithm, a point
    wanted = [(log - middle) / unit for log in logs]
    moved = apart(wanted, min(SLOT, width / len(sizes)), -width / 2, width / 2)
    at = {s: math.exp(middle + p * unit) for s, p in zip(by_size, moved, strict=True)}
    room = (width / 2 + MARGIN) * unit
    ends = math.exp(middle - room), math.exp(middle + room)
    return Places(at, *ends, max(abs(at[s] / sizes[s] - 1) for s in by_size))


def ticks(low: float, high: float) -> list[float]:
    """Three to five round numbers of a logarithmic axis: more would not fit below a panel."""
    for steps in ((1,), (1, 3), (1, 2, 5), range(1, 10)):
        round_ones = [step * 10.0**k for k in range(12) for step in steps]
        if len(inside := [n for n in round_ones if low <= n <= high]) >= 3:
            return inside[:: -(-len(inside) // 5)]
    few = [float(n) for n in range(math.ceil(low), math.floor(high) + 1)]  # less than a power of ten
    return few[:: -(-len(few) // 5) or 1]


def size(rows: Rows, spec: FigureSpec, labels: Mapping[str, str], footnote: list[str]) -> Drawing:
    """A panel per method: methods of several sites with as many rows would hide each other in one."""
    pairs = {key: seeds for key, seeds in gains(rows, spec).items() if seeds}
    if not pairs:
        raise NoRuns(f"no seed has {spec.metric} of both {spec.baseline} and another method; run the sweep")
    found = intervals(rows, spec, pairs)
    counted = observe(
        rows, level=spec.source, metrics=["n"], dimensions=[spec.source], where=of_baseline(spec)
    )
    mean_size = {site: sum(n.values()) / len(n) for (site,), n in counted.items() if n}
    methods = in_plan({method for _, method in pairs}, spec, rows)
    looks = looks_of(methods, spec)
    across = min(len(methods), ACROSS)
    width = 1.6 + 1.6 * across if across > 1 else 4.8  # inches; `panels` adds 1.6
    axis = 72 * ((width + 0.9) / across - 0.15) - 2 * MARGIN  # without words on the left and gaps
    stand = places({s: mean_size[s] for s, _ in pairs}, axis)
    metric, baseline = say(spec.metric, labels), say(spec.baseline, labels)
    fig, axes = panels(len(methods), width, 3.4 if len(methods) <= ACROSS else 2.6)
    points: list[Point] = []
    for ax, method in zip(axes, methods, strict=True):
        sites = sorted((s for s, m in pairs if m == method), key=lambda s: (mean_size[s], str(s)))
        ends = [found[s, method] for s in sites]
        for site, (_, low, high) in zip(sites, ends, strict=True):
            if low is not None and high is not None:
                ax.vlines(stand.at[site], low, high, color=looks[method][0], linewidth=1.2, alpha=0.6)
        look = stroke_of(looks[method]) | {"linestyle": "none"}
        ax.plot([stand.at[s] for s in sites], [e[0] for e in ends], **look)
        points += [
            Point(ax, stand.at[s], e[0], f"{say(s, labels)}, {say(method, labels)}: {rows_of}, {ends_of(e)}")
            for s, e in zip(sites, ends, strict=True)
            for rows_of in [f"{mean_size[s]:,.0f} rows"]
        ]
        ax.axhline(0, color="black", linewidth=1, zorder=1.5)
        ax.set_xscale("log")
        ax.set_xlim(stand.low, stand.high)
        ax.tick_params(axis="x", which="both", length=3, pad=3.5)  # all numbers on one line
        numbers = ticks(stand.low, stand.high)
        ax.set_xticks(numbers, [f"{n:,.0f}" for n in numbers])
        ax.xaxis.set_minor_formatter(NullFormatter())
        ax.set_title(say(method, labels), fontsize=9)
    for ax in axes[-across:]:
        ax.set_xlabel("Rows tested")
    for ax in axes[::ACROSS]:
        ax.set_ylabel(gain_words(spec, metric, baseline))
    title = spec.title or f"{metric}: gain over {baseline} by size"
    fig.suptitle(title, x=0.01, ha="left", fontsize=10.5, fontweight="bold")
    count = seeds_of({len(seeds) for seeds in pairs.values()})
    near = (
        f" Sites with nearly as many are moved apart, by up to {stand.moved:.1%}."
        if stand.moved > 0.0005
        else ""
    )
    caption(
        fig,
        f"Mark: mean over {count} of differences paired by seed. Bar: 95 % interval ({NOTE[spec.interval]}).",
        f"Rows of the {say(spec.source, labels)}, logarithmic.{near}",
        *left_out(rows, spec),
        *footnote,
    )
    lines = [
        (site, method, seed, mean_size[site], values[2])
        for (site, method), seeds in sorted(pairs.items(), key=lambda item: str(item[0]))
        for seed, values in sorted(seeds.items(), key=lambda item: numeric(item[0]))
    ]
    return drawing(spec.name, fig, (spec.source, spec.by, "seed", "n", "gain"), lines, points)
