"""What a program is compiled for, and the parts that it is made of."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from fedsim import algorithms, channel, keys, privacy, stage, tasks, trees, world
from fedsim.aggregation import AGGREGATORS, Aggregator
from fedsim.algorithms import Algorithm, Cohort, Exchange, Reduction, Stack, weighted_mean, whole_numbers
from fedsim.attack import ATTACKS, Attack
from fedsim.audit import canaries
from fedsim.base import require, with_numbers
from fedsim.config import Experiment, RecordPrivacy, SecureSum
from fedsim.config.world import Asynchronous
from fedsim.local import Batches, Oracle, Rows, Window, optimizer, plain, private
from fedsim.model import Model, Spec, Task
from fedsim.secure.masking import Masking
from fedsim.simulate import secured
from fedsim.simulate.items import Items
from fedsim.simulate.packing import Widths

Tree = Any
Array = jax.Array


CLIPPED = "clipped_values"  # a column: numbers beyond a secure sum's range, over all rounds so far


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
    position; stages: the channel, mechanism and aggregator's or an audit's, and how many numbers a secure
    sum has clipped; memory: [L, m, ...], a row per client that has taken part.
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
        channel, privacy, _, clipped = stages
        own = self.algorithm.measures(server)
        own |= self.channel.measures(channel) | self.privacy.measures(privacy)
        return own | {CLIPPED: clipped} if self.secure else own

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


class Answers(NamedTuple):
    """Gradients that a client answers in a round, from lots and from all its rows: (of every local step,
    besides)."""

    lots: tuple[int, int]
    full: tuple[int, int]

    def of(self, steps: Any) -> tuple[Any, Any]:
        """(from lots, from all rows) of a round with so many local steps, a number or an array of them."""
        return self.lots[0] * steps + self.lots[1], self.full[0] * steps + self.full[1]


class Traits(NamedTuple):
    """What follows from a structure before anything runs. Bytes are per client.

    memory_bytes: kept between rounds; down_bytes, up_bytes: received and sent each round, in all its
      exchanges, in a graph from and to each neighbour; survey_bytes: the same of the first of two exchanges;
      flops: of one example forward; parameters: numbers in the model; sent: numbers in a message;
      masked: numbers that a secure sum masks of each client, 0 where messages are summed as they are.
    personal: whether clients keep models of their own; adapts: whether they are judged by models
      that are made for it; consensus: whether clients are judged by their own, and all rows together by the
      average of these; measures: columns that the algorithm and the stages add to judged rounds.
    answers: where each costs privacy, how many gradients a client answers in a round.
    together: 0, or, where the task must see all of a client's rows at once and is asked for them, how
      many it can.
    """

    memory_bytes: int
    down_bytes: int
    up_bytes: int
    survey_bytes: tuple[int, int] | None
    flops: float
    parameters: int
    sent: int
    personal: bool
    adapts: bool
    pooled: bool
    consensus: bool
    measures: tuple[str, ...]
    masked: int
    together: int
    answers: Answers | None = None


def traits(s: Structure, participations: float, everyone: bool) -> Traits:
    """Found by tracing; nothing is computed and no device is touched.

    participations: rounds that a client takes part in, on average; everyone: whether all clients
    take part in every round.
    """
    found: list[Traits] = []

    def trace(values: Array, key: Array) -> None:
        parts, _ = bind(s, values, jnp.zeros((), jnp.int32))
        check_topology(s.experiment, parts)
        check_survey(s.experiment, parts)
        model = parts.task.init(key)
        server = parts.algorithm.init(model)
        start = parts.algorithm.send(server)
        asked: list[int] = []
        answer, surveyed, message = exchanged(s, parts, start, model, asked.append)
        survey = trees.nbytes(start), trees.nbytes(answer)
        sending = parts.channel if parts.privacy.ring is None else parts.privacy
        told = parts.channel.announced + parts.privacy.announced
        stages = parts.channel.init(message), parts.privacy.init(message), (), jnp.zeros((), jnp.uint32)
        memory = (
            parts.algorithm.init_memory(model),
            parts.channel.init_memory(message),
            parts.privacy.init_memory(message),
        )
        masked = secured.length(s.experiment, parts, summand_of(s, parts, start, model, message))
        found.append(
            Traits(
                memory_bytes=trees.nbytes(memory),
                down_bytes=trees.nbytes((start, surveyed)) + told,
                up_bytes=trees.nbytes(answer)
                + (secured.nbytes(s.experiment.secure, masked) or sending.nbytes(message)),
                survey_bytes=survey if parts.algorithm.survey else None,
                flops=parts.task.flops,
                parameters=trees.size(model.params),
                sent=trees.size(message),
                personal=parts.algorithm.personal is not None,
                adapts=parts.algorithm.adapt is not None,
                pooled=parts.algorithm.pooled,
                consensus=isinstance(parts.algorithm.aggregate, Exchange),
                measures=tuple(sorted(parts.measures(server, stages))),
                masked=masked,
                together=parts.task.joint if asked else 0,
            )
        )
        if s.experiment.audit.joining:
            summed = released(s, parts, message) if parts.reduction else None
            canaries.check(s.experiment, parts.privacy, parts.channel, message, summed)
        weighting = s.experiment.algorithm.weighting
        for member, through in (("channel", parts.channel), ("privacy", parts.privacy)):
            name = f"{member}={getattr(s.experiment, member).name}"
            stage.check(through, name, parts.reduction is not None, weighting, everyone, participations)

    jax.eval_shape(
        trace,
        jax.ShapeDtypeStruct((len(s.paths),), s.number_dtype),
        jax.eval_shape(lambda: keys.run_key(jnp.zeros(2, jnp.uint32), keys.INIT)),
    )
    return found[0]


def check_topology(e: Experiment, parts: Parts) -> None:
    """Refuse a graph for an algorithm with a server, a server for one without, and what needs a server."""
    name, star = e.algorithm.name, e.topology.name == "star"
    if not isinstance(parts.algorithm.aggregate, Exchange):
        require(
            star,
            f"topology={e.topology.name} has clients send to their neighbours, and algorithm={name} has them "
            "send to a server; choose topology=star, or an algorithm without one, such as algorithm=dpsgd",
        )
        return
    require(
        not star,
        f"algorithm={name} has no server, and topology=star is one; choose a graph, such as topology=ring",
    )
    for group, without in (("channel", ["direct"]), ("privacy", ["none", "record"]), ("secure", ["none"])):
        chosen = getattr(e, group).name
        require(
            chosen in without,
            f"{group}={chosen} has a half at a server, but algorithm={name} has none; "
            f"set {group}={without[0]}",
        )
    require(
        parts.attack.message is None and parts.attack.collude is None,
        f"attack={e.attack.name} changes what a server gets, and algorithm={name} has none; "
        "choose attack=none or attack=label_flip",
    )
    require(
        not isinstance(e.world, Asynchronous),
        f"world=asynchronous has a server step when messages have come, and algorithm={name} has no server; "
        "choose another world, such as world=uniform",
    )
    require(
        e.world.staleness == 0,
        f"world.staleness={e.world.staleness} is about old models of a server, and with algorithm={name} "
        "every client starts from its own; set world.staleness=0",
    )
    require(
        not world.chooses(e.world),
        f"world={e.world.name} has a server choose by losses, and algorithm={name} has none; "
        "choose another world, such as world=uniform",
    )


def released(s: Structure, parts: Parts, message: Tree) -> Tree:
    """The aggregate of one message, as the mechanism's server half gets it."""
    assert parts.reduction is not None
    one = jnp.ones((), s.number_dtype)
    return parts.reduction.finish(parts.reduction.lift(message, one), Cohort(one, one, one))


def check_survey(e: Experiment, parts: Parts) -> None:
    """Refuse what knows of one exchange a round, where there are two."""
    if parts.algorithm.survey is None:
        return
    name = f"algorithm={e.algorithm.name} has two exchanges a round"
    known = {"channel": ["direct"], "privacy": ["none", "record"], "aggregator": ["mean"]}
    for group, members in known.items():
        chosen = getattr(e, group).name
        require(
            chosen in members,
            f"{name}, and {group}={chosen} is about one; set {group}={members[0]}, or choose another "
            "algorithm, such as algorithm=mimelite",
        )
    require(
        parts.attack.message is None and parts.attack.collude is None,
        f"{name}, and attack={e.attack.name} changes the message of one; choose attack=none or "
        "attack=label_flip",
    )
    require(
        e.world.staleness == 0,
        f"{name}, with the same clients, who then start from the same model; set world.staleness=0"
        + (", and another world" if isinstance(e.world, Asynchronous) else ""),
    )


class Exchanged(NamedTuple):
    """Zeros shaped and typed like what goes between a server and one client in a round.

    answer: to the survey; found: what the survey comes to; both () where a round has none.
    """

    answer: Tree
    found: Tree
    message: Tree


def exchanged(
    s: Structure, parts: Parts, start: Tree, model: Model, asked: Callable[[int], object] = lambda rows: None
) -> Exchanged:
    """What one client sends and is sent beside `start`. asked: as in `Batches`."""
    shapes = jax.eval_shape(lambda: _exchanged(s, parts, start, model, asked))
    return jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)


def message_of(s: Structure, parts: Parts, start: Tree, model: Model) -> Tree:
    """Zeros shaped and typed like one client's message."""
    return exchanged(s, parts, start, model).message


def summand_of(s: Structure, parts: Parts, start: Tree, model: Model, message: Tree | None = None) -> Tree:
    """Zeros shaped and typed like what one client adds to the sum, and its reports; () where messages are not
    summed."""
    if parts.reduction is None:
        return ()
    message = message_of(s, parts, start, model) if message is None else message

    def sent(message: Tree, weight: Array) -> Tree:
        key = keys.run_key(jnp.zeros(2, jnp.uint32), keys.INIT)
        reports = []
        for through in (parts.channel, parts.privacy):
            told = through.announce(through.init(message), key)
            reports.append(through.report(message, told))
            message, _ = through.client(message, through.init_memory(message), told, key)
        assert parts.reduction is not None
        return parts.reduction.lift(message, weight), tuple(reports)

    shapes = jax.eval_shape(sent, message, jnp.zeros((), s.number_dtype))
    return jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)


def _exchanged(
    s: Structure, parts: Parts, start: Tree, model: Model, asked: Callable[[int], object]
) -> Exchanged:
    zero = jnp.zeros((), jnp.int32)
    mine = stand_in(s, parts, zero + 1, zero)._replace(asked=asked)
    key = mine.key
    memory = parts.algorithm.init_memory(model)
    answer: Tree = ()
    found: Tree = ()
    if parts.algorithm.survey:
        one, total = jnp.ones((), s.number_dtype), parts.algorithm.survey.aggregate
        answer = parts.algorithm.survey.answer(start, mine, key)
        found = total.finish(total.lift(answer, one), Cohort(one, one))
        start = start, found
    return Exchanged(answer, found, parts.algorithm.client_update(start, memory, mine, key)[0])


def stand_in(s: Structure, parts: Parts, count: Array, steps: Array) -> Batches:
    """Batches of a client with `count` rows of zeros, to be traced."""

    def nothing(window: Window, position: Array) -> dict[str, Array]:
        y = jnp.float32 if s.spec.kind == "regression" else jnp.int32
        n = position.shape
        time = {"time": jnp.ones(n, jnp.float32)} if s.spec.kind == "survival" else {}
        by_patient = getattr(s.experiment.privacy, "unit", "") == "patient"
        patient = {"patient": jnp.zeros(n, jnp.int32)} if by_patient else {}
        return {"x": jnp.zeros((*n, *s.spec.shape), s.dtype), "y": jnp.zeros(n, y)} | time | patient

    zero = jnp.zeros((), jnp.int32)
    at = Window(zero, count, zero.astype(jnp.uint32), ())
    key = keys.run_key(jnp.zeros(2, jnp.uint32), keys.INIT)
    lying = changed_if(parts.attack.rows, s.spec, zero != 0, Rows(nothing, s.dtype))
    return batches(s.experiment, lying, at, steps, key)
