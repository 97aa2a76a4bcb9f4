"""What storing adds to a sweep's time: its runs stored, and thrown away, in turn.

    python tests/benchmarks/storing.py [NAME] [--reduced] [--repeats N] [OVERRIDE ...]

NAME is heart_disease unless another is named. Each sweep is a process of its own, into an empty store, with
programs compiled before and without tables and figures. The sweep's time counts, and the main thread's on the
processor, which other programs disturb less. Of the store's own calls it is the processor's time, too: beside
them another thread may trace the next structure, and have Python's lock, which costs the sweep nothing.
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


def once(kind: str, name: str, more: list[str], reduced: bool) -> dict[str, float]:
    """A sweep in this process: runs, seconds, those of the processor in this thread, and of storing."""
    spent, write = 0.0, ResultStore.write_all

    def timed(*arguments: Any) -> None:
        nonlocal spent
        begin = time.thread_time()
        if kind == "stored":
            write(*arguments)
        spent += time.thread_time() - begin

    with patch.object(ResultStore, "write_all", timed), tempfile.TemporaryDirectory() as folder:
        asked = [*more, f"results={folder}"]
        request = requested.by_name(Options(name=name, overrides=asked, reduced=reduced, modules=()))
        begin, busy = time.perf_counter(), time.thread_time()
        outcome = run_experiments(list(request.cells.values()), request.store)
        seconds, busy = time.perf_counter() - begin, time.thread_time() - busy
    return {"runs": len(outcome.done), "seconds": seconds, "main": busy, "storing": spent}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("name", nargs="?", default="heart_disease", metavar="NAME")
    parser.add_argument("overrides", nargs="*", metavar="OVERRIDE")
    parser.add_argument("--reduced", action="store_true")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--once", choices=KINDS, help="one sweep in this process, as JSON")
    asked = parser.parse_args()
    if asked.once:
        print(json.dumps(once(asked.once, asked.name, asked.overrides, asked.reduced)))
        return
    again = [sys.executable, __file__, asked.name, *asked.overrides, *["--reduced"] * asked.reduced]
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
            one = sweep(kind)
            found[kind].append(one)
            print(kind, {name: round(value, 2) for name, value in one.items()}, flush=True)
        one = found["stored"][-1]
        each, share = 1e3 * one["storing"] / one["runs"], one["storing"] / one["seconds"]
        print(f"storing takes {each:.2f} ms a run, {share:.2%} of the sweep's time", flush=True)
    for name in ("seconds", "main"):
        stored, thrown = (min(one[name] for one in found[kind]) for kind in KINDS)
        runs = found["stored"][0]["runs"]
        print(
            f"{name}, the least of {asked.repeats}: storing adds {stored - thrown:+.2f} to {thrown:.2f} s, "
            f"{stored / thrown - 1:+.1%}, {1e3 * (stored - thrown) / runs:+.2f} ms a run"
        )


if __name__ == "__main__":
    main()
