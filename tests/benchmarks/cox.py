"""Exact federated Cox regression of a million patients in 21 regions: seconds of the whole command.

    python tests/benchmarks/cox.py [--rows N] [--regions N] [--features N] [--json]

Rows are random, times whole days of five years. The command runs in a process of its own, with an empty cache
of compiled programs, and once more with what the first run left there.
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

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

ROOT = Path(__file__).resolve().parents[2]
DAYS = 5 * 365


def patients(rows: int, regions: int, features: int) -> pa.Table:
    """Uneven regions, a third with an event, the others censored."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(rows, features)).astype(np.float32)
    event = np.ceil(DAYS * 1.2 * rng.exponential(size=rows) / np.exp(x @ np.full(features, 0.1)))
    censored = np.ceil(rng.uniform(0, DAYS, rows))
    region = rng.choice(regions, rows, p=rng.dirichlet(np.full(regions, 2.0)))
    names = np.array([f"region {k:03d}" for k in range(regions)])
    columns = {"region": names[region], "days": np.minimum(event, censored), "died": event <= censored}
    return pa.table(columns | {f"x{i}": x[:, i] for i in range(features)})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--regions", type=int, default=21)
    parser.add_argument("--features", type=int, default=20)
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "patients.parquet"
        pq.write_table(patients(asked.rows, asked.regions, asked.features), path)
        for name in ("cold", "warm"):
            found[name] = seconds(path, Path(folder), name)
    if asked.json:
        print(json.dumps(vars(asked) | found))
        return
    for name, (wall, processor, steps) in found.items():
        print(f"{name}: {wall:.1f} s, {processor:.1f} s of processor time, {steps} steps")


def seconds(path: Path, folder: Path, name: str) -> tuple[float, float, int]:
    """(seconds, of processor time, Newton's steps) of one command."""
    command = [sys.executable, "-m", "fedsim.cli", "run", "data=table", f"data.path={path}"]
    command += ["data.client=region", "data.time=days", "data.event=died", "task=cox", "algorithm=newton"]
    command += ["numerics=float64", "split.test=0", f"results={folder / name}", "--json", "--quiet"]
    cache = {"JAX_COMPILATION_CACHE_DIR": str(folder / "cache"), "PYTHONPATH": str(ROOT)}
    begin, before = time.perf_counter(), os.times()
    done = subprocess.run(command, env=os.environ | cache, capture_output=True, text=True, check=True)
    wall, after = time.perf_counter() - begin, os.times()
    regression = json.loads(done.stdout)["regression"]
    assert regression["converged"]
    used = after.children_user + after.children_system - before.children_user - before.children_system
    return wall, used, regression["steps"]


if __name__ == "__main__":
    main()
