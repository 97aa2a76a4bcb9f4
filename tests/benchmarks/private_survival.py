"""How far Kaplan-Meier curves with noise lie from the exact one: the table of docs/statistics.md.

    python tests/benchmarks/private_survival.py [FOLDER] [SEEDS]

FOLDER holds FLamby's brca.csv and train_test_split.csv; without it, and beside it, 10,000 generated patients
at 6 sites. Error: |S - S_exact|, averaged over the times of a grid up to the horizon at which a curve is
known, then over seeds of the noise. Known: share of the grid. Held: how often the interval, which is about
the population, holds the exact curve.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # also as a script, from any folder

from fedsim.config import TcgaBrca
from fedsim.data import load
from fedsim.data.federation import Federation
from fedsim.estimate import asked, estimate
from tests.estimate.made import exponential

EPSILONS = (0.1, 0.3, 1.0, 3.0, 10.0)


def curve(federation: Federation, at: list[float], **options: object) -> np.ndarray:
    """f64[times, 3]: survival, low and high, NaN where not known."""
    cfg = asked("kaplan_meier", {"at": at, "horizon": at[-1], **options})
    (group,) = estimate("kaplan_meier", cfg, federation)["groups"]
    return np.array([[p["survival"], p["low"], p["high"]] for p in group["at"]], np.float64)


def main() -> None:
    words = sys.argv[1:]
    seeds = int(words.pop()) if words and words[-1].isdecimal() else 100
    made: dict[str, tuple[Federation, float]] = {"generated, 10,000": (exponential(10_000, sites=6), 2.0)}
    if words:
        made["tcga_brca, 1,088"] = load(TcgaBrca(path=words[0])), 3650.0
    print("| data | mechanism | epsilon | error | known | held |\n|---|---|---|---|---|---|")
    for name, (federation, horizon) in made.items():
        at = [horizon * (i + 1) / 20 for i in range(20)]
        exact = curve(federation, at)[:, 0]
        for mechanism in ("laplace", "discrete_gaussian"):
            for epsilon in EPSILONS:
                every = np.stack(
                    [
                        curve(federation, at, epsilon=epsilon, mechanism=mechanism, seed=seed)
                        for seed in range(seeds)
                    ]
                )
                gap = np.abs(every[..., 0] - exact)
                known = ~np.isnan(gap)
                error = np.mean([g[k].mean() for g, k in zip(gap, known, strict=True) if k.any()])
                inside = (every[..., 1] <= exact) & (exact <= every[..., 2])
                said = f"{error:.4f} | {known.mean():.2f} | {inside[known].mean():.2f}"
                print(f"| {name} | {mechanism} | {epsilon:g} | {said} |", flush=True)


if __name__ == "__main__":
    main()
