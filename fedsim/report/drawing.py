"""What figures are drawn with: one look for all, the same rows to the same bytes, and what stands below."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

import matplotlib
import numpy as np
from fontTools.subset import Options
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure

from fedsim.metrics import RANGE
from fedsim.report.intervals import Interval, cut, mean_interval
from fedsim.report.labels import options
from fedsim.report.rows import Rows, Value
from fedsim.report.spec import FigureSpec

# Okabe and Ito 2008: told apart under every common colour blindness. Yellow is left out: too pale.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
MARKERS = ("o", "s", "D", "^", "v", "P", "X")
LINES: tuple[Any, ...] = ("-", (0, (5, 1.5)), (0, (6, 1.5, 1.5, 1.5)))
ONCE: Any = (0, (1.2, 1.2))
BASELINE = "*"  # its mark: none of the others
GREY = "#595959"
# Lightness rises evenly (Nunez, Anderton, Renslow, PLoS ONE 13, 2018): as good in grey. Ends are left out, so
# that what is written on it is told apart.
HEAT = ListedColormap(matplotlib.colormaps["cividis"](np.linspace(0.08, 0.98, 256)))

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
    "legend.handlelength": 3.4,  # enough to see how a line is dashed
    "pdf.fonttype": 42,  # text that journals accept and readers can search
    "svg.hashsalt": "fedsim",  # else the ids in the file are drawn at random
    "xtick.color": GREY,
    "xtick.labelcolor": "black",
    "ytick.color": GREY,
    "ytick.labelcolor": "black",
}


class Point(NamedTuple):
    """What a place of a figure stands for, in words. x, y: in the axes' data."""

    ax: Axes
    x: float
    y: float
    text: str


class Mark(NamedTuple):
    """A place of a finished figure and what it stands for. x, y: points from the SVG's upper left."""

    x: float
    y: float
    text: str


@dataclass(frozen=True)
class Drawing:
    """A figure and the rows behind it: png, svg and pdf are file contents, csv has one line per point."""

    name: str
    png: bytes
    svg: bytes
    pdf: bytes
    csv: str
    title: str
    marks: tuple[Mark, ...]

    def files(self) -> dict[str, bytes]:
        """File name -> content."""
        kinds = {"png": self.png, "svg": self.svg, "pdf": self.pdf, "csv": self.csv.encode()}
        return {f"{self.name}.{suffix}": content for suffix, content in kinds.items()}


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


ACROSS = 4  # panels in a row


def panels(count: int, width: float, height: float) -> tuple[Figure, Sequence[Axes]]:
    """Axes on one scale, up to `ACROSS` side by side. width: of a row; height: of each row, in inches."""
    lines = -(-count // ACROSS)
    fig = Figure(figsize=(width + 1.6, height * lines), dpi=160, layout="constrained")
    FigureCanvasAgg(fig)
    axes = list(fig.subplots(lines, min(count, ACROSS), sharey=True, squeeze=False).flat)
    for ax in axes[count:]:
        ax.set_visible(False)
    return fig, axes[:count]


def beside(ax: Axes, text: str, at: Any, offset: Any, system: Any, **look: Any) -> None:
    """Text `offset` points away from `at`, by its baseline."""
    look = {"va": "baseline", "annotation_clip": False, **look}
    ax.annotate(text, at, offset, xycoords=system, textcoords="offset points", **look)


def left_out(rows: Rows, spec: FigureSpec) -> list[str]:
    """What a reader must know of runs that the figure should show and cannot."""
    others = {d: w for d, w in spec.where.items() if d != spec.by}
    if spec.by in spec.where:
        others[spec.by] = [*options(spec.where[spec.by]), spec.baseline]
    runs = rows.chosen(others)
    diverged = sum(run.diverged for run in runs)
    unfinished = sum(not run.done for run in runs) - diverged + len(rows.missing)
    words = [f"{diverged} diverged"] * bool(diverged) + [f"{unfinished} did not finish"] * bool(unfinished)
    return [f"Left out: of the runs, {' and '.join(words)}."] if words else []


def caption(fig: Figure, *lines: str) -> None:
    fig.supxlabel("\n".join(lines), x=0.01, ha="left", fontsize=7.5, color=GREY)


def seeds_of(counts: set[int]) -> str:
    low, high = min(counts, default=0), max(counts, default=0)
    return (f"{low} to {high}" if low < high else f"{high}") + f" seed{'s' if high != 1 else ''}"


def in_plan(methods: set[Value], spec: FigureSpec, rows: Rows) -> list[Value]:
    """As listed under `where`, then as in the plan."""
    listed = [*map(str, options(spec.where.get(spec.by, []))), *rows.order.get(spec.by, ())]
    rank = {name: i for i, name in reversed(list(enumerate(listed)))}
    return sorted(methods, key=lambda m: (rank.get(str(m), len(listed)), str(m)))


def looks_of(methods: Sequence[Value], spec: FigureSpec) -> dict[Value, tuple[str, int]]:
    """{method: (colour, its place)}. The baseline is grey and last, so its rivals look alike without it."""
    rivals = [m for m in methods if str(m) != spec.baseline]
    looks = {m: (COLOURS[i % len(COLOURS)], i) for i, m in enumerate(rivals)}
    return {m: looks.get(m, (GREY, -1)) for m in methods}


def mark_of(place: int) -> str:
    return MARKERS[place % len(MARKERS)] if place >= 0 else BASELINE


def hollow(place: int) -> bool:
    """Colours come round again after seven methods: then marks are hollow."""
    return place // len(COLOURS) % 2 == 1 and place >= 0


def stroke_of(look: tuple[str, int]) -> dict[str, Any]:
    """How a line of `looks_of` is drawn: in grey, neighbours differ in dash and mark, each two of 21 in one.

    Marks have a white edge, as lines and bands below them would hide their form.
    """
    colour, place = look
    return {
        "color": colour,
        "linewidth": 1.6,
        "linestyle": LINES[place % len(LINES)],
        "marker": mark_of(place),
        "markersize": 6 if place >= 0 else 8.5,
        "markerfacecolor": "white" if hollow(place) else colour,
        "markeredgecolor": colour if hollow(place) else "white",
        "markeredgewidth": 1.2 if hollow(place) else 0.7,
    }


def band_of(count: int) -> dict[str, Any]:
    """Look of the bands of so many lines: below all of them, and paler the more there are."""
    return {"alpha": 0.13 * min(1.0, 4 / count), "linewidth": 0, "zorder": 1}


def apart(heights: Sequence[float], gap: float, bottom: float, top: float) -> list[float]:
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


def ends_in(spec: FigureSpec, values: Sequence[float]) -> Interval:
    """Mean and interval, cut where the metric ends."""
    bounds = RANGE.get(spec.metric, (-math.inf, math.inf))
    return cut(mean_interval(values, spec.over_seeds), bounds)


def ends_of(interval: Interval, style: str = "+.4f") -> str:
    """`+0.0614 [+0.0502, +0.0726]`"""
    mean, low, high = interval
    ends = "" if low is None or high is None else f" [{low:{style}}, {high:{style}}]"
    return f"{mean:{style}}{ends}".replace("-", "−")


def numeric(seed: Value) -> tuple[float, str]:
    return (float(seed), "") if isinstance(seed, int | float) else (float("inf"), str(seed))


@contextmanager
def _without_shaping() -> Iterator[None]:
    """Fonts that go into a file go without the tables that shapers read: every glyph has its place there, and
    reading them took a third of a figure's time."""
    kept = Options._drop_tables_default
    Options._drop_tables_default = [*kept, "GDEF", "GPOS", "GSUB"]
    try:
        yield
    finally:
        Options._drop_tables_default = kept


def drawing(
    name: str,
    fig: Figure,
    header: Sequence[str],
    lines: Sequence[Sequence[Any]],
    points: Sequence[Point] = (),
) -> Drawing:
    out = io.StringIO()
    write = csv.writer(out, lineterminator="\n").writerow
    write(header)
    for line in lines:
        write([repr(v) if isinstance(v, float) else v for v in line])
    # No dates and no versions: the same rows give the same bytes.
    nothing: dict[str, dict[str, None]] = {
        "png": {"Software": None},
        "svg": {"Date": None, "Creator": None},
        "pdf": {"CreationDate": None, "Creator": None, "Producer": None},
    }
    fig.draw_without_rendering()  # places everything, for all three files
    fig.set_layout_engine(None)  # else each file lays it out once more
    box = fig.get_tightbbox().padded(0.1)  # inches
    marks = []
    for ax, x, y, text in points:
        at, up = ax.transData.transform((x, y)) / fig.dpi
        marks.append(Mark(round(72 * (at - box.x0), 1), round(72 * (box.y1 - up), 1), text))
    made = {}
    for kind, metadata in nothing.items():
        file = io.BytesIO()
        with _without_shaping():
            fig.savefig(file, format=kind, dpi=160, facecolor="white", metadata=metadata, bbox_inches=box)
        made[kind] = file.getvalue()
    title = fig.get_suptitle() or " ".join(ax.get_title(loc="left") for ax in fig.axes).strip()
    return Drawing(name, made["png"], made["svg"], made["pdf"], out.getvalue(), title, tuple(marks))
