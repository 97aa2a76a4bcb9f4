"""Tree aggregation (DP-FTRL): noise on the sums of all rounds so far, by a binary tree over the rounds.

Every node of the tree has noise of its own, and the sum of the first t rounds has that of the nodes which
make it up, one for each 1 in t as a binary number: log2(t) of them at most, where independent noise in every
round would add up to t. A round's aggregate is given the difference of two such sums, so that any server
optimiser works as it does without noise. Noise is drawn again from its key where it is taken away again,
two draws a round on average, and none is kept.

Source: Kairouz et al., "Practical and Private (Deep) Learning without Sampling or Shuffling", ICML 2021,
Alg. 1 (DP-FTRL) with its restarts of the tree, and the noise of a sum as it comes, without Honaker's
estimator.

For the accountant: the strategy C has a row for every node and a column for every round, 1 where the round
lies under the node; only nodes that are used count, left children all. The whole run is one Gaussian release
of noise multiplier `noise_multiplier` over the norm of C times the rounds that a client takes part in.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from fedsim import trees
from fedsim.config import TreePrivacy
from fedsim.privacy.central import Noise, central, normal
from fedsim.stage import Array, Key, Stage, Tree


class State(NamedTuple):
    """round: i32, rounds so far; root: u32[2], what the keys of this tree's nodes follow from."""

    round: Array
    root: Array


def by_tree(restart: int) -> Noise:
    """What a round changes the noise of the sum by; a new tree every `restart` rounds, 0 for never."""

    def draw(like: Tree, state: State, key: Key) -> tuple[Tree, State]:
        begun = state.round % restart if restart else state.round
        root = jnp.where(begun == 0, jax.random.key_data(key), state.root)
        tree = jax.random.wrap_key_data(root, impl=jax.random.key_impl(key))
        last = begun + 1  # of the rounds of this tree, counted from 1
        top = jax.lax.population_count((last & -last) - 1)  # level of the node that this round completes

        def body(carry: tuple[Array, Tree]) -> tuple[Array, Tree]:
            """The node of this level that ends with the round comes in place of those below it, which
            ended with the round before."""
            level, total = carry
            sign = jnp.where(level == top, 1, -1)
            end = jnp.where(level == top, last, last - 1) >> level
            drawn = normal(like, jax.random.fold_in(jax.random.fold_in(tree, level), end))
            return level + 1, trees.add(total, trees.scale(drawn, sign))

        begin = jnp.zeros((), jnp.int32), trees.zeros(like)
        _, noise = jax.lax.while_loop(lambda c: c[0] <= top, body, begin)
        return noise, State(state.round + 1, root)

    return Noise(init=lambda message: State(jnp.zeros((), jnp.int32), jnp.zeros(2, jnp.uint32)), draw=draw)


def tree(cfg: TreePrivacy) -> Stage:
    """Build the mechanism; every node's noise has deviation noise_multiplier * clip_norm on the sum."""
    cost = {"event": "tree", "noise_multiplier": cfg.noise(), "restart": cfg.restart}
    return central(cfg.clip_norm, cfg.noise(), by_tree(cfg.restart), cost)
