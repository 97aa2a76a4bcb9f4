"""What compressing stages share: a compressor, and error feedback around it.

Clients hand on what the server decodes, so a compressor maps a message to one of the same shapes; what
its code is worth in bytes is counted beside it, and never packed into words.

Source of error feedback: Karimireddy et al., "Error Feedback Fixes SignSGD and other Gradient
Compression Schemes", ICML 2019, Alg. 2, with the local update in the place of the scaled gradient.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import jax.numpy as jnp
import numpy as np

from fedsim import trees
from fedsim.stage import Array, Key, Stage, Tree, identity, nothing

SEED_BYTES = 8  # of a seed that is sent in the place of what is drawn from it

# (message, what all clients of the round were told, the client's key) -> what the server decodes
Compressor = Callable[[Tree, Tree, Key], Tree]


def compressing(
    compress: Compressor,
    nbytes: Callable[[Tree], int],
    *,
    feedback: bool,
    alike: bool = False,
) -> Stage:
    """Build the stage of a compressor.

    feedback: clients keep what they could not send and add it to their next message.
    alike: all clients of a round are told its seed, from which they draw the same.
    """

    def client(message: Tree, memory: Tree, told: Tree, key: Key) -> tuple[Tree, Tree]:
        if not feedback:
            return compress(message, told, key), memory
        whole = trees.add(message, memory)  # p = g + e
        sent = compress(whole, told, key)
        return sent, trees.sub(whole, sent)  # e = p - C(p)

    return Stage(
        init=nothing,
        init_memory=trees.zeros if feedback else nothing,
        client=client,
        server=identity.server,
        nbytes=nbytes,
        announce=_same_key if alike else identity.announce,
        announced=SEED_BYTES if alike else 0,
        returning=feedback,
    )


def _same_key(state: Tree, key: Key) -> Key:
    """Announce the round's key itself: the seed of what all clients draw alike."""
    return key


def wide(x: Array) -> jnp.dtype:
    """The dtype of norms and scales, at least float32: what is summed, and what is sent of them."""
    return jnp.promote_types(x.dtype, jnp.float32)


def whole_bytes(bits: int) -> int:
    """Bytes that so many bits fill."""
    return -(-bits // 8)


def cut(drawn: Array, sizes: Sequence[int]) -> list[Array]:
    """A vector drawn for all leaves at once in parts of these sizes: every draw takes long to compile."""
    return jnp.split(drawn, np.cumsum(sizes)[:-1])
