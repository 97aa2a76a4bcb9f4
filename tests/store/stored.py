"""What a run of a sweep leaves behind, for tests of what keeps it."""

import dataclasses
import math
import os

import ml_dtypes
import numpy as np

from fedsim import config
from fedsim.store import RunResult, run_id

EXPERIMENT = config.experiment(
    {
        "data": "heart_disease",
        "split": {"name": "natural", "folds": 5},
        "task": "logistic",
        "algorithm": {"name": "fedprox", "mu": 1e-5},
        "optimizer": {"chain": [{"name": "scale", "step_size": 0.5}]},
        "channel": "direct",
        "privacy": "none",
        "world": {"name": "uniform", "cohort": 2},
        "numerics": {},
        "executor": {"name": "ray", "workers": 2},
        "rounds": 3,
        "seed": 7,
        "tune": {"grid": {"optimizer.step_size": [0.1, 1e-3]}, "rounds": [1, 3]},
        "results": "Örebro/no",
    }
)
ID = run_id(EXPERIMENT, "rows")
MODEL = {"w": np.ones((2, 2), np.float32), "h": np.ones(3, ml_dtypes.bfloat16)}


def result(status="done", value=1.0, **changes) -> RunResult:
    return RunResult(
        **{
            "experiment": EXPERIMENT,
            "status": status,
            "cell": {"method": "fedprox", "mu": 1e-5},
            "rounds": {"round": np.arange(3), "loss": np.array([value, math.nan, math.inf], np.float32)},
            "clients": {"name": ["Halland", "Örebro"], "auc": [0.75, math.nan], "undefined": [0, 1]},
            "predictions": {"row": np.arange(4), "score": np.arange(8, dtype=np.float32).reshape(4, 2)},
            "tuning": {"step_size": [0.1, 0.001], "chosen": [True, False]},
            "model": MODEL | {"w": np.full((2, 2), value, np.float32)},
            "manifest": {"seconds": 1.5, "device_kind": "cpu", "privacy": {"epsilon": math.inf}},
        }
        | changes
    )


def other(**changes) -> config.Experiment:
    return dataclasses.replace(EXPERIMENT, **changes)


def visible(root) -> list[str]:
    return sorted(os.listdir(root)) if root.exists() else []


# --- one run ---------------------------------------------------------------------------------
