"""What the store asks of SLURM about the job behind a claim."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping

from fedsim.base import RequestError
from fedsim.slurm import commands

# Of a job, or of that restart of it, whose processes are gone.
OVER = {
    *("BOOT_FAIL", "CANCELLED", "COMPLETED", "DEADLINE", "FAILED", "NODE_FAIL", "OUT_OF_MEMORY"),
    *("PREEMPTED", "REVOKED", "TIMEOUT"),
}


class Slurm:
    """The scheduler of the cluster that this process runs on, if it does (`Scheduler` of fedsim.store)."""

    def here(self) -> Mapping[str, str]:
        """Job, such as 12_3, and how often it was restarted; empty outside of a job."""
        variables = {name: os.environ.get(f"SLURM_{name}", "") for name in _VARIABLES}
        if not variables["JOB_ID"].isdigit():
            return {}
        array = variables["ARRAY_JOB_ID"]
        job = f"{array}_{variables['ARRAY_TASK_ID']}" if array else variables["JOB_ID"]
        return {"job": job, "restart": variables["RESTART_COUNT"] or "0"}

    def is_over(self, job: Mapping[str, str]) -> bool:
        """Whether SLURM says that this job, or that restart of it, runs no more; False when in doubt."""
        try:
            said = commands.describe(job["job"])
        except (RequestError, KeyError):
            return False
        if said is None:
            return True
        state, restarts = re.search(r"\bJobState=(\w+)", said), re.search(r"\bRestarts=(\d+)", said)
        again = restarts is not None and int(restarts[1]) > int(job.get("restart", "0"))
        return again or (state is not None and state[1] in OVER)


_VARIABLES = ("JOB_ID", "ARRAY_JOB_ID", "ARRAY_TASK_ID", "RESTART_COUNT")
