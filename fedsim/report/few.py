"""How many events are behind a number, and a warning where these are few.

Source: Vergouwe, Steyerberg, Eijkemans, Habbema, Journal of Clinical Epidemiology 2005, and Collins,
Ogundimu, Altman, Statistics in Medicine 2016: below 100 events and 100 rows without one,
estimates of how well a model does are unsteady, and small samples of them say little about its calibration.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from fedsim.report.rows import Key, Rows
from fedsim.report.spec import NAMED, Level
from fedsim.report.values import observe

ENOUGH = 100
SIGN = "°"
COLUMNS = ("n", "positives")


def events(
    rows: Rows, level: Level, dimensions: Sequence[str], where: Mapping[str, Any], at: Any = "last"
) -> dict[Key, int]:
    """{values of the dimensions without metric: the fewest events, or rows without one, in any seed}.

    Of times to an event, events alone. Nothing where rows do not say, as those of quantities.
    """
    known = rows.columns["clients" if level in NAMED else "rounds"]
    if not {*COLUMNS} <= known or level not in ("pooled", *NAMED):
        return {}
    kept = [d for d in dimensions if d != "metric"]
    found = observe(rows, level=level, metrics=COLUMNS, dimensions=(*kept, "metric"), where=where, at=at)
    fewest: dict[Key, int] = {}
    for (*rest, metric), by_seed in found.items():
        if metric != "positives":
            continue
        # Both have the same seeds in the same order.
        positives, n = (np.fromiter(of.values(), np.float64) for of in (by_seed, found[(*rest, "n")]))
        least = positives if "c_index" in known else np.fmin(positives, n - positives)
        if (said := least[~np.isnan(positives)]).size:
            fewest[tuple(rest)] = int(said.min())
    return fewest


def note(counts: Sequence[int]) -> list[str]:
    """What the sign is; nothing where all counts are enough."""
    few = [count for count in counts if count < ENOUGH]
    if not few:
        return []
    return [
        f"{SIGN} Fewer than {ENOUGH} events, or rows without one, behind a value (fewest: {min(few)}): "
        "how well a model does there is known roughly at best (Vergouwe et al. 2005; Collins et al. 2016)."
    ]
