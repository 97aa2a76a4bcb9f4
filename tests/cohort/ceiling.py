"""How good a model of the simulator's patients can be: the table in docs/cohort.md.

    python tests/cohort/ceiling.py [PATIENTS]

Discrimination of the true linear predictor of what is recorded, in Sweden's regions as they are.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.metrics import roc_auc_score

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # also as a script, from any folder

from fedsim.cohort import Cohort
from fedsim.cohort.table import columns, oracle
from fedsim.config import HeartFailure
from fedsim.survival import c_index

OUTCOMES = ("survival", "death_1y", "readmission_30", "readmission_100")


def everyone(outcome: Any, patients: int = 20_000, **options: Any) -> tuple[np.ndarray, ...]:
    """(x, y, true predictor, days followed) of those whose outcome is known."""
    cfg = HeartFailure(regions="sweden", external=(), patients=patients, outcome=outcome, seed=7, **options)
    cohort, parts = Cohort(cfg), []
    for piece in cohort.chunks():
        who, then = cohort.made(*piece)
        x, y, known = columns(cfg, who, then, np)
        best = oracle(outcome, who, cohort.setting(piece[0]), np)
        parts.append((x[known], y[known], best[known], then["end"][known]))
    return tuple(np.concatenate(column) for column in zip(*parts, strict=True))


def ceiling(outcome: str, patients: int, selection: str) -> float:
    """Harrell's concordance of survival, else the area under the ROC curve."""
    _, y, best, days = everyone(outcome, patients, selection=selection)
    if outcome != "survival":
        return float(roc_auc_score(y, best))
    found = c_index(y > 0, days.astype(np.float64), best.astype(np.float64), np.ones(len(y)))
    assert found is not None
    return found


def main(patients: int = 60_000) -> None:
    for outcome in OUTCOMES:
        both = (ceiling(outcome, patients, selection) for selection in ("population", "registry"))
        print(f"{outcome:16}", *(f"{value:.3f}" for value in both))


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
