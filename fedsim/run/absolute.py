"""Probabilities of an event by a horizon: of log relative risks, and Breslow's baseline of the training rows;
or of a model's own hazards.

Regions need to send no more than two sums for each time of an event: of events, and of exp(risk) over the
rows at risk. A client that is judged by a model of its own has a baseline of its own, of its own rows.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np

from fedsim import survival
from fedsim.base import require
from fedsim.config import Experiment, SurvivalDiscrete
from fedsim.data.federation import Federation
from fedsim.metrics import Absolute, stepped
from fedsim.simulate.engine import Engine, Handles
from fedsim.simulate.judged import labels_of
from fedsim.simulate.lanes import Lane

_STEPS = 50  # of the integrated Brier score's grid


@dataclass(frozen=True)
class Baseline:
    """times: f64[g], as in `Absolute`; log_hazard: f64[s, g]; stratum: i64[K], whose hazard each client of a
    lane has."""

    times: np.ndarray
    log_hazard: np.ndarray
    stratum: np.ndarray


def check(experiment: Experiment, federation: Federation) -> None:
    """Raises RequestError where this data has no probabilities for what is asked for."""
    cfg, kind = experiment.evaluate, federation.kind
    require(
        cfg.horizon is None or kind == "survival",
        f"evaluate.horizon={cfg.horizon} is of times to an event, and this data's label is none ({kind}); "
        "name the column with data.time, or set evaluate.horizon=null",
    )
    require(
        not cfg.thresholds or kind == "binary" or cfg.horizon is not None,
        f"evaluate.thresholds={list(cfg.thresholds)} are of probabilities of an event, and {kind} data have "
        f"none{': set evaluate.horizon' if kind == 'survival' else ''}; or set evaluate.thresholds=[]",
    )


def baselines(
    experiment: Experiment,
    federation: Federation,
    lanes: Sequence[Lane],
    scores: Callable[[], Sequence[np.ndarray]],
    personal: bool,
) -> list[Baseline] | None:
    """Each lane's baseline; None without a horizon, and where the model has hazards of its own.

    Args:
      scores: -> the risks of each lane's training rows.
      personal: whether clients that train are judged by models of their own.
    """
    horizon = experiment.evaluate.horizon
    if horizon is None or isinstance(experiment.task, SurvivalDiscrete):
        return None
    times = _times(horizon)
    return [
        _breslow(federation, lane, np.asarray(risk, np.float64), times, personal)
        for lane, risk in zip(lanes, scores(), strict=True)
    ]


def _times(horizon: float) -> np.ndarray:
    return np.linspace(0.0, horizon, _STEPS + 1, dtype=np.float64)


Curves = Callable[[str, bool | None], Sequence[np.ndarray]]


def curves(engine: Engine, states: list[Handles]) -> Curves:
    """(set, personal as in `Engine.predict`) -> every lane's hazards over time, worked out where they are
    asked for."""
    return cache(lambda which, personal: engine.predict(states, which, personal=personal, curves=True))


def over_time(
    experiment: Experiment, of: Curves, part: slice, final: bool, which: str, personal: bool | None = None
) -> Sequence[np.ndarray] | None:
    """`of` the lanes `part` after the last round, where there is a horizon and the model has hazards."""
    asked = final and experiment.evaluate.horizon is not None
    return of(which, personal)[part] if asked and isinstance(experiment.task, SurvivalDiscrete) else None


def curved(experiment: Experiment, score: np.ndarray, curve: np.ndarray) -> Absolute:
    """Of hazards in intervals: nothing happens between their ends, where the survival steps down.

    Args:
      score: [n], the logarithm of the cumulative hazard at the horizon; curve: f[n, bins], by the end of each
        interval.
    """
    task, horizon = experiment.task, experiment.evaluate.horizon
    assert isinstance(task, SurvivalDiscrete) and horizon is not None
    return stepped(ends(task), score, curve, _times(horizon))


def ends(task: SurvivalDiscrete) -> np.ndarray:
    """f64[bins], as `fedsim.tasks.survival_discrete.edges` has them, in NumPy."""
    share = np.arange(1, task.bins + 1, dtype=np.float64) / task.bins
    if task.surviving < 1:
        share = np.log1p(-share * (1 - task.surviving)) / np.log(task.surviving)
    found: np.ndarray = task.horizon * share
    return found


def _breslow(
    federation: Federation, lane: Lane, risk: np.ndarray, times: np.ndarray, personal: bool
) -> Baseline:
    """Of all training rows; and, behind it, of each client's where they have models of their own."""
    rows, client = labels_of(lane.judged, "train")
    assert federation.columns is not None
    event, time = federation.labels_of(rows) > 0, np.asarray(federation.times_of(rows), np.float64)
    columns = federation.columns
    w = columns["weight"][rows].astype(np.float64) if "weight" in columns else np.ones(len(rows), np.float64)
    own = np.unique(client) if personal else np.zeros(0, np.int64)
    stratum = np.zeros(len(lane.judged.ids), np.int64)
    stratum[own] = 1 + np.arange(len(own))
    order = np.argsort(client, kind="stable")
    parts = np.split(order, np.searchsorted(client[order], own)[1:]) if len(own) else []
    hazards = [
        _at(times, *survival.breslow(event[mine], time[mine], risk[mine], w[mine]))
        for mine in [order, *parts]
    ]
    return Baseline(times, np.stack(hazards), stratum)


def _at(times: np.ndarray, events: np.ndarray, log_hazard: np.ndarray) -> np.ndarray:
    """The step function of a baseline at `times`, -inf before its first event."""
    steps: np.ndarray = np.concatenate(([-np.inf], log_hazard))[np.searchsorted(events, times, side="right")]
    return steps


def absolute(parts: Sequence[Baseline], lane: np.ndarray, client: np.ndarray) -> Absolute:
    """Of rows of several lanes together. lane, client: of each row, [n]."""
    before = np.cumsum([0, *(len(part.log_hazard) for part in parts)])
    stratum = np.empty(len(lane), np.int64)
    for i, part in enumerate(parts):
        mine = lane == i
        stratum[mine] = before[i] + part.stratum[client[mine]]
    return Absolute(parts[0].times, np.concatenate([part.log_hazard for part in parts]), stratum)
