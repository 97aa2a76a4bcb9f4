"""What an algorithm is: five pure functions, and how its messages become one.

An algorithm knows nothing of privacy, channels, blocks, lanes or workers.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from fedsim import trees
from fedsim.local import Batches
from fedsim.model import Model
from fedsim.topology import Graph

Tree = Any
Array = jax.Array
Key = jax.Array


class Cohort(NamedTuple):
    """Who is behind an aggregate.

    size: clients that sent; population: clients that could have; fixed: what a mean divides by where
    a mechanism asks for a number that does not depend on who is there, else None.
    """

    size: Array
    population: Array
    fixed: Array | None = None


@dataclass(frozen=True)
class Reduction:
    """An aggregate that is a sum over clients.

    lift: (message, weight) -> what is summed; the engine sums it in the fixed tree.
    finish: (sum, cohort) -> aggregate.
    """

    lift: Callable[[Tree, Array], Tree]
    finish: Callable[[Tree, Cohort], Tree]


@dataclass(frozen=True)
class Stack:
    """An aggregate that needs all messages at once.

    combine: (messages [cohort, ...] in cohort order, weights [cohort], present bool[cohort]) ->
      aggregate. Rows that are not present hold zeros.
    """

    combine: Callable[[Tree, Array, Array], Tree]


@dataclass(frozen=True)
class Exchange:
    """No server: every client has a model of its own to start from, and messages go along a graph.

    combine: (what clients started from [K, ...], messages [K, ...], present bool[K], graph) -> (what they
      start from next, aggregate). Row k is the client at position k; messages of clients that are not
      present hold zeros, and places without a client have share 0.
    """

    combine: Callable[[Tree, Tree, Array, Graph], tuple[Tree, Tree]]


@dataclass(frozen=True)
class Survey:
    """What a round asks of its cohort before anyone trains: an exchange of its own.

    answer: (start, batches, key) -> message. `start` is what `send` made.
    aggregate: how answers become one; clients weigh as they do when they have trained.
    """

    answer: Callable[[Tree, Batches, Key], Tree]
    aggregate: Reduction


@dataclass(frozen=True)
class Algorithm:
    """One federated method.

    init: first model -> server state.
    draw: (that state, key) -> the server state, with what is drawn at the start beside the first model.
    init_memory: first model -> what a client keeps between rounds, () for nothing.
    client_update: (start, memory, batches, key) -> (message, memory). `start` is what `send` made.
    aggregate: how messages become one.
    server_update: (server, aggregate) -> server.
    survey: where a round has two exchanges, the first. Then `start` in `client_update` and `aggregate` in
      `server_update` are pairs: (what `send` made, what the survey found), and (what it found, aggregate).
    send: server -> what a client starts from; with an `Exchange`, in the first round only.
    model: server -> the model that is judged.
    personal: (what the client starts from, memory) -> the client's own model, where it has one.
    adapt: (what `send` made, memory, batches, key) -> the model that a client with training rows is judged
      by, made from them then and there; it is neither sent nor kept. Other clients are judged as if there
      were no `adapt`.
    measures: server -> numbers that are stored with every judged round, by the name of their column.
    pooled: all training rows are one client.
    discount: rounds since a message's start was the newest -> what its weight is multiplied by; None: 1.
    exact: what is sent are sums over rows that must be those of all clients, to the last digits: what would
      change, bound or leave out a message is refused.
    """

    init: Callable[[Model], Tree]
    init_memory: Callable[[Model], Tree]
    client_update: Callable[[Tree, Tree, Batches, Key], tuple[Tree, Tree]]
    aggregate: Reduction | Stack | Exchange
    server_update: Callable[[Tree, Tree], Tree]
    survey: Survey | None = None
    draw: Callable[[Tree, Key], Tree] = lambda server, key: server
    send: Callable[[Tree], Tree] = lambda server: server
    model: Callable[[Tree], Model] = lambda server: server
    personal: Callable[[Tree, Tree], Model] | None = None
    adapt: Callable[[Tree, Tree, Batches, Key], Model] | None = None
    measures: Callable[[Tree], dict[str, Array]] = lambda server: {}
    pooled: bool = False
    discount: Callable[[Array], Array] | None = None
    exact: bool = False


def no_memory(model: Model) -> Tree:
    """For algorithms whose clients keep nothing."""
    return ()


def _lift_mean(message: Tree, weight: Array) -> tuple[Tree, Array]:
    return trees.scale(message, weight), weight


def _finish_mean(total: tuple[Tree, Array], cohort: Cohort) -> Tree:
    message, weight = total
    if cohort.fixed is not None:
        return trees.scale(message, 1 / cohort.fixed)
    # Nobody there: the mean update is no update.
    return trees.scale(message, jnp.where(weight > 0, 1 / jnp.where(weight > 0, weight, 1), 0))


weighted_mean = Reduction(_lift_mean, _finish_mean)

# For messages of whole numbers, of which the mechanism that made them makes the mean.
whole_numbers = Reduction(lambda message, weight: message, lambda total, cohort: total)

# For messages that are sums over a client's rows.
added = Reduction(lambda message, weight: message, lambda total, cohort: total)

# For algorithms that send nothing.
nothing = Reduction(lambda message, weight: (), lambda total, cohort: ())
