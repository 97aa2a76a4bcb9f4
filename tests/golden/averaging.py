# mypy: disable-error-code="attr-defined, index, misc, return-value"
"""Averaging, and what servers make of the average; and every client, or all rows, alone."""

from collections.abc import Callable
from typing import Any

import numpy as np

from fedsim.config import Trees
from tests.golden.boosted import forest
from tests.golden.identity import ONE_STEP, TWINS, Identity
from tests.golden.reference import Loop, Method, Result, Vector
from tests.simulate import small


def fedavg(loop: Loop, w: Vector) -> Result:
    """McMahan et al. 2017, Alg. 1; with staleness, clients start from the model of some rounds ago."""
    cfg, history, velocity = loop.e.algorithm, [w], np.zeros_like(w)
    momentum = sum(stage["decay"] for stage in cfg.server_chain)
    for t in range(loop.e.rounds):
        cohort = loop.cohort(t)
        starts = [history[t - age] for age in loop.ages(t, cohort)]
        updates = [loop.local(k, start, t) - start for k, start in zip(cohort, starts, strict=True)]
        # Reddi et al. 2021, Alg. 1, lines 10 and 11: -Delta is the server's gradient.
        velocity = momentum * velocity - loop.mean(cohort, updates, w)
        w = w - cfg.server_step_size * velocity
        history.append(w)
    return Result(w, {})


def fedavgm(loop: Loop, w: Vector) -> Result:
    """Hsu et al. 2019, section 3: v <- beta v + Delta w, w <- w - v, with Delta w pointing uphill."""
    cfg, v = loop.e.algorithm, np.zeros_like(w)
    for t in range(loop.e.rounds):
        cohort = loop.cohort(t)
        v = cfg.momentum * v + loop.mean(cohort, [w - loop.local(k, w, t) for k in cohort], w)
        w = w - cfg.server_step_size * v
    return Result(w, {})


def fedsgd(loop: Loop, w: Vector) -> Result:
    """McMahan et al. 2017, section 2: w <- w - eta sum_k n_k / n g_k."""
    for t in range(loop.e.rounds):
        cohort = loop.cohort(t)
        gradients = [loop.gradient(w, loop.clients[k].x, loop.clients[k].y) for k in cohort]
        w = w - loop.e.algorithm.server_step_size * loop.mean(cohort, gradients, w)
    return Result(w, {})


def fedprox(loop: Loop, w: Vector) -> Result:
    """Li et al. 2020, Alg. 2: each client minimises h_k(w; w^t) = F_k(w) + mu / 2 |w - w^t|^2."""
    mu = loop.e.algorithm.mu
    for t in range(loop.e.rounds):
        cohort, start = loop.cohort(t), w
        ends = [loop.local(k, start, t, lambda g, w, start=start: g + mu * (w - start)) for k in cohort]
        w = start + loop.mean(cohort, [end - start for end in ends], w)
    return Result(w, {})


def scaffold(loop: Loop, x: Vector) -> Result:
    """Karimireddy et al. 2020, Alg. 1; line numbers are the paper's."""
    cfg, n = loop.e.algorithm, len(loop.clients)
    c, ci = np.zeros_like(x), {k: np.zeros_like(x) for k in range(n)}
    for t in range(loop.e.rounds):
        cohort, dy, dc = loop.cohort(t), [], []  # line 3
        for k in cohort:
            client = loop.clients[k]
            y = loop.local(k, x, t, lambda g, y, k=k, c=c: g - ci[k] + c)  # lines 7 to 11
            if cfg.option == 1:  # line 12 (i): g_i(x)
                new = loop.gradient(x, client.x, client.y)
            else:  # (ii): c_i - c + (x - y_i) / (K eta_l)
                new = ci[k] - c + (x - y) / (len(loop.batches(client, t)) * loop.step_size(t))
            dy.append(y - x)  # line 13
            dc.append(new - ci[k])
            ci[k] = new  # line 14
        x = x + cfg.server_step_size * loop.mean(cohort, dy, x)  # lines 16 and 17
        c = c + len(cohort) / n * np.mean(dc, axis=0)
    return Result(x, {})


def _fedopt(loop: Loop, x: Vector, second: Callable[[Vector, Vector, float], Vector]) -> Result:
    """Reddi et al. 2021, Alg. 2."""
    cfg = loop.e.algorithm
    m, v = np.zeros_like(x), np.full_like(x, cfg.v0)
    for t in range(loop.e.rounds):
        cohort = loop.cohort(t)
        delta = loop.mean(cohort, [loop.local(k, x, t) - x for k in cohort], x)  # line 10
        m = cfg.beta1 * m + (1 - cfg.beta1) * delta  # line 11
        v = second(v, delta**2, cfg.beta2)
        x = x + cfg.server_step_size * m / (np.sqrt(v) + cfg.tau)  # line 15
    return Result(x, {})


def fedadagrad(loop: Loop, x: Vector) -> Result:
    return _fedopt(loop, x, lambda v, d2, beta2: v + d2)  # line 12


def fedyogi(loop: Loop, x: Vector) -> Result:
    return _fedopt(loop, x, lambda v, d2, beta2: v - (1 - beta2) * d2 * np.sign(v - d2))  # line 13


def fedadam(loop: Loop, x: Vector) -> Result:
    return _fedopt(loop, x, lambda v, d2, beta2: beta2 * v + (1 - beta2) * d2)  # line 14


def local(loop: Loop, w: Vector) -> Result:
    """Every client goes on with its own model, or forest."""
    if isinstance(loop.e.task, Trees):
        return Result(w, {k: forest(loop, [client]) for k, client in enumerate(loop.clients)})
    own = {k: w for k in range(len(loop.clients))}
    for t in range(loop.e.rounds):
        for k in loop.cohort(t):
            own[k] = loop.local(k, own[k], t)
    return Result(w, own)


def pooled(loop: Loop, w: Vector) -> Result:
    """SGD over all rows, or a forest of them; `lane.clients` holds them as one client."""
    if isinstance(loop.e.task, Trees):
        return Result(forest(loop, loop.clients), {})
    for t in range(loop.e.rounds):
        w = loop.local(0, w, t)
    return Result(w, {})


METHODS: dict[str, Method] = {
    "local": local,
    "pooled": pooled,
    "fedsgd": fedsgd,
    "fedavg": fedavg,
    "fedavgm": fedavgm,
    "fedprox": fedprox,
    "scaffold": scaffold,
    "fedadagrad": fedadagrad,
    "fedadam": fedadam,
    "fedyogi": fedyogi,
}
OTHER = {
    "task.l2": 0.3,
    "optimizer.step_size": 0.17,
    "optimizer.decay": 0.5,
    "algorithm.server_step_size": 0.6,
    "algorithm.momentum": 0.4,
    "algorithm.mu": 1.2,
    "algorithm.beta1": 0.6,
    "algorithm.beta2": 0.7,
    "algorithm.tau": 0.2,
    "algorithm.v0": 0.05,
}
UNUSED = {
    ("fedsgd", "optimizer.step_size"): "clients take no step",
    ("fedsgd", "optimizer.decay"): "clients take no step",
    ("fedadagrad", "algorithm.beta2"): "v is a sum",
}
VARIANTS: dict[str, dict[str, Any]] = {
    "fedavg, uniform": {"algorithm": {"name": "fedavg", "weighting": "uniform"}},
    "fedavg, steps": {"optimizer": {"steps": 7}},
    "fedavg, all rows": {"optimizer": {"batch_size": 0, "epochs": 3}},
    "fedavg, local momentum": {"optimizer": {"chain": [{"name": "trace", "decay": 0.5}]}},
    "fedavg, server chain": {
        "algorithm": {"name": "fedavg", "server_chain": [{"name": "trace", "decay": 0.7}]}
    },
    "scaffold, option 1": {"algorithm": {"name": "scaffold", "option": 1}},
    "scaffold, everyone": {"algorithm": {"name": "scaffold"}, "world": "all"},
    "fedavg, stale": {"world": {"name": "uniform", "cohort": 3, "staleness": 2}, "rounds": 5},
    "fedavg, stragglers": {"world": {"name": "uniform", "cohort": 4, "stragglers": 0.7}},
    "fedavg, stragglers dropped": {
        "world": {"name": "uniform", "cohort": 5, "stragglers": 0.4, "late": "dropped"}
    },
    "fedavg, dropout": {"world": {"name": "uniform", "cohort": 5, "dropout": 0.4}},
    "fedavg, cyclic": {"world": {"name": "cyclic", "order": "shuffled"}, "rounds": 8},
    "fedavg, poisson": {"world": {"name": "poisson", "rate": 0.25}, "rounds": 8},
    "fedavgm, poisson": {"algorithm": "fedavgm", "world": {"name": "poisson", "rate": 0.25}, "rounds": 8},
}

FLAT = {"beta1": 0.0, "tau": 1e6, "server_step_size": 1e6}  # the second moment is nothing beside tau
IDENTITIES: dict[str, Identity] = {
    "fedavg: one step on all rows is FedSGD": Identity(
        {"name": "fedavg"},
        {"name": "fedsgd", "server_step_size": 0.3},
        {"optimizer": {"epochs": 2}},
        ONE_STEP,
    ),
    "fedsgd: one step on all rows is FedAvg": Identity(
        {"name": "fedsgd", "server_step_size": 0.3},
        {"name": "fedavg"},
        {"algorithm": {"name": "fedsgd", "server_step_size": 0.2}},
        ONE_STEP,
    ),
    "pooled: one step on all rows is FedSGD": Identity(
        {"name": "pooled"},
        {"name": "fedsgd", "server_step_size": 0.3},
        {"optimizer": {"epochs": 2}},
        ONE_STEP,
    ),
    "local: a single client is FedAvg": Identity(
        {"name": "local"}, {"name": "fedavg"}, {"sizes": (17, 9)}, {"world": "all"}, (17,)
    ),
    "fedavgm: no momentum is FedAvg": Identity(
        {"name": "fedavgm", "momentum": 0.0},
        {"name": "fedavg"},
        {"algorithm": {"name": "fedavgm", "momentum": 0.2}},
    ),
    "fedavgm: Optax's trace is FedAvgM": Identity(
        {"name": "fedavgm", "momentum": 0.7},
        {"name": "fedavg", "server_chain": [{"name": "trace", "decay": 0.7}]},
        {"algorithm": {"name": "fedavgm", "momentum": 0.6}},
    ),
    "fedprox: no pull is FedAvg": Identity(
        {"name": "fedprox", "mu": 0.0}, {"name": "fedavg"}, {"algorithm": {"name": "fedprox", "mu": 0.5}}
    ),
    "scaffold: twins do not drift": Identity(
        {"name": "scaffold"},
        {"name": "fedavg"},
        {"sizes": small.SIZES},
        {"optimizer": {"batch_size": 0, "epochs": 3}, "world": "all"},
        TWINS,
    ),
    "fedadagrad: large tau is FedAvg": Identity(
        {"name": "fedadagrad", **FLAT}, {"name": "fedavg"}, {"algorithm": {"name": "fedadagrad"}}
    ),
    "fedadam: large tau is FedAvg": Identity(
        {"name": "fedadam", **FLAT}, {"name": "fedavg"}, {"algorithm": {"name": "fedadam"}}
    ),
    "fedyogi: the first round is FedAdam's": Identity(
        {"name": "fedyogi", "beta2": 0.5}, {"name": "fedadam", "beta2": 0.5}, {"rounds": 3}, {"rounds": 1}
    ),
}
