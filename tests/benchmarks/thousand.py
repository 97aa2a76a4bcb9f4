"""1,012 runs of the main job (heart_disease, 44 seeds) end to end, and what the time goes into.

    python tests/benchmarks/thousand.py [--seeds N] [--untuned] [--processes N] [--cold] [--profile FILE]

Runs `fedsim sweep heart_disease` in a process of its own, on two cores, into an empty store: planning,
tuning, training, judging, storing, tables and figures. With --untuned a run trains its five folds with one
step size, and not with four candidates for each of them before. With --processes so many share the cells,
each with one thread of XLA. Without --cold a small part of the sweep is run first, so that programs are
compiled; with it, into an empty compile cache. --profile writes cProfile's file. The processor's seconds are
printed, too.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def sweep(
    folder: Path, seeds: int, more: Sequence[str] = (), profile: Path | None = None, cores: int = 2
) -> tuple[float, float]:
    """Seconds of the sweep with that many seeds, its process included, and the processor's seconds.

    more: overrides.
    """
    command = [sys.executable, *(["-m", "cProfile", "-o", str(profile)] if profile else [])]
    command += ["-m", "fedsim.cli", "sweep", "heart_disease", "--quiet"]
    command += [f"seed=range(0,{seeds})", "epsilon=none", f"results={folder / str(seeds)}", *more]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    usable = os.sched_getaffinity(0)
    os.sched_setaffinity(0, sorted(usable)[:cores])  # what the sweep inherits
    begin, before = time.perf_counter(), os.times()
    subprocess.run(command, cwd=folder, env=environment, check=True)
    took, after = time.perf_counter() - begin, os.times()
    os.sched_setaffinity(0, usable)
    spent = after.children_user - before.children_user + after.children_system - before.children_system
    return took, spent


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--seeds", type=int, default=44, help="23 runs each")
    parser.add_argument("--untuned", action="store_true", help="five models a run, not 25")
    parser.add_argument("--processes", type=int, default=1, help="that share the cells")
    parser.add_argument("--cold", action="store_true", help="compile everything")
    parser.add_argument("--profile", type=Path, help="write cProfile's file of the sweep")
    asked = parser.parse_args()
    more = ["tune.grid={}"] if asked.untuned else []
    if asked.processes > 1:
        more += ["--processes", str(asked.processes), "numerics.threads=1"]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if asked.cold:
            os.environ["JAX_COMPILATION_CACHE_DIR"] = str(folder / "xla")
        else:
            sweep(folder, 1, more)
        took, spent = sweep(folder, asked.seeds, more, asked.profile and asked.profile.absolute())
    runs = 23 * asked.seeds
    print(f"{runs} runs in {took:.1f} s, {1e3 * took / runs:.1f} ms each; {spent:.1f} s of processor time")


if __name__ == "__main__":
    main()
