"""Sweeps as arrays of SLURM: the only place that knows its commands and environment variables. No JAX."""

from fedsim.slurm.commands import Element, elements
from fedsim.slurm.local import run_here
from fedsim.slurm.scheduler import Slurm
from fedsim.slurm.script import batch
from fedsim.slurm.submission import Submission, earlier, queued, submit, written

FOLDER = "slurm"  # of a sweep's submissions, beside its tables

__all__ = [
    "FOLDER",
    "Element",
    "Slurm",
    "Submission",
    "batch",
    "earlier",
    "elements",
    "queued",
    "run_here",
    "submit",
    "written",
]
