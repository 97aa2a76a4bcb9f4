"""An audit's canaries in a round: what they add to its sum, by the way of every message."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from fedsim import keys, trees
from fedsim.algorithms import weighted_mean
from fedsim.audit import canaries, joining
from fedsim.config.audit import CanaryClients
from fedsim.simulate.exchanged import message_of, send, unlost
from fedsim.simulate.structure import Memory, Parts, Structure

Tree = Any
Array = jax.Array


def audited(
    s: Structure, parts: Parts, cfg: CanaryClients, server: Tree, stages: tuple[Tree, Tree], seed: Array,
    signs: Array, total: Tree, rnd: Array,
) -> Tree:  # fmt: skip
    """The sum of a round and its reports, with what an audit's canaries add, as any client would.

    signs: f32[canaries], 0 for those that do not send in this round.
    """
    like = message_of(s, parts, parts.algorithm.send(server), parts.algorithm.model(server))
    idents = jnp.asarray(keys.id_words(joining.ids(cfg.canaries)))
    memory = Memory((), parts.channel.init_memory(like), parts.privacy.init_memory(like))
    sending, serving = (keys.round_key(seed, purpose, rnd) for purpose in (keys.CHANNEL, keys.SERVER))
    assert parts.reduction is not None and parts.privacy.mechanism is not None
    reduction, norm = parts.reduction, parts.privacy.mechanism.sensitivity
    one = jnp.ones((), s.number_dtype)

    def arrives(message: Tree, i: Array) -> tuple[Tree, Tree]:
        """(what arrives of a message by way of canary i, its reports)."""
        key = keys.of_client(sending, idents[i])
        return send(parts, message, memory, stages, key, serving, unlost(s.experiment))[0]

    if parts.channel.scales and parts.privacy.scales and reduction.lift is weighted_mean.lift:
        # One magnitude in, whoever's, is one magnitude out.
        magnitudes = canaries.magnitudes(cfg, like, norm)
        arrived, reports = arrives(magnitudes, jnp.zeros((), jnp.int32))
        count = jnp.sum(jnp.abs(signs))
        everyone = canaries.message(cfg, like, signs * (norm / jnp.maximum(count, 1)), rnd)
        mean = jax.tree.map(lambda x, was, now: x * (now / was), everyone, magnitudes, arrived)
        reports = jax.tree.map(lambda x: x * count.astype(x.dtype), reports)
        return trees.add(total, (reduction.lift(mean, count.astype(one.dtype)), reports))

    def alone(i: Array) -> Tree:
        mine = jnp.where(jnp.arange(cfg.canaries) == i, signs * norm, 0)
        arrived, reports = arrives(canaries.message(cfg, like, mine, rnd), i)
        return reduction.lift(arrived, one), reports

    return canaries.joined(total, jnp.abs(signs), alone)
