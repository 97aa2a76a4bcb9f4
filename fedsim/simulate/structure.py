"""What a program is compiled for, and the parts that it is made of."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from fedsim import algorithms, channel, keys, privacy, stage, tasks, trees
from fedsim.aggregation import AGGREGATORS, Aggregator
from fedsim.algorithms import Algorithm, Cohort, Reduction, Stack, weighted_mean, whole_numbers
from fedsim.attack import ATTACKS, Attack
from fedsim.base import require, with_numbers
from fedsim.config import Experiment, RecordPrivacy, SecureSum
from fedsim.local import Batches, Oracle, Rows, Window, optimizer, plain, private
from fedsim.model import Spec, Task
from fedsim.secure.masking import Masking
from fedsim.simulate.items import Items
from fedsim.simulate.packing import Widths

Tree = Any
Array = jax.Array


# Columns that count, over all rounds so far:
CLIPPED = "clipped_values"  # numbers beyond a secure sum's range
LOST = "lost_gradients"  # gradients of protected units that were not finite, and added nothing


class Source(NamedTuple):
    """Raw rows on the device.

    columns: arrays [N, ...] (empty when generated); table: i32[m] row ids, or () where entries are
    rows themselves; constants: (impute, shift, scale) or ().
    """

    columns: Any
    table: Any
    constants: Any


class Memory(NamedTuple):
    """What a client keeps between rounds: for the algorithm, the channel, and the mechanism."""

    algorithm: Tree
    channel: Tree
    privacy: Tree


class State(NamedTuple):
    """Everything that a run carries from round to round. Leading axis: lanes.

    server: the algorithm's; starts: [L, versions, ...], what clients start from, in a graph each at its
    position; stages: the channel, mechanism and aggregator's or an audit's, and `counters`; memory:
    [L, m, ...], a row per client that has taken part.
    """

    server: Tree
    starts: Tree
    stages: tuple[Tree, Tree, Tree, Tree]
    memory: Memory


class Parts(NamedTuple):
    task: Task
    algorithm: Algorithm
    channel: stage.Stage
    privacy: stage.Stage
    aggregator: Aggregator | None  # None: the algorithm's own aggregate
    attack: Attack
    secure: Masking | None = None  # None: messages are summed as they are

    @property
    def reduction(self) -> Reduction | None:
        """How messages are summed as they come; None where they are needed all at once."""
        own = self.algorithm.aggregate
        summed = self.aggregator is None and self.attack.collude is None
        if not summed or not isinstance(own, Reduction):
            return None
        return own if self.privacy.ring is None else whole_numbers

    def measures(self, server: Tree, stages: tuple[Tree, Tree, Tree, Tree]) -> dict[str, Array]:
        """Columns of judged rounds."""
        channel, privacy, _, counts = stages
        own = self.algorithm.measures(server)
        own |= self.channel.measures(channel) | self.privacy.measures(privacy)
        return own | counts

    def combine(
        self, messages: Tree, weights: Array, present: Array, liar: Array, cohort: Cohort, state: Tree
    ) -> tuple[Tree, Tree]:
        """All messages at once to (aggregate, the aggregator's state)."""
        if self.attack.collude is not None:
            # What the server's own rows say is nobody's to know.
            known = present.at[0].set(False) if self.aggregator and self.aggregator.rooted else present
            lie = self.attack.collude(messages, known, liar)
            messages = jax.tree.map(
                lambda x, y: jnp.where((present & liar).reshape(-1, *[1] * y.ndim), y, x), messages, lie
            )
        if self.aggregator is not None:
            return self.aggregator.combine(messages, weights, present, state)
        own = self.algorithm.aggregate
        if isinstance(own, Stack):
            return own.combine(messages, weights, present), state
        assert isinstance(own, Reduction)
        lifted = jax.vmap(own.lift)(messages, weights)
        return own.finish(jax.tree.map(lambda x: jnp.sum(x, axis=0), lifted), cohort), state


@dataclass(frozen=True)
class Structure:
    """What a program is compiled for; equal structures share it.

    experiment: with its numbers set to zero; paths: of the numbers, in order; versions: how many
    models are kept to start from.
    """

    experiment: Experiment
    paths: tuple[str, ...]
    spec: Spec
    widths: Widths
    generate: Callable[..., dict[str, Array]] | None = None

    @property
    def versions(self) -> int:
        return self.widths.clients or self.experiment.world.staleness + 1

    @property
    def dtype(self) -> Any:
        return jnp.dtype(self.experiment.numerics.dtype)

    @property
    def number_dtype(self) -> Any:
        """Numbers are never narrower than float32."""
        return jnp.promote_types(self.dtype, jnp.float32)


def counters(e: Experiment) -> dict[str, Array]:
    """What is counted over an experiment's rounds, at its beginning: u32 scalars by their columns."""
    counted = {CLIPPED: isinstance(e.secure, SecureSum), LOST: isinstance(e.privacy, RecordPrivacy)}
    return {name: jnp.zeros((), jnp.uint32) for name, counts in counted.items() if counts}


def bind(
    s: Structure, values: Any, rnd: Array, watched: Callable[[Oracle], Oracle] = lambda oracle: oracle
) -> tuple[Parts, Experiment]:
    """Build the parts of one lane, its numbers being traced; watched: what is done to its oracle."""
    cfg = with_numbers(s.experiment, {path: values[i] for i, path in enumerate(s.paths)})
    task = tasks.build(cfg.task, s.spec, cfg.numerics.dtype)
    oracle = plain(task)
    if isinstance(cfg.privacy, RecordPrivacy):
        oracle = private(task, cfg.privacy, cfg.algorithm.name)
    algorithm = algorithms.ALGORITHMS[cfg.algorithm.name](
        watched(oracle), optimizer(cfg.optimizer, rnd), cfg.algorithm
    )
    through = channel.CHANNELS[cfg.channel.name](cfg.channel)
    mechanism = privacy.MECHANISMS[cfg.privacy.name](cfg.privacy)
    rule = None
    if cfg.aggregator.name != "mean":
        rule = AGGREGATORS[cfg.aggregator.name](cfg.aggregator)
        require(
            algorithm.aggregate is weighted_mean,
            f"aggregator={cfg.aggregator.name} takes the place of a mean of messages, and "
            f"algorithm={cfg.algorithm.name} takes none; choose aggregator=mean, or an algorithm that "
            "averages, such as fedavg",
        )
    if mechanism.ring is not None:
        require(
            algorithm.aggregate is weighted_mean,
            f"privacy={cfg.privacy.name} sums whole numbers to a mean of messages, and algorithm="
            f"{cfg.algorithm.name} takes another aggregate; choose one that averages, such as fedavg",
        )
    if mechanism.labels is not None:
        require(
            s.spec.kind in ("binary", "multiclass"),
            f"privacy={cfg.privacy.name} exchanges one class for another, and this task's labels are of kind "
            f"{s.spec.kind}; choose privacy=local_gaussian, or data whose labels are classes",
        )
    attack = ATTACKS[cfg.attack.name](cfg.attack)
    masking = None
    if isinstance(cfg.secure, SecureSum):
        masking = Masking(cfg.secure, inward=mechanism.mechanism is not None)
    return Parts(task, algorithm, through, mechanism, rule, attack, masking), cfg


def rows(s: Structure, source: Source) -> Rows:
    """How positions of a client become rows, in this data mode."""

    def take(window: Window, position: Array) -> dict[str, Array]:
        if s.generate is not None:
            return s.generate(jnp, jnp.broadcast_to(window.client, position.shape), position)
        at = window.begin + position.astype(jnp.int32)
        index = at if isinstance(source.table, tuple) else source.table[at]
        return {name: column[index] for name, column in source.columns.items()}

    return Rows(take, s.dtype)


def batches(e: Experiment, reader: Rows, at: Window, steps: Array, key: Array) -> Batches:
    """A client's batches in one round."""
    lots = isinstance(e.privacy, RecordPrivacy)
    return Batches(reader, at, steps, e.optimizer.batch_size, key, lots=lots)


def changed_if(change: Any, spec: Spec, flag: Array, rows: Rows) -> Rows:
    """`rows` that an attack changes where the flag is set; `change` is (batch, spec) -> batch, or None."""
    if change is None:
        return rows
    return rows._replace(change=lambda batch: trees.where(flag, change(batch, spec), batch))


def answered(labels: Any, spec: Spec, seed: Array, ident: Array, rows: Rows) -> Rows:
    """`rows` of the client `ident` with the labels that it gives for them; `labels` as in a `Stage`."""
    if labels is None:
        return rows
    key = keys.of_client(keys.run_key(seed, keys.LABELS), ident)

    def take(window: Window, position: Array) -> dict[str, Array]:
        columns = rows.take(window, position)
        return columns | {"y": labels(columns["y"], position, spec.classes, key)}

    return rows._replace(take=take)


def window(source: Source, items: Items) -> Window:
    """One item's window on the rows."""
    constants = tuple(c[items.constants] for c in source.constants)
    return Window(items.begin, items.rows, items.client, constants)
