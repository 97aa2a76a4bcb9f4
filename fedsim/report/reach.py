"""What it takes to reach a target: rounds, bytes and, where machines are known, simulated seconds."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from dataclasses import dataclass

from fedsim.base import require
from fedsim.metrics import HIGHER_IS_BETTER
from fedsim.report.drawing import (
    GREY,
    Drawing,
    Point,
    beside,
    caption,
    drawing,
    in_plan,
    left_out,
    looks_of,
    mark_of,
    numeric,
    panels,
    seeds_of,
)
from fedsim.report.rows import NoRuns, Rows, Value
from fedsim.report.spec import FigureSpec
from fedsim.report.values import observe
from fedsim.report.words import say

COSTS = ("bytes_up", "bytes_down", "simulated_seconds")
AXES = {"rounds": "Rounds", "megabytes": "MB sent and received", "seconds": "Simulated seconds"}


@dataclass(frozen=True)
class Reached:
    """The first judged round that reached the target. seconds: None where machines are unknown."""

    rounds: int
    megabytes: float
    seconds: float | None


def reached(rows: Rows, spec: FigureSpec) -> dict[Value, dict[Value, Reached | None]]:
    """{method: {seed: what it took}}, None for runs that did not reach `spec.target`."""
    assert spec.target is not None
    require(
        spec.metric in HIGHER_IS_BETTER,
        f"{spec.metric} has no better side to reach a target on; choose one of {', '.join(HIGHER_IS_BETTER)}",
    )
    sign = 1 if HIGHER_IS_BETTER[spec.metric] else -1
    metrics = [spec.metric, *(c for c in COSTS if c in rows.columns["rounds"])]
    found = observe(
        rows,
        level=spec.source,
        metrics=metrics,
        dimensions=[spec.by, "round", "metric"],
        where=spec.where,
        at="all",
    )
    made: dict[Value, dict[Value, Reached | None]] = {}
    for by, rnd, metric in sorted(found, key=lambda key: int(key[1] or 0)):
        if metric != spec.metric:
            continue
        for seed, value in found[by, rnd, metric].items():
            of_method = made.setdefault(by, {})
            if of_method.get(seed) is None:
                of_method[seed] = None
                if value == value and sign * value >= sign * spec.target:
                    up, down, seconds = (found.get((by, rnd, c), {}).get(seed) for c in COSTS)
                    known = None if seconds is None or seconds != seconds else seconds
                    of_method[seed] = Reached(int(rnd or 0), ((up or 0.0) + (down or 0.0)) / 1e6, known)
    if not made:
        raise NoRuns(f"no finished run has {spec.metric} under {spec.where}; loosen it, or run the sweep")
    return made


def reach(rows: Rows, spec: FigureSpec, labels: Mapping[str, str], footnote: list[str]) -> Drawing:
    """Methods down the page: a ring for each seed, the median filled; how many got there on the right."""
    found = reached(rows, spec)
    methods = in_plan(set(found), spec, rows)
    timed = any(r and r.seconds is not None for seeds in found.values() for r in seeds.values())
    costs = [name for name in AXES if name != "seconds" or timed]
    fig, axes = panels(len(costs), 1.4 + 2.3 * len(costs), 1.7 + 0.36 * len(methods))
    looks, points = looks_of(methods, spec), []
    for ax, cost in zip(axes, costs, strict=True):
        values = {
            m: {s: float(v) for s, r in found[m].items() if r and (v := getattr(r, cost)) is not None}
            for m in methods
        }
        for y, method in enumerate(methods):
            colour, place = looks[method]
            mine = values[method]
            if not mine:
                continue
            ax.plot(
                list(mine.values()),
                [y] * len(mine),
                linestyle="none",
                marker="o",
                markersize=5,
                markerfacecolor="none",
                markeredgecolor=colour,
                markeredgewidth=0.9,
                alpha=0.8,
            )
            middle = statistics.median(mine.values())
            ax.plot(middle, y, marker=mark_of(place), color=colour, markersize=7, markeredgecolor="white")
            text = f"{say(method, labels)}: {AXES[cost].lower()} {middle:.4g}, {_got(found[method])}"
            points.append(Point(ax, middle, y, text))
        every = [v for mine in values.values() for v in mine.values()]
        if every and min(every) > 0 and max(every) / min(every) > 20:
            ax.set_xscale("log")
        else:
            ax.set_xlim(left=0)
            ax.margins(x=0.08)
        ax.set_xlabel(AXES[cost])
        ax.grid(axis="y", color="#E6E6E6")
    axes[0].set_yticks(range(len(methods)), [say(m, labels) for m in methods])
    axes[0].set_ylim(len(methods) - 0.4, -0.6)
    for y, method in enumerate(methods):
        at = ((1, y), (8, 0), ("axes fraction", "data"))
        beside(axes[-1], _got(found[method]), *at, va="center", fontsize=8, color=GREY)
    target = f"{say(spec.metric, labels)} {spec.target:g}"
    title = spec.title or f"What it takes to reach {target}"
    fig.suptitle(title, x=0.01, ha="left", fontsize=10.5, fontweight="bold")
    count = {len(seeds) for seeds in found.values()}
    caption(
        fig,
        f"Ring: a seed; filled: the median of those that reached {target} (of {seeds_of(count)}), in rounds "
        "that were judged.",
        *left_out(rows, spec),
        *footnote,
    )
    lines = [
        (method, seed, *((r.rounds, r.megabytes, r.seconds) if r else ("", "", "")))
        for method in methods
        for seed, r in sorted(found[method].items(), key=lambda item: numeric(item[0]))
    ]
    header = (spec.by, "seed", "rounds", "megabytes", "simulated_seconds")
    return drawing(spec.name, fig, header, lines, points)


def _got(seeds: Mapping[Value, Reached | None]) -> str:
    return f"{sum(r is not None for r in seeds.values())} of {len(seeds)} reach it"
