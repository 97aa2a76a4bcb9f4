"""Small experiments on rows made here, for tests of the engine and of what it runs.

One structure, `experiment()`, is shared by as many tests as can be: compiling is what costs.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fedsim import config
from fedsim.data.federation import Federation, gather
from fedsim.data.partition import Partition, partitions, pool
from fedsim.data.preprocess import fit
from fedsim.data.splits import assign
from fedsim.simulate import adapting, judged, scoring
from fedsim.simulate.build import build
from fedsim.simulate.engine import Engine, Handles, Round, simulate
from fedsim.simulate.items import COLUMN
from fedsim.simulate.lanes import Lane
from fedsim.simulate.structure import State, bind
from fedsim.simulate.worker import inline

FEATURES = 5
SIZES = (9, 5, 17, 1, 8, 13)  # batches of 4 are seldom full, and one client has a single row
COHORT = 3

DEFAULTS: dict[str, Any] = {
    "data": {"name": "digits", "preprocess": {"scope": "client"}},  # a stand-in: `federation` has the rows
    "split": {"name": "natural", "test": 0.2},
    "task": {"name": "logistic", "init": "normal", "l2": 0.02},
    "algorithm": "fedavg",
    "optimizer": {"step_size": 0.3, "decay": 0.9, "batch_size": 4, "epochs": 2},
    "channel": "direct",
    "privacy": "none",
    "world": {"name": "uniform", "cohort": COHORT},
    # Blocks and groups that a cohort does not fill, two groups of one cohort in a block.
    "numerics": {"block": 4, "group": 2},
    "executor": "inline",
    "rounds": 3,
    "seed": 3,
}
# What an algorithm needs beside them.
NEEDED: dict[str, dict[str, Any]] = {
    "pooled": {"world": "all"},  # one client holds all rows
    "newton": {"world": "all"},
    "boosting": {
        "world": "all",
        "task": {"name": "trees", "trees": 2, "depth": 2, "bins": 8, "l2": 0.5},
    },
    "pfedme": {"algorithm": {"name": "pfedme", "lam": 2.0}},  # 15 is too steep for this step size
    "fedper": {"algorithm": {"name": "fedper", "personal": ["head/bias"]}},
    "lgfedavg": {"algorithm": {"name": "lgfedavg", "personal": ["head/kernel"]}},
    "fedrep": {"algorithm": {"name": "fedrep", "personal": ["head/bias"]}},
    "ifca": {"algorithm": {"name": "ifca", "spread": 0.5}},
    # Representations of fewer numbers come near zero, where a cosine is too steep to compare in float32.
    "moon": {"task": {"name": "mlp", "hidden": [8], "l2": 0.02}, "algorithm": {"name": "moon", "mu": 3.0}},
    # Models of several ages, without which discounts do nothing.
    "fedbuff": {"world": {"name": "uniform", "cohort": COHORT, "staleness": 2}},
    "fedasync": {"world": {"name": "uniform", "cohort": COHORT, "staleness": 2}},
    "dpsgd": {"topology": "complete"},
    "fedbn": {"task": {"name": "mlp", "hidden": [3], "batch_norm": True, "l2": 0.02}},
}


def experiment(**changes: Any) -> config.Experiment:
    """The defaults above with groups changed: a mapping is merged unless it names another member."""
    values = dict(DEFAULTS)
    algorithm = changes.get("algorithm", values["algorithm"])
    name = algorithm if isinstance(algorithm, str) else algorithm["name"]
    for layer in (NEEDED.get(name, {}), changes):
        for group, change in layer.items():
            new = {"name": change} if isinstance(change, str) else change
            old = values[group] if isinstance(values.get(group), dict) else {}
            merge = isinstance(new, dict) and new.get("name", old.get("name")) == old.get("name")
            values[group] = {**old, **new} if merge else new
    return config.experiment(values)


@cache
def federation(sizes: tuple[int, ...] = SIZES, seed: int = 0, missing: bool = True) -> Federation:
    """Clients of `sizes` rows whose features differ in mean, with missing values unless told."""
    rng = np.random.default_rng(seed)
    owner = np.repeat(np.arange(len(sizes)), sizes)
    x = rng.normal(size=(len(owner), FEATURES)) * 2 + rng.normal(size=(len(sizes), FEATURES))[owner]
    y = (x @ rng.normal(size=FEATURES) + rng.logistic(size=len(owner)) > 0).astype(np.int32)
    y[:2] = 0, 1
    if missing:
        x[rng.random(x.shape) < 0.1] = np.nan
    return gather(
        [f"site {i}" for i in owner],
        {"x": x.astype(np.float32), "y": y},
        kind="binary",
        classes=2,
        licence="none",
        source="test",
    )


@cache
def partition(fed: Federation, cfg: config.SplitConfig, seed: int) -> Partition:
    """The one partition of `fed`; held, because lanes that share a partition share its rows."""
    return partitions(fed, assign(fed, cfg, seed), cfg, seed)[0]


@cache
def _pooled(part: Partition) -> Partition:
    return pool(part)


@cache
def _constants(fed: Federation, part: Partition, cfg: config.Preprocess) -> Any:
    assert fed.columns is not None
    return fit(fed.columns["x"], part, cfg)


def lane(
    e: config.Experiment,
    fed: Federation | None = None,
    part: Partition | None = None,
    rounds: int | None = None,
) -> Lane:
    """The lane of an experiment on `fed`, and on the partition `part` of it where that is given."""
    fed = fed or federation()
    judged = part or partition(fed, e.split, e.seed)
    clients = _pooled(judged) if isinstance(e.algorithm, config.Pooled) else judged
    cfg = e.data.preprocess
    return Lane(
        e,
        clients,
        judged,
        _constants(fed, clients, cfg) if fed.columns is not None else None,
        _constants(fed, judged, cfg) if fed.columns is not None else None,
        rounds or e.rounds,
    )


def engine(lanes: Sequence[Lane], fed: Federation | None = None, devices: int = 1) -> Engine:
    """An engine over this process's devices."""
    return build(fed or federation(), lanes, "cpu", lambda setup: inline(setup, devices))


@dataclass(frozen=True)
class Trained:
    """What a pack came to, as NumPy arrays; lists are by lane.

    states: State of each lane; models: (Model, coefficients); rounds: what `simulate` yielded.
    """

    engine: Engine
    handles: list[Handles]
    states: list[State]
    rounds: list[Round]

    @cached_property
    def models(self) -> list[Any]:
        return self.engine.models(self.handles)

    def scores(self, which: str = "test") -> list[np.ndarray]:
        return self.engine.predict(self.handles, which)


def train(
    lanes: Sequence[Lane],
    fed: Federation | None = None,
    devices: int = 1,
    stops: Sequence[int] | None = None,
) -> Trained:
    """Train a pack from its first state."""
    en = engine(lanes, fed, devices)
    every = list(simulate(en, en.init(), stops or [max(lane.rounds for lane in lanes)]))
    handles = every[-1][0]
    return Trained(en, handles, by_lane(en, en.fetch(handles)), [rnd for _, rnd in every])


def by_lane(en: Engine, states: Sequence[State]) -> list[State]:
    """Teams' fetched states, lane by lane."""
    return [
        jax.tree.map(lambda x, i=i: np.asarray(x[i]), state)
        for team, state in zip(en.teams, states, strict=True)
        for i in range(len(team.lanes))
    ]


def adapted(trained: Trained, number: int, which: str = "train") -> list[dict[int, Any]]:
    """By lane of a team, the model that each client is judged by in a set, where it is made for that."""
    en, team = trained.engine, trained.engine.teams[number]
    slices, _ = judged.slices(team, judged.segments(team, which), True)
    found: list[dict[int, Any]] = [{} for _ in team.lanes]
    for group in adapting.groups(team, slices, en.streamed):
        made = scoring.adapted(
            en, en.home(number), number, trained.handles[number].state, trained.handles[number].done, group
        )
        for words, place in zip(group.slices, group.place, strict=True):
            lane, client = words[COLUMN["lane"]], int(words[COLUMN["client"]])
            found[lane][client] = jax.tree.map(lambda x, place=place: np.asarray(x[place]), made)
    return found


def own(trained: Trained, lane: int) -> dict[int, Any]:
    """Model of each training client of a lane, where clients are judged by models of their own."""
    en = trained.engine
    team, at = en.teams[lane // en.widths.lanes], lane % en.widths.lanes
    parts, _ = bind(en.structure, jnp.asarray(team.layout.inputs.numbers[at]), jnp.int32(0))
    if parts.algorithm.adapt is not None:
        return adapted(trained, lane // en.widths.lanes)[at]
    if parts.algorithm.personal is None:
        return {}
    state = trained.states[lane]
    if en.widths.clients:  # a graph, in which all have models of their own to start from
        return {k: jax.tree.map(lambda x, k=k: x[k], state.starts) for k in range(len(team.slots[at]))}
    start = parts.algorithm.send(state.server)
    fresh = parts.algorithm.init_memory(parts.algorithm.model(state.server))
    found = {}
    for k, slot in enumerate(team.slots_of(at)):
        memory = jax.tree.map(lambda x, slot=slot: x[slot], state.memory.algorithm) if slot >= 0 else fresh
        found[k] = parts.algorithm.personal(start, memory)
    return found


def flat(tree: Any) -> np.ndarray:
    """All numbers of a tree as one float64 vector."""
    leaves = [np.asarray(x, np.float64).ravel() for x in jax.tree.leaves(tree)]
    return np.concatenate(leaves) if leaves else np.zeros(0)


def weights(model: Any) -> np.ndarray:
    """float64[FEATURES + 1]: weights and intercept of a logistic model; of others, all numbers."""
    if "head" not in model.params:
        return flat(model)
    head = model.params["head"]
    return np.concatenate([np.asarray(head["kernel"], np.float64)[0], np.asarray(head["bias"], np.float64)])


def assert_same_bits(a: Any, b: Any) -> None:
    """Equal structures, dtypes and bits, leaf by leaf; NaN equals itself."""
    assert str(jax.tree.structure(a)) == str(jax.tree.structure(b))
    for (path, x), y in zip(jax.tree.leaves_with_path(a), jax.tree.leaves(b), strict=True):
        x, y = np.asarray(x), np.asarray(y)
        where = jax.tree_util.keystr(path)
        assert x.dtype == y.dtype and x.shape == y.shape, where
        assert x.tobytes() == y.tobytes(), f"{where} differs by up to {np.max(np.abs(x - y))}"


def fingerprint(trained: Trained) -> str:
    """SHA-256 of the dtypes and bits of all lanes' states and test scores."""
    total = hashlib.sha256()
    for x in jax.tree.leaves((trained.states, trained.scores())):
        total.update(f"{np.asarray(x).dtype} {np.shape(x)}".encode() + np.asarray(x).tobytes())
    return total.hexdigest()
