# mypy: disable-error-code="attr-defined, index, misc, return-value"
"""Boosting, whose slow loop grows one node after the other from the rows that are in it."""

from typing import Any

import numpy as np

from tests.golden.identity import Identity
from tests.golden.reference import Client, Loop, Method, Result, Vector

TREES = {"name": "trees", "trees": 2, "depth": 2, "bins": 8, "l2": 0.5}
ALONE: dict[str, Any] = {"task": TREES, "world": "all", "rounds": 5}


def grid_edges(column: Vector, cells: int, bins: int) -> Vector:
    """Upper ends of bins: quantiles of values and, in equal parts, of the grid's cells that have any."""
    limit = np.arcsinh(10)
    ends = [np.sinh(-limit + 2 * limit * k / (cells - 1)) for k in range(cells)]
    cell = np.array([min(k for k in range(cells) if v <= ends[k] or k == cells - 1) for v in column])
    met = np.unique(cell)
    found = []
    for j in range(1, bins):
        shares = [(np.mean(cell <= k) + np.mean(met <= k)) / 2 for k in range(cells)]
        found.append(next(ends[k] for k in range(cells) if shares[k] >= j / bins - 1e-6))
    return np.array([*found, 10.0])


def boosting(loop: Loop, w: Vector) -> Result:
    """Of all clients' rows together."""
    return Result(forest(loop, loop.clients), {})


def forest(loop: Loop, clients: list[Client]) -> Vector:
    """Chen and Guestrin 2016, Alg. 1 with the edges of bins as candidates; g and h after section 2.2."""
    task = loop.e.task
    x = np.clip(np.concatenate([client.x for client in clients]), -10, 10)
    y = np.concatenate([client.y for client in clients])
    inner, leaves = 2**task.depth - 1, 2**task.depth
    edges = [grid_edges(column, leaves * task.bins, task.bins) for column in x.T]
    base = -np.sum(0.5 - y) / (0.25 * len(y))
    feature, threshold, missing = (np.zeros((task.trees, inner)) for _ in range(3))
    leaf, out = np.zeros((task.trees, leaves)), np.full(len(y), base)

    def score(g: Vector, h: Vector) -> float:
        return np.sum(g) ** 2 / (np.sum(h) + task.l2)

    def value(g: Vector, h: Vector) -> float:
        return -task.learning_rate * np.sum(g) / (np.sum(h) + task.l2)

    for t in range(task.trees):
        p = 1 / (1 + np.exp(-out))
        g, h = p - y, p * (1 - p)
        rows = {0: np.arange(len(y))}
        for level in range(task.depth):
            if 1 + t * task.depth + level >= loop.e.rounds:
                break
            for node in range(2**level - 1, 2 ** (level + 1) - 1):
                mine, best, chosen = rows[node], 0.0, None
                for f in range(x.shape[1]):
                    for edge in edges[f]:
                        a, b = (mine[side] for side in (x[mine, f] <= edge, x[mine, f] > edge))
                        if min(np.sum(h[a]), np.sum(h[b])) < task.min_child_weight:
                            continue
                        gain = score(g[a], h[a]) + score(g[b], h[b]) - score(g[mine], h[mine])
                        if gain / 2 - task.gamma > best + 1e-9:
                            best, chosen = gain / 2 - task.gamma, (f, edge, a, b)
                f, edge, a, b = chosen or (0, 10.0, mine, mine[:0])
                feature[t, node], threshold[t, node], missing[t, node] = f, edge, 1
                rows[2 * node + 1], rows[2 * node + 2] = a, b
                width = leaves // 2 ** (level + 1)
                begin = 2 * (node - 2**level + 1) * width
                for side in range(2):
                    of = (a, b)[side] if chosen else mine
                    leaf[t, begin + side * width : begin + (side + 1) * width] = value(g[of], h[of])
        for node in range(inner, inner + leaves):
            if node in rows:
                out[rows[node]] += leaf[t, node - inner]
    numbers: list[Any] = [[base], feature, leaf, missing, threshold]
    return np.concatenate([np.ravel(x) for x in numbers])


METHODS: dict[str, Method] = {"boosting": boosting}
OTHER: dict[str, float] = {
    "task.learning_rate": 0.4,
    "task.gamma": 0.6,
    "task.min_child_weight": 2.5,
}
UNUSED: dict[tuple[str, str], str] = {
    ("boosting", "optimizer.step_size"): "clients take no step",
    ("boosting", "optimizer.decay"): "clients take no step",
}
VARIANTS: dict[str, dict[str, Any]] = {
    "boosting, several trees": {"algorithm": "boosting", "rounds": 5},
    "boosting, each client alone": ALONE | {"algorithm": "local"},
    "boosting, rows in one place": ALONE | {"algorithm": "pooled"},
}
ONE_SCALE: dict[str, Any] = {"data": {"preprocess": {"scope": "pooled"}}}
IDENTITIES: dict[str, Identity] = {
    "boosting: the forest is that of rows in one place": Identity(
        {"name": "boosting"},
        {"name": "pooled"},
        {"data": {"preprocess": {"scope": "client"}}},
        ALONE | ONE_SCALE,
    ),
    "local: a federation of one client grows what it grows alone": Identity(
        {"name": "local"}, {"name": "boosting"}, {"sizes": (20, 25)}, ALONE, sizes=(45,)
    ),
}
