"""Calibration curves: what share is positive where the model says so, from the stored predictions."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

from fedsim.base import RequestError, require
from fedsim.report.drawing import (
    GREY,
    LINES,
    MARKERS,
    Drawing,
    Point,
    beside,
    caption,
    drawing,
    ends_of,
    in_plan,
    left_out,
    looks_of,
    numeric,
    seeds_of,
)
from fedsim.report.intervals import NOTE, cut, mean_interval
from fedsim.report.rows import NoRuns, Rows, Run, Value, chosen
from fedsim.report.spec import FigureSpec
from fedsim.report.words import say

Floats = NDArray[np.float64]
HISTOGRAM = np.linspace(0.0, 1.0, 21)


def binned(label: Floats, score: Floats, bins: int) -> tuple[Floats, Floats]:
    """Mean score and share of positives of each of `bins` bins with equally many rows, by rising score.

    Bins of equal size say as much about every part of the curve (Nguyen and O'Connor, EMNLP 2015, section 3).
    """
    order = np.argsort(score, kind="stable")
    parts = np.array_split(order, bins)
    return (
        np.array([score[p].mean() for p in parts]),
        np.array([label[p].mean() for p in parts]),
    )


def predictions(run: Run, which: str) -> tuple[Floats, Floats]:
    """Labels and scores of a run's rows of one set, all folds together.

    Raises:
      RequestError: it kept none, or they are not those of a binary task.
    """
    path = run.folder / "predictions.parquet"
    try:
        table = pq.read_table(path, columns=["set", "label", "score"], use_threads=False)
    except (OSError, pa.ArrowInvalid):
        raise RequestError(
            f"run {run.id} kept no predictions; run it with evaluate.predictions=true"
        ) from None
    table = table.filter(pc.equal(table.column("set"), which))
    score, label = table.column("score"), table.column("label")
    binary = pa.types.is_floating(score.type) and pa.types.is_integer(label.type)
    require(binary, f"calibration curves are for binary tasks, and run {run.id} has another; leave it out")
    return label.to_numpy().astype(np.float64), score.to_numpy().astype(np.float64)


def curves(rows: Rows, spec: FigureSpec) -> dict[Value, dict[Value, tuple[Floats, Floats, Floats]]]:
    """{method: {seed: (mean score of each bin, share of positives there, share of rows by score)}}."""
    which = str(spec.where.get("set", "test"))
    made: dict[Value, dict[Value, tuple[Floats, Floats, Floats]]] = {}
    owner: dict[tuple[Value, Value], str] = {}
    for run in rows.runs:
        if not (run.done and chosen(run, spec.where)):
            continue
        key = (run.label(spec.by), run.seed)
        require(
            key not in owner,
            f"two runs for {spec.by}={key[0]} and seed {key[1]} ({owner.get(key)} and {run.id}); "
            "name the choice that differs in where",
        )
        owner[key] = run.id
        label, score = predictions(run, which)
        if len(score) >= spec.bins:
            share = np.histogram(score, HISTOGRAM)[0] / len(score)
            made.setdefault(key[0], {})[key[1]] = (*binned(label, score, spec.bins), share)
    if not made:
        raise NoRuns(f"no finished run has predictions under {spec.where}; loosen it, or run the sweep")
    return made


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
    for method in methods:
        colour, place = looks[method]
        seeds = list(found[method].values())
        x = np.mean([s[0] for s in seeds], axis=0)
        shares = [[s[1][k] for s in seeds] for k in range(spec.bins)]
        ends = [cut(mean_interval(of_bin, spec.interval), (0.0, 1.0)) for of_bin in shares]
        y = [e[0] for e in ends]
        look = {"color": colour, "linestyle": LINES[place // len(MARKERS) % len(LINES)]}
        marker = MARKERS[place % len(MARKERS)]
        top.plot(x, y, linewidth=1.4, marker=marker, markersize=4.5, label=say(method, labels), **look)
        for at, (mean, low, high) in zip(x, ends, strict=True):
            if low is not None and high is not None:
                top.vlines(at, low, high, color=colour, linewidth=0.9, alpha=0.7)
            text = f"predicted {at:.3f}, positive {ends_of((mean, low, high), '.3f')}"
            points.append(Point(top, at, mean, f"{say(method, labels)}: {text}"))
        below.stairs(np.mean([s[2] for s in seeds], axis=0), HISTOGRAM, linewidth=1.3, **look)
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
        f"{spec.bins} bins with equally many rows. Mark: mean over {seeds_of(count)}. Bar: 95 % interval "
        f"({NOTE[spec.interval]}).",
        *left_out(rows, spec),
        *footnote,
    )
    lines = [
        (method, seed, k + 1, float(curve[0][k]), float(curve[1][k]))
        for method in methods
        for seed, curve in sorted(found[method].items(), key=lambda item: numeric(item[0]))
        for k in range(spec.bins)
    ]
    return drawing(spec.name, fig, (spec.by, "seed", "bin", "predicted", "positive"), lines, points)
