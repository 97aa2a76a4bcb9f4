"""Figures: what each site gains, how methods converge, a metric against a choice. Same rows, same bytes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from fedsim.base import RequestError
from fedsim.metrics import HIGHER_IS_BETTER, TARGET, badness
from fedsim.report.against import against
from fedsim.report.drawing import (
    COLOURS,
    GREY,
    LINES,
    MARKERS,
    ONCE,
    Drawing,
    beside,
    canvas,
    caption,
    drawing,
    in_plan,
    left_out,
    looks_of,
    numeric,
    seeds_of,
    style,
)
from fedsim.report.intervals import NOTE, mean_interval
from fedsim.report.rows import Key, NoRuns, Rows, Value, observe, options
from fedsim.report.spec import FigureSpec, ReportSpec
from fedsim.report.tables import leave_out, sources
from fedsim.report.words import say


def figures(
    rows: Rows, spec: ReportSpec, stale: str = "refuse", without_runs: list[str] | None = None
) -> list[Drawing]:
    """Every declared figure; which runs were left out is in its caption.

    Args:
      without_runs: as in `report.tables`.

    Raises:
      RequestError: as `report.tables`.
    """
    footnote = sources(rows, stale)
    made = []
    for figure in spec.figures:
        try:
            draw = {"gain": _gain, "convergence": _convergence, "against": against}[figure.kind]
            with style():
                made.append(draw(rows, figure, spec.labels, footnote))
        except RequestError as error:
            leave_out(f"figure {figure.name}: {error}", error, without_runs)
    return made


# --- gain ------------------------------------------------------------------------------------


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


def _gain(rows: Rows, spec: FigureSpec, labels: Mapping[str, str], footnote: list[str]) -> Drawing:
    pairs = gains(rows, spec)
    ends = {
        key: mean_interval([p[2] for p in seeds.values()], spec.interval)
        for key, seeds in pairs.items()
        if seeds
    }
    methods = in_plan({method for _, method in pairs}, spec, rows)
    sites = sorted({site for site, _ in pairs}, key=lambda s: (-_mean_gain(s, ends), str(s)))
    sizes = observe(
        rows, level=spec.source, metrics=["n"], dimensions=[spec.source], where=_of_baseline(spec)
    )
    metric, baseline = say(spec.metric, labels), say(spec.baseline, labels)

    ticks = [_site(site, spec, pairs, sizes, labels) for site in sites]
    letters = max(len(line) for tick in ticks for line in tick.splitlines())
    # Room for each site's words and dots, and for the legend.
    room = len(sites) * max(0.085 * letters, 0.17 * len(methods))
    width = min(14.0, max(6.4, 2.9 + room))
    fig, ax = canvas(width, 4.0)
    slot = 0.76 / len(methods)
    looks = looks_of(methods, spec)
    for m, method in enumerate(methods):
        colour, place = looks[method]
        at = [
            (s + (m - (len(methods) - 1) / 2) * slot, ends[site, method])
            for s, site in enumerate(sites)
            if (site, method) in ends
        ]
        for x, (_, low, high) in at:
            if low is not None and high is not None:
                ax.vlines(x, low, high, color=colour, linewidth=1.6)
        ax.plot(
            [x for x, _ in at],
            [e[0] for _, e in at],
            linestyle="none",
            marker=MARKERS[place % len(MARKERS)],
            markersize=5.5,
            color=colour,
            # Colours come round again after seven methods: then marks are hollow.
            markerfacecolor="white" if place // len(COLOURS) % 2 else colour,
            label=say(method, labels),
        )
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
    ax.set_ylabel(_gain_words(spec, metric, baseline))
    ax.set_title(spec.title or f"{metric}: each method against {baseline}, by {say(spec.source, labels)}")
    count = {len(seeds) for seeds in pairs.values() if seeds}
    caption(
        fig,
        f"Mark: mean over {seeds_of(count)} of differences paired by seed. "
        f"Bar: 95 % interval ({NOTE[spec.interval]}). n: rows tested.",
        *left_out(rows, spec),
        *footnote,
    )
    fig.legend(loc="outside right center", title=say(spec.by, labels), alignment="left")

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
    )


def _of_baseline(spec: FigureSpec) -> dict[str, Any]:
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


def _gain_words(spec: FigureSpec, metric: str, baseline: str) -> str:
    if HIGHER_IS_BETTER.get(spec.metric):
        return f"Difference in {metric} to {baseline}"
    if spec.metric in TARGET:
        return f"{metric}: closer to {TARGET[spec.metric]:g}\nthan {baseline} by"
    return f"Reduction of {metric} against {baseline}"


# --- convergence -----------------------------------------------------------------------------


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


def _convergence(rows: Rows, spec: FigureSpec, labels: Mapping[str, str], footnote: list[str]) -> Drawing:
    by_method = curves(rows, spec)
    methods = in_plan(set(by_method), spec, rows)
    metric = say(spec.metric, labels)
    fig, ax = canvas(7.2, 4.0)
    right = max(r for rounds in by_method.values() for r in rounds)
    left = min((r for rounds in by_method.values() if len(rounds) > 1 for r in rounds), default=0)
    looks = looks_of(methods, spec)
    texts: list[tuple[float, str, str]] = []
    for method in methods:
        colour, place = looks[method]
        rounds = list(by_method[method])
        ends = [mean_interval(list(by_method[method][r].values()), spec.interval) for r in rounds]
        once = len(rounds) == 1
        if once:  # a level to compare the curves with
            rounds, ends = [left, right], ends * 2
        mean = [e[0] for e in ends]
        style = ONCE if once else LINES[place // len(COLOURS) % len(LINES)]
        ax.plot(rounds, mean, color=colour, linewidth=1.8, linestyle=style)
        band = [(low, high) for _, low, high in ends if low is not None and high is not None]
        if len(band) == len(rounds):
            low, high = zip(*band, strict=True)
            ax.fill_between(rounds, low, high, color=colour, alpha=0.08 if once else 0.15, linewidth=0)
        if rounds[-1] < right:
            ax.plot(rounds[-1], mean[-1], marker="o", markersize=3.5, color=colour)
            ax.hlines(mean[-1], rounds[-1], right, color=colour, linewidth=0.6, alpha=0.6)
        texts.append((mean[-1], say(method, labels), colour))
    ax.set_xlim(left, right if right > left else left + 1)
    ax.set_xlabel("Round")
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
    return drawing(spec.name, fig, (spec.by, "seed", "round", spec.metric), lines)


def _direct_labels(fig: Figure, ax: Axes, texts: Sequence[tuple[float, str, str]]) -> None:
    """Names at the right of their lines, pushed apart until they do not touch."""
    gap = 12.0  # points, for 9 point text
    fig.draw_without_rendering()  # places the axes
    scale = 72.0 / fig.dpi
    box = ax.get_window_extent()
    wanted = sorted(
        (float(ax.transData.transform((0, y))[1]) * scale, y, word, colour) for y, word, colour in texts
    )
    places = _apart([height for height, *_ in wanted], gap, float(box.y0) * scale, float(box.y1) * scale)
    for place, (height, y, word, colour) in zip(places, wanted, strict=True):
        ax.annotate(
            word,
            (1, y),
            (14, place - height),
            xycoords=("axes fraction", "data"),
            textcoords="offset points",
            va="center",
            color=colour,
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


def _apart(heights: Sequence[float], gap: float, bottom: float, top: float) -> list[float]:
    """The least squares change of rising `heights` that leaves `gap` between neighbours.

    With i * gap taken off, it is isotonic regression by pooling adjacent violators.
    """
    blocks: list[tuple[float, int]] = []
    for i, height in enumerate(heights):
        blocks.append((height - i * gap, 1))
        while len(blocks) > 1 and blocks[-2][0] > blocks[-1][0]:
            (a, m), (b, n) = blocks[-2:]
            blocks[-2:] = [((a * m + b * n) / (m + n), m + n)]
    flat = [value for value, count in blocks for _ in range(count)]
    ceiling = max(top - (len(heights) - 1) * gap, bottom)
    return [min(max(value, bottom), ceiling) + i * gap for i, value in enumerate(flat)]
