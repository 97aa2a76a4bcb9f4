"""What goes between a server and one client in a round: found by tracing, as zeros."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from fedsim import keys
from fedsim.algorithms import Cohort
from fedsim.config import Experiment
from fedsim.local import Batches, Rows, Window
from fedsim.model import Model
from fedsim.simulate.structure import LOST, Memory, Parts, Structure, batches, changed_if, counters

Tree = Any
Array = jax.Array
Key = jax.Array


class Exchanged(NamedTuple):
    """Zeros shaped and typed like what goes between a server and one client in a round.

    answer: to the survey; found: what the survey comes to; both () where a round has none.
    """

    answer: Tree
    found: Tree
    message: Tree


def exchanged(
    s: Structure, parts: Parts, start: Tree, model: Model, asked: Callable[[int], object] = lambda rows: None
) -> Exchanged:
    """What one client sends and is sent beside `start`. asked: as in `Batches`."""
    shapes = jax.eval_shape(lambda: _exchanged(s, parts, start, model, asked))
    return jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)


def message_of(s: Structure, parts: Parts, start: Tree, model: Model) -> Tree:
    """Zeros shaped and typed like one client's message."""
    return exchanged(s, parts, start, model).message


def summand_of(s: Structure, parts: Parts, start: Tree, model: Model, message: Tree | None = None) -> Tree:
    """Zeros shaped and typed like what one client adds to the sum, and its reports; () where messages are not
    summed."""
    if parts.reduction is None:
        return ()
    message = message_of(s, parts, start, model) if message is None else message

    def sent(message: Tree, weight: Array) -> Tree:
        key = keys.run_key(jnp.zeros(2, jnp.uint32), keys.INIT)
        reports = []
        for through in (parts.channel, parts.privacy):
            told = through.announce(through.init(message), key)
            reports.append(through.report(message, told))
            message, _ = through.client(message, through.init_memory(message), told, key)
        assert parts.reduction is not None
        return parts.reduction.lift(message, weight), (*reports, unlost(s.experiment))

    shapes = jax.eval_shape(sent, message, jnp.zeros((), s.number_dtype))
    return jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)


def unlost(e: Experiment) -> Tree:
    """What a client that lost no gradient reports of it: 0, or () where none can be lost."""
    return jnp.zeros((), jnp.int32) if LOST in counters(e) else ()


def released(s: Structure, parts: Parts, message: Tree) -> Tree:
    """The aggregate of one message, as the mechanism's server half gets it."""
    assert parts.reduction is not None
    one = jnp.ones((), s.number_dtype)
    return parts.reduction.finish(parts.reduction.lift(message, one), Cohort(one, one, one))


def _exchanged(
    s: Structure, parts: Parts, start: Tree, model: Model, asked: Callable[[int], object]
) -> Exchanged:
    zero = jnp.zeros((), jnp.int32)
    mine = stand_in(s, parts, zero + 1, zero)._replace(asked=asked)
    key = mine.key
    memory = parts.algorithm.init_memory(model)
    answer: Tree = ()
    found: Tree = ()
    if parts.algorithm.survey:
        one, total = jnp.ones((), s.number_dtype), parts.algorithm.survey.aggregate
        answer = parts.algorithm.survey.answer(start, mine, key)
        found = total.finish(total.lift(answer, one), Cohort(one, one))
        start = start, found
    return Exchanged(answer, found, parts.algorithm.client_update(start, memory, mine, key)[0])


def stand_in(s: Structure, parts: Parts, count: Array, steps: Array) -> Batches:
    """Batches of a client with `count` rows of zeros, to be traced."""

    def nothing(window: Window, position: Array) -> dict[str, Array]:
        y = jnp.float32 if s.spec.kind == "regression" else jnp.int32
        n = position.shape
        time = {"time": jnp.ones(n, jnp.float32)} if s.spec.kind == "survival" else {}
        by_patient = getattr(s.experiment.privacy, "unit", "") == "patient"
        patient = {"patient": jnp.zeros(n, jnp.int32)} if by_patient else {}
        return {"x": jnp.zeros((*n, *s.spec.shape), s.dtype), "y": jnp.zeros(n, y)} | time | patient

    zero = jnp.zeros((), jnp.int32)
    at = Window(zero, count, zero.astype(jnp.uint32), ())
    key = keys.run_key(jnp.zeros(2, jnp.uint32), keys.INIT)
    lying = changed_if(parts.attack.rows, s.spec, zero != 0, Rows(nothing, s.dtype))
    return batches(s.experiment, lying, at, steps, key)


def send(
    parts: Parts, message: Tree, memory: Memory, stages: tuple[Tree, Tree], key: Key, serving: Key, lost: Tree
) -> tuple[Tree, Memory]:
    """A message on its way through the client halves of channel and mechanism: ((what is sent, reports), the
    client's memory). key: the client's in this round; serving: the server's; lost: as `unlost`."""
    first, second = jax.random.fold_in(key, 0), jax.random.fold_in(key, 1)
    # After 0 and 1, which the server's halves draw from.
    through = parts.channel.announce(stages[0], jax.random.fold_in(serving, 2))
    mechanism = parts.privacy.announce(stages[1], jax.random.fold_in(serving, 3))
    through_report = parts.channel.report(message, through)
    message, kept_channel = parts.channel.client(message, memory.channel, through, first)
    reports = through_report, parts.privacy.report(message, mechanism), lost
    message, kept_privacy = parts.privacy.client(message, memory.privacy, mechanism, second)
    return (message, reports), Memory(memory.algorithm, kept_channel, kept_privacy)
