# mypy: disable-error-code="attr-defined, index, misc, return-value"
"""Algorithms that fit a linear model as if its rows were pooled."""

from typing import Any

import numpy as np

from tests.golden.identity import Identity
from tests.golden.reference import Loop, Method, Result, Vector


def newton(loop: Loop, w: Vector) -> Result:
    """Boyd and Vandenberghe 2004, Alg. 9.5, with steps that are halved until they lower the loss; with l1:
    Lee et al. 2014, Alg. 1, whose quadratic model is minimised weight by weight."""
    x = np.concatenate([client.x for client in loop.clients])
    y = np.concatenate([client.y for client in loop.clients])
    free, n = np.append(np.ones(len(w) - 1), 0), len(y)
    l1, l2 = n * loop.e.algorithm.l1 * free, n * loop.e.task.l2 * free
    design = np.column_stack([x, np.ones(n)])

    def objective(at: Vector) -> float:
        return n * loop.loss(at, x, y) + l2 @ at**2 / 2 + l1 @ np.abs(at)

    kept, step = w, np.zeros_like(w)
    for t in range(loop.e.rounds):
        if t and objective(kept + step) > objective(kept):
            step = step / 2
            continue
        kept = kept + step
        p = 1 / (1 + np.exp(-design @ kept))
        gradient = design.T @ (p - y) + l2 * kept
        hessian = (design.T * (p * (1 - p))) @ design + np.diag(l2)
        to, slope = kept.copy(), gradient.copy()
        for _ in range(500):
            for j in range(len(w)):
                target = hessian[j, j] * to[j] - slope[j]
                new = np.sign(target) * max(abs(target) - l1[j], 0) / hessian[j, j]
                slope, to[j] = slope + hessian[:, j] * (new - to[j]), new
        step = to - kept
        if np.sqrt(step @ hessian @ step) <= max(loop.e.algorithm.tolerance, 1e2 * np.finfo(np.float32).eps):
            return Result(kept, {})
    return Result(kept + step, {})


METHODS: dict[str, Method] = {"newton": newton}
OTHER: dict[str, float] = {"algorithm.l1": 0.03, "algorithm.tolerance": 0.99}
UNUSED: dict[tuple[str, str], str] = {
    ("newton", "optimizer.step_size"): "clients take no step",
    ("newton", "optimizer.decay"): "clients take no step",
    ("newton", "algorithm.tolerance"): "the first steps are longer, and the third moves next to nothing",
}
VARIANTS: dict[str, dict[str, Any]] = {}
IDENTITIES: dict[str, Identity] = {
    "newton: it ends where pooled descent ends": Identity(
        {"name": "newton"},
        {"name": "pooled"},
        {"algorithm": {"name": "newton", "l1": 0.05}},
        {
            "optimizer": {"batch_size": 0, "epochs": 300, "decay": 1.0},
            "data": {"preprocess": {"scope": "pooled"}},
            "task": {"l2": 0.3},
            "world": "all",
            "rounds": 6,
        },
    ),
}
