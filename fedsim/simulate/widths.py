"""Widths of blocks, groups, teams and tickets, from arithmetic and bytes. They belong to the experiment.

Vmap small, map big: items side by side pay for the overhead of a step until their weights, gradients
and activations leave the cache; past about a millisecond of work a step, one item at a time wins.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from fedsim import algorithms, local, tasks, topology, trees, world
from fedsim.algorithms import Algorithm
from fedsim.attack import ATTACKS
from fedsim.base import digest, require
from fedsim.config import Experiment, SecureSum
from fedsim.model import Spec, Task
from fedsim.simulate.packing import Widths

_MOST_GROUPS = 32  # sums that a round keeps at most
_MOST_TICKETS = 16  # parts of a round that workers can share
_MOST_ROUNDS = 64  # planned at once
_SLICE = 64  # rows of a client scored side by side
_LONG_SLICE = 256  # and of an outside site that has many of these
_STREAMED_BYTES = 2**26  # of rows in the buffers of one call


class Tuning(NamedTuple):
    """Measured per platform (docs/design.md, "Widths").

    step_flops: arithmetic of one block step that hides its overhead; step_bytes: weights, gradients
    and rows of one block step that stay in cache; widest: items in a block at most; spread_flops:
    arithmetic of a round from which on several devices in one program pay for meeting once a round;
    round_flops: from which on sharing it pays for a call per round; ticket_flops: of one ticket;
    call_flops: of one call that scores rows; brief_flops: of all rounds, below which compiling them is
    what takes time.
    """

    step_flops: float
    step_bytes: float
    widest: int
    spread_flops: float
    round_flops: float
    ticket_flops: float
    call_flops: float
    brief_flops: float


_TUNING = {
    "cpu": Tuning(1e7, 2e6, 128, 1e7, 2e8, 1e9, 1e8, 5e8),
    "gpu": Tuning(5e9, 4e9, 1024, math.inf, 1e12, 1e13, 1e12, 0.0),
}


def widths(
    experiment: Experiment, spec: Spec, clients: int, rows: int, outside: int, platform: str
) -> Widths:
    """Widths for an experiment over `clients` training clients with `rows` rows.

    outside: rows of the largest outside site; platform: `cpu` or another.

    Raises RequestError when numerics.block and numerics.group do not divide one another, and for a graph
    of too many clients.
    """
    tuning = _TUNING["cpu" if platform == "cpu" else "gpu"]
    task, parameters = _task_of(experiment, spec)
    algorithm = algorithm_of(experiment, task)
    aggregate = algorithm.aggregate
    graph = isinstance(aggregate, algorithms.Exchange)
    require(
        not graph or clients <= topology.MOST_CLIENTS,
        f"algorithm={experiment.algorithm.name} keeps a model of its own for each of {clients} training "
        f"clients, and {topology.MOST_CLIENTS} is the most; use fewer clients, or an algorithm with a server",
    )
    size = world.expected(experiment.world, clients)
    most = world.most(experiment.world, clients)
    opt = experiment.optimizer
    batch = opt.batch_size or task.joint or local.SLICE
    step_flops = 3 * task.flops * batch  # forward, and twice that backward
    touched = 4 * parameters + 4 * batch * math.prod(spec.shape)
    fits = min(tuning.step_flops / max(step_flops, 1), tuning.step_bytes / touched, tuning.widest)
    target = max(1, int(fits))
    grows = task.boosted
    sums_rows = algorithm.exact or grows is not None  # a forest's, sent or kept
    if sums_rows:
        # Loops over all rows of a client, whose sums may be large: one client at a time. Side by side, every
        # round of a forest would also count values by the cells of its grid, which only the first needs.
        batch, target = local.LONG_SLICE, 1
        # A row's x x', twice; or its derivatives at every node, by bins.
        sums = 4 * task.flops**2
        if grows is not None:
            sums = 4 * grows.features * grows.bins * 2 ** (grows.depth - 1) + task.flops * 2**grows.depth
        step_flops = sums * batch
    steps = opt.steps or opt.epochs * max(1, rows / clients / batch)
    if sums_rows:
        steps = max(1, rows / clients / batch)
    round_flops = size * steps * step_flops
    # Where the host runs a protocol among clients, a round at a time and with every message by itself.
    exact = isinstance(experiment.secure, SecureSum) and experiment.secure.mode == "exact"
    shared = exact or round_flops > tuning.round_flops
    threads = experiment.numerics.threads
    spread = not shared and size >= threads and round_flops > tuning.spread_flops
    devices = threads if spread else 1

    # Blocks in a multiple of the devices, so that they end together.
    multiple = threads if shared else devices
    check_rule(experiment, clients)
    rule = experiment.aggregator
    root = 1 if rule.root else 0  # the server's own rows make one item more
    size, most = size + root, most + root
    block = experiment.numerics.block or block_width(size, target, multiple)
    apart = exact or needs_stack(experiment, aggregate)
    group = 1 if apart else experiment.numerics.group or group_width(size, block)
    require(
        block % group == 0 or group % block == 0,
        f"numerics.group={group} must divide numerics.block={block} or be a multiple of it",
    )
    # A team fills a block, and is wide enough that a step of the server hides its overhead.
    lanes = 1 if shared or spread else max(1, block // size, min(8, 2**16 // max(parameters, 1)))
    merge = -(-most // group)
    unit = max(block, group)
    units = -(-merge * lanes // (unit // group))
    # As many rounds a call, wherever their rows lie, as can be streamed; one where the model has a say.
    chooses = world.chooses(experiment.world)
    row_bytes = 4 * lanes * most * max(1, rows / clients) * math.prod(spec.shape)
    tickets = devices
    if shared:
        of_each = max(1, round(round_flops / tuning.ticket_flops / threads))
        tickets = min(units, _MOST_TICKETS, threads * of_each)
        if sums_rows:  # clients differ in size, and are shared out by number
            tickets = min(units, _MOST_TICKETS)
    mine = -(-units // tickets)
    length = _LONG_SLICE if outside > 8 * _LONG_SLICE else _SLICE
    scored_bytes = 8 * length * math.prod(spec.shape)  # of rows, as they are read and as they are used
    fits = min(tuning.step_flops / max(length * task.flops, 1), tuning.step_bytes / scored_bytes)
    items = max(1, min(16, int(fits)))
    scored = max(1, min(64, int(tuning.call_flops / max(items * length * task.flops, 1))))
    return Widths(
        block=block,
        group=group,
        lanes=lanes,
        shared=shared,
        tickets=tickets,
        blocks=mine * (unit // block),
        groups=mine * (unit // group),
        merge=merge,
        devices=devices,
        # In a graph a client's row is its position.
        memory=clients
        if graph
        else min(clients + root, most * max(experiment.rounds, *experiment.tune.rounds, 1)),
        brief=experiment.rounds * round_flops < tuning.brief_flops,
        exchanges=2 if algorithm.survey else 1,
        slice=length,
        rounds=1 if chooses else max(1, min(_MOST_ROUNDS, int(_STREAMED_BYTES / row_bytes))),
        items=items,
        scored=-(-scored // devices) * devices,
        clients=clients if graph else 0,
        degree=topology.degree(experiment.topology, clients) if graph else 0,
    )


def _task_of(experiment: Experiment, spec: Spec) -> tuple[Task, int]:
    """The task, and the bytes of its model: found by tracing, so each is found once."""
    cfg, dtype = experiment.task, experiment.numerics.dtype
    key = digest([cfg, str(spec), dtype, jax.config.read("jax_enable_x64")])
    if key not in _TASKS:
        task = tasks.build(cfg, spec, dtype)
        start = jax.eval_shape(task.init, jax.eval_shape(lambda: jax.random.key(0)))
        _TASKS[key] = task, trees.nbytes(start)
    return _TASKS[key]


_TASKS: dict[str, tuple[Task, int]] = {}


def check_rule(experiment: Experiment, clients: int) -> None:
    """Refuse a rule that cannot keep its promise to cohorts as they come, of this many clients."""
    rule, attack = experiment.aggregator, experiment.attack
    most, mean = world.most(experiment.world, clients), world.mean_size(experiment.world, clients)
    needs = f"aggregator={rule.name} needs cohorts of {rule.least} clients or more for what it promises, and"
    require(most >= rule.least, f"{needs} there are {most}; lower its numbers, or take a larger cohort")
    # Rounds that nobody joins change nothing; and a mean of 0.1 * 10 falls short of 1 by rounding.
    require(
        rule.least == 1 or mean > rule.least - 1e-6,
        f"{needs} with world={experiment.world.name} {mean:.3g} take part on average; lower its numbers, or "
        "take larger cohorts, or lose fewer",
    )
    lying = round(mean * round(attack.share * clients) / clients)
    able = rule.withstands(round(mean))
    require(
        able is None or lying <= able,
        f"attack.share={attack.share:g} makes {lying} of a cohort of {mean:.3g} lie, and "
        f"aggregator={rule.name} is set to withstand {able}; raise "
        f"aggregator.{'share' if rule.name == 'trimmed_mean' else 'attackers'}, or lower attack.share",
    )


def block_width(cohort: int, target: int, multiple: int) -> int:
    """The width near `target` that wastes the fewest slots on a cohort in a multiple of so many blocks."""
    if multiple == 1 and 2 * cohort <= target:  # several lanes share a block
        return target // cohort * cohort
    blocks = -(-cohort // target)
    blocks = min(-(-blocks // multiple) * multiple, cohort)
    return -(-cohort // blocks)


def group_width(cohort: int, block: int) -> int:
    """Clients per group: one block, a lane's share of a block, or several blocks of a large cohort."""
    if cohort <= block:
        return cohort if block % cohort == 0 else block
    blocks = -(-cohort // block)
    return block * -(-blocks // _MOST_GROUPS)


def needs_stack(experiment: Experiment, aggregate: Any) -> bool:
    """Whether all messages are needed at once."""
    if experiment.aggregator.name != "mean" or ATTACKS[experiment.attack.name](experiment.attack).collude:
        return True
    return not isinstance(aggregate, algorithms.Reduction)


def algorithm_of(experiment: Experiment, task: Task) -> Algorithm:
    """The algorithm, to see what it is made of and not to be called."""
    build = algorithms.ALGORITHMS[experiment.algorithm.name]
    found: list[Algorithm] = []

    def trace() -> None:  # building an optimiser makes constants, so it is traced, never run
        opt = local.optimizer(experiment.optimizer, jnp.int32(0))
        found.append(build(local.plain(task), opt, experiment.algorithm))

    jax.eval_shape(trace)
    return found[0]
