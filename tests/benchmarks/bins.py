"""What bins cost: R2 of boosted trees by task.bins, beside scikit-learn's own bins, and on the same ones.

    python tests/benchmarks/bins.py [--rows N] [--trees N] [--seeds N]

Rows are those of tests/run/test_boosting.py: a number that hangs on the sign of a product of two features, of
which a greedy first split sees nothing. Seeds split the rows. Everything but the bins is alike in all three.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))  # also as a script, from any folder

from fedsim.environment import prepare  # noqa: E402

prepare(threads=2, cache=ROOT / ".cache" / "xla")

import numpy as np  # noqa: E402
from sklearn.ensemble import HistGradientBoostingRegressor  # noqa: E402
from sklearn.metrics import r2_score  # noqa: E402

from tests.run import test_boosting  # noqa: E402
from tests.simulate import small  # noqa: E402

DEPTH = 3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    for name, default in (("rows", 3000), ("trees", 50), ("seeds", 5)):
        parser.add_argument(f"--{name}", type=int, default=default)
    asked = parser.parse_args()
    fed = test_boosting.rows(asked.rows, "regression")
    print(f"R2, mean over {asked.seeds} splits (standard deviation), {asked.trees} trees of depth {DEPTH}")
    for bins in (16, 32, 64, 128):
        task = {"name": "trees", "trees": asked.trees, "depth": DEPTH, "bins": bins, "l2": 1.0}
        changes: dict[str, Any] = {"task": task, "data": test_boosting.KEPT, "split": {"test": 0.3}}
        experiments = [
            small.experiment(algorithm="boosting", rounds=1 + asked.trees * DEPTH, seed=seed, **changes)
            for seed in range(asked.seeds)
        ]
        trained = small.train([small.lane(e, fed) for e in experiments], fed)
        found = np.array([one(trained, fed, i, bins, asked.trees) for i in range(asked.seeds)])
        shown = [f"{m:.3f} ({s:.3f})" for m, s in zip(found.mean(0), found.std(0, ddof=1), strict=True)]
        print(f"{bins} bins: fedsim {shown[0]}, scikit-learn {shown[1]}, on fedsim's bins {shown[2]}")


def one(trained: small.Trained, fed: Any, lane: int, bins: int, trees: int) -> list[float]:
    """R2 of a lane's forest, of scikit-learn's, and of scikit-learn's on the lane's bins."""
    train, (x_test, y_test, _), score = test_boosting.parts(trained, fed, lane)
    coded = test_boosting.binned(trained, lane)
    options: dict[str, Any] = {
        "max_iter": trees, "max_depth": DEPTH, "max_leaf_nodes": None, "l2_regularization": 1.0,
        "early_stopping": False, "min_samples_leaf": 1, "random_state": 0,
    }  # fmt: skip
    x, y, weight = train
    own = HistGradientBoostingRegressor(max_bins=bins, **options).fit(x, y, weight).predict(x_test)
    ours = HistGradientBoostingRegressor(max_bins=255, **options).fit(coded(x), y, weight)
    return [r2_score(y_test, s) for s in (score, own, ours.predict(coded(x_test)))]


if __name__ == "__main__":
    main()
