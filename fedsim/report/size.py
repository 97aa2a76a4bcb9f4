"""What each site gains over a baseline by its size: one mark per site and method."""

from __future__ import annotations

from collections.abc import Mapping

from matplotlib.ticker import LogFormatter

from fedsim.report.drawing import (
    COLOURS,
    MARKERS,
    Drawing,
    Point,
    canvas,
    caption,
    drawing,
    ends_of,
    in_plan,
    left_out,
    looks_of,
    numeric,
    seeds_of,
)
from fedsim.report.gain import gain_words, gains, intervals, of_baseline
from fedsim.report.intervals import NOTE
from fedsim.report.rows import Rows
from fedsim.report.spec import FigureSpec
from fedsim.report.values import observe
from fedsim.report.words import say


def size(rows: Rows, spec: FigureSpec, labels: Mapping[str, str], footnote: list[str]) -> Drawing:
    pairs = {key: seeds for key, seeds in gains(rows, spec).items() if seeds}
    found = intervals(rows, spec, pairs)
    counted = observe(
        rows, level=spec.source, metrics=["n"], dimensions=[spec.source], where=of_baseline(spec)
    )
    mean_size = {site: sum(n.values()) / len(n) for (site,), n in counted.items() if n}
    methods = in_plan({method for _, method in pairs}, spec, rows)
    looks = looks_of(methods, spec)
    metric, baseline = say(spec.metric, labels), say(spec.baseline, labels)
    fig, ax = canvas(6.8, 4.0)
    points: list[Point] = []
    for method in methods:
        colour, place = looks[method]
        sites = sorted((s for s, m in pairs if m == method), key=lambda s: (mean_size[s], str(s)))
        ends = [found[s, method] for s in sites]
        # Side by side, as otherwise one method hides another at the same site.
        shift = 1.02 ** (methods.index(method) - (len(methods) - 1) / 2)
        x = [mean_size[s] * shift for s in sites]
        for at, (_, low, high) in zip(x, ends, strict=True):
            if low is not None and high is not None:
                ax.vlines(at, low, high, color=colour, linewidth=1.2, alpha=0.6)
        ax.plot(
            x,
            [e[0] for e in ends],
            linestyle="none",
            marker=MARKERS[place % len(MARKERS)],
            markersize=5.5,
            color=colour,
            markerfacecolor="white" if place // len(COLOURS) % 2 else colour,
            label=say(method, labels),
        )
        points += [
            Point(ax, at, e[0], f"{say(s, labels)}, {say(method, labels)}: {rows_of}, {ends_of(e)}")
            for s, at, e in zip(sites, x, ends, strict=True)
            for rows_of in [f"{mean_size[s]:,.0f} rows"]
        ]
    ax.axhline(0, color="black", linewidth=1, zorder=1.5)
    ax.set_xscale("log")
    for axis_ticks in (ax.xaxis.set_major_formatter, ax.xaxis.set_minor_formatter):
        axis_ticks(LogFormatter(labelOnlyBase=False, minor_thresholds=(2, 0.4)))
    ax.set_xlabel(f"Rows tested at the {say(spec.source, labels)}, logarithmic")
    ax.set_ylabel(gain_words(spec, metric, baseline))
    ax.set_title(spec.title or f"{metric}: gain over {baseline} by size")
    count = seeds_of({len(seeds) for seeds in pairs.values()})
    caption(
        fig,
        f"Mark: mean over {count} of differences paired by seed. Bar: 95 % interval ({NOTE[spec.interval]}).",
        "Methods stand side by side at a site's number of rows.",
        *left_out(rows, spec),
        *footnote,
    )
    fig.legend(loc="outside right center", title=say(spec.by, labels), alignment="left")
    lines = [
        (site, method, seed, mean_size[site], values[2])
        for (site, method), seeds in sorted(pairs.items(), key=lambda item: str(item[0]))
        for seed, values in sorted(seeds.items(), key=lambda item: numeric(item[0]))
    ]
    return drawing(spec.name, fig, (spec.source, spec.by, "seed", "n", "gain"), lines, points)
