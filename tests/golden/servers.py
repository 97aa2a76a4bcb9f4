# mypy: disable-error-code="attr-defined, index, misc, return-value"
"""Algorithms whose clients or servers do more than average."""

from itertools import product
from typing import Any

import numpy as np

from tests.golden.identity import ONE_STEP, TWINS, Identity
from tests.golden.reference import Loop, Method, Result, Vector
from tests.simulate import small


def fednova(loop: Loop, w: Vector) -> Result:
    """Wang et al. 2020: d_i = G_i a_i / |a_i|_1, w <- w - tau_eff sum_i p_i eta d_i."""
    rho = sum(stage["decay"] for stage in loop.e.optimizer.chain)
    for t in range(loop.e.rounds):
        cohort = loop.cohort(t)
        taus = [len(loop.batches(loop.clients[k], t)) for k in cohort]
        a = [np.array([(tau - rho * (1 - rho**tau) / (1 - rho)) / (1 - rho)]) for tau in taus]
        d = [(loop.local(k, w, t) - w) / ai for k, ai in zip(cohort, a, strict=True)]
        w = w + loop.mean(cohort, a, np.zeros(1)) * loop.mean(cohort, d, w)
    return Result(w, {})


def feddyn(loop: Loop, w: Vector) -> Result:
    """Acar et al. 2021, Alg. 1, with g_k for the gradient of L_k at the client's last model."""
    alpha, m = loop.e.algorithm.alpha, len(loop.clients)
    h, g = np.zeros_like(w), {k: np.zeros_like(w) for k in range(m)}
    for t in range(loop.e.rounds):
        cohort, ends = loop.cohort(t), []
        for k in cohort:
            end = loop.local(k, w, t, lambda grad, y, k=k, w=w: grad - g[k] + alpha * (y - w))
            g[k] = g[k] - alpha * (end - w)
            ends.append(end)
        if cohort:
            h = h - alpha / m * sum(end - w for end in ends)
            w = np.mean(ends, axis=0) - h / alpha
    return Result(w, {})


def fedexp(loop: Loop, w: Vector) -> Result:
    """Jhunjhunwala et al. 2023, Alg. 1; the output is the mean of the last two iterates."""
    cfg, last = loop.e.algorithm, w
    for t in range(loop.e.rounds):
        cohort = loop.cohort(t)
        deltas = [loop.local(k, w, t) - w for k in cohort]
        delta = loop.mean(cohort, deltas, w)
        square = loop.mean(cohort, [np.array([d @ d]) for d in deltas], np.zeros(1))
        eta = max(1.0, float(square[0]) / (2 * (delta @ delta + cfg.epsilon)))
        last, w = w, w + eta * delta
    return Result((last + w) / 2 if cfg.last_two else w, {})


def qfedavg(loop: Loop, w: Vector) -> Result:
    """Li et al. 2020, Alg. 2, with L = 1 / eta."""
    q = loop.e.algorithm.q
    for t in range(loop.e.rounds):
        cohort, lipschitz, deltas, h = loop.cohort(t), 1 / loop.step_size(t), [], []
        for k in cohort:
            loss = loop.loss(w, loop.clients[k].x, loop.clients[k].y)
            u = lipschitz * (w - loop.local(k, w, t))
            deltas.append(loss**q * u)
            h.append(np.array([q * loss ** (q - 1) * (u @ u) + lipschitz * loss**q]))
        if cohort:
            w = w - loop.mean(cohort, deltas, w) / loop.mean(cohort, h, np.zeros(1))
    return Result(w, {})


def fedsam(loop: Loop, w: Vector) -> Result:
    """Qu et al. 2022, Alg. 1: the gradient of the same batch at y + rho g / |g|."""
    rho = loop.e.algorithm.rho
    for t in range(loop.e.rounds):
        cohort, ends = loop.cohort(t), []
        for k in cohort:
            client, y = loop.clients[k], w
            for rows in loop.batches(client, t):
                batch = client.x[rows], client.y[rows]
                g = loop.gradient(y, *batch)
                y = y - loop.step_size(t) * loop.gradient(y + rho * g / np.linalg.norm(g), *batch)
            ends.append(y)
        w = w + loop.mean(cohort, [end - w for end in ends], w)
    return Result(w, {})


def mimelite(loop: Loop, x: Vector) -> Result:
    """Karimireddy et al. 2020, Alg. 1, MimeLite, with U(g, m) = V(g, m) = (1 - beta) g + beta m."""
    beta, m = loop.e.algorithm.momentum, np.zeros_like(x)
    for t in range(loop.e.rounds):
        cohort = loop.cohort(t)
        ends = [loop.local(k, x, t, lambda g, y, m=m: (1 - beta) * g + beta * m) for k in cohort]
        full = [loop.gradient(x, loop.clients[k].x, loop.clients[k].y) for k in cohort]
        m = (1 - beta) * loop.mean(cohort, full, x) + beta * m
        x = x + loop.mean(cohort, [y - x for y in ends], x)
    return Result(x, {})


def mime(loop: Loop, x: Vector) -> Result:
    """Karimireddy et al. 2020, Alg. 1, Mime: c of the same round and cohort, at the server's model."""
    beta, m = loop.e.algorithm.momentum, np.zeros_like(x)
    for t in range(loop.e.rounds):
        cohort, ends = loop.cohort(t), []
        c = loop.mean(cohort, [loop.gradient(x, loop.clients[k].x, loop.clients[k].y) for k in cohort], x)
        for k in cohort:
            client, y = loop.clients[k], x
            for rows in loop.batches(client, t):
                batch = client.x[rows], client.y[rows]
                g = loop.gradient(y, *batch) - loop.gradient(x, *batch) + c
                y = y - loop.step_size(t) * ((1 - beta) * g + beta * m)
            ends.append(y)
        m = (1 - beta) * c + beta * m
        x = x + loop.mean(cohort, [y - x for y in ends], x)
    return Result(x, {})


def agnostic(loop: Loop, w: Vector) -> Result:
    """Mohri et al. 2019, section 4, with exponentiated gradients; lambda over all clients, unnormalised."""
    gamma, weights = loop.e.algorithm.weight_step_size, [loop.weight(k) for k in range(len(loop.clients))]
    for t in range(loop.e.rounds):
        cohort, start = loop.cohort(t), w
        total = sum(weights[k] for k in cohort)
        for k in cohort:
            w = w + weights[k] / total * (loop.local(k, start, t) - start)
        for k in cohort:
            weights[k] *= np.exp(gamma * loop.loss(start, loop.clients[k].x, loop.clients[k].y))
    return Result(w, {})


def least_norm(u: np.ndarray, low: np.ndarray, high: np.ndarray) -> Vector:
    """argmin |sum_i lambda_i u_i| by trying which lambda_i lie at a bound: each is low, high or free."""
    best, value, gram = low, np.inf, u @ u.T
    for where in product((0, 1, 2), repeat=len(u)):
        free = np.array(where) == 2
        found = np.where(np.array(where) == 0, low, high)
        n = int(free.sum())
        if n:  # the conditions of first order, for the sum's multiplier too
            equations = np.block([[gram[np.ix_(free, free)], np.ones((n, 1))], [np.ones((1, n)), 0]])
            fixed = found[~free]
            right = np.append(-gram[np.ix_(free, ~free)] @ fixed, 1 - fixed.sum())
            found[free] = np.linalg.lstsq(equations, right, rcond=None)[0][:n]
        feasible = abs(found.sum() - 1) < 1e-9 and np.all((found > low - 1e-9) & (found < high + 1e-9))
        if feasible and found @ gram @ found < value:
            best, value = found, found @ gram @ found
    return best


def fedmgda(loop: Loop, w: Vector) -> Result:
    """Hu et al. 2022, FedMGDA+."""
    cfg = loop.e.algorithm
    for t in range(loop.e.rounds):
        cohort = loop.cohort(t)
        if cohort:
            updates = [loop.local(k, w, t) - w for k in cohort]
            u = np.array([d / np.linalg.norm(d) for d in updates])
            fair = np.array([loop.weight(k) for k in cohort]) / sum(loop.weight(k) for k in cohort)
            low, high = np.maximum(fair - cfg.epsilon, 0), np.minimum(fair + cfg.epsilon, 1)
            w = w + cfg.server_step_size * least_norm(u, low, high) @ u
    return Result(w, {})


METHODS: dict[str, Method] = {
    "fednova": fednova,
    "feddyn": feddyn,
    "fedexp": fedexp,
    "qfedavg": qfedavg,
    "fedsam": fedsam,
    "mime": mime,
    "mimelite": mimelite,
    "agnostic": agnostic,
    "fedmgda": fedmgda,
}
OTHER: dict[str, float] = {
    "algorithm.alpha": 0.7,
    "algorithm.epsilon": 0.5,
    "algorithm.q": 0.3,
    "algorithm.rho": 0.4,
    "algorithm.weight_step_size": 0.8,
}
UNUSED: dict[tuple[str, str], str] = {
    ("fedexp", "algorithm.epsilon"): "three clients agree too well for a step beyond 1; see the variants",
}
MOMENTUM = {"chain": [{"name": "trace", "decay": 0.5}]}
RARE = {"world": {"name": "poisson", "rate": 0.25}, "rounds": 8}
DISAGREEING: dict[str, Any] = {"world": "all", "optimizer": {"steps": 12}}  # steps of 1.4 and 3.9 for FedExP
VARIANTS: dict[str, dict[str, Any]] = {
    "fednova, momentum": {"algorithm": "fednova", "optimizer": MOMENTUM},
    "fednova, uniform": {"algorithm": {"name": "fednova", "weighting": "uniform"}},
    "fednova, poisson": {"algorithm": "fednova", **RARE},
    "feddyn, everyone": {"algorithm": "feddyn", "world": "all"},
    "feddyn, poisson": {"algorithm": "feddyn", **RARE},
    "fedexp, beyond 1": {"algorithm": "fedexp", **DISAGREEING},
    "fedexp, the last": {"algorithm": {"name": "fedexp", "last_two": False}, **DISAGREEING},
    "fedexp, uniform": {"algorithm": {"name": "fedexp", "weighting": "uniform"}, **DISAGREEING},
    "qfedavg, uniform": {"algorithm": {"name": "qfedavg", "weighting": "uniform"}},
    "qfedavg, poisson": {"algorithm": "qfedavg", **RARE},
    "mime, uniform": {"algorithm": {"name": "mime", "weighting": "uniform"}},
    "mime, poisson": {"algorithm": {"name": "mime", "momentum": 0.5}, **RARE},
    "mimelite, uniform": {"algorithm": {"name": "mimelite", "weighting": "uniform"}},
    "agnostic, uniform": {"algorithm": {"name": "agnostic", "weighting": "uniform"}},
    "agnostic, poisson": {"algorithm": {"name": "agnostic", "weight_step_size": 9.0}, **RARE},
    "fedmgda, uniform": {"algorithm": {"name": "fedmgda", "weighting": "uniform"}},
    "fedmgda, any weight": {"algorithm": {"name": "fedmgda", "epsilon": 1.0}, "world": "all"},
    "fedmgda, poisson": {"algorithm": {"name": "fedmgda", "epsilon": 0.2}, **RARE},
    "fedsam, all rows": {"algorithm": "fedsam", "optimizer": {"batch_size": 0, "epochs": 3}},
}

IDENTITIES: dict[str, Identity] = {
    "fednova: equal steps are FedAvg": Identity(
        {"name": "fednova"}, {"name": "fedavg"}, {"sizes": small.SIZES}, {}, (8,) * 6
    ),
    "feddyn: its first step is FedAvg's twice": Identity(
        {"name": "feddyn"},
        {"name": "fedavg", "weighting": "uniform", "server_step_size": 2.0},
        {"rounds": 2},
        {**ONE_STEP, "rounds": 1},
    ),
    "fedexp: large epsilon is FedAvg": Identity(
        {"name": "fedexp", "epsilon": 1e6, "last_two": False},
        {"name": "fedavg"},
        {"algorithm": {"name": "fedexp", "epsilon": 1e-3, "last_two": False}},
        DISAGREEING,
    ),
    "qfedavg: q 0 is FedAvg": Identity(
        {"name": "qfedavg", "q": 0.0}, {"name": "fedavg"}, {"algorithm": {"name": "qfedavg", "q": 2.0}}
    ),
    "fedsam: rho 0 is FedAvg": Identity(
        {"name": "fedsam", "rho": 0.0}, {"name": "fedavg"}, {"algorithm": {"name": "fedsam", "rho": 0.5}}
    ),
    "mime: twins have nothing to correct": Identity(
        {"name": "mime", "momentum": 0.5},
        {"name": "mimelite", "momentum": 0.5},
        {"sizes": small.SIZES},
        {"optimizer": {"batch_size": 0, "epochs": 3}, "world": "all"},
        TWINS,
    ),
    "mimelite: no momentum is FedAvg": Identity(
        {"name": "mimelite", "momentum": 0.0},
        {"name": "fedavg"},
        {"algorithm": {"name": "mimelite", "momentum": 0.3}},
    ),
    "agnostic: fixed weights are FedAvg": Identity(
        {"name": "agnostic", "weight_step_size": 0.0},
        {"name": "fedavg"},
        {"algorithm": {"name": "agnostic", "weight_step_size": 1.0}},
    ),
    "fedmgda: of twins it is a step of fixed length": Identity(
        {"name": "fedmgda", "epsilon": 1.0, "server_step_size": 0.4},
        {
            "name": "fedavg",
            "server_step_size": 0.4,
            "server_chain": [{"name": "normalize_by_update_norm", "eps": 0.0}],
        },
        {"sizes": small.SIZES},
        {"optimizer": {"batch_size": 0, "epochs": 3}, "world": "all"},
        TWINS,
    ),
}
