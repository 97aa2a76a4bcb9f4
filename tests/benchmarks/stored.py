"""Make a store of many runs, as a sweep would leave it, for what reads stores: from one real run.

    python tests/benchmarks/stored.py NAME FOLDER

FOLDER becomes a store with every cell of the sweep NAME: the rows are those of its first cell, which is run,
under the other cells' ids and labels.
"""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

from fedsim import plan
from fedsim.cli import requested
from fedsim.cli.compose import compose, parse
from fedsim.run import run_experiments
from fedsim.store.identity import plain


def fill(name: str, root: Path) -> int:
    """Returns the number of runs."""
    cells = requested.identify(plan.cells(plan.read(name), compose, parse))
    first = next(iter(cells))
    run_experiments([cells[first]], root)
    for run, cell in cells.items():
        if run != first and not (root / run).exists():
            shutil.copytree(root / first, root / run)
        path = root / run / "manifest.json"
        manifest = json.loads(path.read_bytes())
        manifest |= {"run": run, "cell": cell.labels, "experiment": plain(cell.experiment)}
        path.write_text(json.dumps(manifest))
    return len(cells)


if __name__ == "__main__":
    print(fill(sys.argv[1], Path(sys.argv[2])), "runs in", sys.argv[2])
