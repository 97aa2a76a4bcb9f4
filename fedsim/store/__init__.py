"""What a run is called, and where its rows, its model and its checkpoints are kept."""

from fedsim.store.checkpoint import discard, load, save
from fedsim.store.claims import Claims, Hold, Scheduler
from fedsim.store.files import FINISHED, TABLES, RunResult
from fedsim.store.identity import RunIds, commit, host, run_id, source, versions
from fedsim.store.owners import Owner
from fedsim.store.store import ResultStore, State

__all__ = [
    "FINISHED",
    "TABLES",
    "Claims",
    "Hold",
    "Owner",
    "ResultStore",
    "RunIds",
    "RunResult",
    "Scheduler",
    "State",
    "commit",
    "discard",
    "host",
    "load",
    "run_id",
    "save",
    "source",
    "versions",
]
