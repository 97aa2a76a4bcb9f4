"""What a run's privacy account makes of its lanes: how much noise they get, and after how many rounds they
stop. It follows from config and data alone, so a resumed run keeps the plan that it began with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, replace
from typing import Any

import numpy as np

from fedsim.accounting import ledger
from fedsim.accounting.releases import Clients
from fedsim.config import Accounted, Experiment
from fedsim.simulate.lanes import Lane

# Options of an account. None is part of a program, so runs that differ in them share one.
OPTIONS = tuple(f.name for f in fields(Accounted))


def settled(lanes: list[Lane]) -> list[Lane]:
    """The folds of a run with the noise and the rounds that its budget allows.

    Raises RequestError where what the run would release has no valid account.
    """
    experiment = lanes[0].experiment
    privacy = experiment.privacy
    if not (isinstance(privacy, Accounted) and ledger.accounted(experiment)):
        return lanes
    plan = ledger.plan(experiment, [_clients(lane) for lane in lanes])
    usual: dict[str, Any] = {f.name: f.default for f in fields(privacy) if f.name in OPTIONS}
    privacy = replace(privacy, **usual | {"noise_multiplier": plan.noise_multiplier})
    return [
        replace(
            lane, experiment=replace(lane.experiment, privacy=privacy), rounds=min(lane.rounds, plan.rounds)
        )
        for lane in lanes
    ]


def statement(experiment: Experiment, lanes: Sequence[Lane]) -> dict[str, Any]:
    """What a run that was asked for as `experiment` says of its privacy, its lanes having been trained."""
    noise = getattr(lanes[0].experiment.privacy, "noise_multiplier", None)
    world = replace(experiment, world=lanes[0].experiment.world)  # pooled rows are one client's
    folds = [_clients(lane) for lane in lanes]
    return ledger.statement(world, folds, [lane.rounds for lane in lanes], noise)


def _clients(lane: Lane) -> Clients:
    part = lane.clients
    held = np.flatnonzero(part.federated > 0)
    return Clients(tuple(part.names[int(k)] for k in held), tuple(part.federated[held].tolist()))
