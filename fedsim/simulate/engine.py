"""The engine: lanes in teams, cohorts packed round by round, and the workers that train them.

Small experiments hand a worker many rounds of a team at once. Large ones cut every round into
tickets, which workers share, and merge them on the first worker. Which of the two follows from the
experiment, never from the workers.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import jax
import numpy as np

from fedsim.data.federation import Federation
from fedsim.simulate import choosing, judged, packing, scoring, secured, streamed
from fedsim.simulate.items import rows_of
from fedsim.simulate.lanes import Lane
from fedsim.simulate.packing import Plan, Widths
from fedsim.simulate.schedule import Schedule, Spent
from fedsim.simulate.structure import Memory, State, Structure
from fedsim.simulate.team import TeamPlan
from fedsim.simulate.traits import Traits

Tree = Any

_AHEAD = 2  # streamed rounds whose rows lie in buffers at once


class Round(NamedTuple):
    """What training up to a round came to. Arrays: lanes.

    done: rounds; finite: whether the server's numbers are; cohort: clients in the last round.
    """

    done: int
    finite: np.ndarray
    cohort: np.ndarray


class Workers(Protocol):
    """Devices that share the work: the executor's half of the engine.

    `call` runs a method of `Worker` on worker `at` and returns a handle at once; handles may be
    arguments of later calls on the same worker, and of others' once `share` has brought them there.
    `put` makes a handle of NumPy arrays; `fetch` waits for one and gives NumPy arrays.
    """

    count: int

    def call(self, at: int, method: str, *arguments: Any, returns: int = 1) -> Any: ...

    def share(self, handle: Any, at: int) -> Any: ...

    def put(self, tree: Any, at: int) -> Any: ...

    def fetch(self, handle: Any) -> Any: ...


class Handles(NamedTuple):
    """A team's state, wherever it lies, after `done` rounds. finite: flags still to be looked at."""

    state: Any
    finite: tuple[Any, ...] = ()
    done: int = 0


@dataclass
class Engine:
    """One pack of lanes that share a structure, in teams."""

    federation: Federation
    lanes: Sequence[Lane]
    structure: Structure
    traits: Traits
    teams: list[TeamPlan]
    workers: Any

    computed: int = 0  # item-steps, with and without padding
    needed: int = 0

    @property
    def widths(self) -> Widths:
        return self.structure.widths

    @property
    def streamed(self) -> bool:
        return self.structure.experiment.data.mode == "streamed"

    @property
    def shared(self) -> bool:
        """Whether a round is cut into tickets; its state is then a State of handles, else one handle."""
        return self.widths.shared

    @property
    def exact(self) -> bool:
        """Whether messages are summed by a protocol on the host."""
        return self.traits.masked > 0 and getattr(self.structure.experiment.secure, "mode", "") == "exact"

    # --- training ----------------------------------------------------------------------------

    def init(self) -> list[Handles]:
        """First state of every team."""
        states = []
        for t in range(len(self.teams)):
            if self.shared:
                states.append(Handles(State(*self.workers.call(self.home(t), "init", t, returns=4))))
            else:
                states.append(Handles(self.workers.call(self.home(t), "init", t)))
        return states

    def home(self, team: int) -> int:
        return team % self.workers.count

    def advance(self, states: list[Handles], first: int, count: int) -> tuple[list[Handles], Round]:
        """Train `count` rounds from round `first`, all teams side by side."""
        step = self._shared if self.shared else self._many
        if choosing.needed(self):
            for rnd in range(first, first + count):
                choosing.choose(self, states, rnd)
                states = [step(t, h, rnd, 1) for t, h in enumerate(states)]
        else:
            states = [step(t, h, first, count) for t, h in enumerate(states)]
            # Not where clients are judged by models of their own: packing gives out their memory.
            for team in () if self.traits.personal else self.teams:
                team.prepare(first + count, min(count, self.widths.rounds))
        finite, size = [], []
        for team, held in zip(self.teams, states, strict=True):
            flags = np.ones(self.widths.lanes, bool)
            for handle in held.finite:
                flags &= np.asarray(self.workers.fetch(handle))
            finite.append(flags[: len(team.lanes)])
            size.append(team.sizes(first + count - 1))
        states = [h._replace(finite=(), done=first + count) for h in states]
        return states, Round(first + count, np.concatenate(finite), np.concatenate(size))

    def _many(self, team: int, held: Handles, first: int, count: int) -> Handles:
        """Many rounds a call."""
        mine, state, flags = self.teams[team], held.state, held.finite
        stop = min(first + count, mine.last)
        while first < stop:
            plan, stride, covered = mine.plan(first, stop - first)
            self._count(plan, covered, stride)
            columns = None
            if self.streamed:
                columns, plan = self._buffered(mine, plan, covered if stride else 1)
            state, ok = self.workers.call(
                self.home(team), "rounds", team, state, plan, stride, first, covered, columns, returns=2
            )
            flags = (*flags, ok)
            self.wait(flags)
            first += covered
        return Handles(state, flags)

    def _shared(self, team: int, held: Handles, first: int, count: int) -> Handles:
        """A round's tickets on all workers, the server's step on the team's own."""
        mine, state, flags, home = self.teams[team], held.state, held.finite, self.home(team)
        for rnd in range(first, min(first + count, mine.last)):
            plan = mine.pack(rnd)
            self._count(packing.stack([plan], 1), 1, 0)
            tickets = range(self.widths.tickets)
            worker = [(home + t) % self.workers.count for t in tickets]
            used = tickets[: self.workers.count]
            sent = [self.workers.share((state.starts, state.stages), worker[t]) for t in used]
            memory = [state.memory for _ in tickets]
            if self.traits.memory_bytes:
                # All before the first ticket, which the home worker would finish before it gathers another's.
                held_by = [
                    self.workers.call(home, "gather", team, state.memory, plan.items[t]) for t in tickets
                ]
                memory = [self.workers.share(m, at) for m, at in zip(held_by, worker, strict=True)]
            found: Any = ()
            if self.widths.exchanges > 1:
                nothing = [Memory((), (), ())] * len(tickets)
                parts = self._tickets(team, sent, nothing, plan, rnd, survey=True)
                found = self.workers.call(home, "surveyed", team, parts, plan, rnd)
                sent = [(*s, self.workers.share(found, worker[t])) for s, t in zip(sent, used, strict=True)]
            parts = self._tickets(team, sent, memory, plan, rnd)
            if self.exact:
                parts = secured.summed(self, team, rnd, plan, parts)
            *fields, ok = self.workers.call(home, "finish", team, state, parts, plan, rnd, found, returns=5)
            state = State(*fields)
            flags = (*flags, ok)
            self.wait(flags)
        return Handles(state, flags)

    def _tickets(
        self, team: int, sent: list[Any], memory: list[Any], plan: Plan, rnd: int, survey: bool = False
    ) -> list[Any]:
        """What the tickets of a round came to, at home. sent: to every worker in use: what clients start
        from, stages, and what a survey found."""
        mine, home, parts = self.teams[team], self.home(team), []
        for t in range(self.widths.tickets):
            items, columns = plan.items[t], None
            if self.streamed:
                columns, items = self.buffers(mine, items, rows_of(items), mine.capacity)
            starts, stages, *found = sent[t % len(sent)]
            of_round = ((items, plan.targets[t], plan.blocks[t]), rnd, columns, *(found or [()]), survey)
            at = (home + t) % self.workers.count
            parts.append(self.workers.call(at, "local", team, starts, stages, memory[t], *of_round))
        return [self.workers.share(part, home) for part in parts]

    def _count(self, plan: Plan, rounds: int, stride: int) -> None:
        different, times = (rounds, 1) if stride else (1, rounds)
        computed, needed = packing.waste(Plan(*(x[:different] for x in plan)), self.widths)
        self.computed += computed * times
        self.needed += needed * times

    # --- streamed rows -----------------------------------------------------------------------

    def wait(self, handles: Sequence[Any], most: int | None = None) -> None:
        """Let devices catch up, so that at most so many calls are ahead; None: where rows are streamed,
        `_AHEAD`, so that those of one are gathered while the last one runs."""
        most = _AHEAD if most is None and self.streamed else most
        if most is not None and len(handles) >= most:
            self.workers.fetch(handles[-most])

    def _buffered(self, team: TeamPlan, plan: Plan, rounds: int) -> tuple[dict[str, np.ndarray], Plan]:
        """The rows of the first `rounds` rounds of a plan, and the plan pointing at them; those of a
        cohort that never changes are gathered once."""
        if team.buffered is not None and team.buffered[0] is plan:
            return team.buffered[1:]
        stacked = len(plan.size)
        here = np.arange(stacked).reshape(-1, 1, 1, 1) < rounds
        columns, items = self.buffers(team, plan.items, rows_of(plan.items) * here, stacked * team.capacity)
        moved = plan._replace(items=items)
        team.buffered = (
            (plan, columns, moved) if team.constant is not None and team.constant[1] is plan else None
        )
        return columns, moved

    def buffers(self, team: TeamPlan, items: Any, counts: Any, capacity: int) -> tuple[Any, np.ndarray]:
        assert self.federation.columns is not None
        return streamed.gather(self.federation.columns, team.layout.row_table, items, counts, capacity)

    # --- scores ------------------------------------------------------------------------------

    def predict(
        self,
        states: list[Handles],
        which: str,
        triggered: bool = False,
        personal: bool | None = None,
        curves: bool = False,
    ) -> list[np.ndarray]:
        """Scores of every lane's rows in the set `which` (train, or one of `judged.SETS`), with the attack's
        trigger on them if told; by clients' own models where they have any, unless told; curves: the task's
        curve over time instead.

        Returns:
          per lane f[n], f[n, classes] or f[n, times], clients in order, rows in the partition's order.
        """
        wanted = [judged.segments(team, which) for team in self.teams]
        own = self.traits.personal if personal is None else personal
        # Without a server, one who joins late has no neighbours: the average judges.
        late = which == "late" and self.traits.personal and not self.widths.clients
        adapt = personal is not False and (self.traits.adapts or late)
        return scoring.scores(self, states, wanted, own or adapt, triggered, adapt, curves)

    @property
    def schedules(self) -> list[Schedule]:
        """Who takes part in which round, and what it costs them, of every lane."""
        return [schedule for team in self.teams for schedule in team.schedules]

    def spent(self, rounds: int) -> list[Spent]:
        """What every lane's clients have spent by the end of its first `rounds` rounds."""
        return [
            schedule.spent(min(rounds, lane.rounds))
            for lane, schedule in zip(self.lanes, self.schedules, strict=True)
        ]

    def probe(self) -> tuple[int, int]:
        """(bytes that one team's program takes as compiled, bytes free where it runs)."""
        states = self.init()
        if choosing.needed(self):
            choosing.choose(self, states, 0)
        state = states[0].state
        if self.shared:
            plan = self.teams[0].pack(0)
            ticket = (plan.items[0], plan.targets[0], np.int32(0))
            memory = state.memory
            if self.traits.memory_bytes:
                memory = self.workers.call(0, "gather", 0, state.memory, ticket[0])
            columns = None
            if self.streamed:
                columns, _ = self.buffers(
                    self.teams[0], ticket[0], 0 * rows_of(ticket[0]), self.teams[0].capacity
                )
            args, found = (0, state.starts, state.stages), ()
            if self.widths.exchanges > 1:
                part = self.workers.call(0, "local", *args, Memory((), (), ()), ticket, 0, columns, (), True)
                found = self.workers.call(0, "surveyed", 0, [part] * self.widths.tickets, plan, 0)
            self.workers.call(0, "local", *args, memory, ticket, 0, columns, found)
        else:
            plan, stride, _ = self.teams[0].plan(0, 1)
            columns = None
            if self.streamed:
                columns, plan = self._buffered(self.teams[0], plan, 1)
            self.workers.call(0, "rounds", 0, state, plan, stride, 0, 0, columns, returns=2)
        return self.workers.fetch(self.workers.call(0, "memory", 0))

    # --- what lasts --------------------------------------------------------------------------

    def fetch(self, states: list[Handles]) -> list[State]:
        """Every team's state as NumPy arrays."""
        return [self.workers.fetch(h.state) for h in states]

    def place(self, team: int, state: State) -> Any:
        """A fetched state where the team's home worker can use it, as `init` gives it."""
        home = self.home(team)
        if self.shared:
            return State(*(self.workers.put(part, home) for part in state))
        return self.workers.put(state, home)

    def models(self, states: list[Handles]) -> list[tuple[Tree, Tree]]:
        """Every lane's (judged model, coefficients or ()), as NumPy arrays."""
        out = []
        for t, held in enumerate(states):
            made = self.workers.fetch(self.workers.call(self.home(t), "models", t, held.state))
            out += [jax.tree.map(lambda x, i=i: x[i], made) for i in range(len(self.teams[t].lanes))]
        return out

    def measures(self, states: list[Handles]) -> list[dict[str, float]]:
        """What the algorithm and the stages say of every lane's state."""
        if not self.traits.measures:
            return [{} for _ in self.lanes]
        out = []
        for t, held in enumerate(states):
            made = self.workers.fetch(self.workers.call(self.home(t), "measures", t, held.state))
            out += [{k: float(v[i]) for k, v in made.items()} for i in range(len(self.teams[t].lanes))]
        return out

    def audited(self, states: list[Handles]) -> list[Tree]:
        """What an audit's canaries came to in every lane: `canaries.Seen`, as NumPy arrays."""
        seen = [state.stages[2] for state in self.fetch(states)]
        return [
            jax.tree.map(lambda x, i=i: x[i], held)
            for held, team in zip(seen, self.teams, strict=True)
            for i in range(len(team.lanes))
        ]

    def own(self, states: list[Handles]) -> list[tuple[Tree, np.ndarray]]:
        """Every lane's (clients' own models [m, ...] as NumPy arrays, the row of each training client, -1
        for one that never took part)."""
        out = []
        for t, (team, held) in enumerate(zip(self.teams, states, strict=True)):
            made = self.workers.fetch(self.workers.call(self.home(t), "own", t, held.state))
            mine = range(len(team.lanes))
            out += [(jax.tree.map(lambda x, i=i: x[i], made), team.slots_of(i)) for i in mine]
        return out


def simulate(
    engine: Engine, states: list[Handles], stops: Sequence[int], first: int = 0
) -> Iterator[tuple[list[Handles], Round]]:
    """Train from round `first`, yielding (states, Round) at each of `stops` (numbers of rounds done)."""
    for stop in stops:
        states, result = engine.advance(states, first, stop - first)
        first = stop
        yield states, result
