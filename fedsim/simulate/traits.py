"""What follows from a structure before anything runs, and the structures that are refused."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from fedsim import keys, stage, trees, world
from fedsim.algorithms import Exchange
from fedsim.audit import canaries
from fedsim.base import require
from fedsim.config import Experiment
from fedsim.config.world import Asynchronous
from fedsim.simulate import secured
from fedsim.simulate.exchanged import exchanged, released, summand_of
from fedsim.simulate.structure import Parts, Structure, bind, counters

Tree = Any
Array = jax.Array


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


def _needy(experiment: Experiment, parts: Parts) -> str | None:
    """The option that needs messages one by one; None where they are summed as they come."""
    if parts.reduction is not None:
        return None
    if parts.aggregator is not None:
        return f"aggregator={experiment.aggregator.name}"
    if parts.attack.collude is not None:
        return f"attack={experiment.attack.name}"
    return f"algorithm={experiment.algorithm.name}"


def traits(s: Structure, participations: float, everyone: bool) -> Traits:
    """Found by tracing; nothing is computed and no device is touched.

    participations: rounds that a client takes part in, on average; everyone: whether all clients
    take part in every round.
    """
    found: list[Traits] = []

    def trace(values: Array, key: Array) -> None:
        parts, _ = bind(s, values, jnp.zeros((), jnp.int32))
        check_topology(s.experiment, parts)
        check_exact(s.experiment, parts, everyone)
        check_survey(s.experiment, parts)
        model = parts.task.init(key)
        server = parts.algorithm.init(model)
        start = parts.algorithm.send(server)
        asked: list[int] = []
        answer, surveyed, message = exchanged(s, parts, start, model, asked.append)
        survey = trees.nbytes(start), trees.nbytes(answer)
        told = parts.channel.announced + parts.privacy.announced
        stages = parts.channel.init(message), parts.privacy.init(message), (), counters(s.experiment)
        memory = (
            parts.algorithm.init_memory(model),
            parts.channel.init_memory(message),
            parts.privacy.init_memory(message),
        )
        masked = secured.length(s.experiment, parts, summand_of(s, parts, start, model, message))
        # Under masks reports are numbers among others.
        sent = secured.nbytes(s.experiment.secure, masked) or (
            parts.channel.nbytes(message) + parts.channel.reported + parts.privacy.reported
        )
        found.append(
            Traits(
                memory_bytes=trees.nbytes(memory),
                down_bytes=trees.nbytes((start, surveyed)) + told,
                up_bytes=trees.nbytes(answer) + sent,
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
            stage.check(through, name, _needy(s.experiment, parts), weighting, everyone, participations)

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


def check_exact(e: Experiment, parts: Parts, everyone: bool) -> None:
    """Refuse what would change sums that must be those of all rows, where an algorithm is exact."""
    if not parts.algorithm.exact:
        return
    name = f"algorithm={e.algorithm.name} equals the fit on pooled rows because it adds up all clients' sums"
    if parts.algorithm.pooled:
        name = f"algorithm={e.algorithm.name} is the fit on pooled rows because their sums are exact"
    reasons = {
        "channel": ("direct", "sends messages that are no longer exact"),
        "privacy": ("none", "bounds or noises messages, and a sum of second derivatives has no small bound"),
        "secure": ("none", "sums numbers in fixed point, which rounds them"),
    }
    for group, (plain, why) in reasons.items():
        chosen = getattr(e, group).name
        require(
            chosen == plain or chosen == "record",  # of which the oracle says what it does not answer
            f"{name}, and {group}={chosen} {why}; set {group}={plain}, or choose another algorithm, such as "
            "algorithm=fedavg",
        )
    require(
        parts.attack.message is None and parts.attack.collude is None,
        f"{name}, and attack={e.attack.name} sends others; choose attack=none or attack=label_flip",
    )
    require(
        everyone and e.world.staleness == 0,
        f"{name} in every round, and here some may be missing, or late; set world=all, without drop-outs, "
        "stale starts or a deadline",
    )
