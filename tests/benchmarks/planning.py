"""What planning, the store and status take, without training: seconds on the clock and of the processor.

    python tests/benchmarks/planning.py            # 100,000 cells; 10,000 stored runs

The runs are those of `stored.py`, written into a temporary folder ($TMPDIR). Near files that were removed in
the last minutes a new one may take 0.3 ms and not 0.01: ext4 without a journal looks at these first.
"""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Callable
from contextlib import chdir
from pathlib import Path
from typing import TypeVar

from fedsim import plan
from fedsim.cli import requested
from fedsim.cli.compose import compose, parse
from fedsim.plan import Sweep
from fedsim.report import rows
from fedsim.store import Claims, ResultStore
from tests.benchmarks.stored import fill, packs, result

T = TypeVar("T")
GRID = {"algorithm": ["fedavg", "fedprox"], "optimizer.step_size": [0.01, 0.03, 0.1, 0.3, 1.0]}


def timed(what: str, call: Callable[[], T], each: int = 1) -> T:
    wall, cpu = time.perf_counter(), time.process_time()
    found = call()
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    if each > 1:
        print(f"{what:45} {1e3 * wall / each:8.2f} ms   {1e3 * cpu / each:8.2f} ms of the processor, each")
    else:
        print(f"{what:45} {wall:8.2f} s    {cpu:8.2f} s of the processor")
    return found


def main() -> None:
    compose([])
    large = Sweep(base=("rounds=5",), grid=GRID | {"seed": "range(0,10000)"})
    cells = timed("100,000 cells planned", lambda: plan.cells(large, compose, parse))
    timed("and given their ids", lambda: requested.identify(cells))
    with tempfile.TemporaryDirectory() as folder, chdir(folder):
        root = Path(folder) / "store"
        small = Sweep(base=("rounds=5",), grid=GRID | {"seed": "range(0,1000)"})
        found = requested.identify(plan.cells(small, compose, parse))
        timed("10,000 runs stored", lambda: fill(found, root), each=len(found))
        runs, store = list(found), ResultStore(root)
        for kind in ("as they were stored", "again", "each from its own file"):
            if kind == "each from its own file":
                shutil.rmtree(root / ".kept")
            timed(f"states of 10,000 runs, {kind}", lambda: store.summaries(runs))
            timed(f"rows of 10,000 runs, {kind}", lambda: rows.read(root, runs, levels=("pooled",)))
        made = result(store, runs[0])
        other = ResultStore(Path(folder) / "other")
        fresh = other.fresh()
        names = [f"{i:04d}" for i in range(500)]

        def write() -> None:
            with Claims(other.root).take(names) as hold:
                for some in packs(hold.runs):
                    assert all(map(hold.keeps, some))
                    other.write_all(dict.fromkeys(some, made), fresh)
            fresh.save()

        timed("a run claimed, stored and released", write, each=len(names))


if __name__ == "__main__":
    main()
