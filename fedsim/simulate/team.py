"""A team on the host: who takes part in which round, and how that is packed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from fedsim import topology, world
from fedsim.config import Drift
from fedsim.data.splits.drift import window
from fedsim.simulate import packing, streamed
from fedsim.simulate.items import COLUMN
from fedsim.simulate.lanes import Lane, Layout, local_steps
from fedsim.simulate.packing import Plan, Selection, Widths
from fedsim.simulate.schedule import Meeting, Schedule, schedule
from fedsim.system import Load


@dataclass
class TeamPlan:
    """A team's lanes on the host: their layout, which row of client memory each has been given so far (-1:
    none), and rounds packed before they are asked for. loads: of every lane."""

    lanes: Sequence[Lane]
    layout: Layout
    widths: Widths
    versions: int
    loads: Sequence[Load]
    masked: int = 0
    slots: list[np.ndarray] = field(default_factory=list)
    ahead: dict[int, Plan] = field(default_factory=dict)
    constant: tuple[tuple[bool, ...], Plan] | None = None
    buffered: tuple[Plan, dict[str, np.ndarray], Plan] | None = None

    def __post_init__(self) -> None:
        self.rooted = self.lanes[0].experiment.aggregator.root > 0
        # The server's own rows, where it has any, keep what a client would keep.
        self.slots = [np.full(int(n) + self.rooted, -1, np.int32) for n in self.layout.count]
        if self.widths.clients:  # all have a model from the start, at their position
            self.slots = [np.arange(n, dtype=np.int32) for n in self.layout.count]
        self.taken = np.zeros(len(self.lanes), np.int64)
        self.last = max(lane.rounds for lane in self.lanes)
        self.capacity = streamed.capacity(self.lanes, self.widths)
        self.schedules = self._schedules()

    def _schedules(self) -> list[Schedule]:
        """Of every lane. Lanes that share seed, clients and machines share one, unless models choose."""
        chooses = world.chooses(self.world)
        known: dict[Any, Schedule] = {}
        found = []
        for i, lane in enumerate(self.lanes):
            begin, count = int(self.layout.offset[i]), int(self.layout.count[i])
            load, e = self.loads[i], lane.experiment
            key = (e.seed, e.system, load, begin, count, i if chooses else 0)
            if key not in known:
                # Under drift another window each round, of as many rows.
                rows = self.held(i, 0)[1].astype(np.int64)
                steps = local_steps(rows, lane.experiment)
                graph = None
                if self.widths.clients:
                    graph = topology.Graph(*(x[i] for x in self.layout.inputs.graph))
                known[key] = schedule(lane, rows, steps, load, self.last, graph, self.masked)
            found.append(known[key])
        return found

    @property
    def world(self) -> Any:
        return self.lanes[0].experiment.world

    def select(self, rnd: int) -> list[Selection | None]:
        """Every lane's cohort in round `rnd`; None where the lane has had its rounds, or this one comes to
        nothing."""
        chosen: list[Selection | None] = [None] * self.widths.lanes
        met: dict[int, Meeting] = {}
        for i, (lane, its) in enumerate(zip(self.lanes, self.schedules, strict=True)):
            if rnd >= lane.rounds:
                continue
            if id(its) not in met:
                met[id(its)] = its.meet(rnd)
            if met[id(its)].given_up:
                continue
            cohort, ages, steps = met[id(its)][:3]
            version = ((rnd - ages) % self.versions).astype(np.int32)
            if self.widths.clients:
                version = cohort.astype(np.int32)
            root = self.rooted and len(cohort) > 0
            if root:  # behind the clients: all of its steps, from the newest model
                cohort = np.append(cohort, self.layout.count[i])
                version = np.append(version, np.int32(rnd % self.versions))
                steps = np.append(
                    steps, self.layout.table.steps[self.layout.offset[i] + self.layout.count[i]]
                )
            chosen[i] = Selection(cohort, self.memory_of(i, cohort), version, steps, root)
        return chosen

    def sizes(self, rnd: int) -> np.ndarray:
        """Clients in every lane's cohort of round `rnd`, which has been packed before; i32[lanes]."""
        if not self.steady:
            return self._sizes(rnd)
        return np.where(rnd < self.ends, self.first_sizes, 0).astype(np.int32)

    @cached_property
    def ends(self) -> np.ndarray:
        """Rounds of every lane, i64[lanes]."""
        return np.array([lane.rounds for lane in self.lanes], np.int64)

    @cached_property
    def first_sizes(self) -> np.ndarray:
        return self._sizes(0)

    def _sizes(self, rnd: int) -> np.ndarray:
        chosen = self.select(rnd)[: len(self.lanes)]
        return np.array([0 if c is None else c.clients for c in chosen], np.int32)

    def slots_of(self, lane: int) -> np.ndarray:
        """Row of client memory of each of a lane's training clients, -1 for one that never took part."""
        return self.slots[lane][: int(self.layout.count[lane])]

    @cached_property
    def drifts(self) -> bool:
        """Whether clients' rows differ from round to round, in some lane."""
        return any(isinstance(lane.experiment.split, Drift) for lane in self.lanes)

    @cached_property
    def steady(self) -> bool:
        """Whether every round is the same."""
        return self.schedules[0].steady and not self.drifts

    def held(self, lane: int, rnd: int) -> tuple[np.ndarray, np.ndarray]:
        """(first training row, how many) that each training client of a lane trains on in round `rnd`."""
        at = slice(self.layout.offset[lane], self.layout.offset[lane] + self.layout.count[lane])
        rows, e = self.layout.table.rows[at], self.lanes[lane].experiment
        if isinstance(e.split, Drift):
            return window(e.split, rows, rnd, e.rounds)
        return np.zeros(len(rows), np.int64), rows

    def words(self, rnd: int) -> np.ndarray:
        """Every client as an item, with the rows of round `rnd`."""
        if not self.drifts:
            return self.layout.words
        words = self.layout.words.copy()
        for i, lane in enumerate(self.lanes):
            at = slice(self.layout.offset[i], self.layout.offset[i] + self.layout.count[i])
            first, rows = self.held(i, rnd)
            words[at, COLUMN["begin"]] = self.layout.table.begin[at] + first
            words[at, COLUMN["rows"]] = rows
            if lane.experiment.algorithm.weighting == "examples":
                words[at, COLUMN["weight"]] = rows.astype(np.float32).view(np.int32)
        return words

    def candidates(self, rnd: int) -> list[np.ndarray]:
        """Those that every lane asks in round `rnd`."""
        nobody = np.zeros(0, np.int64)
        pairs = zip(self.lanes, self.schedules, strict=True)
        return [its.asked(rnd) if rnd < lane.rounds else nobody for lane, its in pairs]

    def choose(self, rnd: int, asked: list[np.ndarray], losses: list[np.ndarray]) -> None:
        """Who trains in round `rnd`, by the losses that those that were asked have told."""
        for its, who, told in zip(self.schedules, asked, losses, strict=True):
            its.choice = rnd, world.chosen(self.world, its.experiment.seed, rnd, who, told)

    def memory_of(self, lane: int, cohort: np.ndarray) -> np.ndarray:
        """Rows of client memory, given out in the order in which clients first take part."""
        slots = self.slots[lane]
        new = cohort[slots[cohort] < 0]
        slots[new] = self.taken[lane] + np.arange(len(new), dtype=np.int32)
        self.taken[lane] += len(new)
        return slots[cohort]

    def restore(self, slots: np.ndarray) -> None:
        """Take client memory as it was given out, all lanes' `slots` one after another."""
        ends = np.cumsum([len(part) for part in self.slots])
        self.slots = [part.astype(np.int32) for part in np.split(slots, ends[:-1])]
        self.taken = np.array([int((part >= 0).sum()) for part in self.slots], np.int64)

    def plan(self, first: int, count: int) -> tuple[Plan, int, int]:
        """(plan, stride, rounds it covers) from round `first`, at most `count`."""
        if self.steady:
            goes_on = first < self.ends
            active, end = tuple(goes_on.tolist()), int(self.ends[goes_on].min())
            if self.constant is None or self.constant[0] != active:
                self.constant = active, packing.stack([self.pack(first)], 1)
            return self.constant[1], 0, min(count, end - first)
        covered = min(count, self.widths.rounds)
        return packing.stack([self.pack(first + r) for r in range(covered)], self.widths.rounds), 1, covered

    def pack(self, rnd: int) -> Plan:
        return self.ahead.pop(rnd, None) or packing.pack(
            self.select(rnd), self.layout, self.widths, self.words(rnd)
        )

    def prepare(self, first: int, count: int) -> None:
        """Pack rounds that come next, while devices are at work."""
        if not self.steady:
            for rnd in range(first, min(first + count, self.last)):
                self.ahead[rnd] = self.pack(rnd)
