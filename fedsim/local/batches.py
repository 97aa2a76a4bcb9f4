"""A client's rows, and the batches that a local epoch makes of them.

A batch is row indices and a mask, computed when its step comes and gathered then: nothing is copied
per round, and nothing is padded to the longest client.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from fedsim import keys
from fedsim.base import RequestError
from fedsim.model import Batch

Array = jax.Array
Key = jax.Array

LONG_SLICE = 512  # rows per slice of sums that do not hold a gradient of each
SLICE = 64  # rows per slice where a batch is the whole client, and rows do not need one another


class Refused(RequestError):
    """A question about a client's rows that cannot be answered under a guarantee."""


class Window(NamedTuple):
    """Where one item's rows lie and how they are prepared. Scalars, but for the constants.

    begin: i32, first entry of the client's rows; rows: i32, how many; client: u32 index in the
    federation (for rows that are generated); constants: (impute, shift, scale) or ().
    """

    begin: Array
    rows: Array
    client: Array
    constants: Any


class Rows(NamedTuple):
    """Access to raw rows: `take(window, position u32[B]) -> columns`, whatever the data mode.

    change: what is done to every batch in the end.
    """

    take: Callable[[Window, Array], dict[str, Array]]
    dtype: Any
    change: Callable[[Batch], Batch] = lambda batch: batch

    def read(self, window: Window, position: Array, mask: Array) -> Batch:
        """The rows at `position` (u32[B]), imputed, scaled, in the run's dtype, with their mask."""
        batch = dict(self.take(window, position))
        x = batch["x"]
        if x.dtype == jnp.uint8:  # pictures stay bytes on the device, and are gathered as bytes
            x = jax.lax.optimization_barrier(x).astype(self.dtype) * jnp.asarray(1 / 255, self.dtype)
        else:
            x = x.astype(self.dtype)
        if window.constants != ():
            impute, shift, scale = (c.astype(self.dtype) for c in window.constants)
            x = (jnp.where(jnp.isnan(x), impute, x) - shift) * scale
        batch["x"] = x
        if jnp.issubdtype(batch["y"].dtype, jnp.floating):
            batch["y"] = batch["y"].astype(self.dtype)
        batch["mask"] = mask
        return self.change(batch)


class Whole(NamedTuple):
    """All of a client's rows as one batch, read in slices by whoever sums over them; with `batches.lots`
    those that a batch is drawn from."""

    batches: Batches


class Batches(NamedTuple):
    """A client's batches in one round.

    steps: i32 scalar, local steps this round; size: rows per batch (static), 0 for all rows.
    asked: told the rows per slice when all rows are asked for, while tracing.
    lots: whether it is the oracle that draws a step's rows, `size` of them on average.
    """

    rows: Rows
    window: Window
    steps: Array
    size: int
    key: Key
    asked: Callable[[int], object] = lambda rows: None
    lots: bool = False

    def take(self, step: Array) -> Batch | Whole:
        """The batch of one local step. Every epoch visits each row once, in a new order."""
        if self.size == 0 or self.lots:
            return Whole(self)
        n = self.window.rows.astype(jnp.uint32)
        per_epoch = (n + jnp.uint32(self.size - 1)) // jnp.uint32(self.size)
        step = step.astype(jnp.uint32)
        epoch = step // per_epoch
        first = (step - epoch * per_epoch) * jnp.uint32(self.size)
        position = first + jnp.arange(self.size, dtype=jnp.uint32)
        mask = position < n
        order = keys.shuffle(jnp.minimum(position, n - jnp.uint32(1)), n, self.key, epoch)
        return self.rows.read(self.window, order, mask)

    def passes(self, count: int) -> Array:
        """Steps of so many passes over all rows; i32 scalar."""
        once = (self.window.rows + self.size - 1) // self.size if self.size else jnp.ones((), jnp.int32)
        return once * jnp.int32(count)

    def sample(self, share: Array | float, key: Key) -> Batches:
        """The same of a random `share` of the rows, at least one of them."""
        if self.lots:
            raise Refused(
                "this algorithm takes many steps on a share of a client's rows, and privacy=record draws the "
                "rows of each answer from all of them; choose another algorithm, such as algorithm=fedavg, "
                "or privacy=none"
            )
        n = self.window.rows
        some = jnp.clip(jnp.round(jnp.asarray(share, jnp.float32) * n).astype(jnp.int32), 1, n)

        def take(window: Window, position: Array) -> dict[str, Array]:
            index = keys.shuffle(position, n.astype(jnp.uint32), key, jnp.uint32(0))
            return self.rows.take(window._replace(rows=n), index)

        return self._replace(rows=self.rows._replace(take=take), window=self.window._replace(rows=some))

    def slices(self, length: int) -> Array:
        """How many slices of `length` cover all rows; i32 scalar."""
        self.asked(length)
        return self.parts(length)

    def parts(self, length: int) -> Array:
        """The same where rows of different slices may need one another."""
        return (self.window.rows + length - 1) // length

    def unless(self, flag: Array) -> Batches:
        """The same, but no rows where the flag is set."""
        return self._replace(window=self.window._replace(rows=jnp.where(flag, 0, self.window.rows)))

    def slice(self, i: Array, length: int) -> Batch:
        """The i-th slice of all rows in their own order."""
        n = self.window.rows.astype(jnp.uint32)
        position = i.astype(jnp.uint32) * jnp.uint32(length) + jnp.arange(length, dtype=jnp.uint32)
        return self.rows.read(self.window, jnp.minimum(position, n - jnp.uint32(1)), position < n)
