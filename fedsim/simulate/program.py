"""The compiled program: local training over blocks, the fixed reduction tree, the server's step.

Everything here is pure and runs on one device, or on several of one process at once. A round is
`local` (over blocks), then `finish` (merge groups in order, server step). Small experiments run many
rounds in one call, `rounds`; large ones call `local` once per ticket, on any worker, and `finish` once
per round. All shapes follow from the experiment, so that the same executable does the work wherever it
is done: that, and nothing weaker, is what keeps the bits (docs/design.md, "Same executable, same bits").
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from fedsim import keys, trees
from fedsim.algorithms import Cohort, Exchange
from fedsim.audit import canaries
from fedsim.config.audit import CanaryClients
from fedsim.local import counted
from fedsim.secure import masking
from fedsim.simulate.audited import audited
from fedsim.simulate.exchanged import message_of, send, summand_of
from fedsim.simulate.items import Items
from fedsim.simulate.lanes import LaneInputs
from fedsim.simulate.packing import Plan
from fedsim.simulate.parallel import items_of, place, together
from fedsim.simulate.structure import (
    CLIPPED,
    LOST,
    Memory,
    Parts,
    Source,
    State,
    Structure,
    answered,
    batches,
    bind,
    changed_if,
    counters,
    rows,
    window,
)

Tree = Any
Array = jax.Array
Key = jax.Array

_SURVEYED = 2**21  # no answer of a program has this number


# --- start -----------------------------------------------------------------------------------


def init(s: Structure, inputs: LaneInputs) -> State:
    """First state of a team's lanes: first weights follow from the seed alone."""

    def lane(seed: Array, values: Array) -> State:
        parts, _ = bind(s, values, jnp.zeros((), jnp.int32))
        model = parts.task.init(keys.run_key(seed, keys.INIT))
        drawn = keys.step_key(keys.run_key(seed, keys.INIT), jnp.int32(-1))
        server = parts.algorithm.draw(parts.algorithm.init(model), drawn)
        start = parts.algorithm.send(server)
        message = message_of(s, parts, start, model)
        memory = Memory(
            parts.algorithm.init_memory(model),
            parts.channel.init_memory(message),
            parts.privacy.init_memory(message),
        )
        return State(
            server=server,
            starts=jax.tree.map(lambda x: jnp.broadcast_to(x, (s.versions, *x.shape)), start),
            stages=(
                parts.channel.init(message),
                parts.privacy.init(message),
                _third(s, parts, message),
                counters(s.experiment),
            ),
            memory=jax.tree.map(lambda x: jnp.broadcast_to(x, (s.widths.memory, *x.shape)), memory),
        )

    return jax.vmap(lane)(inputs.seed, inputs.numbers)


def _third(s: Structure, parts: Parts, message: Tree) -> Tree:
    """The state of what reads aggregates beside mechanism and channel: the aggregator, or an audit."""
    if isinstance(s.experiment.audit, CanaryClients):
        return canaries.unseen(s.experiment.audit.canaries)
    return parts.aggregator.init(message) if parts.aggregator else ()


# --- local training --------------------------------------------------------------------------


def gather_memory(memory: Memory, words: Array) -> Memory:
    """Each slot's row of client memory, [..., b, ...]; empty slots read some row and never write."""
    items = items_of(words)
    return jax.tree.map(lambda m: m[items.lane, jnp.minimum(items.memory, m.shape[1] - 1)], memory)


def scatter_memory(memory: Memory, words: Array, new: Memory) -> Memory:
    """Write slots' rows back; empty slots' rows lie out of range and are dropped."""
    items = items_of(words)
    return jax.tree.map(lambda m, n: m.at[items.lane, items.memory].set(n, mode="drop"), memory, new)


def side_by_side(one: Callable[..., Any], width: int) -> Callable[..., Any]:
    """`one` for each entry of a leading axis. A single one needs no `vmap`, whose loops carry their
    weights through a select at every step."""
    if width > 1:
        return jax.vmap(one)

    def alone(*arguments: Any) -> Any:
        return jax.tree.map(lambda x: x[None], one(*jax.tree.map(lambda x: x[0], arguments)))

    return alone


def local(
    s: Structure,
    source: Source,
    inputs: LaneInputs,
    starts: Tree,
    stages: tuple[Tree, Tree, Tree, Tree],
    memory: Memory,
    words: Array,
    targets: Array,
    blocks: Array,
    rnd: Array,
    found: Tree = (),
    survey: bool = False,
) -> tuple[Tree, Memory]:
    """Train the items of one ticket, block by block.

    Args:
      memory: the slots' rows, [NB, b, ...]; words: of the items, i32[NB, b, 13]; targets: i32[NB,
        b / chunk]; blocks: i32 scalar, how many of the NB are in use.
      found: [L, ...] as `surveyed` gives it; survey: whether this is the survey, which trains nobody.

    Returns:
      (group sums [groups, ...], the slots' new memory rows).
    """
    w = s.widths
    reader = rows(s, source)
    training, sending, serving = (
        jax.vmap(lambda seed, purpose=purpose: keys.round_key(seed, purpose, rnd))(inputs.seed)
        for purpose in (keys.TRAIN, keys.CHANNEL, keys.SERVER)
    )

    def watched(work: Callable[[], Tree]) -> tuple[Tree, Tree]:
        """(what comes of a client's work, gradients that it lost where they are counted)."""
        return counted(work) if LOST in counters(s.experiment) else (work(), ())

    def one(words: Array, memory: Memory) -> tuple[Tree, Memory]:
        item = items_of(words)
        parts, cfg = bind(s, inputs.numbers[item.lane], rnd)
        start = jax.tree.map(lambda x: x[item.lane, item.version], starts)
        if parts.algorithm.survey and not survey:
            start = start, jax.tree.map(lambda x: x[item.lane], found[0])
        through, mechanism, *_ = jax.tree.map(lambda x: x[item.lane], stages)
        key = keys.of_client(training[item.lane], item.ident)
        told = answered(parts.privacy.labels, s.spec, inputs.seed[item.lane], item.ident, reader)
        lying = changed_if(parts.attack.rows, s.spec, item.liar, told)
        mine = batches(cfg, lying, window(source, item), item.steps, key)
        if parts.algorithm.survey and survey:
            # Both exchanges draw the same batches, and never the same noise.
            asked = keys.apart(key, _SURVEYED) if mine.lots else key
            answer = parts.algorithm.survey.answer
            return watched(lambda: answer(start, mine, asked)), memory
        (message, kept), lost = watched(
            lambda: parts.algorithm.client_update(start, memory.algorithm, mine, key)
        )
        key = keys.of_client(sending[item.lane], item.ident)
        if parts.attack.message is not None:
            lie = parts.attack.message(message, inputs.crowd[item.lane], jax.random.fold_in(key, 2))
            message = trees.where(item.liar, lie, message)
        memory, stages_of_lane = memory._replace(algorithm=kept), (through, mechanism)
        return send(parts, message, memory, stages_of_lane, key, serving[item.lane], lost)

    def lift(
        sent: Tree, weight: Array, version: Array, lane: Array, present: Array, liar: Array, ident: Array
    ) -> Tree:
        """What one slot adds to its group's sum."""
        message, reports = sent
        parts, _ = bind(s, inputs.numbers[lane], rnd)
        if parts.algorithm.discount is not None:
            age = (rnd - version) % s.versions
            weight = weight * parts.algorithm.discount(age.astype(weight.dtype))
        reduction = parts.algorithm.survey.aggregate if parts.algorithm.survey and survey else parts.reduction
        summand: Tree = (message, weight, liar, reports)
        if reduction:
            summand = reduction.lift(message, weight), reports
        if parts.secure:
            key = jax.random.fold_in(keys.of_client(sending[lane], ident), 3)
            summed, beside = summand
            summand = parts.secure.upload(summed, beside, inputs.heaviest[lane], key)
        # An empty slot must not reach the sum, not even as 0 * nan.
        return trees.where(present, summand, trees.zeros(summand))

    def chunk_sums(messages: Tree, item: Items) -> Tree:
        """Sums over slots of the same group, in slot order: [b / chunk, ...]."""
        weight, liar = item.weight.astype(s.number_dtype), item.liar.astype(jnp.int32)
        cut = jax.tree.map(
            lambda x: x.reshape(w.block // w.chunk, w.chunk, *x.shape[1:]),
            (messages, weight, item.version, item.lane, item.present, liar, item.ident),
        )

        def slot(j: Array | int) -> Tree:
            return jax.vmap(lift)(*jax.tree.map(lambda x: x[:, j], cut))

        if w.chunk == 1:
            return slot(0)
        # A loop, since small integers merged with a sum that is written out are looked up for every weight.
        return jax.lax.fori_loop(1, w.chunk, lambda j, total: trees.add(total, slot(j)), slot(0))

    def body(carry: tuple[Array, Tree, Memory]) -> tuple[Array, Tree, Memory]:
        i, sums, memory = carry
        here = jax.tree.map(lambda x: x[i], memory)
        messages, here = side_by_side(one, w.block)(words[i], here)
        new = chunk_sums(messages, items_of(words[i]))
        to = targets[i]
        sums = jax.tree.map(lambda total, x: total.at[to].add(x, mode="drop", unique_indices=True), sums, new)
        memory = jax.tree.map(lambda m, new: m.at[i].set(new), memory, here)
        return i + 1, sums, memory

    def first() -> Tree:
        item = items_of(words[0, 0])
        sent, _ = one(words[0, 0], jax.tree.map(lambda x: x[0, 0], memory))
        weight, liar = item.weight.astype(s.number_dtype), item.liar.astype(jnp.int32)
        return lift(sent, weight, item.version, item.lane, item.present, liar, item.ident)

    zero = jax.tree.map(lambda x: jnp.zeros((w.groups, *x.shape), x.dtype), jax.eval_shape(first))
    _, sums, memory = jax.lax.while_loop(
        lambda c: c[0] < blocks, body, (jnp.zeros((), jnp.int32), zero, memory)
    )
    return sums, memory


# --- the server ------------------------------------------------------------------------------


def merged(sums: Tree, index: Array) -> Tree:
    """Sum of the groups at `index` i32[J] (-1: none), in order."""
    used = jnp.sum((index >= 0).astype(jnp.int32))
    zero = jax.tree.map(lambda x: jnp.zeros(x.shape[1:], x.dtype), sums)

    def body(carry: tuple[Array, Tree]) -> tuple[Array, Tree]:
        j, total = carry
        return j + 1, trees.add(total, trees.take(sums, index[j]))

    return jax.lax.while_loop(lambda c: c[0] < used, body, (jnp.zeros((), jnp.int32), zero))[1]


def surveyed(s: Structure, inputs: LaneInputs, sums: Tree, merge: Array, size: Array, rnd: Array) -> Tree:
    """(what every lane's survey found, gradients lost to it), [L, ...]; arguments as in `finish`."""

    def lane(values: Array, population: Array, merge: Array, size: Array) -> Tree:
        parts, _ = bind(s, values, rnd)
        assert parts.algorithm.survey is not None
        cohort = Cohort(size.astype(s.number_dtype), population.astype(s.number_dtype))
        total, lost = merged(sums, merge)
        return parts.algorithm.survey.aggregate.finish(total, cohort), lost

    return jax.vmap(lane)(inputs.numbers, inputs.population, merge, size)


def finish(
    s: Structure,
    inputs: LaneInputs,
    state: State,
    sums: Tree,
    merge: Array,
    size: Array,
    active: Array,
    rnd: Array,
    found: Tree = (),
) -> tuple[State, Array]:
    """Merge groups in order, then channel, mechanism and server step, lane by lane.

    Args:
      sums: [groups of all tickets, ...]; merge: i32[L, J]; size: i32[L]; active: bool[L]; found: as
        `surveyed` gives it.

    Returns:
      (state with client memory untouched, bool[L]: whether every number in the server's state is finite).
    """

    def lane(
        values: Array, seed: Array, population: Array, expected: Array, graph: Any, heaviest: Any,
        merge: Array, size: Array, active: Array, server: Tree, starts: Tree,
        stages: tuple[Tree, Tree, Tree, Tree], found: Tree, signs: Any,
    ) -> tuple[Tree, Tree, tuple[Tree, Tree, Tree, Tree], Array]:  # fmt: skip
        parts, cfg = bind(s, values, rnd)
        size, population, expected = (x.astype(s.number_dtype) for x in (size, population, expected))
        fixed = parts.privacy.fixed or parts.channel.fixed
        cohort = Cohort(size, population, expected if fixed else None)
        count = expected if fixed else jnp.maximum(size, 1)
        through, mechanism, kept_by_rule, counts = stages
        new_starts = None
        if parts.reduction:
            total = merged(sums, merge)
            if parts.secure:
                start, model = trees.take(starts, jnp.int32(0)), parts.algorithm.model(server)
                like = summand_of(s, parts, start, model)
                total, beyond = parts.secure.total(total, like, heaviest)
                counts = counts | {CLIPPED: masking.more(counts[CLIPPED], beyond)}
            if isinstance(cfg.audit, CanaryClients):
                there = canaries.there(keys.round_key(seed, keys.AUDIT, rnd), signs, expected / population)
                total = audited(
                    s, parts, cfg.audit, server, (through, mechanism), seed, there * signs, total, rnd
                )
            total, reports = total
            aggregate = parts.reduction.finish(total, cohort)
        else:
            present = merge >= 0
            messages, weights, liar, reports = jax.tree.map(lambda x: x[jnp.maximum(merge, 0)], sums)
            messages, reports = jax.tree.map(
                lambda x: jnp.where(present.reshape(-1, *[1] * (x.ndim - 1)), x, jnp.zeros_like(x)),
                (messages, reports),
            )
            reports = jax.tree.map(lambda x: jnp.sum(x, axis=0, dtype=x.dtype), reports)
            weights = jnp.where(present, weights, 0)
            if isinstance(parts.algorithm.aggregate, Exchange):
                new_starts, aggregate = parts.algorithm.aggregate.combine(starts, messages, present, graph)
            else:
                aggregate, kept_by_rule = parts.combine(
                    messages, weights, present, liar != 0, cohort, kept_by_rule
                )
        key = keys.round_key(seed, keys.SERVER, rnd)
        aggregate, mechanism = parts.privacy.server(aggregate, mechanism, jax.random.fold_in(key, 1), count)
        if isinstance(cfg.audit, CanaryClients):
            guarantee = parts.privacy.mechanism
            assert guarantee is not None
            unit, rate = guarantee.sensitivity / count, expected / population
            kept_by_rule = canaries.look(cfg.audit, kept_by_rule, aggregate, unit, rate, rnd, there * signs)
        aggregate, through = parts.channel.server(aggregate, through, jax.random.fold_in(key, 0), count)
        # 2 and 3 are what is announced to clients.
        through = parts.channel.hear(through, reports[0], jax.random.fold_in(key, 4), count)
        mechanism = parts.privacy.hear(mechanism, reports[1], jax.random.fold_in(key, 5), count)
        if parts.algorithm.survey:
            aggregate = found[0], aggregate
        for lost in jax.tree.leaves((reports[2], found[1:])):
            counts = counts | {LOST: masking.more(counts[LOST], lost.astype(jnp.uint32))}
        new = parts.algorithm.server_update(server, aggregate)
        if new_starts is None:
            # Version v of the newest rounds lies at row (round of its making) % versions.
            at = (rnd + 1) % s.versions
            new_starts = jax.tree.map(lambda x, y: x.at[at].set(y), starts, parts.algorithm.send(new))
        kept = trees.where(
            active, (new, new_starts, (through, mechanism, kept_by_rule, counts)), (server, starts, stages)
        )
        return (*kept, trees.finite(kept[0]))

    arguments = (
        inputs.numbers, inputs.seed, inputs.population, inputs.expected, inputs.graph, inputs.heaviest,
        merge, size, active, state.server, state.starts, state.stages, found,
        inputs.canaries,
    )  # fmt: skip
    server, starts, stages, finite = jax.vmap(lane)(*arguments)
    return State(server, starts, stages, state.memory), finite


# --- many rounds -----------------------------------------------------------------------------


def rounds(
    s: Structure,
    source: Source,
    inputs: LaneInputs,
    state: State,
    plan: Plan,
    stride: Array,
    first: Array,
    count: Array,
) -> tuple[State, Array]:
    """`count` rounds from round `first`.

    Args:
      plan: of one ticket for each device, with rounds on the first axis and its items as words;
        stride: 1 to take the next entry every round, 0 to repeat the only one.

    Returns:
      (state, bool[L]: whether the server's state stayed finite throughout).
    """

    def body(carry: tuple[Array, State, Array]) -> tuple[Array, State, Array]:
        r, state, finite = carry
        now = jax.tree.map(lambda x: x[r * stride], plan)
        here = place(s)
        items = now.items[here]
        rnd, found = first + r, ()
        ticket = items, now.targets[here], now.blocks[here]
        if s.widths.exchanges > 1:
            nothing = Memory((), (), ())
            sums, _ = local(s, source, inputs, state.starts, state.stages, nothing, *ticket, rnd, survey=True)
            found = surveyed(s, inputs, together(s, sums), now.merge, now.size, rnd)
        mine = gather_memory(state.memory, items)
        sums, memory = local(s, source, inputs, state.starts, state.stages, mine, *ticket, rnd, found)
        sums, memory = together(s, (sums, memory))
        items = now.items.reshape(-1, *now.items.shape[2:])
        state = state._replace(memory=scatter_memory(state.memory, items, memory))
        state, ok = finish(s, inputs, state, sums, now.merge, now.size, now.active, rnd, found)
        return r + 1, state, finite & ok

    ok = jnp.ones(inputs.seed.shape[0], bool)
    _, state, finite = jax.lax.while_loop(lambda c: c[0] < count, body, (jnp.zeros((), jnp.int32), state, ok))
    return state, finite
