"""What storing adds to a sweep's time: the main job's runs stored, and thrown away, in turn.

    python tests/benchmarks/storing.py [--seeds N] [--repeats N] [--untuned]

Each sweep is a process of its own, into an empty store, with programs compiled before and without tables and
figures. The sweep's time counts, and the main thread's on the processor, which other programs disturb less;
the seconds within the store's own call are said, too.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any
from unittest.mock import patch

from fedsim.cli import requested
from fedsim.cli.arguments import Options
from fedsim.run import run_experiments
from fedsim.store import ResultStore

ROOT = Path(__file__).resolve().parents[2]
KINDS = ("stored", "thrown away")


def once(kind: str, seeds: int, more: list[str]) -> dict[str, float]:
    """A sweep in this process: runs, seconds, those of the processor in this thread, and of storing."""
    spent, write = 0.0, ResultStore.write

    def timed(*arguments: Any) -> dict[str, Any]:
        nonlocal spent
        begin = time.perf_counter()
        found = {} if kind == "thrown away" else write(*arguments)
        spent += time.perf_counter() - begin
        return found

    with patch.object(ResultStore, "write", timed), tempfile.TemporaryDirectory() as folder:
        asked = [f"seed=range(0,{seeds})", "epsilon=none", f"results={folder}", *more]
        options = Options(name="heart_disease", overrides=asked, reduced=False, modules=())
        request = requested.by_name(options)
        begin, busy = time.perf_counter(), time.thread_time()
        outcome = run_experiments(list(request.cells.values()), request.store)
        seconds, busy = time.perf_counter() - begin, time.thread_time() - busy
    return {"runs": len(outcome.done), "seconds": seconds, "main": busy, "storing": spent}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--seeds", type=int, default=10, help="23 runs each")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--untuned", action="store_true", help="five models a run, not 25")
    parser.add_argument("--once", choices=KINDS, help="one sweep in this process, as JSON")
    asked = parser.parse_args()
    if asked.once:
        print(json.dumps(once(asked.once, asked.seeds, ["tune.grid={}"] if asked.untuned else [])))
        return
    again = [sys.executable, __file__, "--seeds", str(asked.seeds), *["--untuned"] * asked.untuned]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}

    def sweep(kind: str) -> dict[str, float]:
        command = [*again, "--once", kind]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environment)
        found: dict[str, float] = json.loads(done.stdout)
        return found

    sweep("stored")  # compiles
    found: dict[str, list[dict[str, float]]] = {kind: [] for kind in KINDS}
    for _ in range(asked.repeats):
        for kind in KINDS:
            found[kind].append(sweep(kind))
            print(kind, {name: round(value, 2) for name, value in found[kind][-1].items()}, flush=True)
    for name in ("seconds", "main"):
        stored, thrown = (min(one[name] for one in found[kind]) for kind in KINDS)
        runs = found["stored"][0]["runs"]
        print(
            f"{name}, the least of {asked.repeats}: storing adds {stored - thrown:+.2f} to {thrown:.2f} s, "
            f"{stored / thrown - 1:+.1%}, {1e3 * (stored - thrown) / runs:+.2f} ms a run"
        )


if __name__ == "__main__":
    main()
