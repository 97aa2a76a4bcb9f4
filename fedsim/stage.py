"""A channel is stages between client and server, each with a half at either end.

Stages wrap the message as a whole: a stage never knows which algorithm sent it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax

from fedsim import trees
from fedsim.base import RequestError

Tree = Any
Array = jax.Array
Key = jax.Array


@dataclass(frozen=True)
class Mechanism:
    """The guarantee a stage carries.

    sensitivity: most that one unit can move the sum, in the norm the noise is calibrated to.
    cost: what one release costs, in the accountant's terms.
    unit: whose presence is hidden.
    """

    sensitivity: Any
    cost: dict[str, Any]
    unit: str


@dataclass(frozen=True)
class Stage:
    """One stage.

      init: message template -> state at the server.
      init_memory: message template -> memory at the client.
      client: (message, memory, server state, key) -> (message, memory).
      server: (aggregate, server state, key, what a mean over the cohort divides by) -> (aggregate, server
      state).
      nbytes: message template -> bytes sent up per client.
      announce: (server state, a key of the round) -> what all clients of the round are told, which their
      half gets as the server state: how they come to draw the same at random.
      announced: bytes that telling one client of it takes, each round.
      report: (message as it comes to the stage, what was announced) -> numbers that the client sends beside
      its message, and that are summed over clients as they are.
      reported: bytes that these take, without a secure sum, in which they are numbers among others; 0 for
      what is counted for whoever debugs a run.
      hear: (server state, the sum of the reports, key, what a mean over the cohort divides by) -> server
      state, after `server`.
      measures: server state -> numbers that are stored with every judged round, by the name of their column.
      summed: the aggregate must be a sum over clients.
      labels: None, or (labels, positions of their rows among the client's own, classes, key) -> labels that
      the client trains on; the key is the client's own, and the same in every round.
    uniform: its weights must not depend on the data.
    fixed: its weights, and what a mean divides by, must not depend on the data or on who takes part.
    everyone: every client must take part in every round.
    returning: clients must take part more than once, or their memory is never used.
    scales: its client half, and what it reports, depend on a message's numbers by their magnitudes alone, but
      that each number keeps its sign.
    ring: None, or the bits b of whole numbers modulo 2**b: its client half makes int32 of a message, which
      are summed as they come, with weight 1 and wrap-around, and its server half gets their sum and makes
      the mean. Modulo 2**b is all that the server uses of the sum, and all that masked messages need to sum
      to; beyond that, the simulator counts what did not fit.
    """

    init: Callable[[Tree], Tree]
    init_memory: Callable[[Tree], Tree]
    client: Callable[[Tree, Tree, Tree, Key], tuple[Tree, Tree]]
    server: Callable[[Tree, Tree, Key, Array], tuple[Tree, Tree]]
    nbytes: Callable[[Tree], int] = trees.nbytes
    announce: Callable[[Tree, Key], Tree] = lambda state, key: state
    announced: int = 0
    report: Callable[[Tree, Tree], Tree] = lambda message, state: ()
    reported: int = 0
    hear: Callable[[Tree, Tree, Key, Array], Tree] = lambda state, reports, key, count: state
    measures: Callable[[Tree], dict[str, Array]] = lambda state: {}
    mechanism: Mechanism | None = None
    summed: bool = False
    labels: Callable[[Array, Array, int, Key], Array] | None = None
    uniform: bool = False
    fixed: bool = False
    everyone: bool = False
    returning: bool = False
    scales: bool = False
    ring: int | None = None


def nothing(message: Tree) -> Tree:
    """State of a stage that keeps none."""
    return ()


identity = Stage(
    init=nothing,
    init_memory=nothing,
    client=lambda message, memory, state, key: (message, memory),
    server=lambda aggregate, state, key, count: (aggregate, state),
    scales=True,
)


def check(
    stage: Stage, name: str, needy: str | None, weighting: str, everyone: bool, participations: float
) -> None:
    """Refuse what a stage is unsound with, with the reason.

    Args:
      needy: the option that needs messages one by one, as in aggregator=median; None where they are summed;
        weighting: the algorithm's config's.
      everyone: whether every client takes part in every round.
      participations: rounds that a client takes part in, on average, over the whole run.
    """
    if stage.summed and needy is not None:
        raise RequestError(
            f"{name} needs a sum over clients, and what {needy} makes of their messages is not a sum; choose "
            "aggregator=mean and an algorithm that averages, such as algorithm=fedavg"
        )
    if (stage.fixed or stage.uniform) and weighting != "uniform":
        raise RequestError(
            f"{name} needs weights that do not depend on the data, got algorithm.weighting={weighting}; "
            "set algorithm.weighting=uniform"
        )
    if stage.everyone and not everyone:
        raise RequestError(
            f"{name} needs every client in every round, because the server's memory stands for all of them; "
            "set world=all"
        )
    if stage.returning and participations < 2:
        raise RequestError(
            f"{name} keeps at the client what it did not send, for the next time, but here a client takes "
            f"part {participations:.2g} times on average, and needs 2; set more rounds, a larger cohort "
            "or fewer clients, or choose a channel without memory, such as channel=qsgd"
        )
