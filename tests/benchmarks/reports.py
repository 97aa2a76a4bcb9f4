"""How long tables take over a store of many runs: rows read from their own files, and as kept after that.

    python tests/benchmarks/reports.py FOLDER [RUNS]

FOLDER becomes a store of RUNS cells of heart_disease (10,000), written by the store: the rows are those of
one run, under the others' ids and labels. Each time is of one process, from its start to its end.
"""

from __future__ import annotations

import resource
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

from fedsim import plan
from fedsim.cli import requested
from fedsim.cli.compose import compose, parse
from fedsim.plan import Cell
from fedsim.run import run_experiments
from fedsim.store import ResultStore, RunResult

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


def fill(root: Path, count: int) -> dict[str, Cell]:
    """Every cell's run, as one that was made here; those that are stored stay."""
    sweep = plan.override(plan.read(NAME), [f"seed=range(0,{-(-count // PER_SEED)})"], parse)
    cells = dict(list(requested.identify(plan.cells(sweep, compose, parse)).items())[:count])
    first = next(iter(cells))
    run_experiments([cells[first]], root)
    store = ResultStore(root)
    kinds = ("rounds", "clients", "predictions", "tuning")
    made = RunResult(
        experiment=cells[first].experiment,
        status="done",
        manifest=store.manifest(first),
        **{kind: store.read(first, kind) for kind in kinds},
    )
    for run, cell in cells.items():
        store.write(run, replace(made, experiment=cell.experiment, cell=cell.labels))
    return cells


def main(root: Path, count: int = 10_000) -> None:
    cells = fill(root, count)
    for kept in root.glob(".*"):
        if kept.is_file():
            kept.unlink()
    spec = plan.read(NAME).folder
    assert spec is not None
    for state in ("from the runs' files", "kept", "kept"):
        begin, used = time.perf_counter(), _used()
        subprocess.run([sys.executable, "-c", CODE, str(root), str(spec / "tables.yaml")], check=True)
        took = f"{time.perf_counter() - begin:.1f} s, {_used() - used:.1f} s of processor time"
        print(f"{len(cells):,} runs, {state}: {took}", flush=True)


def _used() -> float:
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return children.ru_utime + children.ru_stime


if __name__ == "__main__":
    main(Path(sys.argv[1]), *map(int, sys.argv[2:3]))
