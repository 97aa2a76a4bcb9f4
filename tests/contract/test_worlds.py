# mypy: disable-error-code="arg-type"
"""Laws that every world obeys, found by listing, and when it is another one."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fedsim import config, world
from fedsim.base import RequestError
from fedsim.config.world import (
    Asynchronous,
    Blocks,
    BySize,
    Cyclic,
    Diurnal,
    Fixed,
    Markov,
    PowerOfChoice,
    Trace,
)
from fedsim.data.partition import Partition
from fedsim.world import WORLDS, People

SEEDS = st.integers(0, 2**63 - 1)
ROUNDS = 300
# Every world with options that make it draw.
CASES: dict[str, config.WorldConfig] = {
    "all": config.All(),
    "uniform": config.Uniform(cohort=5),
    "poisson": config.Poisson(rate=0.3),
    "by_size": BySize(cohort=5),
    "cyclic": Cyclic(order="shuffled"),
    "blocks": Blocks(blocks=3, rate=0.6),
    "diurnal": Diurnal(cohort=3, period=10, share=0.4),
    "markov": Markov(cohort=3, leave=0.2, come=0.3),
    "fixed": Fixed(clients=(0, 3)),
    "trace": Trace(cohort=3, path="trace.csv"),
    "power_of_choice": PowerOfChoice(cohort=3, candidates=5),
}
# Worlds without rounds: tests/world/test_clock.py.
CLOCKS: dict[str, config.WorldConfig] = {"asynchronous": Asynchronous(concurrency=6, buffer=3)}
# What a world is with its options, another one, and what it then is not: cohorts of twenty clients.
Cohorts = config.WorldConfig | Callable[[int], list[int]]
IDENTITIES: dict[str, tuple[config.WorldConfig, Cohorts, config.WorldConfig]] = {
    "all": (config.All(), config.Uniform(cohort=20), config.All(dropout=0.5)),
    "uniform": (config.Uniform(cohort=20), config.All(), config.Uniform(cohort=19)),
    "poisson": (config.Poisson(rate=1.0), config.All(), config.Poisson(rate=0.9)),
    "by_size": (BySize(cohort=20), config.All(), BySize(cohort=19)),
    "cyclic": (Cyclic(), lambda r: [r % 20], Cyclic(order="shuffled")),
    "blocks": (Blocks(blocks=1), config.All(), Blocks(blocks=2)),
    "diurnal": (Diurnal(cohort=20, period=10, share=1.0), config.All(), Diurnal(cohort=20, share=0.9)),
    "markov": (Markov(cohort=20, leave=0.0, come=1.0), config.All(), Markov(cohort=20, leave=0.2, come=0.8)),
    "fixed": (Fixed(clients=tuple(range(20))), config.All(), Fixed(clients=tuple(range(19)))),
    "trace": (Trace(cohort=20, path="trace.csv"), config.All(), Trace(cohort=19, path="trace.csv")),
    "power_of_choice": (
        PowerOfChoice(cohort=5, candidates=20),
        config.All(),  # are asked how well the model does
        PowerOfChoice(cohort=5, candidates=19),
    ),
}


@pytest.fixture(scope="module", autouse=True)
def there(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A folder with the trace that everybody is available by, as the working directory."""
    folder = tmp_path_factory.mktemp("trace")
    Path(folder / "trace.csv").write_text(
        "client,from,to\n" + "".join(f"{k},0,{ROUNDS + 1}\n" for k in range(60))
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        yield


def asked(cfg: config.WorldConfig, seed: int, rnd: int, population: int) -> np.ndarray:
    rows = np.arange(1, population + 1)
    offsets = np.concatenate([[0], np.cumsum(rows)])
    none = np.zeros(population, np.int32)
    ids = np.arange(60, dtype=np.uint64)[:population]
    names = [f"client {k:02}" for k in range(60)]
    padding = 60 - population  # clients of the trace that hold no training row
    part = Partition(
        rows=None,
        offsets=np.concatenate([offsets, np.full(padding, offsets[-1])]),
        train=np.concatenate([rows, np.zeros(padding, int)]).astype(np.int32),
        valid=np.resize(none, 60),
        test=np.resize(none, 60),
        names=names,
        ids=np.concatenate([ids, np.arange(population, 60, dtype=np.uint64)]),
    )
    return world.asked(cfg, People(population, rows, seed, rnd, part, ROUNDS))


def test_every_world_is_here() -> None:
    assert WORLDS.keys() == config.MEMBERS["world"].keys() == CASES.keys() | CLOCKS.keys()
    assert CASES.keys() == IDENTITIES.keys()


@pytest.mark.parametrize("name", sorted(WORLDS))
def test_cohorts_are_drawn_but_where_a_clock_makes_them(name: str) -> None:
    cfg = CASES.get(name) or CLOCKS[name]
    if name in CLOCKS:
        with pytest.raises(RequestError, match=f"world={name} draws no cohorts"):
            asked(cfg, 0, 0, 20)
    else:
        assert len(asked(cfg, 0, 0, 20)) > 0
    assert 1 <= world.expected(cfg, 20) <= world.most(cfg, 20) <= 20


@pytest.mark.parametrize("name", sorted(CASES))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=SEEDS, rnd=st.integers(0, ROUNDS - 1), population=st.integers(5, 60))
def test_laws(name: str, seed: int, rnd: int, population: int) -> None:
    """Rising, unique, within the population, no more than there is room for, and pure; so are those of
    them that are chosen, and those whose work arrives."""
    cfg = CASES[name]
    found = asked(cfg, seed, rnd, population)
    np.testing.assert_array_equal(found, asked(cfg, seed, rnd, population))
    stages = [found]
    if world.chooses(cfg):
        losses = np.random.default_rng(rnd).normal(size=len(found)).astype(np.float32)
        stages.append(world.chosen(cfg, seed, rnd, found, losses))
        np.testing.assert_array_equal(stages[-1], world.chosen(cfg, seed, rnd, found, losses))
    stages.append(world.arriving(cfg, seed, rnd, stages[-1]))
    for now, before in zip(stages, [np.arange(population), *stages], strict=False):
        assert now.dtype == np.int64 and np.all(np.diff(now) > 0) and set(now) <= set(before)
    assert len(stages[-1]) <= world.most(cfg, population) <= population
    assert 1 <= world.expected(cfg, population) <= population


@pytest.mark.parametrize("name", sorted(CASES))
def test_the_mean_size_is_as_promised(name: str) -> None:
    cfg, n = CASES[name], 40
    sizes = []
    for r in range(ROUNDS):
        found = asked(cfg, 7, r, n)
        if world.chooses(cfg):
            found = world.chosen(cfg, 7, r, found, np.zeros(len(found), np.float32))
        sizes.append(len(world.arriving(cfg, 7, r, found)))
    assert abs(np.mean(sizes) - world.mean_size(cfg, n)) <= 5 * np.std(sizes) / ROUNDS**0.5 + 0.01


def cohorts(cfg: Cohorts) -> list[list[int]]:
    if not isinstance(cfg, config.WorldConfig):
        return [cfg(r) for r in range(25)]
    return [world.arriving(cfg, 3, r, asked(cfg, 3, r, 20)).tolist() for r in range(25)]


@pytest.mark.parametrize("name", sorted(IDENTITIES))
def test_identity(name: str) -> None:
    this, other, _ = IDENTITIES[name]
    assert this.name == name and cohorts(this) == cohorts(other)


@pytest.mark.parametrize("name", sorted(IDENTITIES))
def test_identity_can_be_violated(name: str) -> None:
    _, other, but = IDENTITIES[name]
    assert cohorts(but) != cohorts(other)
