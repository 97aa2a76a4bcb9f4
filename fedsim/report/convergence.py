"""How methods converge: a metric by round, a line per method, named at its right end."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from fedsim.report.drawing import (
    ONCE,
    Drawing,
    Point,
    apart,
    band_of,
    canvas,
    caption,
    drawing,
    ends_in,
    ends_of,
    in_plan,
    left_out,
    looks_of,
    numeric,
    seeds_of,
    stroke_of,
)
from fedsim.report.intervals import NOTE
from fedsim.report.rows import NoRuns, Rows, Value
from fedsim.report.spec import FigureSpec
from fedsim.report.values import observe
from fedsim.report.words import say


def curves(rows: Rows, spec: FigureSpec) -> dict[Value, dict[int, dict[Value, float]]]:
    """{method: {round: {seed: value}}}, in rounds where every seed of the method has a value."""
    found = observe(
        rows,
        level=spec.source,
        metrics=[spec.metric],
        dimensions=[spec.by, "round"],
        where=spec.where,
        at="all",
    )
    by_method: dict[Value, dict[int, dict[Value, float]]] = {}
    for (method, rnd), values in found.items():
        defined = {s: v for s, v in values.items() if v == v}
        if defined:
            by_method.setdefault(method, {})[int(rnd or 0)] = defined
    if not by_method:
        raise NoRuns(f"no finished run has {spec.metric} under {spec.where}; loosen it, or run the sweep")
    return {
        method: {r: v for r, v in sorted(rounds.items()) if len(v) == max(map(len, rounds.values()))}
        for method, rounds in by_method.items()
    }


def convergence(rows: Rows, spec: FigureSpec, labels: Mapping[str, str], footnote: list[str]) -> Drawing:
    by_method = curves(rows, spec)
    methods = in_plan(set(by_method), spec, rows)
    metric = say(spec.metric, labels)
    fig, ax = canvas(7.2, 4.0)
    right = max(r for rounds in by_method.values() for r in rounds)
    left = min((r for rounds in by_method.values() if len(rounds) > 1 for r in rounds), default=0)
    looks = looks_of(methods, spec)
    texts: list[tuple[float, str, str]] = []
    points: list[Point] = []
    for method in methods:
        colour = looks[method][0]
        rounds = list(by_method[method])
        ends = [ends_in(spec, list(by_method[method][r].values())) for r in rounds]
        once = len(rounds) == 1
        if once:  # a level to compare the curves with
            rounds, ends = [left, right], ends * 2
        mean = [e[0] for e in ends]
        stroke = stroke_of(looks[method]) | ({"linestyle": ONCE, "marker": ""} if once else {})
        every = max(1, len(rounds) // 8)  # marks enough to tell lines apart in grey
        ax.plot(rounds, mean, markevery=every, clip_on=False, **stroke)
        band = [(low, high) for _, low, high in ends if low is not None and high is not None]
        if len(band) == len(rounds):
            low, high = zip(*band, strict=True)
            ax.fill_between(rounds, low, high, color=colour, **band_of(len(methods)))
        if rounds[-1] < right:
            ax.plot(rounds[-1], mean[-1], marker="o", markersize=3.5, color=colour)
            ax.hlines(mean[-1], rounds[-1], right, color=colour, linewidth=0.6, alpha=0.6)
        points += [
            Point(ax, r, e[0], f"{say(method, labels)}, round {r}: {ends_of(e, '.4f')}")
            for r, e in zip(rounds, ends, strict=True)
        ]
        texts.append((mean[-1], say(method, labels), colour))
    ax.set_xlim(left, right if right > left else left + 1)
    ax.set_xlabel("Round")
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    level = {"pooled": "Pooled", "mean": "Mean over clients:", "worst": "Worst client's"}.get(
        spec.source, "Mean over clients by rows:"
    )
    ax.set_ylabel(f"{level} {metric}")
    ax.set_title(spec.title or f"{level} {metric} by round")
    count = {len(v) for rounds in by_method.values() for v in rounds.values()}
    dotted = " Dotted: evaluated once." if any(len(rounds) == 1 for rounds in by_method.values()) else ""
    caption(
        fig,
        f"Line: mean over {seeds_of(count)}. Band: 95 % interval ({NOTE[spec.interval]}).{dotted}",
        *left_out(rows, spec),
        *footnote,
    )
    _direct_labels(fig, ax, texts)
    lines = [
        (method, seed, rnd, value)
        for method in methods
        for rnd, values in by_method[method].items()
        for seed, value in sorted(values.items(), key=lambda item: numeric(item[0]))
    ]
    return drawing(spec.name, fig, (spec.by, "seed", "round", spec.metric), lines, points)


def _direct_labels(fig: Figure, ax: Axes, texts: Sequence[tuple[float, str, str]]) -> None:
    """Names at the right of their lines, pushed apart until they do not touch."""
    gap = 12.0  # points, for 9 point text
    fig.draw_without_rendering()  # places the axes
    scale = 72.0 / fig.dpi
    box = ax.get_window_extent()
    wanted = sorted(
        (float(ax.transData.transform((0, y))[1]) * scale, y, word, colour) for y, word, colour in texts
    )
    places = apart([height for height, *_ in wanted], gap, float(box.y0) * scale, float(box.y1) * scale)
    for place, (height, y, word, colour) in zip(places, wanted, strict=True):
        ax.annotate(
            word,
            (1, y),
            (14, place - height),
            xycoords=("axes fraction", "data"),
            textcoords="offset points",
            va="center",
            annotation_clip=False,
            arrowprops={
                "arrowstyle": "-",
                "color": colour,
                "linewidth": 0.8,
                "shrinkA": 0,
                "shrinkB": 1,
                "relpos": (0, 0.5),
            },
        )
