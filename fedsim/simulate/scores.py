"""The compiled programs that judge: scores of rows, and the models that give them."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from fedsim import keys, trees
from fedsim.model import Model
from fedsim.simulate.items import Items
from fedsim.simulate.lanes import LaneInputs
from fedsim.simulate.parallel import items_of, place, together
from fedsim.simulate.program import side_by_side
from fedsim.simulate.structure import (
    Parts,
    Source,
    State,
    Structure,
    answered,
    batches,
    bind,
    changed_if,
    rows,
    window,
)

Tree = Any
Array = jax.Array

_JUDGED = 2**20  # more than there are answers in a program


def predict(
    s: Structure, curves: bool, source: Source, inputs: LaneInputs, state: State, words: Array, blocks: Array,
    own: tuple[Model, Array] | None = None,
) -> Array:  # fmt: skip
    """Scores of slices of rows: each item is one slice of one client, at most `widths.slice` rows.

    Args:
      curves: the task's curve over time instead of its prediction.
      words: of the items, i32[NB, e, 13]; begin and rows name the slice, version holds its first
        position in the client, and memory the client's memory row, out of range where it has none; a liar's
        are scored with the attack's trigger on every row.
      own: what `adapted` made, and which of it each item is judged by, i32[NB, e], -1 for none.

    Returns:
      f32[NB / d, 1, e, slice] or [..., classes or times], f64 where the run is: of d devices that share the
      work, each takes every d-th block.
    """
    d = s.widths.devices
    words = words.reshape(-1, d, *words.shape[1:])[:, place(s)]
    chosen = () if own is None else (own[1].reshape(-1, d, *own[1].shape[1:])[:, place(s)],)
    blocks = (blocks - place(s) + d - 1) // d
    reader = rows(s, source)
    zero = jnp.zeros((), jnp.int32)

    def one(words: Array, chosen: Array | None = None) -> Array:
        item = items_of(words)
        parts, _ = bind(s, inputs.numbers[item.lane], zero)
        server = jax.tree.map(lambda x: x[item.lane], state.server)
        model = parts.algorithm.model(server)
        if s.widths.clients:
            known = item.memory < s.widths.clients
            row = jnp.minimum(item.memory, s.widths.clients - 1)
            model = trees.where(known, jax.tree.map(lambda x: x[item.lane, row], state.starts), model)
        elif parts.algorithm.personal is not None:
            memory = remembered(parts, state, item, model)
            model = parts.algorithm.personal(parts.algorithm.send(server), memory)
        if own is not None:
            assert chosen is not None
            model = trees.where(chosen >= 0, trees.take(own[0], jnp.maximum(chosen, 0)), model)
        position = jnp.arange(s.widths.slice, dtype=jnp.uint32)
        inside = position < item.rows.astype(jnp.uint32)
        position = jnp.minimum(position, jnp.maximum(item.rows.astype(jnp.uint32), 1) - 1)
        shown = changed_if(parts.attack.trigger, s.spec, item.liar, reader)
        batch = shown.read(window(source, item), position + item.version.astype(jnp.uint32), inside)
        of = parts.task.curve if curves else parts.task.predict
        assert of is not None
        return of(model, batch).astype(s.number_dtype)

    shape = jax.eval_shape(one, words[0, 0], *(c[0, 0] for c in chosen))
    out = jnp.zeros((*words.shape[:2], *shape.shape), shape.dtype)

    def body(carry: tuple[Array, Array]) -> tuple[Array, Array]:
        i, out = carry
        return i + 1, out.at[i].set(jax.vmap(one)(words[i], *(c[i] for c in chosen)))

    out = jax.lax.while_loop(lambda c: c[0] < blocks, body, (jnp.zeros((), jnp.int32), out))[1]
    return out[:, None]


def remembered(parts: Parts, state: State, item: Items, model: Model) -> Tree:
    """The client's memory; where it never took part, what it would begin with, the server's model being
    `model`."""
    pool = state.memory.algorithm
    stored = jax.tree.map(lambda m: m[item.lane, jnp.minimum(item.memory, m.shape[1] - 1)], pool)
    fresh = parts.algorithm.init_memory(model)
    known = [m.shape[1] > item.memory for m in jax.tree.leaves(pool)[:1]]
    return trees.where(known[0], stored, fresh) if known else fresh


def adapted(
    s: Structure, source: Source, inputs: LaneInputs, state: State, words: Array, blocks: Array, done: Array
) -> Model:
    """Models that clients are judged by after training on their rows: what the algorithm's `adapt` makes,
    or else the client's own after one local round. Every client draws as it would in the next round.

    Args:
      words: of the clients as items, i32[devices, NB, b, 13]; blocks: i32[devices], how many of the NB
        are in use; done: i32[L], rounds that each lane has had.

    Returns:
      The models, [devices * NB * b, ...].
    """
    words, blocks = words[place(s)], blocks[place(s)]
    reader = rows(s, source)

    def one(words: Array) -> Model:
        item = items_of(words)
        rnd = done[item.lane]
        parts, cfg = bind(s, inputs.numbers[item.lane], rnd)
        algorithm = parts.algorithm
        server = jax.tree.map(lambda x: x[item.lane], state.server)
        start = algorithm.send(server)
        memory = remembered(parts, state, item, algorithm.model(server))
        key = keys.client_key(inputs.seed[item.lane], keys.TRAIN, rnd, item.ident)
        told = answered(parts.privacy.labels, s.spec, inputs.seed[item.lane], item.ident, reader)
        mine = batches(cfg, told, window(source, item), item.steps, key)
        if mine.lots:  # noise is never drawn twice, though batches may be
            key = keys.apart(key, _JUDGED)
        if algorithm.adapt is not None:
            return algorithm.adapt(start, memory, mine, key)
        assert algorithm.personal is not None
        return algorithm.personal(start, algorithm.client_update(start, memory, mine, key)[1])

    shapes = jax.eval_shape(one, words[0, 0])
    out = jax.tree.map(lambda x: jnp.zeros((*words.shape[:2], *x.shape), x.dtype), shapes)

    def body(carry: tuple[Array, Model]) -> tuple[Array, Model]:
        i, out = carry
        made = side_by_side(one, s.widths.block)(words[i])
        return i + 1, jax.tree.map(lambda all_, x: all_.at[i].set(x), out, made)

    out = jax.lax.while_loop(lambda c: c[0] < blocks, body, (jnp.zeros((), jnp.int32), out))[1]
    return together(s, jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), out))


def models(s: Structure, inputs: LaneInputs, state: State) -> Tree:
    """Every lane's judged model, and its coefficients where it is linear."""

    def lane(values: Array, server: Tree) -> Tree:
        parts, _ = bind(s, values, jnp.zeros((), jnp.int32))
        model = parts.algorithm.model(server)
        linear = parts.task.coefficients
        return model, linear(model) if linear is not None else ()

    return jax.vmap(lane)(inputs.numbers, state.server)


def measures(s: Structure, inputs: LaneInputs, state: State) -> dict[str, Array]:
    """What the algorithm, the channel and the mechanism say of every lane's state at the server, [L] each."""

    def lane(values: Array, server: Tree, stages: tuple[Tree, Tree, Tree, Tree]) -> dict[str, Array]:
        parts, _ = bind(s, values, jnp.zeros((), jnp.int32))
        return parts.measures(server, stages)

    return jax.vmap(lane)(inputs.numbers, state.server, state.stages)


def own(s: Structure, inputs: LaneInputs, state: State) -> Tree:
    """Every client's own model, [L, m, ...], by its row of client memory, in a graph by its position."""
    if s.widths.clients:
        return state.starts

    def client(values: Array, server: Tree, memory: Tree) -> Tree:
        parts, _ = bind(s, values, jnp.zeros((), jnp.int32))
        assert parts.algorithm.personal is not None
        return parts.algorithm.personal(parts.algorithm.send(server), memory)

    lanes = jax.vmap(jax.vmap(client, in_axes=(None, None, 0)))
    return lanes(inputs.numbers, state.server, state.memory.algorithm)
