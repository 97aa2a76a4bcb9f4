"""What each site gains over a baseline, by method, paired by seed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from fedsim.metrics import TARGET, badness, direction
from fedsim.report import patients
from fedsim.report.drawing import (
    GREY,
    Drawing,
    Point,
    beside,
    canvas,
    caption,
    drawing,
    ends_of,
    in_plan,
    left_out,
    looks_of,
    numeric,
    seeds_of,
    stroke_of,
)
from fedsim.report.intervals import NOTE, Interval, mean_interval
from fedsim.report.labels import options
from fedsim.report.rows import Key, NoRuns, Rows, Value
from fedsim.report.seeds import Seeds
from fedsim.report.spec import FigureSpec, TableSpec
from fedsim.report.values import observe
from fedsim.report.words import say


def gains(rows: Rows, spec: FigureSpec) -> dict[tuple[Value, Value], dict[Value, tuple[float, float, float]]]:
    """{(site, method): {seed: (value, the baseline's value, gain)}}, paired by seed and site.

    A gain is positive where the method is better than the baseline: the difference for metrics where
    higher is better, its negative where lower is, else how much closer the value is to its target.
    Pairs without both values are left out.
    """
    where = dict(spec.where)
    if spec.by in where:
        where[spec.by] = [*options(where[spec.by]), spec.baseline]
    found = observe(
        rows, level=spec.source, metrics=[spec.metric], dimensions=[spec.source, spec.by], where=where
    )
    pairs: dict[tuple[Value, Value], dict[Value, tuple[float, float, float]]] = {}
    for (site, method), values in found.items():
        if str(method) == spec.baseline:
            continue
        base = found.get((site, spec.baseline), {})
        pairs[site, method] = {
            seed: (v, b, badness(spec.metric, b) - badness(spec.metric, v))
            for seed, v in values.items()
            if v == v and (b := base.get(seed, float("nan"))) == b
        }
    if not any(key[1] == spec.baseline for key in found):
        raise NoRuns(
            f"no finished run with {spec.by}={spec.baseline} under {spec.where}; set baseline, or run it"
        )
    if not pairs:
        raise NoRuns(f"no finished run beside {spec.by}={spec.baseline} under {spec.where}")
    return pairs


def intervals(
    rows: Rows, spec: FigureSpec, pairs: Mapping[tuple[Value, Value], Mapping[Value, Any]]
) -> dict[tuple[Value, Value], Interval]:
    """{(site, method): mean gain and its ends} of what `gains` has found, sites without a pair left out."""
    found = {key: [p[2] for p in seeds.values()] for key, seeds in pairs.items() if seeds}
    if spec.interval == "t" or spec.interval == "bootstrap":
        return {key: mean_interval(values, spec.over_seeds) for key, values in found.items()}
    dimensions = (spec.source, spec.by, "metric")
    table = TableSpec(
        name=spec.name,
        title=spec.name,
        rows=(spec.source, spec.by),
        metrics=(spec.metric,),
        level=spec.source,
        where={k: v for k, v in spec.where.items() if k != spec.by},
        interval=spec.interval,
    )
    seeds = Seeds(rows, table, dimensions)
    baseline = next(run.label(spec.by) for run in rows.runs if str(run.label(spec.by)) == spec.baseline)
    cells: dict[Key, dict[Value, str]] = {}
    for site, method in found:
        for choice in (method, baseline):
            key = (site, choice, spec.metric)
            runs = {s: seeds.behind(key)[s] for s in pairs[site, method]}
            cells[key] = cells.get(key, {}) | runs
    draws = {
        key: replace(drawn, by_seed=badness(spec.metric, drawn.by_seed))
        for key, drawn in patients.drawn(rows, table, dimensions, cells).items()
    }
    made = {}
    for (site, method), values in found.items():
        common = list(pairs[site, method])
        one, base = (draws[site, choice, spec.metric].mean(common) for choice in (method, baseline))
        made[site, method] = patients.interval(sum(values) / len(values), base - one)
    return made


def gain(rows: Rows, spec: FigureSpec, labels: Mapping[str, str], footnote: list[str]) -> Drawing:
    pairs = gains(rows, spec)
    ends = intervals(rows, spec, pairs)
    methods = in_plan({method for _, method in pairs}, spec, rows)
    sites = sorted({site for site, _ in pairs}, key=lambda s: (-_mean_gain(s, ends), str(s)))
    sizes = observe(rows, level=spec.source, metrics=["n"], dimensions=[spec.source], where=of_baseline(spec))
    metric, baseline = say(spec.metric, labels), say(spec.baseline, labels)

    ticks = [_site(site, spec, pairs, sizes, labels) for site in sites]
    letters = max(len(line) for tick in ticks for line in tick.splitlines())
    # Room for each site's words and dots, and for the legend.
    room = len(sites) * max(0.085 * letters, 0.17 * len(methods))
    width = min(14.0, max(6.4, 2.9 + room))
    fig, ax = canvas(width, 4.0)
    points: list[Point] = []
    slot = 0.76 / len(methods)
    looks = looks_of(methods, spec)
    for m, method in enumerate(methods):
        at = [
            (s + (m - (len(methods) - 1) / 2) * slot, ends[site, method])
            for s, site in enumerate(sites)
            if (site, method) in ends
        ]
        for x, (_, low, high) in at:
            if low is not None and high is not None:
                ax.vlines(x, low, high, color=looks[method][0], linewidth=1.6)
        ax.plot(
            [x for x, _ in at],
            [e[0] for _, e in at],
            label=say(method, labels),
            **stroke_of(looks[method]) | {"linestyle": "none"},
        )
        points += [
            Point(ax, x, e[0], f"{say(site, labels)}, {say(method, labels)}: {ends_of(e)}")
            for (x, e), site in zip(at, (s for s in sites if (s, method) in ends), strict=True)
        ]
    for s in range(1, len(sites)):
        ax.axvline(s - 0.5, color="#E6E6E6", linewidth=0.8)
    for s, site in enumerate(sites):
        if not any((site, method) in ends for method in methods):
            beside(ax, "undefined", (s, 0), (0, 4), "data", ha="center", color=GREY)
    ax.axhline(0, color="black", linewidth=1, zorder=1.5)
    beside(ax, baseline, (1, 0), (4, 0), ("axes fraction", "data"), va="center", fontsize=8, color=GREY)
    ax.set_xlim(-0.5, len(sites) - 0.5)
    ax.margins(y=0.08)
    ax.grid(axis="x", visible=False)
    ax.tick_params(axis="x", length=0)
    if 2.9 + room > width:  # crowded: names alone, upright
        ax.set_xticks(range(len(sites)), [say(site, labels) for site in sites], rotation=90)
    else:
        # Each line on one baseline: aligned by their tops, a name with an accent sits lower.
        ax.set_xticks(range(len(sites)), [""] * len(sites))
        for s, tick in enumerate(ticks):
            for i, line in enumerate(tick.splitlines()):
                beside(ax, line, (s, 0), (0, -14 - 11 * i), ("data", "axes fraction"), ha="center")
    ax.set_ylabel(gain_words(spec, metric, baseline))
    ax.set_title(spec.title or f"{metric}: each method against {baseline}, by {say(spec.source, labels)}")
    count = {len(seeds) for seeds in pairs.values() if seeds}
    caption(
        fig,
        f"Mark: mean over {seeds_of(count)} of differences paired by seed. "
        f"Bar: 95 % interval ({NOTE[spec.interval]}). n: rows tested.",
        *left_out(rows, spec),
        *footnote,
    )
    fig.legend(loc="outside right center", title=say(spec.by, labels), alignment="left", handlelength=1.2)

    lines = [
        (site, method, seed, *values)
        for site in sites
        for method in methods
        for seed, values in sorted(pairs.get((site, method), {}).items(), key=lambda item: numeric(item[0]))
    ]
    return drawing(
        spec.name,
        fig,
        (spec.source, spec.by, "seed", spec.metric, f"{spec.baseline}_{spec.metric}", "gain"),
        lines,
        points,
    )


def of_baseline(spec: FigureSpec) -> dict[str, Any]:
    return {**spec.where, spec.by: spec.baseline}


def _mean_gain(site: Value, ends: Mapping[tuple[Value, Value], tuple[float, Any, Any]]) -> float:
    of_site = [e[0] for key, e in ends.items() if key[0] == site]
    return sum(of_site) / len(of_site) if of_site else float("-inf")


def _site(
    site: Value,
    spec: FigureSpec,
    pairs: Mapping[tuple[Value, Value], Mapping[Value, tuple[float, float, float]]],
    sizes: Mapping[Key, Mapping[Value, float]],
    labels: Mapping[str, str],
) -> str:
    """The site's name, its rows, and what the baseline reaches there."""
    base = {seed: p[1] for (s, _), seeds in pairs.items() if s == site for seed, p in seeds.items()}
    lines = [say(site, labels)]
    if n := sizes.get((site,), {}):
        lines.append(f"n = {round(sum(n.values()) / len(n)):,}")
    if base:
        lines.append(f"{say(spec.baseline, labels)} {sum(base.values()) / len(base):.3f}")
    return "\n".join(lines)


def gain_words(spec: FigureSpec, metric: str, baseline: str) -> str:
    if direction(spec.metric):
        return f"Difference in {metric} to {baseline}"
    if spec.metric in TARGET:
        return f"{metric}: closer to {TARGET[spec.metric]:g}\nthan {baseline} by"
    return f"Reduction of {metric} against {baseline}"
