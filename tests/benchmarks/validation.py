"""How long `fedsim validate` takes: processor time and memory of the evaluation of one plan.

    python tests/benchmarks/validation.py [--rows N] [--home N] [--bootstrap N] [--times] [--json]

Three regions of `home` patients each train a model of ten features; the site outside has `rows`. The plan has
its defaults but for the replicates, regions' adaptations among them. With --times the outcome is the time to
death, and the plan is carried out with adaptations and without, which says what these cost.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

ROOT = Path(__file__).resolve().parents[2]
SITE = "Karolinska"
REGIONS = ("Halland", "Kronoberg", "Örebro")
FEATURES = 10


def patients(rows: int, home: int, times: bool) -> pa.Table:
    """Three alike regions, and a site whose patients are more alike and at higher risk. times: followed for
    up to three years."""
    rng = np.random.default_rng(0)
    region = np.repeat([*REGIONS, SITE], [home] * len(REGIONS) + [rows])
    outside = region == SITE
    x = rng.normal(size=(len(region), FEATURES)) * np.where(outside, 0.8, 1.0)[:, None]
    logit = x @ np.linspace(-0.5, 0.5, FEATURES) - 1.0 + 0.4 * outside
    columns = {"region": region, "died": (rng.random(len(region)) < 1 / (1 + np.exp(-logit))).astype(int)}
    if times:
        death, end = rng.exponential(2.0 / np.exp(logit)), rng.uniform(0.5, 3.0, len(region))
        columns |= {"died": (death <= end).astype(int), "years": np.minimum(death, end)}
    return pa.table(columns | {f"x{i}": x[:, i] for i in range(FEATURES)})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--home", type=int, default=5_000)
    parser.add_argument("--bootstrap", type=int, default=1_000)
    parser.add_argument("--times", action="store_true")
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        here = Path(folder)
        pq.write_table(patients(asked.rows, asked.home, asked.times), here / "patients.parquet")
        run = f"run data=table data.path=patients.parquet data.client=region data.external={SITE} --quiet"
        if asked.times:
            timed = "data.time=years data.event=died task=cox algorithm=newton evaluate.horizon=1"
            fedsim(here, f"{run} {timed} split.test=0.3 rounds=8 numerics=float64")
        else:
            fedsim(here, f"{run} data.label=died split.test=0.3 rounds=20 optimizer.step_size=0.5")
        seconds = carried_out(here, asked.bootstrap, "adapt=true" if asked.times else "")
        plain = carried_out(here, asked.bootstrap, "adapt=false") if asked.times else None
    most = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20
    found = {"processor_seconds": round(seconds, 1), "most_gib": round(most, 2)}
    if plain is not None:
        found["without_adaptations"] = round(plain, 1)
    if asked.json:
        print(json.dumps(vars(asked) | found))
        return
    told = f"{asked.rows:,} rows, {asked.bootstrap:,} replicates"
    also = "" if plain is None else f" ({plain:.1f} s without adaptations)"
    print(f"{told}: {seconds:.1f} s of processor time{also}, {most:.2f} GiB")


def carried_out(here: Path, bootstrap: int, options: str) -> float:
    """Seconds of processor time of a plan with these options."""
    name = f"plan_{options.replace('=', '_')}.yaml"
    fedsim(here, f"validate --site {SITE} --write-plan {name} bootstrap={bootstrap} {options}")
    return fedsim(here, f"validate --plan {name} --quiet")


def fedsim(here: Path, words: str) -> float:
    """Seconds of processor time of one command."""
    before = os.times()
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "fedsim.cli", *words.split()]
    subprocess.run(command, cwd=here, env=environment, check=True, stdout=subprocess.DEVNULL)
    after = os.times()
    return after.children_user + after.children_system - before.children_user - before.children_system


if __name__ == "__main__":
    main()
