"""Gradient inversion of a run's rows, setting by setting, beside what one who saw nothing would get right."""

from __future__ import annotations

import itertools
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fedsim import tasks
from fedsim.audit import inversion, matching
from fedsim.base import require
from fedsim.config.audit import Inversion
from fedsim.data.rng import generator
from fedsim.model import Model
from fedsim.simulate.engine import Engine
from fedsim.simulate.lanes import Lane


def prepared(engine: Engine, lane: Lane) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(x f32[n, F] as a model reads it, y [n], client of each) of all training rows.

    Raises RequestError where rows are no rows of a table.
    """
    federation = engine.federation
    require(
        federation.columns is not None and len(federation.shape) == 1 and federation.kind != "survival",
        "audit=inversion reconstructs rows of a table in memory, with a class or a number as label; choose "
        "such data",
    )
    assert federation.columns is not None
    rows, client = lane.clients.part("federated")
    x = federation.columns["x"][rows].astype(np.float32)
    if lane.constants is not None:
        impute, shift, scale = (
            getattr(lane.constants, name)[lane.constants.of_client[client]]
            for name in ("impute", "shift", "scale")
        )
        x = (np.where(np.isnan(x), impute, x) - shift) * scale
    return x.astype(np.float32), federation.labels_of(rows), client


def inverted(cfg: Inversion, engine: Engine, lane: Lane, model: Model) -> dict[str, Any]:
    """The share of rows and values that come out right, for every batch size, number of clients and noise."""
    x, y, client = prepared(engine, lane)
    known, seed = matching.levels(x), lane.experiment.seed
    s = engine.structure
    task = tasks.build(lane.experiment.task, s.spec, "float32")
    model = jax.tree.map(lambda leaf: np.asarray(leaf, np.float32), model)
    most = np.bincount(client).max(initial=0)
    require(
        max(cfg.batch_sizes) <= most,
        f"audit.batch_sizes goes up to {max(cfg.batch_sizes)}, and no client has more than {most} training "
        "rows; lower it",
    )
    found = []
    for size, clients in itertools.product(cfg.batch_sizes, cfg.clients):
        drawn = _draw(generator(seed, "audit", "inversion", size, clients), cfg, client, size, clients)
        for noise in cfg.noise:
            rng = generator(seed, "audit", "inversion", "noise", size, clients, repr(noise))
            found.append(
                {"batch_size": size, "clients": clients, "noise": noise}
                | {"attacks": _setting(cfg, task, model, x, y, known, drawn, noise, rng)}
            )
    return {"settings": found, "trials": cfg.trials, "model": cfg.model}


def _draw(
    rng: np.random.Generator, cfg: Inversion, client: np.ndarray, size: int, clients: int
) -> np.ndarray:
    """Rows i64[trials, clients, size]; each client's own, none twice; the same client twice where there are
    fewer than are summed."""
    able = np.flatnonzero(np.bincount(client) >= size)
    out = np.empty((cfg.trials, clients, size), np.int64)
    for t in range(cfg.trials):
        who = rng.choice(able, clients, replace=len(able) < clients)
        for k, c in enumerate(who):
            out[t, k] = rng.choice(np.flatnonzero(client == c), size, replace=False)
    return out


def _setting(
    cfg: Inversion, task: Any, model: Model, x: np.ndarray, y: np.ndarray, known: Any, drawn: np.ndarray,
    noise: float, rng: np.random.Generator,
) -> dict[str, dict[str, float]]:  # fmt: skip
    """What each attacker gets right: shares of rows and of values, over all trials."""
    trials, clients, size = drawn.shape
    features, n = x.shape[1], clients * size
    d = sum(leaf.size for leaf in jax.tree.leaves(model.params))
    noises = (noise * cfg.clip_norm * rng.normal(size=(trials, d))).astype(np.float32)
    starts = rng.normal(size=(trials, cfg.restarts, n, features)).astype(np.float32)
    clip = jnp.float32(cfg.clip_norm if noise > 0 else np.inf)
    seen = _messages(task, model, x[drawn], y[drawn], clip, noises)
    labels = y[drawn].reshape(trials, n)
    rebuilt, _ = _search(task, cfg.steps, model, seen, labels, starts)
    neurons = _layers(features, model, seen)
    guesses: dict[str, list[np.ndarray]] = {
        "layer": [part[np.isfinite(part).all(axis=1)] for part in np.asarray(neurons)],
        "optimised": list(np.asarray(rebuilt)),
        "mode": [np.repeat(matching.mode(x)[None], n, axis=0)] * trials,
        "random row": [_others(rng, x, own.reshape(-1)) for own in drawn],
    }
    out = {}
    for name, every in guesses.items():
        hits = [
            matching.right(x[own.reshape(-1)], matching.decode(guess, known))
            for own, guess in zip(drawn, every, strict=True)
        ]
        out[name] = {
            "rows": sum(h.rows for h in hits) / (trials * n),
            "values": float(np.mean([h.values for h in hits])),
            "guesses": float(np.mean([len(guess) for guess in every])),
        }
    return out


def _others(rng: np.random.Generator, x: np.ndarray, own: np.ndarray) -> np.ndarray:
    left = np.setdiff1d(np.arange(len(x)), own)
    return x[rng.choice(left, len(own), replace=len(left) < len(own))]


def _messages(task: Any, model: Model, x: Any, y: Any, clip: Any, noises: Any) -> Any:
    one = jax.vmap(partial(inversion.message, task), in_axes=(None, 0, 0, None, 0))
    return jax.jit(one)(model, x, y, clip, noises)


def _search(task: Any, steps: int, model: Model, seen: Any, y: Any, starts: Any) -> Any:
    def one(model: Model, seen: Any, y: Any, starts: Any) -> Any:
        return inversion.optimised(task, model, seen, y, starts, steps)

    return jax.jit(jax.vmap(one, in_axes=(None, 0, 0, 0)))(model, seen, y, starts)


def _layers(features: int, model: Model, seen: Any) -> Any:
    return jax.vmap(lambda part: inversion.layer(model, part, features))(seen)
