"""Boosted trees of 100,000 rows by 20 features in 21 regions: rounds a second, a level of a tree each.

    python tests/benchmarks/boosting.py [--rows N] [--regions N] [--features N] [--trees N] [--json]

Rows are random, a tenth of the values are missing. One engine in this process; compiling is not in the time.
Rounds grow dearer with the trees there are, which clients pass their rows through anew in every round.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))  # also as a script, from any folder

from fedsim.environment import prepare  # noqa: E402

prepare(threads=2, cache=ROOT / ".cache" / "xla")

import numpy as np  # noqa: E402

from fedsim.data.federation import Federation, gather  # noqa: E402
from fedsim.simulate.engine import simulate  # noqa: E402
from tests.simulate import small  # noqa: E402


def patients(rows: int, regions: int, features: int) -> Federation:
    """Uneven regions, and an event that hangs on the product of two features."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(rows, features)).astype(np.float32)
    y = (x[:, 0] * x[:, 1] + rng.logistic(size=rows) > 1).astype(np.int32)
    x[rng.random(x.shape) < 0.1] = np.nan
    owner = rng.choice(regions, rows, p=rng.dirichlet(np.full(regions, 2.0)))
    columns: dict[str, Any] = {"x": x, "y": y}
    names = [f"region {k:03d}" for k in owner]
    return gather(names, columns, kind="binary", classes=2, licence="none", source="made here")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    for name, default in (("rows", 100_000), ("regions", 21), ("features", 20), ("trees", 50)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    fed = patients(asked.rows, asked.regions, asked.features)
    depth, bins = 4, 32
    rounds = 1 + asked.trees * depth
    e = small.experiment(
        algorithm="boosting",
        task={"name": "trees", "trees": asked.trees, "depth": depth, "bins": bins, "l2": 1.0},
        data={"preprocess": {"scope": "federated", "impute": "keep"}},
        split={"test": 0.0},
        numerics={"block": None, "group": None},
        rounds=rounds,
    )
    engine = small.engine([small.lane(e, fed)], fed)
    # The first round, and one more: everything is compiled.
    begun, _ = next(iter(simulate(engine, engine.init(), [2])))
    engine.fetch(begun)
    begin, before = time.perf_counter(), time.process_time()
    for handles, _ in simulate(engine, begun, [rounds], first=2):
        engine.fetch(handles)
    wall, processor = time.perf_counter() - begin, time.process_time() - before
    found = {"rounds": rounds - 2, "wall_seconds": wall, "processor_seconds": processor}
    if asked.json:
        print(json.dumps(vars(asked) | found))
        return
    speed, cost = found["rounds"] / wall, 1e3 * processor / found["rounds"]
    print(f"{found['rounds']} rounds: {speed:.1f} a second, {cost:.0f} ms of processor time each")


if __name__ == "__main__":
    main()
