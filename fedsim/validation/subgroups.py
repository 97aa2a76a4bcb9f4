"""The site's rows judged apart by the values of a column, and how far its groups are from one another."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from fedsim.metrics import gap
from fedsim.validation.adapting import FEWEST
from fedsim.validation.logistic import Floats
from fedsim.validation.outcome import ENOUGH, Judged, Row
from fedsim.validation.rows import Frozen

TREAT_ALL = "treat all"  # the update whose net benefit is of treating everybody

Indices = NDArray[np.int64]
# Of some rows of the site, by their own linear predictors.
Judge = Callable[[Indices, Mapping[str, Floats | None]], list[Judged]]


def evaluate(
    frozen: Frozen,
    event: Floats,
    lps: Mapping[str, Floats | None],
    chosen: str | None,
    whole: Sequence[Judged],
    judge: Judge,
) -> tuple[list[Row], list[str]]:
    """Metrics of the frozen model and of the update that was chosen, in every group of `frozen.groups`.

    The gap of a column is `metrics.gap` over its groups, rows whose value is missing left out; its replicates
    are of the same groups, so that both have the same patients.

    Args:
      event: [n], 1 or 0, of the site's rows; of times, by the horizon.
      lps: update -> [n], None where it has none. chosen: of them, or None.
      whole: what is judged of all rows together; judge: the same of some.

    Returns:
      (rows of `Outcome.subgroups`, warnings). A group with fewer than 10 events, or without where the outcome
      has two classes, has its counts, and nulls.
    """
    some = {name: lp for name, lp in lps.items() if name in ("keep", chosen)}
    asked = [one._replace(value=None, again=None) for one in whole if one.update in (*some, TREAT_ALL)]
    timed = frozen.site.time is not None
    found: list[Row] = []
    wide: list[str] = []
    few: list[str] = []
    warnings: list[str] = []
    for column, (names, of_row) in frozen.groups.items():
        *values, missing = range(len(names))
        if (of_row == missing).all():
            warnings.append(f"{frozen.site.name} has no value of {column}, and so no subgroups by it")
            continue
        groups = []
        for k in (k for k in (*values, missing) if (of_row == k).any()):
            mine = np.flatnonzero(of_row == k)
            events = int(event[mine].sum())
            least = events if timed else min(events, mine.size - events)
            label = f"{names[k]} ({events} of {mine.size})"
            if least < FEWEST:
                few.append(label)
            elif least < ENOUGH:
                wide.append(label)
            own = {name: None if lp is None else lp[mine] for name, lp in some.items()}
            told = asked if least < FEWEST else judge(mine, own)
            head: Row = {"group": "subgroup", "name": names[k], "n": mine.size, "events": events}
            found += [head | one.row() for one in told]
            if k != missing:
                groups.append((head, told))
        sizes = {size: sum(head[size] for head, _ in groups) for size in ("n", "events")}
        head = {"group": "gap", "name": column} | sizes
        apart = [_gap([told[i] for _, told in groups]) for i in range(len(asked))]
        found += [head | one.row() for one in apart if one.update != TREAT_ALL]
    either = "" if timed else ", or without"
    if wide:
        warnings.append(
            f"subgroups with fewer than {ENOUGH} events{either}, whose intervals are wide: {', '.join(wide)}"
        )
    if few:
        warnings.append(
            f"subgroups with fewer than {FEWEST} events{either}, which are not judged: {', '.join(few)}"
        )
    return found, warnings


def _gap(groups: Sequence[Judged]) -> Judged:
    """Of one metric, over groups that have a value. A replicate in which one of these has none has none."""
    known = [one.again for one in groups if one.value is not None and one.again is not None]
    again = np.ptp(np.stack(known), axis=0) if len(known) > 1 else None
    return groups[0]._replace(value=gap([one.value for one in groups]), again=again)
