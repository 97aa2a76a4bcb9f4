"""Worlds that choose by loss: between rounds, the server's model is scored on candidates' training rows.

The program that judges does it, and the losses are taken on the host, so the same clients are chosen
wherever the work is done.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from fedsim import metrics, world
from fedsim.data.federation import Federation
from fedsim.data.rng import generator
from fedsim.simulate import scoring
from fedsim.simulate.judged import Segment, rows_of
from fedsim.simulate.lanes import Lane
from fedsim.simulate.team import TeamPlan

if TYPE_CHECKING:
    from fedsim.simulate.engine import Engine


def needed(engine: Engine) -> bool:
    """Whether cohorts depend on the model."""
    return world.chooses(engine.teams[0].world)


def choose(engine: Engine, states: Any, rnd: int) -> None:
    """Have every lane choose among its candidates of round `rnd`, by the models in `states`."""
    asked = [team.candidates(rnd) for team in engine.teams]
    wanted = [
        [_training(team, i, rnd, who) for i, who in enumerate(of_lane)]
        for team, of_lane in zip(engine.teams, asked, strict=True)
    ]
    scores = iter(scoring.scores(engine, states, wanted, personal=False))
    for team, of_lane, segments in zip(engine.teams, asked, wanted, strict=True):
        losses = [
            _losses(engine.federation, lane, rnd, who, segment, next(scores))
            for lane, who, segment in zip(team.lanes, of_lane, segments, strict=True)
        ]
        team.choose(rnd, of_lane, losses)


def _training(team: TeamPlan, lane: int, rnd: int, who: np.ndarray) -> Segment:
    """The rows that a lane's training clients at positions `who` would train on in round `rnd`."""
    first, rows = team.held(lane, rnd)
    client = np.flatnonzero(team.lanes[lane].clients.federated > 0)[who]
    return Segment(client, first[who].astype(np.int64), rows[who].astype(np.int64))


def _losses(
    federation: Federation, lane: Lane, rnd: int, who: np.ndarray, held: Segment, scores: np.ndarray
) -> np.ndarray:
    """f32[n]: the mean loss that each candidate sends."""
    if len(who) == 0:
        return np.zeros(0, np.float32)
    label = federation.labels_of(rows_of(lane.clients, held))
    loss = metrics.log_loss_rows(federation.kind, label, scores)
    used, counts = _used(lane, rnd, who, held.rows)
    total = np.add.reduceat(np.where(used, loss, 0.0), np.cumsum(held.rows) - held.rows)
    return (total / counts).astype(np.float32)


def _used(lane: Lane, rnd: int, who: np.ndarray, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(which of all candidates' rows the estimates use, how many of each)."""
    batch = lane.experiment.optimizer.batch_size
    if getattr(lane.experiment.world, "estimate", "full") == "full" or batch == 0:
        return np.ones(int(rows.sum()), bool), rows
    parts = []
    for position, n in zip(who.tolist(), rows.tolist(), strict=True):
        part = np.zeros(n, bool)
        part[generator(lane.experiment.seed, "estimate", rnd, position).permutation(n)[:batch]] = True
        parts.append(part)
    return np.concatenate(parts), np.minimum(rows, batch)
