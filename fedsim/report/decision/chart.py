"""A tornado chart: what the net of all regions becomes when one number goes to the ends of its range."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import Any

from matplotlib.ticker import FuncFormatter, MaxNLocator

from fedsim.report.decision.words import Language, Style, number, say
from fedsim.report.drawing import COLOURS, Drawing, Point, canvas, drawing, style
from fedsim.report.page.inline import picture

MOST = 14  # bars; the table beside it has all
LOW, HIGH = COLOURS[0], COLOURS[4]


def style_of(document: Mapping[str, Any], name: str) -> Style:
    """How values of a number of the model are written."""
    told = document["assumptions"].get(name)
    return "points" if told is None else "share" if told["unit"] == "share" else "plain"


def tornado(document: Mapping[str, Any], names: Mapping[str, str], language: Language) -> Drawing:
    """Draw the widest bars. names: the words for each number."""
    bars = [bar for bar in document["tornado"] if bar["at_low"] != bar["at_high"]][:MOST]
    base = document["total"]["net"]["base"]

    def shown(value: float) -> str:
        return number(value, "amount", language)

    with style():
        fig, ax = canvas(7.4, 1.1 + 0.34 * max(len(bars), 1))
        points: list[Point] = []
        for k, bar in enumerate(bars):
            for end, colour in (("low", LOW), ("high", HIGH)):
                net = bar[f"at_{end}"]
                label = say(f"at_{end}", language) if k == 0 else None
                ax.barh(k, net - base, left=base, height=0.62, color=colour, label=label)
                value = number(bar[end], style_of(document, bar["name"]), language)
                which = f"{say(f'at_{end}', language)} {value}"
                text = f"{names[bar['name']]}, {which}: {shown(net)} {say('axis', language)}"
                points.append(Point(ax, net, k, text))
        ax.axvline(base, color="black", linewidth=1)
        ax.axvline(0, color="black", linewidth=1, linestyle=(0, (3, 2)))
        ax.set_yticks(range(len(bars)), [names[bar["name"]] for bar in bars])
        ax.invert_yaxis()
        ax.tick_params(axis="y", length=0)
        ax.grid(axis="y", visible=False)
        ax.xaxis.set_major_locator(MaxNLocator(5))
        ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: shown(value)))
        ax.set_xlabel(f"{say('axis', language)}; {say('base_net', language)}: {shown(base)}")
        if bars:
            fig.legend(loc="outside upper right", ncols=2)
        lines = [[bar[key] for key in ("name", "low", "high", "at_low", "at_high")] for bar in bars]
        return drawing("tornado", fig, ("number", "low", "high", "net_at_low", "net_at_high"), lines, points)


def figure(document: Mapping[str, Any], names: Mapping[str, str], language: Language) -> str:
    """The chart as a `<figure>`, named and described for those who cannot see it."""
    title, told = (escape(say(key, language)) for key in ("tornado", "tornado_desc"))
    svg = picture(tornado(document, names, language))
    start, rest = svg.split(">", 1)
    start = start.replace('aria-label="tornado"', 'aria-labelledby="tornado-title tornado-desc"')
    head = f'{start}><title id="tornado-title">{title}</title><desc id="tornado-desc">{told}</desc>'
    return f'<figure id="figure-tornado"><figcaption>{title}</figcaption>{head}{rest}</figure>'
