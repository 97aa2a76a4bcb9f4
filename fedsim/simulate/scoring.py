"""Scores of rows that are judged: cut into calls of equal shape, and spread over the workers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from fedsim.simulate import adapting, judged, streamed
from fedsim.simulate.adapting import Group
from fedsim.simulate.items import COLUMN, WORDS, rows_of

if TYPE_CHECKING:
    from fedsim.simulate.engine import Engine, Handles

Asked = tuple[Any, int]  # a handle to scores, and how many slices they are of
_AHEAD = 2  # calls that may wait for a worker where models are made for them


def scores(
    engine: Engine,
    states: list[Handles],
    wanted: Sequence[Sequence[judged.Segment]],
    personal: bool,
    triggered: bool = False,
    adapt: bool = False,
    curves: bool = False,
) -> list[np.ndarray]:
    """Scores of each team's and lane's segment of rows, per lane; by the server's models unless
    `personal`; adapt: by models that clients make of their training rows; curves: as in
    `Engine.predict`."""
    waiting = [
        _ask(engine, t, h, *judged.slices(engine.teams[t], wanted[t], personal, triggered), adapt, curves)
        for t, h in enumerate(states)
    ]
    out: list[np.ndarray] = []
    for asked, rows, lengths in waiting:
        scores = [(np.asarray(engine.workers.fetch(handle)), used) for handle, used in asked]
        if not scores:
            out += [np.zeros(0, np.float32) for _ in lengths]
            continue
        flat = np.concatenate([x.reshape(-1, *x.shape[3:])[:used] for x, used in scores])
        flat = flat[np.arange(flat.shape[1]) < rows[:, None]]
        out += np.split(flat, np.cumsum(lengths)[:-1])
    return out


def _ask(
    engine: Engine,
    team: int,
    held: Handles,
    slices: np.ndarray,
    lengths: list[int],
    adapt: bool,
    curves: bool,
) -> tuple[list[Asked], np.ndarray, list[int]]:
    """Start scoring a team: (what is on its way, rows of each slice, rows of each lane)."""
    mine, step = engine.teams[team], engine.widths.scored * engine.widths.items
    if adapt:
        groups = adapting.groups(mine, slices, engine.streamed)
    else:
        groups = [Group(slices[at : at + step]) for at in range(0, len(slices), step)]
    asked: list[Asked] = []
    # Where clients keep nothing, a state is small enough to be scored on all workers.
    kept = engine.traits.memory_bytes or engine.widths.clients
    used = 1 if kept else min(engine.workers.count, len(groups))
    at_worker = [(engine.home(team) + d) % engine.workers.count for d in range(used)]
    sent = [held.state, *(engine.workers.share(held.state, d) for d in at_worker[1:])]
    for i, group in enumerate(groups):
        worker, state = at_worker[i % used], sent[i % used]
        models = adapted(engine, worker, team, state, held.done, group)
        for at in range(0, len(group.slices), step):
            here = slice(at, at + step)
            own = None if models is None else (models, group.place[here])
            asked.append(_score(engine, worker, team, state, group.slices[here], own, curves))
            engine.wait([call for call, _ in asked], _AHEAD * used if own else None)
    return asked, slices[:, COLUMN["rows"]], lengths


def adapted(engine: Engine, worker: int, team: int, state: Any, done: int, group: Group) -> Any:
    """The models that a group's clients are judged by, where they are made for it."""
    if group.words is None:
        return None
    mine, columns, words = engine.teams[team], None, group.words
    if engine.streamed:
        fits = streamed.adapting(mine.lanes, engine.widths)
        columns, words = engine.buffers(mine, words, rows_of(words), fits)
    rounds = np.zeros(engine.widths.lanes, np.int32)
    rounds[: len(mine.lanes)] = [min(done, lane.rounds) for lane in mine.lanes]
    return engine.workers.call(worker, "adapt", team, state, words, group.blocks, rounds, columns)


def _score(
    engine: Engine, worker: int, team: int, state: Any, slices: np.ndarray, own: Any, curves: bool
) -> Asked:
    """Start scoring at most one call of slices; own: models, and the place of each slice's."""
    w, columns = engine.widths, None
    items: Any = np.zeros((w.scored * w.items, WORDS), np.int32)
    items[: len(slices)] = slices
    if own is not None:
        place = np.full(len(items), -1, np.int32)
        place[: len(slices)] = own[1]
        own = own[0], place.reshape(w.scored, w.items)
    if engine.streamed:
        items[:, COLUMN["begin"]] += items[:, COLUMN["version"]]
        items[:, COLUMN["version"]] = 0
        columns, items = engine.buffers(
            engine.teams[team], items, items[:, COLUMN["rows"]], len(items) * w.slice
        )
    items, blocks = items.reshape(w.scored, w.items, WORDS), -(-len(slices) // w.items)
    call = engine.workers.call(worker, "predict", team, state, items, blocks, columns, own, curves)
    return call, len(slices)
