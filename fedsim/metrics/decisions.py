"""What acting on predictions is worth: net benefit at a threshold, and who is found at a given capacity.

Sources: Vickers, Elkin, "Decision Curve Analysis", Medical Decision Making 2006; for times to an event
Vickers, Cronin, Elkin, Gonen, BMC Medical Informatics and Decision Making 2008; number needed to evaluate:
Romero-Brufau, Huddleston, Escobar, Liebow, "Why the C-Statistic Is Not Informative to Evaluate Early Warning
Scores and What Metrics to Use", Critical Care 2015.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

CAPACITIES = (1, 5, 10)  # per cent of the rows that can be acted on


def net_benefit(treated: float, events: float, threshold: float) -> float:
    """Of the share `treated`, `events` being the share that is treated and has the event (both of all rows).

    True positives less false ones at the threshold's odds; per row.
    """
    return events - (treated - events) * threshold / (1.0 - threshold)


def capacity(below_w: Floats, below_wt: Floats, ends: NDArray[np.int64]) -> dict[str, float | None]:
    """PPV, sensitivity and number needed to evaluate among the highest scores, at each of `CAPACITIES`.

    Equal scores are in random order: values are expected ones, a row on the edge counting by its share. The
    number needed to evaluate is 1 / PPV.

    Args:
      below_w, below_wt: weight of the first 0, 1, ... rows by rising score, and of the positive ones.
      ends: where runs of equal scores end.
    """
    edge = np.concatenate(([0], ends))
    above = below_w[-1] - below_w[edge][::-1]  # weight of the highest runs, from none to all
    hits = below_wt[-1] - below_wt[edge][::-1]
    found: dict[str, float | None] = {}
    for share in CAPACITIES:
        acted = 0.01 * share * float(above[-1])
        right = float(np.interp(acted, above, hits))
        found[f"ppv_top{share}"] = right / acted
        found[f"sensitivity_top{share}"] = right / float(hits[-1]) if hits[-1] > 0 else None
        found[f"nne_top{share}"] = acted / right if right > 0 else None
    return found
