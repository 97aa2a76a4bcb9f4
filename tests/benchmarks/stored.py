"""A store of many runs, as a sweep would leave it, for what reads stores: from one real run."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from fedsim import plan
from fedsim.cli import requested
from fedsim.cli.compose import compose, parse
from fedsim.plan import Cell, Sweep
from fedsim.run import run_experiments
from fedsim.store.identity import plain


def fill(sweep: Sweep, root: Path) -> dict[str, Cell]:
    """Make `root` a store with every cell of `sweep`: the first is run, the others have its rows."""
    cells = requested.identify(plan.cells(sweep, compose, parse))
    first = next(iter(cells))
    run_experiments([cells[first]], root)
    for run, cell in cells.items():
        if run != first:
            shutil.copytree(root / first, root / run)
        path = root / run / "manifest.json"
        manifest = json.loads(path.read_bytes())
        manifest |= {"run": run, "cell": cell.labels, "experiment": plain(cell.experiment)}
        path.write_text(json.dumps(manifest))
    return cells
