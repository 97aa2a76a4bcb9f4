"""A lane: one model in training. Runs packed together, and the folds of a run, are lanes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from fedsim import keys, topology, world
from fedsim.attack import liars
from fedsim.audit import joining
from fedsim.base import numbers, require
from fedsim.config import Experiment, RandomisedCounts, SecureSum
from fedsim.data.names import client_ids
from fedsim.data.partition import Partition
from fedsim.data.preprocess import Constants
from fedsim.data.rng import generator
from fedsim.privacy.randomised_counts import announced
from fedsim.simulate import items

Array = Any


@dataclass(frozen=True)
class Lane:
    """What one model trains on.

    clients: whose rows train it; judged: whose rows judge it (they differ where rows are pooled).
    constants: imputation and scaling of `clients` and of `judged`.
    """

    experiment: Experiment
    clients: Partition
    judged: Partition
    constants: Constants | None
    judged_constants: Constants | None
    rounds: int


class LaneInputs(NamedTuple):
    """What differs between lanes inside a program. Leading axis: lanes.

    seed: u32[L, 2]; numbers: f[L, n], in the order of the paths; population: f32[L], clients;
    expected: f32[L], of them in a round on average; crowd: f32[L], in a round for each liar in it; graph:
    `topology.Graph`, or () where there is a server; heaviest: f32[L], a power of two that no client's weight
    exceeds, or () where messages are not masked; canaries: f32[L, m], signs of an
    audit's canary clients.
    """

    seed: Array
    numbers: Array
    population: Array
    expected: Array
    crowd: Array
    graph: Any = ()
    heaviest: Any = ()
    canaries: Any = ()


class ClientTable(NamedTuple):
    """Every training client of every distinct partition, one row each; lanes point into it."""

    ident: np.ndarray  # u32[n, 2]
    client: np.ndarray  # u32[n], index in the federation's generated population
    begin: np.ndarray  # i32[n], into the row table
    rows: np.ndarray  # i32[n]
    steps: np.ndarray  # i32[n], local steps a round
    weight: np.ndarray  # f32[n]
    constants: np.ndarray  # i32[n], into the constants
    liar: np.ndarray  # bool[n]


@dataclass(frozen=True)
class Layout:
    """The lanes of a pack, laid out as flat tables.

    row_table: i32[m], row ids of the distinct partitions one after another; None for identity.
    table: training clients; offset, count: where a lane's clients lie in it. Where the server has rows of
      its own (`aggregator.root`), they follow a lane's clients as one more.
    constants: (impute, shift, scale) stacked, or ().
    judged_begin, judged_constants: per lane, where the rows and constants of `judged` start.
    """

    inputs: LaneInputs
    row_table: np.ndarray | None
    table: ClientTable
    offset: np.ndarray
    count: np.ndarray
    constants: tuple[np.ndarray, ...]
    judged_begin: np.ndarray
    judged_constants: np.ndarray

    @cached_property
    def words(self) -> np.ndarray:
        """Every client as an item of lane 0, i32[n + 1, 13], and behind them the empty slot: row -1."""
        n = len(self.table.client)
        zero, empty = np.zeros(n, np.int32), np.zeros((1, items.WORDS), np.int32)
        empty[0, items.COLUMN["rows"]] = 1
        rest = {"lane": zero, "memory": zero, "version": zero, "present": np.ones(n, bool)}
        return np.concatenate([items.words(items.Items(**self.table._asdict(), **rest)), empty])


def local_steps(rows: np.ndarray, experiment: Experiment) -> np.ndarray:
    """Local steps per round of clients with `rows` training rows; i32, 0 for no rows."""
    opt = experiment.optimizer
    if opt.steps is not None:
        per_round = np.full(rows.shape, opt.steps, np.int64)
    elif opt.batch_size == 0:
        per_round = np.full(rows.shape, opt.epochs, np.int64)
    else:
        per_round = -(-rows.astype(np.int64) // opt.batch_size) * opt.epochs
    return np.where(rows > 0, per_round, 0).astype(np.int32)


def weights(lane: Lane, held: np.ndarray) -> np.ndarray:
    """What the messages of the clients at `held` count by, f32: what each says of its rows, or 1.

    Raises RequestError where a mechanism cannot hide how many rows a client has.
    """
    e, part = lane.experiment, lane.clients
    if e.algorithm.weighting != "examples":
        return np.ones(len(held), np.float32)
    if not isinstance(e.privacy, RandomisedCounts):
        return part.train[held].astype(np.float32)
    # Answers of a fold are its own: a client has other rows in each.
    drawn = (generator(e.seed, "counts", part.fold, int(i)) for i in part.ids[held])
    pairs = zip(part.train[held].tolist(), drawn, strict=True)
    return np.array([announced(e.privacy, rows, rng) for rows, rng in pairs], np.float32)


def root_rows(lane: Lane) -> np.ndarray:
    """The server's own rows i32[root]: of all clients' training rows, each as likely as another.

    Raises RequestError where there are fewer, or where they are prepared differently at each client.
    """
    e = lane.experiment
    rows, _ = lane.clients.part("federated")
    require(
        e.aggregator.root <= len(rows),
        f"aggregator.root={e.aggregator.root} is more than the {len(rows)} training rows there are; lower it",
    )
    require(
        lane.constants is None or np.ptp(lane.constants.of_client[lane.clients.federated > 0]) == 0,
        f"aggregator={e.aggregator.name} mixes rows of several clients at the server, and with "
        "data.preprocess.scope=client each has a scale of its own; set data.preprocess.scope=pooled",
    )
    drawn = generator(e.seed, "root").choice(len(rows), e.aggregator.root, replace=False, shuffle=False)
    return rows[np.sort(drawn)].astype(np.int32)


def _server(lane: Lane, begin: int, constants: int) -> ClientTable:
    """The server's own rows as one more client, who is honest."""
    rows = np.array([lane.experiment.aggregator.root], np.int32)
    return ClientTable(
        ident=keys.id_words(client_ids(["\0root"])),  # no client's name
        client=np.zeros(1, np.uint32),
        begin=np.array([begin], np.int32),
        rows=rows,
        steps=local_steps(rows, lane.experiment),
        weight=np.ones(1, np.float32),
        constants=np.array([constants], np.int32),
        liar=np.zeros(1, bool),
    )


def _power(weight: float) -> float:
    """The least power of two that is no less."""
    return float(2.0 ** math.ceil(math.log2(weight)))


def graphs(lanes: Sequence[Lane], places: int, degree: int) -> topology.Graph:
    """Every lane's graph over its training clients, in tables of `places` and `degree`.

    Raises RequestError for a graph that does not fit them.
    """
    made: dict[tuple[int, int], topology.Graph] = {}
    for lane in lanes:
        part, seed = lane.clients, lane.experiment.seed
        if (id(part), seed) not in made:
            names = [part.names[int(k)] for k in np.flatnonzero(part.federated > 0)]
            pairs = topology.edges(lane.experiment.topology, topology.Nodes(names, part.names, seed))
            made[id(part), seed] = topology.mixing(pairs, len(names), places, degree)
    every = [made[id(lane.clients), lane.experiment.seed] for lane in lanes]
    return topology.Graph(*(np.stack(tables) for tables in zip(*every, strict=True)))


def _numbers(lanes: Sequence[Lane], paths: Sequence[str]) -> np.ndarray:
    """f64[lanes, paths]; those of an experiment that lanes share are looked up once."""
    of = {id(e): numbers(e) for e in {id(lane.experiment): lane.experiment for lane in lanes}.values()}
    rows = [[of[id(lane.experiment)][path] for path in paths] for lane in lanes]
    return np.array(rows, np.float64).reshape(len(lanes), len(paths))


def layout(lanes: Sequence[Lane], paths: Sequence[str], places: int = 0, degree: int = 0) -> Layout:
    """Lay out lanes as flat tables; partitions and constants that lanes share are stored once.

    Args:
      places, degree: clients of a graph and neighbours of each, at most; 0 where there is a server.

    Raises RequestError for a lane none of whose clients holds a training row, for rows that are
    generated yet dealt to other clients than made them, and for more rows than 32 bits can number.
    """
    row_parts: list[np.ndarray] = []
    begins: dict[int, int] = {}
    length = 0
    const_parts: list[Constants] = []
    const_at: dict[int, int] = {}
    const_rows = 0
    identity = all(part.rows is None for lane in lanes for part in (lane.clients, lane.judged))
    generated = lanes[0].experiment.data.mode == "generated"
    rule = lanes[0].experiment.aggregator
    require(
        not (rule.root and generated),
        f"aggregator={rule.name} needs rows at the server, and data.mode=generated makes all at clients; "
        "use data.mode=resident or streamed",
    )
    identity &= not rule.root
    require(
        identity or not generated,
        "data.mode=generated makes rows client by client, so they cannot be pooled or dealt to others; "
        "use data.mode=resident or streamed",
    )
    require(
        generated or not identity or lanes[0].judged.offsets[-1] < 2**31,
        f"{lanes[0].judged.offsets[-1]} rows are more than the 2^31 - 1 that one federation can hold in "
        f"data.mode={lanes[0].experiment.data.mode}; use data.mode=generated, or fewer clients",
    )

    def place_rows(part: Partition) -> int:
        nonlocal length
        if identity:
            return 0
        # A generated population's rows lie in order, and one such table serves all its partitions.
        key = id(part.rows)
        if key not in begins:
            begins[key] = length
            row_parts.append(np.arange(part.offsets[-1], dtype=np.int32) if part.rows is None else part.rows)
            length += len(row_parts[-1])
        return begins[key]

    def place_constants(constants: Constants | None) -> int:
        nonlocal const_rows
        if constants is None:
            return 0
        if id(constants) not in const_at:
            const_at[id(constants)] = const_rows
            const_parts.append(constants)
            const_rows += len(constants.impute)
        return const_at[id(constants)]

    tables: list[ClientTable] = []
    table_at: dict[tuple[int, int, bytes, bytes, int], tuple[int, int]] = {}
    table_rows = 0
    offset, count, crowd, judged_begin, judged_constants = [], [], [], [], []
    for lane in lanes:
        part = lane.clients
        held = np.flatnonzero(part.federated > 0)
        require(len(held) > 0, "no client holds a training row; lower split.test or split.valid")
        liar = liars(lane.experiment.attack, lane.experiment.seed, len(held))
        lying = np.packbits(liar).tobytes() if liar.any() else b""
        weight = weights(lane, held)
        # Lanes on the same rows are told other counts of them where these are random.
        heard = weight.tobytes() if isinstance(lane.experiment.privacy, RandomisedCounts) else b""
        key = id(part), id(lane.constants), lying, heard, lane.experiment.seed if rule.root else 0
        if key not in table_at:
            base, const = place_rows(part), place_constants(lane.constants)
            rows = part.train[held].astype(np.int32)
            of_client = lane.constants.of_client[held] if lane.constants is not None else 0
            tables.append(
                ClientTable(
                    ident=keys.id_words(part.ids[held]),
                    client=held.astype(np.uint32),
                    begin=(part.offsets[:-1][held] + base).astype(np.int32),
                    rows=rows,
                    steps=local_steps(rows, lane.experiment),
                    weight=weight,
                    constants=np.broadcast_to(of_client + const, held.shape).astype(np.int32),
                    liar=liar,
                )
            )
            table_at[key] = (table_rows, len(held))
            table_rows += len(held)
            if rule.root:
                row_parts.append(root_rows(lane))
                tables.append(_server(lane, length, int(np.broadcast_to(of_client + const, held.shape)[0])))
                length, table_rows = length + rule.root, table_rows + 1
        at, n = table_at[key]
        offset.append(at)
        count.append(n)
        cohort = world.mean_size(lane.experiment.world, n)
        crowd.append(cohort / max(1.0, cohort * liar.sum() / n))  # a round without a liar has no use for it
        judged_begin.append(place_rows(lane.judged))
        judged_constants.append(place_constants(lane.judged_constants))

    merged = ClientTable(*(np.concatenate(c) for c in zip(*tables, strict=True)))
    inputs = LaneInputs(
        seed=np.stack([keys.seed_words(lane.experiment.seed) for lane in lanes]),
        numbers=_numbers(lanes, paths),
        population=np.array(count, np.float32),
        expected=np.array(
            [world.mean_size(lane.experiment.world, n) for lane, n in zip(lanes, count, strict=True)],
            np.float32,
        ),
        crowd=np.array(crowd, np.float32),
        graph=graphs(lanes, places, degree) if places else (),
        canaries=np.stack([joining.signs(lane.experiment) for lane in lanes])
        if lanes[0].experiment.audit.joining
        else (),
    )
    if isinstance(lanes[0].experiment.secure, SecureSum):
        inputs = inputs._replace(
            heaviest=np.array(
                [_power(merged.weight[at : at + n].max()) for at, n in zip(offset, count, strict=True)],
                np.float32,
            )
        )
    require(length < 2**31, f"{length} row entries do not fit 32 bits; pack fewer lanes (executor.lanes)")
    constants: tuple[np.ndarray, ...] = ()
    if const_parts:
        constants = tuple(
            np.concatenate([getattr(c, name) for c in const_parts]) for name in ("impute", "shift", "scale")
        )
    return Layout(
        inputs=inputs,
        row_table=None if identity else np.concatenate(row_parts).astype(np.int32, copy=False),
        table=merged,
        offset=np.array(offset, np.int64),
        count=np.array(count, np.int64),
        constants=constants,
        judged_begin=np.array(judged_begin, np.int64),
        judged_constants=np.array(judged_constants, np.int64),
    )
