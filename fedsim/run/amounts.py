"""What labels of tasks on a logarithmic scale must be: amounts, not far from where training begins."""

from __future__ import annotations

import numpy as np

from fedsim.base import RequestError, require
from fedsim.config import Amounts, Experiment, Gamma
from fedsim.data.federation import Federation

FAR = 100.0  # times the mean label, or as little of it: from there steps are too large, or say nothing


def check(experiment: Experiment, federation: Federation) -> None:
    """Raises RequestError for a label that is no amount, naming its row, and a start that is far from all."""
    task = experiment.task
    if not isinstance(task, Amounts) or federation.columns is None:
        return
    y = federation.columns["y"]
    _refuse(
        federation, y < 0, f"task={task.name} needs amounts of 0 and above",
        "correct or leave out such rows, or use task=linear",
    )  # fmt: skip
    if isinstance(task, Gamma):
        _refuse(
            federation, y == 0, "task=gamma needs amounts above 0",
            "use task=two_part, which models whether there is any amount and how much then",
        )  # fmt: skip
    some = y[y > 0]
    require(len(some) > 0, f"task={task.name}: all {len(y)} labels are 0, so there is no amount to model")
    mean = float(some.mean(dtype=np.float64))
    require(
        mean / FAR <= task.typical <= mean * FAR,
        f"task.typical={task.typical:g} is what training begins with, and amounts above 0 have a mean of "
        f"{mean:.3g}, more than {FAR:g} times away; set task.typical={mean:.1g}",
    )


def _refuse(federation: Federation, wrong: np.ndarray, needs: str, advice: str) -> None:
    rows = np.flatnonzero(wrong)
    if not len(rows):
        return
    assert federation.columns is not None
    client = int(np.searchsorted(federation.offsets, rows[0], side="right")) - 1
    place = f"row {rows[0] - federation.offsets[client] + 1} of {federation.names[client]}"
    order = ", patient by patient" if "patient" in federation.columns else ""
    first = f"the first {federation.columns['y'][rows[0]]:g} in {place}{order}"
    raise RequestError(f"{needs}, and {len(rows)} of {federation.rows} labels are not, {first}; {advice}")
