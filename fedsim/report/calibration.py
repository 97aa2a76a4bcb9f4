"""Calibration curves: what share is positive where the model says so, from the stored predictions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

from fedsim import survival
from fedsim.base import require
from fedsim.metrics import horizon, smooth
from fedsim.report.drawing import (
    GREY,
    Drawing,
    Point,
    band_of,
    beside,
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
from fedsim.report.intervals import NOTE, cut, mean_interval
from fedsim.report.rows import NoRuns, Rows, Value
from fedsim.report.spec import FigureSpec
from fedsim.report.stored import Stored, load
from fedsim.report.words import say

Floats = NDArray[np.float64]
_GRID = 100  # points of a smooth curve
HISTOGRAM = np.linspace(0.0, 1.0, 21)


class Curve(NamedTuple):
    """predicted, positive: mean score and share of positives of each bin; share: of rows by score, f64[20];
    x, fitted: a smooth curve, see `metrics.smooth`."""

    predicted: Floats
    positive: Floats
    share: Floats
    x: Floats
    fitted: Floats


def binned(label: Floats, score: Floats, bins: int, w: Floats | None = None) -> tuple[Floats, Floats]:
    """Mean score and share of positives of each of `bins` bins with equally many rows, by rising score.

    Bins of equal size say as much about every part of the curve (Nguyen and O'Connor, EMNLP 2015, section 3).
    """
    order = np.argsort(score, kind="stable")
    parts = np.array_split(order, bins)
    return (
        np.array([np.average(score[p], weights=None if w is None else w[p]) for p in parts]),
        np.array([np.average(label[p], weights=None if w is None else w[p]) for p in parts]),
    )


def by_method(rows: Rows, spec: FigureSpec) -> dict[Value, dict[Value, Stored]]:
    """{method: {seed: stored predictions with probabilities of an event}}.

    Raises:
      RequestError: a run kept none, or has none; two runs for a method and seed; no run at all.
    """
    which = str(spec.where.get("set", "test"))
    made: dict[Value, dict[Value, Stored]] = {}
    owner: dict[tuple[Value, Value], str] = {}
    for run in rows.chosen(spec.where):
        if not run.done:
            continue
        key = (run.label(spec.by), run.seed)
        require(
            key not in owner,
            f"two runs for {spec.by}={key[0]} and seed {key[1]} ({owner.get(key)} and {run.id}); "
            "name the choice that differs in where",
        )
        owner[key] = run.id
        stored = load(run, which)
        require(
            stored.kind == "binary" or stored.risk is not None,
            f"figures of kind={spec.kind} are of probabilities of an event, and run {run.id} has none; leave "
            "it out, or for times to an event set evaluate.horizon",
        )
        if len(stored.label):
            made.setdefault(key[0], {})[key[1]] = stored
    if not made:
        raise NoRuns(f"no finished run has predictions under {spec.where}; loosen it, or run the sweep")
    return made


def known(stored: Stored) -> tuple[Floats, Floats, Floats]:
    """(label, probability, weight) of the rows whose state at the horizon is known, weighted for the others;
    of two classes all rows."""
    w = np.ones(len(stored.label)) if stored.weight is None else stored.weight
    if stored.time is None or stored.horizon is None:
        return stored.label, stored.probability, w
    event = stored.label > 0
    censored = survival.kaplan_meier(event, stored.time, w, censoring=True)
    omega, seen = horizon.weights(event, stored.time, censored, stored.horizon)
    seen &= np.isfinite(omega)
    early = (event & (stored.time <= stored.horizon)).astype(np.float64)
    return early[seen], stored.probability[seen], (w * omega)[seen]


def curves(rows: Rows, spec: FigureSpec) -> dict[Value, dict[Value, Curve]]:
    """{method: {seed: curve}} of runs with at least one row for each bin."""
    made: dict[Value, dict[Value, Curve]] = {}
    for method, by_seed in by_method(rows, spec).items():
        for seed, stored in by_seed.items():
            label, score, w = known(stored)
            if len(score) >= spec.bins:
                share = np.histogram(stored.probability, HISTOGRAM)[0] / len(stored.probability)
                curve = Curve(*binned(label, score, spec.bins, w), share, *smooth.curve(score, label, w))
                made.setdefault(method, {})[seed] = curve
    if not made:
        raise NoRuns(f"no finished run has {spec.bins} predictions or more; lower bins, or run the sweep")
    return made


def smoothed(seeds: Sequence[Curve]) -> tuple[Floats, Floats]:
    """(scores that all seeds give, f64[g]; each seed's smooth share there, f64[S, g])."""
    low, high = max(c.x[0] for c in seeds), min(c.x[-1] for c in seeds)
    at = np.linspace(low, high, _GRID) if low < high else np.array([low])
    return at, np.stack([np.interp(at, c.x, c.fitted) for c in seeds])


def calibration(rows: Rows, spec: FigureSpec, labels: Mapping[str, str], footnote: list[str]) -> Drawing:
    """A line per method against the diagonal, and below it how often each score is given."""
    found = curves(rows, spec)
    methods = in_plan(set(found), spec, rows)
    fig = Figure(figsize=(6.8, 5.2), dpi=160, layout="constrained")
    FigureCanvasAgg(fig)
    top, below = fig.subplots(2, 1, sharex=True, height_ratios=[4, 1])
    top.plot([0, 1], [0, 1], color=GREY, linewidth=1, linestyle=(0, (4, 3)), zorder=1)
    beside(top, "calibrated", (1, 1), (4, -3), "data", color=GREY, fontsize=8)
    looks, points = looks_of(methods, spec), []
    smooth_lines: list[tuple[Any, ...]] = []
    for method in methods:
        seeds = list(found[method].values())
        x = np.mean([s.predicted for s in seeds], axis=0)
        shares = [[s.positive[k] for s in seeds] for k in range(spec.bins)]
        ends = [cut(mean_interval(of_bin, spec.over_seeds), (0.0, 1.0)) for of_bin in shares]
        y = [e[0] for e in ends]
        stroke = stroke_of(looks[method])
        colour, dash = stroke["color"], stroke["linestyle"]
        at, fits = smoothed(seeds)
        top.plot(at, fits.mean(axis=0), color=colour, linewidth=1.6, linestyle=dash)
        band = [cut(mean_interval(fit.tolist(), spec.over_seeds), (0.0, 1.0)) for fit in fits.T]
        inner = [
            (a, e[1], e[2]) for a, e in zip(at, band, strict=True) if e[1] is not None and e[2] is not None
        ]
        if inner:
            where, low_end, high_end = zip(*inner, strict=True)
            top.fill_between(where, low_end, high_end, color=colour, **band_of(len(methods)))
        top.plot(x, y, **stroke | {"linestyle": "none"})
        top.plot([], [], label=say(method, labels), **stroke)
        smooth_lines += [
            (method, seed, "smooth", float(a), float(b))
            for seed, fit in zip(found[method], fits, strict=True)
            for a, b in zip(at, fit, strict=True)
        ]
        for at, (mean, low, high) in zip(x, ends, strict=True):
            if low is not None and high is not None:
                top.vlines(at, low, high, color=colour, linewidth=0.9, alpha=0.7)
            text = f"predicted {at:.3f}, positive {ends_of((mean, low, high), '.3f')}"
            points.append(Point(top, at, mean, f"{say(method, labels)}: {text}"))
        shares_of_rows = np.mean([s.share for s in seeds], axis=0)
        below.stairs(shares_of_rows, HISTOGRAM, color=colour, linewidth=1.3, linestyle=dash)
    top.set_xlim(0, 1)
    top.set_ylim(0, 1)
    top.set_ylabel("Share of positives")
    top.set_title(spec.title or "Calibration")
    below.set_ylabel("Share\nof rows")
    below.set_xlabel("Predicted probability")
    fig.align_ylabels()
    fig.legend(loc="outside right center", title=say(spec.by, labels), alignment="left")
    count = {len(seeds) for seeds in found.values()}
    caption(
        fig,
        f"Mark: mean over {seeds_of(count)}, in {spec.bins} bins with equally many rows.",
        f"Line: mean of smooth curves. Bar and band: 95 % interval ({NOTE[spec.interval]}).",
        *left_out(rows, spec),
        *footnote,
    )
    lines: list[tuple[Any, ...]] = [
        (method, seed, k + 1, float(curve.predicted[k]), float(curve.positive[k]))
        for method in methods
        for seed, curve in sorted(found[method].items(), key=lambda item: numeric(item[0]))
        for k in range(spec.bins)
    ]
    lines += smooth_lines
    return drawing(spec.name, fig, (spec.by, "seed", "bin", "predicted", "positive"), lines, points)
