"""Whom a round draws, world by world, before anybody is lost; and how many that is.

Drawn from (seed, round) alone, so all algorithms that share a seed meet the same clients.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from fedsim.base import require
from fedsim.config import All, Poisson, Uniform
from fedsim.config.world import Blocks, BySize, Cyclic, Diurnal, Fixed, Markov
from fedsim.data.partition import Partition
from fedsim.data.rng import generator


class People(NamedTuple):
    """Among whom a cohort is drawn, and when.

    population: clients that hold training rows; rows: i64[population], how many of them each.
    clients: all clients, also those that do not train; rounds: how many there will be.
    """

    population: int
    rows: np.ndarray
    seed: int
    round: int
    clients: Partition | None = None
    rounds: int = 0


@dataclass(frozen=True)
class World:
    """A member of the group.

    draw: (config, among whom, generator of this round) -> positions i64[cohort], rising.
    size: (config, clients) -> (expected size of a cohort, its largest size).
    reads: config -> what files that it reads hold, as part of what identifies a run.
    choose: (config, those drawn, f32[n] the loss of the server's model on each one's training rows, generator
      of this round) -> those of them that train, rising; None where all do.
    """

    draw: Callable[[Any, People, np.random.Generator], np.ndarray]
    size: Callable[[Any, int], tuple[float, int]]
    reads: Callable[[Any], str] | None = None
    choose: Callable[[Any, np.ndarray, np.ndarray, np.random.Generator], np.ndarray] | None = None


def every_client(cfg: All, people: People, rng: np.random.Generator) -> np.ndarray:
    return np.arange(people.population, dtype=np.int64)


def fixed(cfg: Fixed, people: People, rng: np.random.Generator) -> np.ndarray:
    require(
        cfg.clients[-1] < people.population,
        f"world.clients names place {cfg.clients[-1]}, but the federation has {people.population} training "
        "clients; places count from 0",
    )
    return np.array(cfg.clients, np.int64)


def size_of_fixed(cfg: Fixed, population: int) -> tuple[float, int]:
    return len(cfg.clients), len(cfg.clients)


def uniform(cfg: Uniform, people: People, rng: np.random.Generator) -> np.ndarray:
    enough(cfg.cohort, people.population)
    return np.sort(rng.choice(people.population, cfg.cohort, replace=False, shuffle=False))


def by_size(cfg: BySize, people: People, rng: np.random.Generator) -> np.ndarray:
    enough(cfg.cohort, people.population)
    share = people.rows / people.rows.sum()
    return np.sort(rng.choice(people.population, cfg.cohort, replace=False, p=share))


def poisson(cfg: Poisson, people: People, rng: np.random.Generator) -> np.ndarray:
    # A binomial size and a uniform subset of it: the same law as a coin per client, without the coins.
    size = int(rng.binomial(people.population, cfg.rate))
    return np.sort(rng.choice(people.population, size, replace=False, shuffle=False))


def cyclic(cfg: Cyclic, people: People, rng: np.random.Generator) -> np.ndarray:
    cycle, turn = divmod(people.round, people.population)
    if cfg.order == "shuffled":
        turn = int(generator(people.seed, "cycle", cycle).permutation(people.population)[turn])
    return np.array([turn], np.int64)


def blocks(cfg: Blocks, people: People, rng: np.random.Generator) -> np.ndarray:
    require(
        cfg.blocks <= people.population,
        f"world.blocks={cfg.blocks} is more than the federation's {people.population} training clients; set "
        f"world.blocks to at most {people.population}",
    )
    dealt = generator(people.seed, "blocks").permutation(people.population)
    block = dealt[people.round % cfg.blocks :: cfg.blocks].astype(np.int64)
    size = int(rng.binomial(len(block), cfg.rate))
    return np.sort(rng.choice(block, size, replace=False, shuffle=False))


def diurnal(cfg: Diurnal, people: People, rng: np.random.Generator) -> np.ndarray:
    enough(cfg.cohort, people.population)
    phase = generator(people.seed, "phase").random(people.population)
    return some((people.round / cfg.period + phase) % 1 < cfg.share, cfg.cohort, rng)


def markov(cfg: Markov, people: People, rng: np.random.Generator) -> np.ndarray:
    enough(cfg.cohort, people.population)
    there = _chain(cfg.leave, cfg.come, people.seed, people.population, people.round // _LEG)
    for r in range(people.round // _LEG * _LEG, people.round):
        there = _next(there, cfg.leave, cfg.come, people.seed, r)
    return some(there, cfg.cohort, rng)


_LEG = 64  # rounds between states of the chain that are remembered


@lru_cache(maxsize=4096)
def _chain(leave: float, come: float, seed: int, population: int, leg: int) -> np.ndarray:
    """Who is there in round `leg` * _LEG; in round 0 as in the long run."""
    if leg == 0:
        return generator(seed, "there").random(population) < come / (come + leave)
    there = _chain(leave, come, seed, population, leg - 1)
    for r in range((leg - 1) * _LEG, leg * _LEG):
        there = _next(there, leave, come, seed, r)
    return there


def _next(there: np.ndarray, leave: float, come: float, seed: int, rnd: int) -> np.ndarray:
    """Who is there a round later."""
    moves = generator(seed, "moves", rnd).random(len(there))
    return np.where(there, moves >= leave, moves < come)


def some(there: np.ndarray, cohort: int, rng: np.random.Generator) -> np.ndarray:
    """At most `cohort` of those who are there, uniformly."""
    who = np.flatnonzero(there).astype(np.int64)
    return np.sort(rng.choice(who, min(cohort, len(who)), replace=False, shuffle=False))


def enough(cohort: int, population: int) -> None:
    require(
        cohort <= population,
        f"world.cohort={cohort} is larger than the federation's {population} training clients; "
        f"set world.cohort to at most {population}",
    )


def size_of_all(cfg: All, population: int) -> tuple[float, int]:
    return population, population


def size_of_cohort(cfg: Uniform | BySize, population: int) -> tuple[float, int]:
    return min(cfg.cohort, population), min(cfg.cohort, population)


def size_of_poisson(cfg: Poisson, population: int) -> tuple[float, int]:
    mean = cfg.rate * population
    # Eight deviations: exceeded less than once in 10^14 rounds.
    most = mean + 8 * (mean * (1 - cfg.rate)) ** 0.5 + 1
    return mean, min(population, int(most))


def size_of_one(cfg: Cyclic, population: int) -> tuple[float, int]:
    return 1, 1


def size_of_blocks(cfg: Blocks, population: int) -> tuple[float, int]:
    return cfg.rate * population / cfg.blocks, -(-population // cfg.blocks)


def size_of_diurnal(cfg: Diurnal, population: int) -> tuple[float, int]:
    return min(cfg.cohort, cfg.share * population), min(cfg.cohort, population)


def size_of_markov(cfg: Markov, population: int) -> tuple[float, int]:
    share = cfg.come / (cfg.come + cfg.leave)
    return min(cfg.cohort, share * population), min(cfg.cohort, population)
