"""How many gradients an algorithm asks of a client in a round, where each of them costs privacy.

Found by tracing, as what a round computes is, but counted as no less than it will be: what depends on more
than the number of local steps is refused, and so is one question about several models at once, whose answers
would share their noise.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from fedsim import trees
from fedsim.local import Batches, Oracle, Refused, Whole
from fedsim.model import Batch, Model
from fedsim.simulate.cost import Undecided, mark, traced, walk
from fedsim.simulate.structure import Structure
from fedsim.simulate.traits import Answers

Tree = Any


def answers(s: Structure) -> Answers:
    """The gradients that a client answers in a round.

    Raises Refused where nobody can tell before.
    """
    lots, full = (_each(s, counting(of_lots)) for of_lots in (True, False))
    return Answers(lots, full)


def _each(s: Structure, watched: Callable[[Oracle], Oracle]) -> tuple[int, int]:
    """(answers of every local step, answers besides) of one kind."""
    every = [part for part in traced(s, watched) if part is not None]

    def total(steps: int) -> int:
        return sum(count(part, [None] * (len(s.paths) + 1) + [np.int32(steps)]) for part in every)

    begin, first, second, third = (total(steps) for steps in range(4))
    if not first - begin == second - first == third - second:
        raise Refused(_UNKNOWN)
    return first - begin, begin


def count(jaxpr: Any, known: list[Any]) -> int:
    """Marks in what was traced, its first arguments being known or None."""
    try:
        rest = [None] * (len(jaxpr.in_avals) - len(known))
        return int(walk(jaxpr.jaxpr, jaxpr.consts, [*known, *rest], strict=True)[1])
    except Undecided:
        raise Refused(_UNKNOWN) from None


def counting(of_lots: bool) -> Callable[[Oracle], Oracle]:
    """Zeros for gradients, and a mark for each that is of a lot, or of all rows."""

    def wrap(oracle: Oracle) -> Oracle:
        def answer(model: Model, lot: bool) -> Tree:
            mark(model, np.float32(lot == of_lots))
            return trees.zeros(model.params)

        def gradient(model: Model, batch: Batch | Whole, key: Any) -> tuple[Tree, Tree]:
            return answer(model, not isinstance(batch, Whole) or batch.batches.size > 0), model.state

        def full_gradient(model: Model, batches: Batches, key: Any) -> Tree:
            return answer(model, False)

        return oracle._replace(gradient=gradient, full_gradient=full_gradient)

    return wrap


_UNKNOWN = (
    "privacy=record must know how many gradients a client answers in a round, and with this algorithm that "
    "does not follow from its local steps; choose another algorithm, such as algorithm=fedavg, or "
    "privacy=none"
)
