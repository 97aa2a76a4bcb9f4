"""Local steps: a client's batches, what may be asked of them, and the loop over them."""

from fedsim.local.batches import LONG_SLICE, SLICE, Batches, Refused, Rows, Whole, Window
from fedsim.local.counted import counted
from fedsim.local.oracle import Oracle, Shared, plain
from fedsim.local.private import private
from fedsim.local.steps import Optimizer, chain, descent, optimizer, run_steps, server_optimizer
from fedsim.model import Batch

__all__ = [
    "LONG_SLICE",
    "SLICE",
    "Batch",
    "Batches",
    "Optimizer",
    "Oracle",
    "Refused",
    "Rows",
    "Shared",
    "Whole",
    "Window",
    "chain",
    "counted",
    "descent",
    "optimizer",
    "plain",
    "private",
    "run_steps",
    "server_optimizer",
]
