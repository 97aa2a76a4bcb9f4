"""Randomised response: a client keeps a training row's label with a probability, and else says another.

With k classes, y stays with probability e^eps / (e^eps + k - 1) and becomes each other class with
1 / (e^eps + k - 1): whatever the label was, no answer is more than e^eps times as likely as under another,
so that a label is eps-differentially private, with delta 0, however often the answer is used. A label is
answered for once, before training: the same row has the same answer in every round. Features are not
protected, nor are labels that models are judged by.

Source: Warner, "Randomized Response: A Survey Technique for Eliminating Evasive Answer Bias", JASA 1965;
for k classes Kairouz, Bonawitz, Ramage, "Discrete Distribution Estimation under Local Privacy", ICML 2016,
section 3 (k-RR).
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from fedsim.config import RandomisedResponse
from fedsim.stage import Array, Key, Mechanism, Stage, identity

# Taken off the probability of keeping a label, more than float32's error and than what 32 bits cannot share
# out evenly: the answer is never more telling than epsilon says.
_ERROR = 2.0**-20


def threshold(classes: int, epsilon: Array | float) -> Array:
    """u32: a label is kept for this many of 2**32 words."""
    keep = jnp.exp(jnp.asarray(epsilon, jnp.float32))
    keep = keep / (keep + (classes - 1)) * (1 - _ERROR)
    return jnp.floor(keep * 2.0**32).astype(jnp.uint32)


def answer(label: Array, classes: int, epsilon: Array | float, words: Array) -> Array:
    """What a client says for each label, of `classes`. words: u32[..., 2], at random."""
    kept = words[..., 0] < threshold(classes, epsilon)
    turn = 1 + words[..., 1] % jnp.uint32(classes - 1)
    other = (label.astype(jnp.uint32) + turn) % jnp.uint32(classes)
    return jnp.where(kept, label, other.astype(label.dtype))


def randomised_response(cfg: RandomisedResponse) -> Stage:
    """Build the stage, which leaves messages as they are."""

    def labels(label: Array, position: Array, classes: int, key: Key) -> Array:
        def words(at: Array) -> Array:
            return jax.random.bits(jax.random.fold_in(key, at), (2,), jnp.uint32)

        return answer(label, classes, cfg.epsilon, jax.vmap(words)(position))

    return Stage(
        init=identity.init,
        init_memory=identity.init_memory,
        client=identity.client,
        server=identity.server,
        labels=labels,
        mechanism=Mechanism(
            sensitivity=1.0, cost={"event": "randomised_response", "epsilon": cfg.epsilon}, unit="label"
        ),
    )
