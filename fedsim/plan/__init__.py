"""What a sweep consists of: its file, its axes, and the experiments they span. No JAX, no Hydra."""

from fedsim.plan.cells import Cell, cells, excluded, labels
from fedsim.plan.overrides import CHOICES, SEED, Override, assign
from fedsim.plan.structures import lane_rounds, structure_key, structure_keys
from fedsim.plan.sweep import Exclude, Sweep, When, find, names, override, read
from fedsim.plan.tasks import Task, cut

__all__ = [
    "CHOICES",
    "SEED",
    "Cell",
    "Exclude",
    "Override",
    "Sweep",
    "Task",
    "When",
    "assign",
    "cells",
    "cut",
    "excluded",
    "find",
    "labels",
    "lane_rounds",
    "names",
    "override",
    "read",
    "structure_key",
    "structure_keys",
]
