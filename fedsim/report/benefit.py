"""Decision curves: what acting on predictions is worth, by the probability from which on one acts.

Source: Vickers, Elkin, "Decision Curve Analysis", Medical Decision Making 2006; with times to an event
Vickers, Cronin, Elkin, Gonen, BMC Medical Informatics and Decision Making 2008.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from fedsim.metrics import NET_BENEFIT
from fedsim.report.calibration import by_method
from fedsim.report.drawing import (
    GREY,
    Drawing,
    Point,
    band_of,
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
from fedsim.report.intervals import NOTE, mean_interval
from fedsim.report.rows import Rows
from fedsim.report.spec import FigureSpec
from fedsim.report.stored import Stored
from fedsim.report.words import say

Floats = NDArray[np.float64]
STEPS = 50
EVERY = 10  # thresholds from one mark of a line to the next


def thresholds(spec: FigureSpec) -> list[float]:
    """Evenly spaced up to `spec.most`, without 0, rounded so that they can be read."""
    return [round(spec.most * (k + 1) / STEPS, 6) for k in range(STEPS)]


def benefit_of(stored: Stored, at: list[float]) -> tuple[Floats, Floats]:
    """Net benefit of acting on predictions, and of acting on all; f64[t] each, nan where undefined."""
    w = np.ones(len(stored.label)) if stored.weight is None else stored.weight
    found = stored.evaluate(w, tuple(f"{NET_BENEFIT}{of}{t:g}" for of in ("", "all_") for t in at))
    values = np.array([np.nan if v is None else v for v in found.values()], np.float64)
    return values[: len(at)], values[len(at) :]


def benefit(rows: Rows, spec: FigureSpec, labels: Mapping[str, str], footnote: list[str]) -> Drawing:
    """A line per method, and two for acting on everybody and on nobody."""
    at = thresholds(spec)
    found = {
        method: {seed: benefit_of(stored, at) for seed, stored in by_seed.items()}
        for method, by_seed in by_method(rows, spec).items()
    }
    methods = in_plan(set(found), spec, rows)
    fig, ax = canvas(6.8, 4.0)
    looks, points = looks_of(methods, spec), []
    everyone = np.mean([all_ for of in found.values() for _, all_ in of.values()], axis=0)
    ax.plot(at, everyone, color=GREY, linewidth=1, linestyle=(0, (4, 3)), zorder=1)
    ax.axhline(0, color=GREY, linewidth=1, zorder=1)
    beside(ax, "act on nobody", (at[-1], 0), (4, -3), "data", color=GREY, fontsize=8)
    top = 1e-3
    for method in methods:
        seeds = np.stack([of for of, _ in found[method].values()])
        top = max(top, float(np.nanmax(seeds, initial=0.0)))
        ends = [mean_interval(values.tolist(), spec.over_seeds) for values in seeds.T]
        ax.plot(
            at,
            [e[0] for e in ends],
            # Not where its neighbours have theirs: lines lie close.
            markevery=(3 * looks[method][1] % EVERY, EVERY),
            label=say(method, labels),
            **stroke_of(looks[method]),
        )
        band = [
            (t, e[1], e[2]) for t, e in zip(at, ends, strict=True) if e[1] is not None and e[2] is not None
        ]
        if band:
            where, low, high = zip(*band, strict=True)
            ax.fill_between(where, low, high, color=looks[method][0], **band_of(len(methods)))
        for t, e in list(zip(at, ends, strict=True))[4::5]:
            points.append(Point(ax, t, e[0], f"{say(method, labels)}, from {t:g} on: {ends_of(e, '.4f')}"))
    ax.set_xlim(0, spec.most)
    bottom = -0.15 * top  # what is much worse than nothing need not be told apart
    ax.set_ylim(bottom, 1.1 * max(top, float(np.nanmax(everyone, initial=0.0))))
    points = [point for point in points if point.y >= bottom]
    ax.set_xlabel("Probability from which on one acts")
    ax.set_ylabel("Net benefit, per patient")
    ax.set_title(spec.title or "Net benefit")
    fig.legend(loc="outside right center", title=say(spec.by, labels), alignment="left")
    caption(
        fig,
        f"Line: mean over {seeds_of({len(of) for of in found.values()})}. Band: 95 % interval "
        f"({NOTE[spec.interval]}). Thin and dashed: act on everybody.",
        *left_out(rows, spec),
        *footnote,
    )
    lines = [
        (method, seed, t, float(of[k]), float(all_[k]))
        for method in methods
        for seed, (of, all_) in sorted(found[method].items(), key=lambda item: numeric(item[0]))
        for k, t in enumerate(at)
    ]
    return drawing(spec.name, fig, (spec.by, "seed", "threshold", "net_benefit", "everybody"), lines, points)
