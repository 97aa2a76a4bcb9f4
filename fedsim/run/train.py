"""Train a pack of lanes to its stops, with checkpoints; the same bits however often it was killed."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np

from fedsim.base import Interrupted
from fedsim.simulate.engine import Engine, Handles, Round
from fedsim.simulate.structure import State
from fedsim.simulate.worker import named
from fedsim.store import checkpoint, source

AGAIN = "the same command goes on from there"
_CALL_SECONDS = 1.0  # training between looks at the clock, the keyboard and the progress bar


@dataclass
class Memo:
    """Where a pack's checkpoints lie, and what must be found in them.

    owner: what the checkpoint belongs to, such as run ids and phase; another owner's is ignored.
    every: seconds between checkpoints; stopped: whether to save now, and go no further.
    """

    stem: Path
    owner: str
    every: float
    note: Callable[[str], object]
    stopped: Callable[[], bool] = lambda: False


def train(
    engine: Engine,
    stops: Sequence[int],
    memo: Memo,
    rows: Callable[[], Any],
    restore: Callable[[Any], None],
    advance: Callable[[int], object],
) -> Iterator[tuple[list[Handles], Round]]:
    """Yield (states, Round) at each of `stops`; start from the newest checkpoint, if there is one.

    Args:
      rows: what was measured at earlier stops, as plain data for the checkpoint; `restore` takes it
        back. Stops before the checkpoint are not yielded again.
      advance: told the rounds trained, for the progress bar.

    Raises:
      Interrupted: `memo.stopped` said so, and the checkpoint is saved.
    """
    states, first = engine.init(), 0
    finite = np.ones(len(engine.lanes), bool)
    found = checkpoint.load(memo.stem, memo.note)
    if found is not None and found[1]["owner"] == memo.owner:
        foreign = _foreign(engine, states, *found)
        if foreign:
            memo.note(f"the checkpoint is {foreign}; starting over")
            found = None
    if found is not None and found[1]["owner"] == memo.owner:
        arrays, meta = found
        states, first = _put(engine, states, arrays), int(meta["round"])
        finite = np.array(meta["finite"], bool)
        for t, team in enumerate(engine.teams):
            team.restore(arrays[f"slots/{t}"])
        for i, schedule in enumerate(engine.schedules):
            schedule.restore(arrays[f"costs/{i}"])
        restore(meta["rows"])
        memo.note(f"resuming at round {first}")
        advance(first)
    saved = time.monotonic()
    chunk = 1

    def save_if_due() -> None:
        nonlocal saved
        stopped = memo.stopped()
        if stopped or time.monotonic() - saved >= memo.every:
            _save(engine, states, memo, first, finite, rows())
            saved = time.monotonic()
        if stopped:
            raise Interrupted(f"stopped at round {first} of {stops[-1]}, which is saved; {AGAIN}")

    for stop in (s for s in stops if s > first):
        while first < stop:
            count = min(chunk, stop - first)
            begin = time.monotonic()
            states, result = engine.advance(states, first, count)
            first += count
            finite &= result.finite
            advance(count)
            spent = max(time.monotonic() - begin, 1e-4)
            chunk = max(1, int(count * min(8.0, _CALL_SECONDS / spent)))
            if first < stop:
                save_if_due()
        yield states, result._replace(finite=finite.copy())
        if first < stops[-1]:
            save_if_due()


def _save(engine: Engine, states: list[Handles], memo: Memo, rnd: int, finite: np.ndarray, rows: Any) -> None:
    arrays: dict[str, np.ndarray] = {}
    for t, state in enumerate(engine.fetch(states)):
        arrays |= {f"{t}/{name}": value for name, value in named(state).items()}
    arrays |= {f"slots/{t}": np.concatenate(team.slots) for t, team in enumerate(engine.teams)}
    arrays |= {f"costs/{i}": schedule.saved(rnd) for i, schedule in enumerate(engine.schedules)}
    meta = {"owner": memo.owner, "round": rnd, "finite": finite.tolist(), "rows": rows, "source": source()}
    checkpoint.save(memo.stem, arrays, meta)


def _foreign(
    engine: Engine, states: list[Handles], arrays: dict[str, np.ndarray], meta: dict[str, Any]
) -> str | None:
    """Why a checkpoint is not gone on from: half a run of one version and half of another is of neither."""
    if meta.get("source") != source():
        return "another version's of the code"
    return None if _fits(engine, states, arrays) else "of states that have other shapes"


def _fits(engine: Engine, states: list[Handles], arrays: dict[str, np.ndarray]) -> bool:
    """Whether a checkpoint's arrays fill the states of this engine."""
    wanted = {f"slots/{t}": np.concatenate(team.slots).shape for t, team in enumerate(engine.teams)}
    for t, held in enumerate(engine.fetch(states)):
        wanted |= {f"{t}/{name}": x.shape for name, x in named(held).items()}
    found = {name: x.shape for name, x in arrays.items() if not name.startswith("costs/")}
    return found == wanted and f"costs/{len(engine.schedules) - 1}" in arrays


def _put(engine: Engine, states: list[Handles], arrays: dict[str, np.ndarray]) -> list[Handles]:
    """States filled with a checkpoint's arrays."""
    out = []
    for t, held in enumerate(engine.fetch(states)):
        names = list(named(held))
        leaves, treedef = jax.tree.flatten(held)
        new = [
            arrays[f"{t}/{name}"].astype(x.dtype).reshape(x.shape)
            for name, x in zip(names, leaves, strict=True)
        ]
        state: State = jax.tree.unflatten(treedef, new)
        out.append(Handles(engine.place(t, state)))
    return out
