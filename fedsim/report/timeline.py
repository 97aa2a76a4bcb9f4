"""The timeline of a run: who received, trained and sent when, and when the server took its steps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from fedsim.report.drawing import GREY, Drawing, canvas, caption, drawing, style

LEGS = {"receiving": "#56B4E9", "training": "#0072B2", "sending": "#E69F00"}
LOST = "#D55E00"  # sent for nothing
MOST_CLIENTS = 40


def draw(name: str, columns: Mapping[str, Sequence[Any]], title: str, rounds: int) -> Drawing:
    """Clients down the page, seconds along it, for the first `rounds` server steps of the first fold.

    Args:
      columns: of timeline.parquet; name: of the drawing.
    """
    held = {key: np.asarray(values) for key, values in columns.items()}
    shown = (held["round"] <= rounds) & (held["replica"] == 0)
    everyone = sorted(set(held["client"][shown]))
    clients = everyone[:MOST_CLIENTS]
    shown &= np.isin(held["client"], clients)
    held = {key: values[shown] for key, values in held.items()}
    lost = np.isin(held["outcome"], ("late", "lost", "discarded"))
    with style():
        fig, ax = canvas(8.0, 1.6 + 0.28 * max(len(clients), 3))
        edges = ("begin", "received", "trained", "sent")
        for colour, first, last in zip(LEGS.values(), edges, edges[1:], strict=False):
            for y, client in enumerate(clients):
                mine = held["client"] == client
                bars = np.stack([held[first][mine], (held[last] - held[first])[mine]], axis=1)
                ended = lost[mine] & (held[last] == held["sent"])[mine]
                looks = [LOST if gone else colour for gone in ended]
                ax.broken_barh(bars.tolist(), (y - 0.36, 0.72), facecolors=looks, linewidth=0)
        for end in step_times(held):
            ax.axvline(end, color=GREY, linewidth=0.8, linestyle=(0, (2, 2)), zorder=0.5)
        ax.set_yticks(range(len(clients)), clients)
        ax.set_ylim(len(clients) - 0.4, -0.6)
        ax.set_xlim(left=0)
        ax.grid(visible=False)
        ax.set_xlabel("simulated seconds")
        ax.set_title(title)
        keys: list[Any] = [Patch(color=colour, label=leg) for leg, colour in LEGS.items()]
        if lost.any():
            keys.append(Patch(color=LOST, label="for nothing"))
        dashed: dict[str, Any] = {"color": GREY, "linewidth": 0.8, "linestyle": (0, (2, 2))}
        keys.append(Line2D([], [], label="server step", **dashed))
        ax.legend(handles=keys, loc="upper left", bbox_to_anchor=(1.0, 1.0))
        last_round = int(held["round"].max(initial=0))
        more = f", {len(clients)} of {len(everyone)} clients" if len(everyone) > len(clients) else ""
        caption(fig, f"Rounds 1 to {last_round}{more}. Gaps: waiting.")
        lines = list(zip(*(held[key].tolist() for key in columns), strict=True))
        return drawing(name, fig, list(columns), lines)


def step_times(held: Mapping[str, np.ndarray]) -> list[float]:
    """When the server took each step: with the last message, or where one is late at the deadline."""
    awaited = held["outcome"] != "lost"
    return [
        float(held["sent"][awaited & (held["round"] == r)].max()) for r in np.unique(held["round"][awaited])
    ]
