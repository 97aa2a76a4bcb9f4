"""Figures of a metric against a dimension of the sweep, such as accuracy against epsilon: a line per method,
a panel per site. Values of the dimension stand at equal distances, in the order of the plan."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from fedsim.report.drawing import (
    ACROSS,
    Drawing,
    Point,
    band_of,
    caption,
    drawing,
    ends_in,
    ends_of,
    in_plan,
    left_out,
    looks_of,
    numeric,
    panels,
    seeds_of,
    stroke_of,
)
from fedsim.report.intervals import NOTE
from fedsim.report.rows import NoRuns, Rows, Value
from fedsim.report.spec import NAMED, FigureSpec
from fedsim.report.values import observe
from fedsim.report.words import say

Curve = dict[Value, dict[Value, float]]  # value of the dimension -> seed -> value of the metric


def curves(rows: Rows, spec: FigureSpec) -> dict[Value, dict[Value, Curve]]:
    """{site (or None): {method: curve}}; seeds without a value are left out."""
    assert spec.x is not None
    split = [spec.source] if spec.source in NAMED else []
    found = observe(
        rows, level=spec.source, metrics=[spec.metric], dimensions=[*split, spec.by, spec.x], where=spec.where
    )
    made: dict[Value, dict[Value, Curve]] = {}
    for (*site, method, at), values in found.items():
        defined = {seed: v for seed, v in values.items() if v == v}
        if defined:
            made.setdefault(site[0] if site else None, {}).setdefault(method, {})[at] = defined
    if not made:
        raise NoRuns(f"no finished run has {spec.metric} under {spec.where}; loosen it, or run the sweep")
    return made


def against(rows: Rows, spec: FigureSpec, labels: Mapping[str, str], footnote: list[str]) -> Drawing:
    """Draw it."""
    assert spec.x is not None
    by_site = curves(rows, spec)
    sites = in_plan(set(by_site), replace(spec, by=spec.source), rows)
    methods = in_plan({m for of_site in by_site.values() for m in of_site}, spec, rows)
    places = in_plan(
        {x for of_site in by_site.values() for curve in of_site.values() for x in curve},
        replace(spec, by=spec.x),
        rows,
    )
    fig, axes = panels(len(sites), 1.6 + 2.1 * min(len(sites), ACROSS) if len(sites) > 1 else 6.4, 3.4)
    looks, metric = looks_of(methods, spec), say(spec.metric, labels)
    count: set[int] = set()
    points: list[Point] = []
    for ax, site in zip(axes, sites, strict=True):
        for method in methods:
            curve = by_site[site].get(method, {})
            at = [i for i, x in enumerate(places) if x in curve]
            ends = [ends_in(spec, list(curve[places[i]].values())) for i in at]
            count |= {len(curve[places[i]]) for i in at}
            ax.plot(
                at,
                [mean for mean, _, _ in ends],
                label=say(method, labels),
                **stroke_of(looks[method]),
            )
            points += [
                Point(ax, i, e[0], f"{say(method, labels)}, {say(places[i], labels)}: {ends_of(e, '.4f')}")
                for i, e in zip(at, ends, strict=True)
            ]
            band = [(i, e[1], e[2]) for i, e in zip(at, ends, strict=True) if e[1] is not None]
            if band:
                where, low, high = zip(*band, strict=True)
                ax.fill_between(where, low, high, color=looks[method][0], **band_of(len(methods)))
        ax.set_xticks(range(len(places)), [say(x, labels) for x in places])
        ax.set_xlabel(say(spec.x, labels))
        if site is not None:
            ax.set_title(say(site, labels), fontsize=9)
    for ax in axes[::ACROSS]:
        ax.set_ylabel(metric)
    fig.suptitle(
        spec.title or f"{metric} against {say(spec.x, labels)}",
        x=0.01,
        ha="left",
        fontsize=10.5,
        fontweight="bold",
    )
    caption(
        fig,
        f"Mark: mean over {seeds_of(count)}. Band: 95 % interval ({NOTE[spec.interval]}).",
        *left_out(rows, spec),
        *footnote,
    )
    handles, names = axes[0].get_legend_handles_labels()
    fig.legend(handles, names, loc="outside right center", title=say(spec.by, labels), alignment="left")
    lines = [
        (site, method, x, seed, value) if site is not None else (method, x, seed, value)
        for site in sites
        for method in methods
        for x in places
        for seed, value in sorted(
            by_site[site].get(method, {}).get(x, {}).items(), key=lambda item: numeric(item[0])
        )
    ]
    header = (spec.by, spec.x, "seed", spec.metric)
    return drawing(spec.name, fig, header if sites == [None] else (spec.source, *header), lines, points)
