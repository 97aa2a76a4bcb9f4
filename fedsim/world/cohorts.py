"""Cohorts on the host: which clients take part in a round, and how many of their steps they do.

A world draws who is `asked`; where it `chooses`, some of these are `chosen`. Of them, some are lost or
late, and the others' work is `arriving`: they are the `cohort`.
"""

from __future__ import annotations

import numpy as np

from fedsim.base import register
from fedsim.config import All, WorldConfig
from fedsim.data.rng import generator
from fedsim.world import clock, draws, power_of_choice, trace
from fedsim.world.draws import People, World

WORLDS: dict[str, World] = {
    "asynchronous": World(clock.no_rounds, clock.size_of_buffer),
    "all": World(draws.every_client, draws.size_of_all),
    "fixed": World(draws.fixed, draws.size_of_fixed),
    "uniform": World(draws.uniform, draws.size_of_cohort),
    "by_size": World(draws.by_size, draws.size_of_cohort),
    "poisson": World(draws.poisson, draws.size_of_poisson),
    "cyclic": World(draws.cyclic, draws.size_of_one),
    "blocks": World(draws.blocks, draws.size_of_blocks),
    "diurnal": World(draws.diurnal, draws.size_of_diurnal),
    "markov": World(draws.markov, draws.size_of_markov),
    "trace": World(trace.trace, draws.size_of_cohort, trace.contents),
    "power_of_choice": World(
        power_of_choice.candidates, draws.size_of_cohort, choose=power_of_choice.highest
    ),
}


def register_world(name: str, config: type, world: World) -> None:
    """Make `world=name` available."""
    register("world", name, config)
    WORLDS[name] = world


def expected(cfg: WorldConfig, population: int) -> int:
    """The cohort size that blocks and groups are laid out for."""
    return max(1, round(mean_size(cfg, population)))


def mean_size(cfg: WorldConfig, population: int) -> float:
    """Clients in a round, on average: what a mean divides by where it must not tell who was there."""
    lost = 1 - (1 - cfg.dropout) * (1 - (cfg.stragglers if cfg.late == "dropped" else 0))
    return float(WORLDS[cfg.name].size(cfg, population)[0]) * (1 - lost)


def most(cfg: WorldConfig, population: int) -> int:
    """The largest cohort there is room for."""
    return WORLDS[cfg.name].size(cfg, population)[1]


def steady(cfg: WorldConfig) -> bool:
    """Whether every round is the same: everybody, from the newest model, with all steps."""
    return isinstance(cfg, All) and cfg.staleness == 0 and cfg.dropout == 0 and cfg.stragglers == 0


def everyone(cfg: WorldConfig) -> bool:
    """Whether every client takes part in every round, if only in a part of it."""
    return isinstance(cfg, All) and cfg.dropout == 0 and not (cfg.late == "dropped" and cfg.stragglers > 0)


def cohort(
    cfg: WorldConfig, seed: int, rnd: int, population: int, rows: np.ndarray | None = None
) -> np.ndarray:
    """Positions i64[cohort], rising, among the clients that hold training rows (`rows` of them each; one
    where that is not given), of those whose work arrives.

    Raises RequestError when more clients are asked for than there are.
    """
    rows = np.ones(population, np.int64) if rows is None else rows
    return arriving(cfg, seed, rnd, asked(cfg, People(population, rows, seed, rnd)))


def asked(cfg: WorldConfig, people: People) -> np.ndarray:
    """Positions i64[n], rising, of those that are asked to take part, whatever becomes of them."""
    return WORLDS[cfg.name].draw(cfg, people, generator(people.seed, "cohort", people.round))


def chooses(cfg: WorldConfig) -> bool:
    """Whether those that are asked say first how well the model does on their rows, and some are chosen."""
    return WORLDS[cfg.name].choose is not None


def chosen(cfg: WorldConfig, seed: int, rnd: int, clients: np.ndarray, losses: np.ndarray) -> np.ndarray:
    """Those of `clients` (positions), who were `asked`, that train; losses: f32[n] of the server's model on
    the training rows of each."""
    choose = WORLDS[cfg.name].choose
    assert choose is not None
    return choose(cfg, clients, losses, generator(seed, "choice", rnd))


def fingerprint(cfg: WorldConfig) -> tuple[str, ...]:
    """What the files hold that a world reads, if it reads any: part of a run's identity."""
    reads = WORLDS[cfg.name].reads
    return () if reads is None else (reads(cfg),)


def arriving(cfg: WorldConfig, seed: int, rnd: int, clients: np.ndarray) -> np.ndarray:
    """Those of `clients` (positions) that are neither lost nor dropped for being late."""
    gone = _lost(cfg, seed, rnd, clients)
    if cfg.late == "dropped":
        gone |= _slow(cfg, seed, rnd, clients)
    return clients[~gone]


def work(cfg: WorldConfig, seed: int, rnd: int, clients: np.ndarray, steps: np.ndarray) -> np.ndarray:
    """How many of their local `steps` (i32[n]) each of `clients` (positions), whose work arrives, has done
    when time is up."""
    if cfg.stragglers == 0 or cfg.late == "dropped":
        return steps
    return np.where(_slow(cfg, seed, rnd, clients), _part(seed, "work", rnd, clients, steps), steps)


def spent(cfg: WorldConfig, seed: int, rnd: int, clients: np.ndarray, steps: np.ndarray) -> np.ndarray:
    """How many of their local `steps` (i32[n]) each of `clients` (positions), who were `asked`, has done in
    all, whether or not its work arrives: what the round costs them.

    One that is late has done what time allowed, though it be dropped; one that is lost during its steps
    has done those up to then; one that is lost before, none.
    """
    late = _slow(cfg, seed, rnd, clients)
    done = np.where(late, _part(seed, "work", rnd, clients, steps), steps)
    until = np.zeros_like(steps)
    if cfg.dropout_when == "during":
        until = _part(seed, "dropout_at", rnd, clients, steps)
    return np.where(_lost(cfg, seed, rnd, clients), np.minimum(done, until), done)


def received(cfg: WorldConfig, seed: int, rnd: int, clients: np.ndarray) -> int:
    """How many of `clients` (positions), who were `asked`, were there to be sent the model."""
    if cfg.dropout_when == "during":
        return len(clients)
    return len(clients) - int(_lost(cfg, seed, rnd, clients).sum())


def ages(cfg: WorldConfig, seed: int, rnd: int, clients: np.ndarray) -> np.ndarray:
    """How many rounds old the model is that each of `clients` (positions) starts from; i32[n].

    Uniform on 0 .. min(staleness, round), by client and round.
    """
    if cfg.staleness == 0:
        return np.zeros(len(clients), np.int32)
    limit = min(cfg.staleness, rnd)
    return (_draws(seed, "age", rnd, clients) * (limit + 1)).astype(np.int32)


def _lost(cfg: WorldConfig, seed: int, rnd: int, clients: np.ndarray) -> np.ndarray:
    if cfg.dropout == 0:
        return np.zeros(len(clients), bool)
    return _draws(seed, "dropout", rnd, clients) < cfg.dropout


def _slow(cfg: WorldConfig, seed: int, rnd: int, clients: np.ndarray) -> np.ndarray:
    if cfg.stragglers == 0:
        return np.zeros(len(clients), bool)
    return _draws(seed, "straggler", rnd, clients) < cfg.stragglers


def _part(seed: int, purpose: str, rnd: int, clients: np.ndarray, steps: np.ndarray) -> np.ndarray:
    """A uniform number of each client's steps, at least one where it has any."""
    done = np.ceil(_draws(seed, purpose, rnd, clients) * steps).astype(steps.dtype)
    return np.clip(done, np.minimum(steps, 1), steps)


def _draws(seed: int, purpose: str, rnd: int, clients: np.ndarray) -> np.ndarray:
    """A number in [0, 1) for each client: one draw per client of the population, so that a client's does
    not depend on the cohort."""
    return generator(seed, purpose, rnd).random(int(clients.max(initial=0)) + 1)[clients]
