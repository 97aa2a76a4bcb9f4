"""What canary clients add to a round: the same rounds with and without them, in turns, in one process.

    python tests/benchmarks/audits.py [workload ...] [--canaries N] [--repeats N]

`four hospitals` has four clients of 200 rows, all in every round, and so the shortest rounds there are; the
others are the workloads of `make bench`, with privacy=gaussian. A figure is the least of its turns: in
seconds that pass, and in seconds of processors, which others at work on the machine change less.
"""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # also as a script, from any folder

from tests.benchmarks import engine, workloads
from tests.benchmarks.methods import seconds

HOSPITALS = "four hospitals"


def made(name: str, rounds: int, platform: str, canaries: int) -> Any:
    """An engine with one lane; 0 canaries: no audit."""
    import jax

    from fedsim import config
    from fedsim.config.audit import CanaryClients
    from fedsim.data.partition import partitions
    from fedsim.data.splits import assign
    from fedsim.simulate.build import build
    from fedsim.simulate.lanes import Lane
    from fedsim.simulate.worker import inline

    small = name == HOSPITALS
    kind = "mlp_silo" if small else name
    work = workloads.WORKLOADS[kind]
    work = replace(work, uniform=True, evaluate=0)
    if small:
        work = replace(work, clients=4, cohort=4)
    data = workloads.make_data(kind, work.clients)
    wanted = engine.experiment(work, rounds, jax.local_device_count() if platform == "cpu" else 1)
    wanted = replace(
        wanted,
        privacy=config.GaussianPrivacy(clip_norm=0.1),
        world=config.All() if small else wanted.world,
        audit=CanaryClients(canaries=canaries) if canaries else config.NoAudit(),
    )
    rows = engine.federation(work, data)
    split = partitions(rows, assign(rows, wanted.split, 0), wanted.split, 0)[0]
    return build(rows, [Lane(wanted, split, split, None, None, rounds)], platform, inline)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    known = [HOSPITALS, *workloads.WORKLOADS]
    parser.add_argument("workloads", nargs="*", help=", ".join(known))
    parser.add_argument("--canaries", type=int, default=100)
    parser.add_argument("--repeats", type=int, default=7)
    asked = parser.parse_args()
    platform = engine.start_jax()
    print(f"ms a round, without and with {asked.canaries} canaries, and again of processors' time")
    for name in asked.workloads or [HOSPITALS, "mlp_silo", "mlp_scale"]:
        each = 100 if name == HOSPITALS else 4
        total = each * (asked.repeats + 1)
        both = [made(name, total, platform, canaries) for canaries in (0, asked.canaries)]
        states = [seconds(e, e.init(), 0, each)[0] for e in both]  # compiles
        best = [[float("inf")] * 2 for _ in both]
        for turn in range(1, asked.repeats + 1):
            for i, e in enumerate(both):
                begin = time.process_time()
                states[i], took = seconds(e, states[i], turn * each, each)
                worked = (time.process_time() - begin) / each
                best[i] = [min(pair) for pair in zip(best[i], (took, worked), strict=True)]
        shown = [f"{name:16}"]
        for without, canaried in zip(*best, strict=True):
            extra = 100 * (canaried / without - 1)
            shown.append(f"{1e3 * without:9.2f} {1e3 * canaried:9.2f} {extra:+6.1f} %")
        print(*shown, flush=True)


if __name__ == "__main__":
    main()
