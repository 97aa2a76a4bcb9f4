"""From cohorts to blocks: which item sits in which slot. NumPy on the host, small integers only.

Packing decides where work happens and never how sums are formed: a group's members and their order
follow from its lane's cohort alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from fedsim.base import FedsimError
from fedsim.simulate.items import COLUMN
from fedsim.simulate.lanes import Layout


@dataclass(frozen=True)
class Widths:
    """Sizes that belong to the experiment, because they decide the shapes and so the last bits.

    block: items trained side by side; group: clients summed before groups are merged.
    lanes: lanes in a team, whose server steps run side by side.
    shared: whether a round is cut into tickets for workers to share, or runs many to a call.
    tickets: parts of a round.
    devices: of one process, that share every round inside one program, a ticket each; 1 where each
      works alone.
    blocks, groups: of one ticket; merge: groups of one lane.
    memory: rows of client memory per lane.
    rounds: plans sent at once where cohorts change from round to round and rounds are not shared.
    brief: whether all rounds together take less time than compiling them well does.
    exchanges: between the server and a round's cohort; 2 where a survey comes first.
    clients, degree: of a graph, places and neighbours of each at most; 0 where there is a server.
    slice, items, scored: rows scored side by side, slices per block, blocks per call.
    """

    block: int
    group: int
    lanes: int
    shared: bool
    tickets: int
    blocks: int
    groups: int
    merge: int
    memory: int
    devices: int = 1
    rounds: int = 64
    brief: bool = False
    exchanges: int = 1
    clients: int = 0
    degree: int = 0
    slice: int = 64
    items: int = 16
    scored: int = 64

    @property
    def chunk(self) -> int:
        """Slots of one block that belong to the same group."""
        return min(self.block, self.group)

    @property
    def adapted(self) -> int:
        """Clients' models made in one call where clients are judged: about as many as it scores slices, a
        whole number of blocks on every device."""
        each = self.devices * self.block
        return max(1, self.scored * self.items // each) * each


class Plan(NamedTuple):
    """One round of a team (leading axes [ticket, block] and [lane]), or several stacked in front.

    items: `items.words` of [T, NB, b]; targets: i32[T, NB, b / chunk], the group sum of that ticket which a
    chunk is added to; blocks: i32[T]; merge: i32[L, J], where a lane's groups lie among all tickets' sums, -1
    for none, in a graph by position; size: i32[L], clients in the cohort; active: bool[L].
    """

    items: np.ndarray
    targets: np.ndarray
    blocks: np.ndarray
    merge: np.ndarray
    size: np.ndarray
    active: np.ndarray


class Selection(NamedTuple):
    """A lane's cohort in one round: positions among its clients, memory rows, start versions, steps.

    root: whether the last is no client, but the server's own rows.
    """

    positions: np.ndarray
    memory: np.ndarray
    version: np.ndarray
    steps: np.ndarray
    root: bool = False

    @property
    def clients(self) -> int:
        return len(self.positions) - self.root


def pack(
    cohorts: Sequence[Selection | None], lay: Layout, widths: Widths, words: np.ndarray | None = None
) -> Plan:
    """Lay one round's cohorts (None for a lane that is not there or has finished) out over tickets.

    words: as `lay.words`, which they default to, where a client's rows differ from round to round.

    Raises FedsimError when a random cohort is larger than there is room for.
    """
    lanes, no_memory = widths.lanes, widths.memory
    # In a graph a client's message lies at the client's own position.
    merge = np.full((lanes, widths.clients or widths.merge), -1, np.int32)
    size = np.zeros(lanes, np.int32)
    active = np.zeros(lanes, bool)
    slots, slot_lane, slot_memory, slot_version, slot_steps = [], [], [], [], []  # [groups, group] each
    owner: list[tuple[int, int]] = []
    g = widths.group
    for lane, chosen in enumerate(cohorts):
        if chosen is None:
            continue
        active[lane] = True
        n, size[lane] = len(chosen.positions), chosen.clients
        if n == 0:
            continue
        if chosen.memory.max() >= no_memory:
            raise FedsimError(
                f"lane {lane} needs more than the {no_memory} rows of client memory it was laid out with"
            )
        rows = lay.offset[lane] + chosen.positions
        # Cohort order: longest first, so that a block's items stop together.
        order = np.argsort(-chosen.steps, kind="stable")
        if chosen.root:  # but the server's message is the first that the rule is given
            order = np.concatenate([[n - 1], order[order < n - 1]])
        groups = -(-n // g)
        if groups > widths.merge:
            room = widths.merge * g
            raise FedsimError(
                f"a cohort of {n} clients exceeds the {room} there is room for; lower world.rate"
            )
        padded = np.full((groups, g), -1, np.int64)
        padded.reshape(-1)[:n] = order
        here = padded >= 0
        pick = np.where(here, padded, 0)
        slots.append(np.where(here, rows[pick], -1))
        slot_lane.append(np.full(padded.shape, lane, np.int32))
        slot_memory.append(np.where(here, chosen.memory[pick], no_memory))
        slot_version.append(np.where(here, chosen.version[pick], 0))
        slot_steps.append(np.where(here, chosen.steps[pick], 0))
        places = chosen.positions[order].tolist() if widths.clients else range(len(padded))
        owner += [(lane, j) for j in places]

    d, nb, b, c = widths.tickets, widths.blocks, widths.block, widths.chunk
    per_unit = max(b, g) // g  # groups that stay together: a whole number of blocks
    where = np.full((d, nb * b), -1, np.int64)
    lane_of = np.zeros((d, nb * b), np.int32)
    memory_of = np.full((d, nb * b), no_memory, np.int32)
    version_of = np.zeros((d, nb * b), np.int32)
    steps_of = np.zeros((d, nb * b), np.int32)
    targets = np.full((d, nb, b // c), widths.groups, np.int32)
    blocks = np.zeros(d, np.int32)
    if slots:
        table, lane_slots = np.concatenate(slots), np.concatenate(slot_lane)
        memories, versions = np.concatenate(slot_memory), np.concatenate(slot_version)
        steps = np.concatenate(slot_steps)
        order = np.argsort(-steps[:, 0], kind="stable")  # the longest lies first in its group
        position = np.arange(len(order))
        unit, inside = position // per_unit, position % per_unit
        turn, seat = unit // d, unit % d
        ticket = np.where(turn % 2 == 0, seat, d - 1 - seat)  # there and back, to even out the work
        local = turn * per_unit + inside  # group's place among this ticket's sums
        begin = local * g
        cols = begin[:, None] + np.arange(g)
        where[ticket[:, None], cols] = table[order]
        lane_of[ticket[:, None], cols] = lane_slots[order]
        memory_of[ticket[:, None], cols] = memories[order]
        version_of[ticket[:, None], cols] = versions[order]
        steps_of[ticket[:, None], cols] = steps[order]
        chunk_cols = (begin[:, None] // c) + np.arange(g // c)
        flat_targets = targets.reshape(d, -1)
        flat_targets[ticket[:, None], chunk_cols] = local[:, None]
        np.maximum.at(blocks, ticket, (-(-(begin + g) // b)).astype(np.int32))
        owners = np.array(owner, np.int64)[order]
        merge[owners[:, 0], owners[:, 1]] = ticket * widths.groups + local
    items = (lay.words if words is None else words)[where]
    items[..., COLUMN["lane"]] = lane_of
    items[..., COLUMN["memory"]] = memory_of
    items[..., COLUMN["version"]] = version_of
    items[..., COLUMN["steps"]] = steps_of
    return Plan(items.reshape(d, nb, b, -1), targets, blocks, merge, size, active)


def stack(plans: list[Plan], length: int) -> Plan:
    """Rounds one after another, on a new first axis padded to `length` by repeating the last."""
    padded = plans + [plans[-1]] * (length - len(plans))
    return Plan(*(np.stack(c) for c in zip(*padded, strict=True)))


def waste(plan: Plan, widths: Widths) -> tuple[int, int]:
    """(item-steps computed, item-steps needed) of one round, or of all that were stacked."""
    steps = plan.items[..., COLUMN["steps"]]
    used = np.arange(steps.shape[-2]) < plan.blocks[..., None]
    return int((steps.max(axis=-1) * used).sum()) * widths.block, int(steps.sum())
