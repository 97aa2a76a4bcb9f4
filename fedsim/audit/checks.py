"""Checks of a mechanism that need no attack: what its parts promise is tried, and what fails is a sentence.

They see what canaries in one run cannot: what happens to numbers that are not finite, to rows that only fill
a batch, to who divides the sum, and whether clients are drawn as the account says.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import scipy

from fedsim import trees
from fedsim.stage import Stage

Tree = Any
Array = jax.Array

_ROUNDING = 1e-4  # relative, of norms in float32
_RISK = 1e-6  # to find a sound sampler or denominator unsound, by chance


def clipped(stage: Stage, like: Tree, seed: int = 0) -> str | None:
    """Whether every message, however long and of whatever numbers, comes out finite and no longer than the
    sensitivity. like: zeros shaped like a message."""
    assert stage.mechanism is not None
    keys = jax.random.split(jax.random.key(seed), 2)
    told = stage.announce(stage.init(like), keys[0])
    leaves, treedef = jax.tree.flatten(like)
    ones = jax.tree.map(jnp.ones_like, like)
    alone = [
        jax.tree.unflatten(treedef, [jnp.full_like(x, 1e3 if i == j else 0) for j, x in enumerate(leaves)])
        for i in range(len(leaves))
    ]
    # Each leaf as long as the others, which a clip leaf by leaf lets through.
    even = jax.tree.map(lambda x: x * (1e3 / np.sqrt(max(x.size, 1))), ones)
    for what, message in [
        ("long", trees.scale(ones, 1e3)),
        ("even", even),
        *(("one leaf", m) for m in alone),
    ]:
        sent, _ = stage.client(message, stage.init_memory(like), told, keys[1])
        length = float(jnp.sqrt(trees.squared_norm(sent)))
        if not length <= float(stage.mechanism.sensitivity) * (1 + _ROUNDING):
            return f"a message ({what}) is sent with norm {length:g}, above {stage.mechanism.sensitivity:g}"
    for bad in (jnp.nan, jnp.inf, -jnp.inf):
        message = jax.tree.unflatten(treedef, [leaves[0].at[(0,) * leaves[0].ndim].set(bad), *leaves[1:]])
        sent, _ = stage.client(message, stage.init_memory(like), told, keys[1])
        if not bool(trees.finite(sent)):
            return f"a message with {bad} in it is sent on, and makes everybody's sum worthless"
    return None


def fresh(stage: Stage, like: Tree, rounds: int = 4) -> str | None:
    """Whether noise is drawn anew in every round."""
    drawn, state = [], stage.init(like)
    for rnd in range(rounds):
        noisy, state = stage.server(like, state, jax.random.fold_in(jax.random.key(0), rnd), jnp.float32(1))
        drawn.append(np.concatenate([np.asarray(x).ravel() for x in jax.tree.leaves(noisy)]))
    seen = {x.tobytes() for x in drawn if x.any()}
    same = len(seen) < sum(bool(x.any()) for x in drawn)
    return "two rounds have the same noise, which their difference takes away" if same else None


def padding(gradient: Callable[[dict[str, Array]], Tree], batch: dict[str, Array]) -> str | None:
    """Whether rows that only fill a batch (mask False) have no say in an answer.

    gradient: batch -> answer, all else being fixed.
    """
    mask = batch["mask"]
    assert not bool(mask.all()), "a batch without padding shows nothing"
    wide = mask.reshape(-1, *[1] * (batch["x"].ndim - 1))
    other = batch | {"x": jnp.where(wide, batch["x"], batch["x"] + 3)}
    a, b = (np.concatenate([np.ravel(x) for x in jax.tree.leaves(gradient(rows))]) for rows in (batch, other))
    return None if np.array_equal(a, b) else "rows that only fill a batch change the answer"


def denominator(totals: np.ndarray, joined: np.ndarray) -> str | None:
    """Whether the sum is divided by what the audit says: a number that does not tell who was there.

    totals: canaries' products over all rounds, in units of the sensitivity over that number; joined: rounds
    in which each took part. Where both agree, one round more is one unit more.
    """
    fit = scipy.stats.linregress(joined, totals)
    far = abs(fit.slope - 1) / max(fit.stderr, 1e-12)
    if far > scipy.stats.norm.isf(_RISK / 2) and abs(fit.slope - 1) > 0.1:
        return f"a round adds {fit.slope:.3g} of a canary, not 1: the sum is divided by another number"
    return None


def poisson(cohorts: Sequence[np.ndarray], clients: int, rate: float) -> str | None:
    """Whether cohorts look like Poisson samples of so many clients: sizes that vary as a binomial's do, and
    everybody drawn as often as told."""
    sizes = np.array([len(c) for c in cohorts])
    n, expected = len(sizes), clients * rate
    if abs(sizes.mean() - expected) > scipy.stats.norm.isf(_RISK / 2) * np.sqrt(expected * (1 - rate) / n):
        return f"cohorts have {sizes.mean():.3g} clients on average, not {expected:.3g}"
    spread = expected * (1 - rate)
    # The variance of sizes, as a multiple of a binomial's; about chi-square over n - 1.
    low, high = scipy.stats.chi2.ppf([_RISK / 2, 1 - _RISK / 2], n - 1) / (n - 1)
    ratio = sizes.var(ddof=1) / spread if spread > 0 else 1.0
    if not low <= ratio <= high * 1.5:
        return f"sizes of cohorts vary {ratio:.3g} times as much as those of Poisson samples"
    return None
