"""Figures: what each site gains, and how methods converge. Same rows, same bytes."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from fedsim.base import RequestError
from fedsim.metrics import HIGHER_IS_BETTER, TARGET, badness
from fedsim.report.intervals import NOTE, mean_interval
from fedsim.report.rows import Key, Rows, Value, chosen, observe, options, plain
from fedsim.report.spec import FigureSpec, ReportSpec
from fedsim.report.tables import NoRuns, leave_out, sources
from fedsim.report.words import say

# Okabe and Ito 2008: told apart under every common colour blindness. Yellow is left out: too pale.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
MARKERS = ("o", "s", "D", "^", "v", "P", "X")
LINES: tuple[Any, ...] = ("-", (0, (5, 1.5)), (0, (6, 1.5, 1.5, 1.5)))
ONCE: Any = (0, (1.2, 1.2))
GREY = "#595959"

_STYLE: Any = {
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.edgecolor": GREY,
    "axes.labelsize": 9,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlelocation": "left",
    "axes.titlesize": 10.5,
    "axes.titleweight": "bold",
    "axes.titlepad": 10,
    "axes.unicode_minus": True,
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "grid.color": "#E6E6E6",
    "grid.linewidth": 0.8,
    "legend.frameon": False,
    "svg.hashsalt": "fedsim",  # else the ids in the file are drawn at random
    "xtick.color": GREY,
    "xtick.labelcolor": "black",
    "ytick.color": GREY,
    "ytick.labelcolor": "black",
}


@dataclass(frozen=True)
class Drawing:
    """A figure and the rows behind it: png and svg are file contents, csv has one line per point."""

    name: str
    png: bytes
    svg: bytes
    csv: str


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
            draw = {"gain": _gain, "convergence": _convergence}[figure.kind]
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
    methods = _ordered({method for _, method in pairs}, spec, rows)
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
    looks = _looks(methods, spec)
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
            _beside(ax, "undefined", (s, 0), (0, 4), "data", ha="center", color=GREY)
    ax.axhline(0, color="black", linewidth=1, zorder=1.5)
    _beside(ax, baseline, (1, 0), (4, 0), ("axes fraction", "data"), va="center", fontsize=8, color=GREY)
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
                _beside(ax, line, (s, 0), (0, -14 - 11 * i), ("data", "axes fraction"), ha="center")
    ax.set_ylabel(_gain_words(spec, metric, baseline))
    ax.set_title(spec.title or f"{metric}: each method against {baseline}, by {say(spec.source, labels)}")
    count = {len(seeds) for seeds in pairs.values() if seeds}
    caption(
        fig,
        f"Mark: mean over {_seeds(count)} of differences paired by seed. "
        f"Bar: 95 % interval ({NOTE[spec.interval]}). n: rows tested.",
        *left_out(rows, spec),
        *footnote,
    )
    fig.legend(loc="outside right center", title=say(spec.by, labels), alignment="left")

    lines = [
        (site, method, seed, *values)
        for site in sites
        for method in methods
        for seed, values in sorted(pairs.get((site, method), {}).items(), key=lambda item: _numeric(item[0]))
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
    methods = _ordered(set(by_method), spec, rows)
    metric = say(spec.metric, labels)
    fig, ax = canvas(7.2, 4.0)
    right = max(r for rounds in by_method.values() for r in rounds)
    left = min((r for rounds in by_method.values() if len(rounds) > 1 for r in rounds), default=0)
    looks = _looks(methods, spec)
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
        f"Line: mean over {_seeds(count)}. Band: 95 % interval ({NOTE[spec.interval]}).{dotted}",
        *left_out(rows, spec),
        *footnote,
    )
    _direct_labels(fig, ax, texts)
    lines = [
        (method, seed, rnd, value)
        for method in methods
        for rnd, values in by_method[method].items()
        for seed, value in sorted(values.items(), key=lambda item: _numeric(item[0]))
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


# --- files -----------------------------------------------------------------------------------


@contextmanager
def style() -> Iterator[None]:
    """The same look and bytes whatever the user's matplotlibrc says."""
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(_STYLE)
        yield


def canvas(width: float, height: float) -> tuple[Figure, Axes]:
    fig = Figure(figsize=(width, height), dpi=160, layout="constrained")
    FigureCanvasAgg(fig)
    return fig, fig.add_subplot()


def _beside(ax: Axes, text: str, at: Any, offset: Any, system: Any, **look: Any) -> None:
    """Text `offset` points away from `at`, by its baseline."""
    look = {"va": "baseline", "annotation_clip": False, **look}
    ax.annotate(text, at, offset, xycoords=system, textcoords="offset points", **look)


def left_out(rows: Rows, spec: FigureSpec) -> list[str]:
    """What a reader must know of runs that the figure should show and cannot."""
    runs = [run for run in rows.runs if chosen(run, {d: w for d, w in spec.where.items() if d != spec.by})]
    if spec.by in spec.where:
        shown = [*options(spec.where[spec.by]), spec.baseline]
        runs = [run for run in runs if chosen(run, {spec.by: shown})]
    diverged = sum(run.diverged for run in runs)
    unfinished = sum(not run.done for run in runs) - diverged + len(rows.missing)
    words = [f"{diverged} diverged"] * bool(diverged) + [f"{unfinished} did not finish"] * bool(unfinished)
    return [f"Left out: of the runs, {' and '.join(words)}."] if words else []


def caption(fig: Figure, *lines: str) -> None:
    fig.supxlabel("\n".join(lines), x=0.01, ha="left", fontsize=7.5, color=GREY)


def _seeds(counts: set[int]) -> str:
    low, high = min(counts, default=0), max(counts, default=0)
    return (f"{low} to {high}" if low < high else f"{high}") + f" seed{'s' if high != 1 else ''}"


def _ordered(methods: set[Value], spec: FigureSpec, rows: Rows) -> list[Value]:
    """As listed under `where`, then as in the plan."""
    cells = rows.planned or tuple(run.cell for run in rows.runs)
    listed = [*map(str, options(spec.where.get(spec.by, [])))]
    listed += [str(plain(cell[spec.by])) for cell in cells if spec.by in cell]
    rank = {name: i for i, name in reversed(list(enumerate(listed)))}
    return sorted(methods, key=lambda m: (rank.get(str(m), len(listed)), str(m)))


def _looks(methods: Sequence[Value], spec: FigureSpec) -> dict[Value, tuple[str, int]]:
    """{method: (colour, its place)}. The baseline is grey, so its rivals look alike with and without it."""
    rivals = [m for m in methods if str(m) != spec.baseline]
    looks = {m: (COLOURS[i % len(COLOURS)], i) for i, m in enumerate(rivals)}
    return {m: looks.get(m, (GREY, 0)) for m in methods}


def _numeric(seed: Value) -> tuple[float, str]:
    return (float(seed), "") if isinstance(seed, int | float) else (float("inf"), str(seed))


def drawing(name: str, fig: Figure, header: Sequence[str], lines: Sequence[Sequence[Any]]) -> Drawing:
    out = io.StringIO()
    write = csv.writer(out, lineterminator="\n").writerow
    write(header)
    for line in lines:
        write([repr(v) if isinstance(v, float) else v for v in line])
    png, svg = io.BytesIO(), io.BytesIO()
    # No dates and no versions: the same rows give the same bytes.
    fig.savefig(
        png, format="png", dpi=160, facecolor="white", metadata={"Software": None}, bbox_inches="tight"
    )
    fig.savefig(
        svg, format="svg", facecolor="white", metadata={"Date": None, "Creator": None}, bbox_inches="tight"
    )
    return Drawing(name, png.getvalue(), svg.getvalue(), out.getvalue())
