"""A decision about two regions whose numbers can be worked out by hand."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import yaml

ROWS = 20
SITES = ("Här", "Där")
# Of the two patients that are flagged of 20, how many have the event.
RIGHT = {"local": {"Här": 1, "Där": 2}, "fedavg": {"Här": 2, "Där": 2}}
AGAIN = ["fedsim sweep demo", "fedsim report demo --decision"]


def told(low: float, base: float, high: float, unit: str, **more: Any) -> dict[str, Any]:
    return {"low": low, "base": base, "high": high, "unit": unit, "source": "an <example>", **more}


def values(**changes: Any) -> dict[str, Any]:
    """What a decision.yaml holds."""
    patients = told(800, 1000, 1200, "patients/year")
    made: dict[str, Any] = {
        "question": {"en": "Shall we?", "sv": "Ska vi?"},
        "data": {"en": "made-up rows", "sv": "påhittade rader"},
        "found": {"en": "ill", "sv": "sjuka"},
        "capacity": 0.1,
        "years": 3,
        "baseline": arm("alone", "local"),
        "choice": arm("together", "fedavg"),
        "regions": [{"site": site, "patients": patients} for site in SITES],
        "assumptions": {
            "reach": told(0.25, 0.5, 0.75, "share"),
            "effect": told(0.1, 0.2, 0.3, "share", assumed=True),
            "bed_days": told(3, 4, 8, "days/patient"),
            "bed_day_cost": told(5000, 10000, 15000, "SEK/day"),
            "setup_hours": told(100, 300, 600, "hours/region"),
            "running_hours": told(0, 50, 100, "hours/region/year"),
            "hour_cost": told(500, 600, 700, "SEK/hour", shape="uniform"),
            "retrainings": told(1, 2, 4, "times/year"),
            "compute_cost": told(50, 100, 200, "SEK/hour"),
            "traffic_cost": told(0, 10, 20, "SEK/GB"),
        },
    }
    return made | changes


def arm(name: str, algorithm: str) -> dict[str, Any]:
    return {"name": name, "label": {"en": name, "sv": name}, "where": {"algorithm": algorithm}}


def write(path: Path, **changes: Any) -> Path:
    path.write_text(yaml.safe_dump(values(**changes), allow_unicode=True), encoding="utf-8")
    return path


def predictions(right: dict[str, int], shift: int = 0) -> dict[str, Any]:
    """ROWS rows of each site, the first three positive; of the two with the highest scores `right` are."""
    first = {2: [0, 1, 2], 1: [0, 3, 1], 0: [3, 4, 0]}
    score = {site: np.linspace(0.5, 0, ROWS, dtype=np.float32) for site in right}
    for site, n in right.items():
        score[site][first[n]] = (1.0, 0.9, 0.8)
    count = ROWS * len(right)
    return {
        "round": np.full(count, 3, np.int32),
        "replica": np.zeros(count, np.int32),
        "set": ["test"] * count,
        "client": [site for site in right for _ in range(ROWS)],
        "row": np.arange(count) + shift,
        "label": np.tile(np.array([1] * 3 + [0] * (ROWS - 3), np.int32), len(right)),
        "score": np.concatenate(list(score.values())),
    }


def runs(put: Callable[..., str], seeds: int = 2, **more: Any) -> dict[str, dict[str, Any]]:
    """Runs of both arms: an hour of computing each, and 10^9 bytes."""
    plan = {}
    for algorithm, right in RIGHT.items():
        for seed in range(seeds):
            cell = {"algorithm": algorithm, "seed": seed}
            about = {"seconds": 3600.0, "spent": {"bytes_up": 4e8, "bytes_down": 6e8}, **more}
            plan[put(cell, predictions=predictions(right, 100 * seed), **about)] = cell
    return plan
