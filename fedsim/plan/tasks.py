"""How a sweep is cut into tasks for several machines: what shares a program stays together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import ceil
from statistics import fmean

from fedsim.config import Experiment
from fedsim.plan.structures import lane_rounds, structure_keys


@dataclass(frozen=True)
class Task:
    """Runs that one process does, one program after another. cost: expected, in seconds where some run of
    the sweep has been timed, else in rounds of training."""

    runs: tuple[str, ...]
    cost: float


def cut(
    experiments: Mapping[str, Experiment],
    most: int,
    measured: Mapping[str, float],
    together: Sequence[Sequence[str]] = (),
) -> list[Task]:
    """At most `most` tasks of about equal cost, beside those `together`, the longest first.

    Runs of one compiled structure are split only where they cost more than a task's share; what a process
    fixes for its life (threads, 64-bit mode) is the same within a task, which may take more tasks. The
    longest first, each to the task with least to do: Graham, "Bounds on Multiprocessing Timing
    Anomalies", SIAM J. Appl. Math. 17 (1969).

    Args:
      experiments: run id -> experiment, of what is to be done.
      measured: structure -> seconds of one run, for those that are known.
      together: runs that go on from one checkpoint; each of these groups is a task of its own.
    """
    work = {run: lane_rounds(experiment) for run, experiment in experiments.items()}
    of = structure_keys(experiments)
    pace = [measured[of[run]] / work[run] for run in experiments if of[run] in measured]
    per_round = fmean(pace) if pace else 1.0
    cost = {run: measured.get(of[run], work[run] * per_round) for run in experiments}
    own = [Task(tuple(runs), sum(cost[run] for run in runs)) for runs in together]
    begun = {run for task in own for run in task.runs}
    rest = {run: experiment for run, experiment in experiments.items() if run not in begun}
    share = sum(cost[run] for run in rest) / max(1, most - len(own))

    alike: dict[tuple[int, bool], dict[str, list[str]]] = {}
    for run, experiment in rest.items():
        process = (experiment.numerics.threads, experiment.numerics.x64)
        alike.setdefault(process, {}).setdefault(of[run], []).append(run)
    tasks = own
    for structures in alike.values():
        pieces = [piece for runs in structures.values() for piece in _split(runs, cost, share)]
        room = max(1, round(sum(p.cost for p in pieces) / share))
        tasks += _filled(pieces, min(room, len(pieces)))
    return sorted(tasks, key=lambda task: -task.cost)


def _split(runs: Sequence[str], cost: Mapping[str, float], share: float) -> list[Task]:
    """Runs of one structure in as few equal parts as keep to a share."""
    # A little over a share is no reason for another program start.
    parts = min(len(runs), ceil(round(sum(cost[r] for r in runs) / share, 6)))
    bounds = [i * len(runs) // parts for i in range(parts + 1)]
    cuts = [tuple(runs[a:b]) for a, b in pairwise(bounds)]
    return [Task(part, sum(cost[r] for r in part)) for part in cuts]


def _filled(pieces: Sequence[Task], count: int) -> list[Task]:
    held: list[list[Task]] = [[] for _ in range(count)]
    for piece in sorted(pieces, key=lambda p: -p.cost):
        min(held, key=lambda taken: sum(p.cost for p in taken)).append(piece)
    return [Task(tuple(r for p in taken for r in p.runs), sum(p.cost for p in taken)) for taken in held]
