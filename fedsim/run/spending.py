"""What a run costs its clients: bytes, and where their machines are known seconds, joules, a timeline."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from fedsim.base import nearest, require
from fedsim.config import Target
from fedsim.metrics import HIGHER_IS_BETTER, names
from fedsim.simulate.lanes import Lane
from fedsim.simulate.schedule import Schedule, Spent, times
from fedsim.simulate.traits import Traits

_LOSS_BYTES = 4  # of a loss that a candidate sends
TIMELINE_ROWS = 100_000  # at most, in whole rounds


def total(folds: Sequence[Spent], traits: Traits) -> dict[str, int | float]:
    """A run's columns: bytes and joules of all folds; seconds of the slowest, as they run side by side."""
    found: dict[str, int | float] = {
        "bytes_down": sum(f.downloads * traits.down_bytes + f.secure_down for f in folds),
        "bytes_up": sum(f.uploads * traits.up_bytes + f.told * _LOSS_BYTES + f.secure_up for f in folds),
    }
    if traits.masked:
        found["aborted_rounds"] = sum(f.aborted for f in folds)
    if not any(np.isnan(f.seconds) for f in folds):
        found["simulated_seconds"] = max(f.seconds for f in folds)
        found["energy_joules"] = sum(f.joules for f in folds)
    return found


def check(target: Target, kind: str) -> None:
    """Raises RequestError for a metric that runs of this kind have not, or that has no better side."""
    known = [name for name in names(kind, full=False) if name in HIGHER_IS_BETTER]
    require(
        target.metric is None or target.metric in known,
        f"evaluate.target.metric={target.metric} is not measured every round here; "
        f"{nearest(str(target.metric), known)}",
    )


def to_target(target: Target, rounds: Sequence[dict[str, Any]]) -> dict[str, Any] | None:
    """What it took to reach the target: at the first judged round that does, on the test rows of all
    clients together (validation rows where none are tested). None without a target.

    Args:
      rounds: a run's rows of all judged rounds.
    """
    metric = target.metric
    if metric is None or target.value is None:
        return None
    pooled = [row for row in rounds if row["aggregate"] == "pooled"]
    judged = next((s for s in ("test", "valid") if any(row["set"] == s for row in pooled)), None)
    sign = 1 if HIGHER_IS_BETTER[metric] else -1
    rows = [row for row in pooled if row["set"] == judged and row.get(metric) is not None]
    found: dict[str, Any] = {"metric": metric, "value": target.value, "set": judged}
    for row in sorted(rows, key=lambda row: row["round"]):
        if sign * row[metric] >= sign * target.value:
            return found | {
                "round": row["round"],
                "simulated_seconds": row.get("simulated_seconds"),
                "bytes": row["bytes_up"] + row["bytes_down"],
                "energy_joules": row.get("energy_joules"),
                "reason": None,
            }
    best = max(rows, key=lambda row: sign * row[metric], default=None)
    if best is None:
        reason = f"{metric} is undefined in all judged rounds"
    else:
        reason = f"the best is {best[metric]:.4g}, of {len(rows)} judged rounds round {best['round']}"
    nothing = dict.fromkeys(("round", "simulated_seconds", "bytes", "energy_joules"))
    return found | nothing | {"reason": reason}


def timeline(lanes: Sequence[Lane], schedules: Sequence[Schedule]) -> dict[str, Any] | None:
    """When each client of each fold received, trained and sent, as columns; None where that is unknown."""
    if any(schedule.machines is None for schedule in schedules):
        return None
    parts: list[dict[str, Any]] = []
    rows = 0
    for rnd in range(max(lane.rounds for lane in lanes)):
        here: list[dict[str, Any]] = []
        for fold, (lane, schedule) in enumerate(zip(lanes, schedules, strict=True)):
            if rnd < lane.rounds:
                here.append(_visits(rnd, fold, lane, schedule))
        rows += sum(len(part["client"]) for part in here)
        if rows > TIMELINE_ROWS:
            break
        parts += here
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]} if parts else None


def _visits(rnd: int, fold: int, lane: Lane, schedule: Schedule) -> dict[str, Any]:
    visits = schedule.meet(rnd).visits
    assert visits is not None
    began = schedule.began(rnd)
    held = np.flatnonzero(lane.clients.federated > 0)
    names = [lane.clients.names[int(held[k])] for k in visits.at]
    n = len(names)
    when = zip(("begin", "received", "trained", "sent"), times(visits), strict=True)
    return {
        "round": np.full(n, rnd + 1, np.int32),
        "replica": np.full(n, fold, np.int32),
        "client": np.array(names, object),
        **{name: began + values for name, values in when},
        "outcome": visits.outcome,
    }
