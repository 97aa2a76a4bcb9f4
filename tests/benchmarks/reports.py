"""How long tables take over a store of many runs: as kept while they were stored, then from their own files.

    python tests/benchmarks/reports.py FOLDER [RUNS]

FOLDER becomes a store of RUNS cells of heart_disease (10,000), written by the store: the rows are those of
one run, under the others' ids and labels. Each time is of one process, from its start to its end.
"""

from __future__ import annotations

import resource
import shutil
import subprocess
import sys
import time
from pathlib import Path

from fedsim import plan
from fedsim.cli import requested
from fedsim.cli.compose import compose, parse
from fedsim.plan import Cell
from tests.benchmarks.stored import fill

NAME = "heart_disease"
PER_SEED = 23  # cells
CODE = """
import sys
from pathlib import Path
from fedsim import report
store, spec = Path(sys.argv[1]), Path(sys.argv[2])
runs = sorted(folder.name for folder in store.iterdir() if folder.name[0] != ".")
spec, rows = report._load(store, spec, runs, figures=False)
print(sum(cell.seeds for table in report.tables(rows, spec, "keep") for _, cell in table.each()))
"""


def chosen(count: int) -> dict[str, Cell]:
    sweep = plan.override(plan.read(NAME), [f"seed=range(0,{-(-count // PER_SEED)})"], parse)
    return dict(list(requested.identify(plan.cells(sweep, compose, parse)).items())[:count])


def main(root: Path, count: int = 10_000) -> None:
    cells = chosen(count)
    fill(cells, root)
    spec = plan.read(NAME).folder
    assert spec is not None
    for state in ("as stored", "kept", "from the runs' own files", "kept"):
        if state == "from the runs' own files":
            shutil.rmtree(root / ".kept")
        begin, used = time.perf_counter(), _used()
        subprocess.run([sys.executable, "-c", CODE, str(root), str(spec / "tables.yaml")], check=True)
        took = f"{time.perf_counter() - begin:.1f} s, {_used() - used:.1f} s of processor time"
        print(f"{len(cells):,} runs, {state}: {took}", flush=True)


def _used() -> float:
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return children.ru_utime + children.ru_stime


if __name__ == "__main__":
    main(Path(sys.argv[1]), *map(int, sys.argv[2:3]))
