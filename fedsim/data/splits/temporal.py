"""Each row stays with the client it came from; a model trains on what was recorded before it is tested.

Source: Steyerberg, Harrell, "Prediction Models Need Appropriate Internal, Internal-External, and External
Validation", Journal of Clinical Epidemiology 2016, for temporal validation.
"""

from __future__ import annotations

import datetime
from dataclasses import replace

import numpy as np

from fedsim.base import RequestError, require
from fedsim.config import Temporal
from fedsim.data.federation import Federation
from fedsim.data.splits.assignment import Assignment
from fedsim.data.splits.natural import natural


def temporal(federation: Federation, cfg: Temporal, seed: int) -> Assignment:
    """The clients of the source; rows from `split.cut` on are tested, or each client's latest share.

    Raises:
      RequestError: the source does not know when rows were recorded, or nothing is left on one side.
    """
    when = federation.calendar
    require(
        when is not None,
        f"split=temporal needs to know when rows were recorded, and {federation.source} does not say"
        f"{' with data.mode=generated' if federation.generate else ''}; of your own table name the column "
        "with data.calendar=COLUMN; data=heart_failure (in memory) and data=omop have the index date",
    )
    assert when is not None
    inside = ~np.isin(federation.client_of_row(), sorted(federation.external))
    if cfg.cut is None:
        late = np.zeros(federation.rows, bool)
        for k in range(federation.clients):
            rows = slice(int(federation.offsets[k]), int(federation.offsets[k + 1]))
            late[rows] = _latest(when[rows], cfg.test)
        said = f"split.test={cfg.test:g}"
    else:
        late, said = when >= _moment(cfg.cut), f"split.cut={cfg.cut}"
    trained, tested = int((inside & ~late).sum()), int((inside & late).sum())
    require(
        trained and tested,
        f"{said} leaves {trained} rows to train on and {tested} to test, of rows recorded from "
        f"{when[inside].min():g} to {when[inside].max():g} (dates are days since 1970); choose one "
        "between",
    )
    return replace(natural(federation, cfg, seed), test=late & inside)


def _latest(when: np.ndarray, share: float) -> np.ndarray:
    """bool[n]: the latest `share` of rows, to the nearest row; fewer where others were recorded at the same
    time as a row that trains, and never all."""
    count = min(int(np.floor(share * len(when) + 0.5)), len(when) - 1)
    found: np.ndarray = when > np.sort(when)[len(when) - count - 1]
    return found


def _moment(cut: float | str) -> float:
    """A number as it is, a date in days since 1970."""
    if not isinstance(cut, str):
        return cut
    try:
        moment = datetime.datetime.fromisoformat(cut)
    except ValueError:
        raise RequestError(
            f"split.cut must be a number or a date such as 2024-12-31, got {cut!r}; correct it"
        ) from None
    return (moment.replace(tzinfo=None) - datetime.datetime(1970, 1, 1)) / datetime.timedelta(days=1)
