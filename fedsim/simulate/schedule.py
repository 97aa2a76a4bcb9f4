"""A schedule: who takes part in which round of a lane, from how old a model, and what it costs them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from fedsim import topology, world
from fedsim.base import require
from fedsim.config import Experiment, SecureSum, TimedSystem
from fedsim.config.world import Asynchronous
from fedsim.data.partition import Partition
from fedsim.simulate import secured
from fedsim.simulate.lanes import Lane
from fedsim.system import Load, Machines, profiles
from fedsim.system.machines import RECEIVED, SENT, TRAINED, cut

USED, PARTIAL = "used", "partial"  # outcomes of work that arrives, all of it or a part
LATE, LOST, DISCARDED = "late", "lost", "discarded"  # and of work that comes to nothing


class Visits(NamedTuple):
    """Clients' parts in a round; arrays [n].

    begin: seconds, of the run in an asynchronous world, of the round in others; legs: f64[n, 5];
    outcome: what became of it; end: when the server took its step.
    """

    at: np.ndarray
    begin: np.ndarray
    legs: np.ndarray
    outcome: np.ndarray
    end: float


class Meeting(NamedTuple):
    """One server step.

    cohort: positions whose messages it takes, rising; ages: rounds, of the models they began with; steps:
    that they have done. downloads, uploads, told, wasted: as in `Spent`, of this step; visits: where
    machines are known; secured: the protocol of a secure sum, where there is one.
    """

    cohort: np.ndarray
    ages: np.ndarray
    steps: np.ndarray
    downloads: int
    uploads: int
    told: int
    wasted: int
    visits: Visits | None = None
    secured: secured.Part | None = None

    @property
    def given_up(self) -> bool:
        """Whether the server is left as it was, because nothing was released to it."""
        return self.secured is not None and self.secured.aborted is not None


class Spent(NamedTuple):
    """What rounds came to.

    downloads: models sent to clients; uploads: their messages; told: losses that candidates sent;
    wasted: clients whose work came to nothing; seconds and joules: NaN where no machine is known.
    aborted: rounds that a secure sum gave up; secure_up, secure_down: bytes of its protocol beside masked
    messages.
    """

    downloads: int = 0
    uploads: int = 0
    told: int = 0
    wasted: int = 0
    seconds: float = 0.0
    joules: float = 0.0
    aborted: int = 0
    secure_up: int = 0
    secure_down: int = 0

    def then(self, more: Spent, times: int = 1) -> Spent:
        """Both, one after the other; the other one several times."""
        return Spent(
            self.downloads + times * more.downloads,
            self.uploads + times * more.uploads,
            self.told + times * more.told,
            self.wasted + times * more.wasted,
            self.seconds + times * more.seconds,
            self.joules + times * more.joules,
            self.aborted + times * more.aborted,
            self.secure_up + times * more.secure_up,
            self.secure_down + times * more.secure_down,
        )


@dataclass
class Schedule:
    """Functions of the round, for training clients with `rows` rows that do `steps` local steps.

    rounds: how many there will be; after: what was spent by the end of each round that has been met;
    choice: who trains in a round, where the model has a say in it; graph: who sends to whom, where there is
    no server; masked: numbers that a secure sum masks of each client, 0 where there is none; names: of
    training clients, where some are to be lost by name.
    """

    experiment: Experiment
    rows: np.ndarray
    steps: np.ndarray
    machines: Machines | None = None
    clients: Partition | None = None
    rounds: int = 0
    after: list[Spent] = field(default_factory=list)
    choice: tuple[int, np.ndarray] | None = None
    graph: topology.Graph | None = None
    masked: int = 0
    names: Sequence[str] = ()

    def __post_init__(self) -> None:
        cfg, system = self.experiment.world, self.experiment.system
        self.clock = None
        require(
            not world.chooses(cfg) or self.machines is None,
            f"system={system.name} cannot tell what candidates' losses take in world={cfg.name}; set "
            "system=none, or choose another world",
        )
        if isinstance(cfg, Asynchronous):
            require(
                self.machines is not None,
                "world=asynchronous needs to know how long clients take; choose system=lognormal or trace",
            )
            assert self.machines is not None and isinstance(system, TimedSystem)
            require(
                system.deadline is None,
                f"system.deadline={system.deadline} ends rounds, and world=asynchronous has none; "
                "set system.deadline=null, and world.staleness for what is too late",
            )
            everyone = np.arange(len(self.rows), dtype=np.int64)
            seconds = self.machines.legs(everyone, self.steps).sum(axis=1)
            self.clock = world.Clock(cfg, self.experiment.seed, seconds)

    @property
    def steady(self) -> bool:
        """Whether every round is the same."""
        cfg = self.experiment.secure
        return world.steady(self.experiment.world) and not (isinstance(cfg, SecureSum) and cfg.drops)

    # --- who ---------------------------------------------------------------------------------

    def asked(self, rnd: int) -> np.ndarray:
        """Positions of those that are asked to take part, in a world of rounds."""
        e = self.experiment
        return world.asked(
            e.world, world.People(len(self.rows), self.rows, e.seed, rnd, self.clients, self.rounds)
        )

    def meet(self, rnd: int) -> Meeting:
        """Round `rnd`, whose cost is written down if it is the next one."""
        met = self._round(rnd) if self.clock is None else self._step(rnd, self.clock)
        if rnd == len(self.after):
            cost = self._cost(met)
            total = self.after[-1].then(cost) if self.after else cost
            self.after.append(total if self.clock is None else total._replace(seconds=cost.seconds))
        return met

    def _round(self, rnd: int) -> Meeting:
        """In a world of rounds."""
        e, asked = self.experiment, self.asked(rnd)
        if world.chooses(e.world):
            assert self.choice is not None and self.choice[0] == rnd
            begun, downloads, told = self.choice[1], len(asked), len(asked)
            training = len(begun)
        else:
            begun, downloads, told = asked, world.received(e.world, e.seed, rnd, asked), 0
            training = downloads
        cohort = world.arriving(e.world, e.seed, rnd, begun)
        steps = world.work(e.world, e.seed, rnd, cohort, self.steps[cohort])
        visits = None
        if self.machines is not None:
            cohort, steps, visits = self._timed(rnd, asked, cohort, self.machines)
        part = None
        if self.masked:
            part = secured.meet(e, rnd, cohort, self.names, self.masked)
            kept = np.isin(cohort, part.survivors)
            if visits is not None:
                visits.outcome[np.isin(visits.at, cohort[~kept])] = LOST
            cohort, steps = cohort[kept], steps[kept]
        uploads = len(cohort) if part is None else part.vectors
        if self.graph is not None:
            uploads = downloads = topology.sent(self.graph, cohort)
        ages = world.ages(e.world, e.seed, rnd, cohort)
        wasted = training - len(cohort)
        return Meeting(cohort, ages, steps, downloads, uploads, told, wasted, visits, part)

    def _timed(
        self, rnd: int, asked: np.ndarray, cohort: np.ndarray, machines: Machines
    ) -> tuple[np.ndarray, np.ndarray, Visits]:
        """(those whose work arrives in time, their steps, visits of all that were sent the model).

        A round ends with the last message, or where one is late, or none comes, at the deadline.
        """
        e = self.experiment
        assert isinstance(e.system, TimedSystem)
        steps = world.spent(e.world, e.seed, rnd, asked, self.steps[asked])
        at, steps = asked[steps > 0], steps[steps > 0]  # without those that were lost before any step
        there, outcome = np.isin(at, cohort), np.full(len(at), USED, object)
        outcome[steps < self.steps[at]] = PARTIAL
        outcome[~there] = LOST
        deadline = e.system.deadline
        if deadline is not None:
            fit = machines.within(deadline, at, steps)
            behind = there & (fit < steps)
            if e.world.late == "partial":
                steps = np.where(behind, fit, steps)
                outcome[behind] = PARTIAL
                behind = there & (fit == 0)
            outcome[behind] = LATE
            there &= ~behind
        legs = machines.legs(at, steps)
        legs[outcome == LOST, TRAINED + 1 :] = 0.0
        if deadline is not None:
            legs = cut(legs, deadline)
        missed = bool((outcome == LATE).any() or not there.any())
        end = legs[there].sum(axis=1).max(initial=0.0) if deadline is None or not missed else deadline
        return at[there], steps[there], Visits(at, np.zeros(len(at)), legs, outcome, float(end))

    def _step(self, rnd: int, clock: world.Clock) -> Meeting:
        """In an asynchronous world."""
        assert self.machines is not None
        step = clock.step(rnd)
        came, used = [*step.buffer, *step.discarded], len(step.buffer)
        at = np.array([message.client for message in came], np.int64)
        begin = np.array([message.begin for message in came], np.float64)
        ages = np.array([rnd - message.version for message in step.buffer], np.int32)
        outcome = np.array([USED] * used + [DISCARDED] * len(step.discarded), object)
        visits = Visits(at, begin, self.machines.legs(at, self.steps[at]), outcome, step.seconds)
        cohort = at[:used]
        return Meeting(cohort, ages, self.steps[cohort], len(at), len(at), 0, len(at) - used, visits)

    # --- what it costs -----------------------------------------------------------------------

    def spent(self, rounds: int) -> Spent:
        """What the first `rounds` rounds came to, all of which have been met."""
        if rounds == 0:
            return Spent()
        if self.steady:
            return Spent().then(self.after[0], rounds)
        return self.after[rounds - 1]

    def began(self, rnd: int) -> float:
        """When visits' `begin` of round `rnd` counts from."""
        return 0.0 if self.clock is not None else self.spent(rnd).seconds

    def saved(self, rounds: int) -> np.ndarray:
        """What `restore` takes: f64[rounds, 9]."""
        return np.array(self.after[:rounds], np.float64).reshape(-1, len(Spent._fields))

    def restore(self, saved: np.ndarray) -> None:
        """Take what was spent as it was."""
        self.after = [
            Spent(*map(int, row[:4]), *map(float, row[4:6]), *map(int, row[6:])) for row in saved.tolist()
        ]

    def _cost(self, met: Meeting) -> Spent:
        counts = (met.downloads, met.uploads, met.told, met.wasted)
        part = met.secured
        more = (0, 0, 0) if part is None else (int(part.aborted is not None), part.up, part.down)
        if met.visits is None:
            return Spent(*counts, np.nan, np.nan, *more)
        assert self.machines is not None
        at, begin, legs, outcome, end = met.visits
        # Who has nothing to wait for, does not.
        waits = (outcome == USED) | (outcome == PARTIAL)
        waiting = np.where(waits, np.maximum(end - begin - legs.sum(axis=1), 0.0), 0.0)
        return Spent(*counts, end, float(self.machines.joules(at, legs, waiting).sum()), *more)


def times(visits: Visits) -> tuple[np.ndarray, ...]:
    """(begin, received, trained, sent) of every visit."""
    passed = np.cumsum(visits.legs, axis=1)
    return (visits.begin, *(visits.begin + passed[:, leg] for leg in (RECEIVED, TRAINED, SENT)))


def schedule(
    lane: Lane,
    rows: np.ndarray,
    steps: np.ndarray,
    load: Load,
    rounds: int,
    graph: topology.Graph | None = None,
    masked: int = 0,
) -> Schedule:
    """The schedule of a lane. Its machines are not known without `system`, nor where rows are pooled:
    then it is rows that move, and not models."""
    e, part = lane.experiment, lane.clients
    require(
        graph is None or not isinstance(e.system, TimedSystem),
        f"system={e.system.name} times a server's messages, and algorithm={e.algorithm.name} has no server; "
        "set system=none",
    )
    require(
        load.survey is None or getattr(e.system, "deadline", None) is None,
        f"system.deadline ends rounds of one exchange, and algorithm={e.algorithm.name} has two; set "
        "system.deadline=null",
    )
    held = np.flatnonzero(part.federated > 0)
    dropped = isinstance(e.secure, SecureSum) and e.secure.drop
    names = [part.names[int(k)] for k in held] if dropped else []
    secured.check(e, len(held), names)
    machines = None
    if isinstance(e.system, TimedSystem) and lane.clients is lane.judged:
        machines = Machines(profiles(e.system, e.seed, part.names, part.ids, held), load, rows)
    return Schedule(e, rows, steps, machines, part, rounds, graph=graph, masked=masked, names=names)
