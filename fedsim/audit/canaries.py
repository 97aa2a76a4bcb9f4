"""Canary clients inside the compiled program: what they send, and how the server's view is scored.

Canary i sends the i-th of a family of random directions, with the norm it is told; it goes through the
channel's and the mechanism's client halves, into the sum and under the noise as any message does. Every
round's noisy aggregate is then scored against all directions, also of canaries that were left out.

Source: Andrew, Kairouz, Oh, Oprea, McMahan, Suriyakumar, "One-shot Empirical Privacy Estimation for
Federated Learning", ICLR 2024, Alg. 2 and section 3 (all iterates), with these departures:

- A direction is a row of a Walsh-Hadamard matrix no larger than the family, again and again to the length of
  a message, times random signs, over the square root of that length: unit vectors with as little of each
  other as random ones, or less. The scores of all cost one pass over the message, which is folded into as
  many numbers as there are directions, and a fast transform of these.
- Canaries change sign from round to round (`sees=rounds`): what they add to the model nearly cancels, and a
  mechanism that repeats its noise gives itself away.
- Scores add up the log-likelihood ratios of each round's product under (1 - q) N(0, v) + q N(1, v) against
  N(0, v), q being the share of rounds that a client joins and v estimated from the products by their median
  absolute deviation: nothing that only the one who draws the coins knows.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from fedsim import trees
from fedsim.base import require
from fedsim.config import Experiment
from fedsim.config.audit import CanaryClients
from fedsim.data.rng import generator
from fedsim.quantise import hadamard, padded
from fedsim.stage import Key, Stage

Tree = Any
Array = jax.Array

_SPREAD = 1.4826  # a Gaussian's deviation over its median absolute deviation
_SIDE_BY_SIDE = 2**13  # numbers in a message up to which canaries' are made side by side
_LEAST = 1e-6  # variance of products at least, where there is no noise


class Directions(NamedTuple):
    """The family for messages of d numbers: all columns of a matrix as often as they fit, then some of them.

    sign: f32[d], and place: u32[d], its column, of each number; columns: how many, a power of two; turned:
      f32[columns], a sign of each direction, or they would all agree where columns are those of the first.
    """

    turned: np.ndarray
    sign: np.ndarray
    place: np.ndarray
    columns: int


def directions(message: Tree, canaries: int) -> Directions:
    """For messages like this one. The same in every run: what is drawn is who sends."""
    return _directions(trees.size(message), padded(canaries))


@lru_cache(maxsize=8)
def _directions(size: int, columns: int) -> Directions:
    rng = generator(0, "canaries", size, columns)
    whole, rest = divmod(size, columns)
    place = np.concatenate([np.tile(np.arange(columns), whole), rng.permutation(columns)[:rest]])
    turned, sign = (rng.choice(np.array([-1, 1], np.float32), n) for n in (columns, size))
    return Directions(turned, sign, place.astype(np.uint32), columns)


def turn(cfg: CanaryClients, rnd: Array) -> Array:
    """The sign of all canaries in a round."""
    return (1 - 2 * (rnd & 1)).astype(jnp.float32) if cfg.sees == "rounds" else jnp.float32(1)


def combined(of: Directions, shares: Array, like: Tree) -> Tree:
    """The sum of all directions times their shares, f32[canaries], shaped and typed like `like`."""
    turned = shares.astype(jnp.float32) * of.turned[: shares.size]
    # `hadamard` divides by the root of its length, and directions by that of theirs.
    values = hadamard(jnp.pad(turned, (0, of.columns - shares.size)))
    values = values * np.float32(np.sqrt(of.columns / of.sign.size))
    whole, rest = divmod(of.sign.size, of.columns)
    flat = of.sign * jnp.concatenate([jnp.tile(values, whole), values[of.place[of.sign.size - rest :]]])
    leaves, treedef = jax.tree.flatten(like)
    made, at = [], 0
    for x in leaves:
        made.append(flat[at : at + x.size].reshape(x.shape).astype(x.dtype))
        at += x.size
    return jax.tree.unflatten(treedef, made)


def message(cfg: CanaryClients, like: Tree, shares: Array, rnd: Array) -> Tree:
    """What canaries of these shares, f32[canaries], send together in a round, shaped and typed like `like`.
    One alone has the sensitivity for a share, negative for the opposite direction."""
    return combined(directions(like, cfg.canaries), shares * (cfg.magnitude * turn(cfg, rnd)), like)


def magnitudes(cfg: CanaryClients, like: Tree, norm: Array) -> Tree:
    """What all numbers of one canary's message are but for their signs. norm: the sensitivity."""
    each = cfg.magnitude * norm / np.float32(np.sqrt(trees.size(like)))
    return jax.tree.map(lambda x: jnp.full(x.shape, each, x.dtype), like)


def products(aggregate: Tree, of: Directions, canaries: int) -> Array:
    """f32[canaries]: inner products of an aggregate with every direction."""
    flat = jnp.concatenate([x.reshape(-1).astype(jnp.float32) for x in jax.tree.leaves(aggregate)])
    at = flat.size - flat.size % of.columns
    whole, rest = jnp.split(flat * of.sign, [at])
    folded = jnp.sum(whole.reshape(-1, of.columns), axis=0).at[of.place[at:]].add(rest, unique_indices=True)
    return (hadamard(folded) * of.turned)[:canaries] * np.float32(np.sqrt(of.columns / flat.size))


def there(key: Key, signs: Array, rate: Array) -> Array:
    """f32[canaries]: 1 for those that send in a round, each as likely to as a client; key: of the round."""
    drawn = jax.random.uniform(key, signs.shape, jnp.float32) < rate.astype(jnp.float32)
    return (drawn & (signs != 0)).astype(jnp.float32)


def joined(total: Tree, there: Array, canary: Callable[[Array], Tree]) -> Tree:
    """The sum of a round with what its canaries add, where messages are short some at a time; few that are
    there cost less than many."""
    width = min(there.size, 8) if trees.size(total) <= _SIDE_BY_SIDE else 1
    (at,) = jnp.nonzero(there, size=-(-there.size // width) * width, fill_value=0)
    at, count = at.astype(jnp.int32), jnp.sum(there.astype(jnp.int32))

    def body(carry: tuple[Array, Tree]) -> tuple[Array, Tree]:
        j, total = carry
        made = jax.vmap(canary)(jax.lax.dynamic_slice(at, (j,), (width,)))
        here = j + jnp.arange(width, dtype=jnp.int32) < count

        def kept(x: Array) -> Array:
            used = here.reshape(-1, *[1] * (x.ndim - 1))
            return jnp.sum(jnp.where(used, x, jnp.zeros((), x.dtype)), axis=0, dtype=x.dtype)

        return j + width, trees.add(total, jax.tree.map(kept, made))

    return jax.lax.while_loop(lambda c: c[0] < count, body, (jnp.zeros((), jnp.int32), total))[1]


class Seen(NamedTuple):
    """What the auditor has seen so far. f32[canaries] each.

    evidence: sum over rounds of log-likelihood ratios; total: of products, in units of the sensitivity;
    joined: rounds in which each took part, less those in which it sent the opposite, for checks alone.
    """

    evidence: Array
    total: Array
    joined: Array


def unseen(canaries: int) -> Seen:
    return Seen(*(jnp.zeros(canaries, jnp.float32) for _ in Seen._fields))


def look(
    cfg: CanaryClients, seen: Seen, aggregate: Tree, unit: Array, rate: Array, rnd: Array, took_part: Array
) -> Seen:
    """After one more round's noisy aggregate.

    Args:
      unit: what one client's message of full norm adds to the aggregate; rate: of rounds that a client joins.
      took_part: f32[canaries], 1 for those that sent in this round, -1 for the opposite; not used for scores.
    """
    x = products(aggregate, directions(aggregate, cfg.canaries), cfg.canaries)
    x = x * (turn(cfg, rnd) / unit.astype(jnp.float32))
    total = seen.total + x
    if cfg.sees == "final":
        return Seen(total, total, seen.joined + took_part)
    spread = _SPREAD * jnp.median(jnp.abs(x - jnp.median(x)))
    q, v = rate.astype(jnp.float32), jnp.maximum(jnp.square(spread), _LEAST)

    def likely(x: Array) -> Array:
        return jnp.logaddexp(jnp.log1p(-q), jnp.log(q) + (x - 0.5) / v)

    ratio = likely(x) - likely(-x) if cfg.relation == "replace_one" else likely(x)
    return Seen(seen.evidence + ratio, total, seen.joined + took_part)


def check(e: Experiment, mechanism: Stage, through: Stage, like: Tree, summed: Tree | None) -> None:
    """Refuse what canary clients can say nothing of.

    summed: zeros shaped like the aggregate that is released; None where messages are not summed.
    """
    guarantee = mechanism.mechanism
    require(
        guarantee is not None and guarantee.unit == "client",
        f"audit=clients audits what protects a client, and privacy={e.privacy.name} does not; choose "
        "privacy=gaussian, with privacy.noise_multiplier=0 to audit its clip alone",
    )
    require(
        e.algorithm.name != "pooled" and trees.size(like) > 0,
        f"audit=clients audits what clients send, and with algorithm={e.algorithm.name} they send nothing; "
        "choose one that averages, such as fedavg",
    )
    require(
        summed is not None,
        "audit=clients scores a sum of messages, and here there is none; choose aggregator=mean, attack=none "
        "or one that acts alone, and an algorithm that averages, such as fedavg",
    )
    shapes = [[(path, x.shape) for path, x in jax.tree.leaves_with_path(tree)] for tree in (like, summed)]
    require(
        shapes[0] == shapes[1],
        f"audit=clients compares the aggregate with messages, and algorithm={e.algorithm.name} makes "
        "something else of them; choose one that averages them, such as fedavg",
    )
    kept = jax.tree.leaves((mechanism.init_memory(like), through.init_memory(like)))
    require(
        not kept,
        "audit=clients has canaries that keep nothing between rounds, and this channel or mechanism keeps "
        "something at clients; choose channel=direct, or one without memory, such as channel=qsgd",
    )
