"""How long a region's OMOP tables take to write and to read: processor and wall seconds, and megabytes.

python tests/benchmarks/omop.py [PATIENTS]
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from fedsim.cohort import Cohort, records
from fedsim.config import HeartFailure
from fedsim.omop import Reading, extract, load, read, write

PIECE = 16_384


def timed(what: str, work: Callable[[], Any]) -> Any:
    wall, cpu = time.perf_counter(), time.process_time()
    made = work()
    print(f"{what:30} {time.process_time() - cpu:6.1f} s of processor, {time.perf_counter() - wall:6.1f} s")
    return made


def main(patients: int) -> None:
    cohort = Cohort(HeartFailure(regions="halland", external=(), patients=patients))
    bounds = [(a, min(a + PIECE, patients)) for a in range(0, patients, PIECE)]
    made = timed("records", lambda: [records(cohort, 0, *bound) for bound in bounds])
    rows = sum(len(next(iter(table.values()))) for one in made for table in one.tables().values())
    with tempfile.TemporaryDirectory() as folder:
        path = timed("write", lambda: write(made, Path(folder)))
        size = sum(file.stat().st_size for file in path.iterdir())

        def features() -> Any:
            site = read(path)
            try:
                return extract(site, load("heart_failure"), Reading(outcome="death_1y"))
            finally:
                site.close()

        found = timed("read: features and outcome", features)
    print(f"{patients} patients, {rows} records, {size / 1e6:.0f} MB; {found.x.shape[1]} features")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 100_000)
