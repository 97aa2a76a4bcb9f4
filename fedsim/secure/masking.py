"""Secure sums in the compiled program: messages as whole numbers in a ring, each under a mask.

What a client adds to the sum, weights and all, is put in fixed point: a number is divided by the largest
weight's power of two, clipped to `secure.range`, and rounded to a multiple of range / (2**(bits - 1) - 1),
towards zero where a mechanism has clipped the message to a norm. What stages report beside it has a step of
its own. How many were clipped is one more number under the mask. So a cohort's sum cannot wrap where
`attendance.check` has passed, and integers, such as a mechanism's with its own noise, go in as they are.

With `secure.mode=fast` one mask per client, uniform over 32 bits and a function of seed, round and client,
is drawn from Threefry's counter and added modulo 2**32. The sum of the survivors' masks is summed beside
the masked messages and subtracted at the server, in the place of what the last of the protocol's rounds
gives it: the sum of masks that LightSecAgg decodes, or the seeds of clients' own masks that Bonawitz and
SecAgg+ recover. Left out are what cancels anyway, the masks of pairs, and keys, shares and encryption: who
is lost, what is given up and what is sent follow from `attendance` and `cost`. With `secure.mode=exact`
the masks are the protocol's (`fedsim.secure.exact`), and nothing is masked here. Both give the same sum.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from fedsim import keys, trees
from fedsim.config import SecureSum

Tree = Any
Array = jax.Array
Key = jax.Array


class Upload(NamedTuple):
    """What is summed of one client, all of it u32: the masked numbers, how many were clipped, masked too, and
    with `fast` their masks."""

    numbers: Tree
    clipped: Array
    masks: Tree = ()


@dataclass(frozen=True)
class Masking:
    """A secure sum of one run; `cfg.range` may be traced.

    inward: whether numbers are rounded towards zero, so that no message is longer than it was clipped to.
    """

    cfg: SecureSum
    inward: bool = False

    @property
    def top(self) -> int:
        """The largest number in fixed point."""
        return 2 ** (self.cfg.bits - 1) - 1

    def unit(self, heaviest: Array) -> Array:
        """What a step in fixed point is worth, of a number that comes with a weight."""
        return self.cfg.range / self.top * heaviest

    @property
    def report_unit(self) -> Array:
        """The same of a report, in whose steps halves are whole."""
        return jnp.float32(2.0 ** (2 - self.cfg.bits))

    def upload(self, summand: Tree, reports: Tree, heaviest: Array, key: Key) -> Upload:
        """What a client sends in the place of `summand` and of what its stages report beside it.

        heaviest: a bound on all clients' weights.
        """
        clipped: list[Array] = []

        def whole(x: Array, unit: Array) -> Array:
            if jnp.issubdtype(x.dtype, jnp.integer):
                return x.astype(jnp.uint32)
            wide = jnp.promote_types(x.dtype, jnp.float32)
            steps = x.astype(wide) / unit.astype(wide)
            fits = jnp.abs(steps) <= self.top + 0.5  # else, or if it is not a number, it is changed
            clipped.append(jnp.sum(~fits, dtype=jnp.uint32))
            inside = jnp.clip(jnp.where(jnp.isnan(steps), 0, steps), -self.top, self.top)
            rounded = jnp.trunc(inside) if self.inward else jnp.round(inside)
            return rounded.astype(jnp.int32).astype(jnp.uint32)

        # Not fused with what comes before, so that it is rounded alike in every program.
        summand, reports = jax.lax.optimization_barrier((summand, reports))
        numbers = (
            jax.tree.map(lambda x: whole(x, self.unit(heaviest)), summand),
            jax.tree.map(lambda x: whole(x, self.report_unit), reports),
        )
        count = jnp.minimum(sum(clipped, start=jnp.uint32(0)), jnp.uint32(self.top))
        sent = Upload(numbers, count)
        if self.cfg.mode == "exact":
            return sent
        masks = masks_like(sent, key)
        numbers, count = trees.add((numbers, count), masks)
        return Upload(numbers, count, masks)

    def total(self, sums: Upload, like: Tree, heaviest: Array) -> tuple[Tree, Array]:
        """((the sum of summands, and of reports), how many numbers were clipped).

        like: a summand and reports, for their shapes and types.
        """
        plain: Any = (sums.numbers, sums.clipped)
        if self.cfg.mode == "fast":
            plain = trees.sub(plain, sums.masks)
        numbers, clipped = plain

        def decoded(x: Array, shape: Array, unit: Array) -> Array:
            signed = jax.lax.bitcast_convert_type(x, jnp.int32)
            if jnp.issubdtype(shape.dtype, jnp.integer):
                return signed.astype(shape.dtype)
            wide = jnp.promote_types(shape.dtype, jnp.float32)
            return (signed.astype(wide) * unit.astype(wide)).astype(shape.dtype)

        summands = jax.tree.map(lambda x, y: decoded(x, y, self.unit(heaviest)), numbers[0], like[0])
        reports = jax.tree.map(lambda x, y: decoded(x, y, self.report_unit), numbers[1], like[1])
        return (summands, reports), clipped


def masks_like(sent: Upload, key: Key) -> tuple[Tree, Array]:
    """Numbers uniform over 32 bits in the shapes of what is sent: (numbers, clipped)."""
    leaves, treedef = jax.tree.flatten((sent.numbers, sent.clipped))
    drawn = [keys.bits(key, x.shape, stream) for stream, x in enumerate(leaves)]
    masks: tuple[Tree, Array] = jax.tree.unflatten(treedef, drawn)
    return masks


def more(count: Array, clipped: Array) -> Array:
    """Their sum, u32, or the largest number there is."""
    total = count + clipped
    return jnp.where(total < count, jnp.uint32(0xFFFFFFFF), total)
