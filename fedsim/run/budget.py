"""What a run's privacy account makes of its lanes: how much noise they get, and after how many rounds they
stop. It follows from config and data alone, so a resumed run keeps the plan that it began with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, replace
from typing import Any

import jax
import numpy as np

from fedsim import world
from fedsim.accounting import ledger
from fedsim.accounting.releases import MEASURED, Clients
from fedsim.base import Refusal
from fedsim.config import Accounted, Experiment, RecordPrivacy, SecureSum, TimedSystem
from fedsim.config.privacy import ACCOUNT
from fedsim.config.world import Asynchronous
from fedsim.data.federation import Federation
from fedsim.data.units import units
from fedsim.simulate import secured
from fedsim.simulate.build import program_structure
from fedsim.simulate.judged import SETS, segment
from fedsim.simulate.lanes import Lane, local_steps
from fedsim.simulate.structure import LOST
from fedsim.simulate.traits import Traits


def settled(
    lanes: list[Lane], federation: Federation, final: Sequence[Lane] = (), tried: Sequence[Lane] = ()
) -> list[Lane]:
    """The folds of a run with the noise and the rounds that its budget allows.

    Args:
      lanes: of the models that are trained now; final: of those that the run ends with, where these are
        candidates of `tune`; tried: of its candidates. All models of a run have the same noise.

    Raises RequestError where what the run would release has no valid account.
    """
    experiment = lanes[0].experiment
    privacy = experiment.privacy
    if not (isinstance(privacy, Accounted) and ledger.accounted(experiment)):
        return lanes
    plan = ledger.plan(experiment, _folds(final or lanes, federation, tried))
    usual: dict[str, Any] = {f.name: f.default for f in fields(privacy) if f.name in ACCOUNT}
    privacy = replace(privacy, **usual | {"noise_multiplier": plan.noise_multiplier})
    return [
        replace(
            lane, experiment=replace(lane.experiment, privacy=privacy), rounds=min(lane.rounds, plan.rounds)
        )
        for lane in lanes
    ]


def statement(
    experiment: Experiment, lanes: Sequence[Lane], federation: Federation, tried: Sequence[Lane] = ()
) -> dict[str, Any]:
    """What a run that was asked for as `experiment` says of its privacy, its lanes having been trained.

    tried: those of tuning's candidates, a lane per fold.
    """
    asked, models = experiment.privacy, [lane.experiment for lane in lanes]
    if isinstance(asked, Accounted):
        # As they were used, but for what the account was asked to be.
        known: dict[str, Any] = {n: getattr(asked, n) for n in ACCOUNT if n != "noise_multiplier"}
        models = [replace(used, privacy=replace(used.privacy, **known)) for used in models]
    return ledger.statement(models, _folds(lanes, federation, tried), [lane.rounds for lane in lanes])


def _folds(lanes: Sequence[Lane], federation: Federation, tried: Sequence[Lane]) -> list[Clients]:
    found = _clients(lanes, federation)
    if not tried:
        return found
    others = _clients(tried, federation)
    return [own._replace(tried=other) for own, other in zip(found, others, strict=True)]


def lost(rounds: Sequence[dict[str, Any]]) -> dict[str, int]:
    """For a run's statement: gradients of protected units that were not finite. {} where none are clipped.

    rounds: its rows of all judged rounds.
    """
    counts = [int(row[LOST]) for row in rounds if LOST in row]
    return {LOST: max(counts)} if counts else {}


def _clients(lanes: Sequence[Lane], federation: Federation) -> list[Clients]:
    """Those of each fold. All folds run one program, so it is asked once what that sends and answers."""
    traced = isinstance(lanes[0].experiment.privacy, (RecordPrivacy, *MEASURED))
    traits = _traits(lanes[0], federation) if traced else None
    return [_of_fold(lane, federation, traits) for lane in lanes]


def _of_fold(lane: Lane, federation: Federation, traits: Traits | None) -> Clients:
    part, e = lane.clients, lane.experiment
    held = np.flatnonzero(part.federated > 0)
    found = Clients(tuple(part.names[int(k)] for k in held), tuple(part.federated[held].tolist()))
    if traits is None:
        return found
    if isinstance(e.privacy, RecordPrivacy):
        if e.evaluate.noise_multiplier is not None:
            found = found._replace(judged=_judged(lane))
        return found._replace(
            units=tuple(units(federation, part, e.privacy.unit)[held].tolist()),
            steps=tuple(local_steps(part.federated[held], e).tolist()),
            answers=traits.answers,
        )
    filled = 1 << (traits.sent - 1).bit_length()  # up to a power of two
    return found._replace(numbers=filled, came=_came(lane, found))


def _judged(lane: Lane) -> tuple[tuple[str, int, int], ...]:
    """(name, rows, sets) of the clients whose rows judge the lane's model."""
    part = lane.judged
    rows = np.array([segment(part, which)[1] for which in SETS])
    return tuple(
        (part.names[int(k)], int(rows[:, k].sum()), int((rows[:, k] > 0).sum()))
        for k in np.flatnonzero(rows.sum(axis=0))
    )


def _traits(lane: Lane, federation: Federation) -> Traits:
    """Traces, and starts no device: the noise and where this runs make no difference."""
    privacy = lane.experiment.privacy
    if getattr(privacy, "noise_multiplier", None) is None:
        known: dict[str, Any] = {"noise_multiplier": 1.0, "epsilon": None}
        lane = replace(lane, experiment=replace(lane.experiment, privacy=replace(privacy, **known)))
    with jax.enable_x64(lane.experiment.numerics.x64):
        return program_structure(lane, federation, "cpu")[1]


def _came(lane: Lane, clients: Clients) -> tuple[int, ...]:
    """How many clients' messages arrive in each round. Raises Refusal where that is not known beforehand."""
    e = lane.experiment
    deadline = e.system.deadline if isinstance(e.system, TimedSystem) else None
    if deadline is not None or isinstance(e.world, Asynchronous) or world.chooses(e.world):
        late = f"world={e.world.name}" if deadline is None else f"system.deadline={deadline}"
        raise Refusal(
            f"privacy={e.privacy.name} is accounted for by how many clients arrive, which follows from their "
            f"data with {late}",
            "set world=poisson, all or uniform, without a deadline",
        )
    rows = np.array(clients.rows)
    most = max(e.tune.rounds or (e.rounds,))
    people = [world.People(len(rows), rows, e.seed, r, lane.clients, most) for r in range(most)]
    sent = [world.arriving(e.world, e.seed, r, world.asked(e.world, one)) for r, one in enumerate(people)]
    if isinstance(e.secure, SecureSum):  # who is lost in its protocol takes the noise along
        sent = [secured.meet(e, r, who, clients.names, 1).survivors for r, who in enumerate(sent)]
    return tuple(map(len, sent))
