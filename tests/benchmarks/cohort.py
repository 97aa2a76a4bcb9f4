"""How long a million made-up patients take.

    python tests/benchmarks/cohort.py [PATIENTS] [RECORDS]

Prints seconds and seconds of processor time for a table of features and an outcome of PATIENTS (1,000,000) in
Sweden's regions, per outcome, and for the records of RECORDS (50,000), on all cores this process may use.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # also as a script, from any folder

from fedsim.cohort import Cohort, records, table
from fedsim.config import HeartFailure


def timed(what: str, function: Callable[[], Any]) -> None:
    wall, spent = time.perf_counter(), time.process_time()
    function()
    wall, spent = time.perf_counter() - wall, time.process_time() - spent
    print(f"{what:40} {wall:7.1f} s {spent:7.1f} s of processors")


def drawn(cfg: HeartFailure) -> Any:
    return table(Cohort(cfg))


def main(patients: int = 1_000_000, of_records: int = 50_000) -> None:
    print(f"{len(os.sched_getaffinity(0))} cores")
    for outcome in ("death_1y", "survival", "readmission_100", "cost"):
        cfg = HeartFailure(regions="sweden", external=(), patients=patients, outcome=outcome)
        timed(f"{patients:,} patients, {outcome}", partial(drawn, cfg))
    one = Cohort(HeartFailure(regions="halland", external=(), patients=of_records))
    timed(f"records of {of_records:,} patients", lambda: records(one, 0))


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
