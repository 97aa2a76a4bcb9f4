"""What every task, topology and system says it is under conditions, and when it is not."""

import csv
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fedsim import config, tasks, topology
from fedsim.config.system import Lognormal, NoSystem, TracedSystem
from fedsim.config.topology import Complete, Edges, Regular, Ring, Star, Torus
from fedsim.model import Model, Spec
from fedsim.simulate.schedule import Schedule
from fedsim.system import Load, Machines, profiles
from tests.simulate import quick, small

Found = Callable[[Path], Any]  # a tree of numbers, found with files in a folder


@dataclass(frozen=True)
class Law:
    """`this` member comes to what the `other` side says, to within `off`; with `but` in its place it does
    not."""

    this: Found
    other: Found
    but: Found
    off: float = 0.0


# --- tasks: losses [B] of a batch ------------------------------------------------------------

_RNG = np.random.default_rng(0)
FLAT, PICTURES = (6, 5), (6, 8, 8, 1)
ROWS: dict[tuple[int, ...], np.ndarray] = {
    shape: _RNG.normal(size=shape).astype(np.float32) for shape in (FLAT, PICTURES)
}
EVENTS = np.array([1, 0, 1, 1, 0, 1], np.int32)
AMOUNTS = np.array([2.5, 0.1, 7, 3, 1, 40], np.float32)
TIMES = np.array([1, 9, 3, 2, 8, 4], np.float32)  # nobody is censored before 7
TIED = np.array([1, 9, 3, 3, 8, 4], np.float32)


def losses(
    cfg: config.TaskConfig,
    kind: Any = "binary",
    training: bool = False,
    time: Any = TIMES,
    drawn: bool = True,
) -> Found:
    """Of a model with the task's own first numbers, or with those of a fixed draw."""

    def found(folder: Path) -> np.ndarray:
        rows = ROWS[PICTURES if isinstance(cfg, config.Cnn) else FLAT]
        classes = {"binary": 2, "survival": 2, "multiclass": 3}.get(kind, 0)
        known: Any = "regression" if kind == "amounts" else kind
        task = tasks.build(cfg, Spec(rows.shape[1:], known, classes), "float32")
        model = task.init(jax.random.key(0))
        leaves, tree = jax.tree.flatten(model.params)
        if drawn:
            rng = np.random.default_rng(1)
            leaves = [jnp.asarray(rng.normal(size=x.shape), jnp.float32) for x in leaves]
        batch = {"x": rows, "y": EVENTS, "time": time, "mask": np.ones(6, bool)}
        if known == "regression":
            batch["y"] = AMOUNTS if kind == "amounts" else EVENTS.astype(np.float32)
        batch = {name: jnp.asarray(x) for name, x in batch.items()}
        key = jax.random.key(1) if training else None
        of = jax.jit(lambda *x: task.loss(*x)[0], compiler_options=quick.options())
        return np.asarray(of(Model(jax.tree.unflatten(tree, leaves), model.state), batch, key), np.float64)

    return found


TASKS: dict[str, Law] = {
    "logistic: weights of zero are a coin": Law(
        losses(config.Logistic(), drawn=False),
        lambda folder: np.full(6, np.log(2)),
        losses(config.Logistic(init="normal"), drawn=False),
        1e-6,
    ),
    "linear: weights of zero leave the squared label": Law(
        losses(config.Linear(), "regression", drawn=False),
        lambda folder: EVENTS.astype(np.float64) ** 2,
        losses(config.Linear(), "regression"),
        1e-6,
    ),
    "gamma: half a deviance from everybody's typical amount": Law(
        losses(config.Gamma(typical=3.0), "amounts", drawn=False),
        lambda folder: AMOUNTS / 3.0 - 1 - np.log(AMOUNTS / 3.0),
        losses(config.Gamma(typical=4.0), "amounts", drawn=False),
        1e-6,
    ),
    "two_part: of amounts above 0 it begins as gamma and a coin": Law(
        losses(config.TwoPart(typical=3.0), "amounts", drawn=False),
        lambda folder: losses(config.Gamma(typical=3.0), "amounts", drawn=False)(folder) + np.log(2),
        losses(config.TwoPart(typical=3.0), "regression", drawn=False),
        1e-6,
    ),
    "mlp: without hidden layers it is linear": Law(
        losses(config.Mlp(hidden=()), "regression"),
        losses(config.Linear(), "regression"),
        losses(config.Mlp(hidden=(3,)), "regression"),
        1e-5,
    ),
    "cnn: without dropout training is evaluation": Law(
        losses(config.Cnn(channels=(2, 3), dense=4, dropout=(0.0, 0.0)), training=True),
        losses(config.Cnn(channels=(2, 3), dense=4, dropout=(0.5, 0.5))),
        losses(config.Cnn(channels=(2, 3), dense=4, dropout=(0.5, 0.5)), training=True),
        1e-5,
    ),
    "trees: without a leaf grown all is a coin": Law(
        losses(config.Trees(trees=2, depth=2), drawn=False),
        lambda folder: np.full(6, np.log(2)),
        losses(config.Trees(trees=2, depth=2)),
        1e-6,
    ),
    "cox: without ties Efron is Breslow": Law(
        losses(config.Cox(ties="efron"), "survival"),
        losses(config.Cox(ties="breslow"), "survival"),
        losses(config.Cox(ties="efron"), "survival", time=TIED),
        1e-6,
    ),
    "survival_discrete: one interval is logistic regression of who had the event": Law(
        losses(config.SurvivalDiscrete(bins=1, horizon=7.0), "survival", drawn=False),
        losses(config.Logistic(), drawn=False),
        losses(config.SurvivalDiscrete(bins=3, horizon=7.0), "survival", drawn=False),
        1e-6,
    ),
}

# --- topologies: pairs of neighbours, or what mixing makes of a number at each client ---------


def pairs(cfg: Any, clients: int) -> Found:
    def found(folder: Path) -> list[tuple[int, ...]]:
        names = [f"client {k:02}" for k in range(clients)]
        chosen = replace(cfg, path=str(folder / cfg.path)) if isinstance(cfg, Edges) else cfg
        return sorted({tuple(sorted(p)) for p in _edges(chosen, names)})

    return found


def _edges(cfg: Any, names: list[str]) -> list[list[int]]:
    return [list(map(int, p)) for p in topology.edges(cfg, topology.Nodes(names, names, 3))]


def listed(edges: list[tuple[int, int]]) -> Callable[[Path], None]:
    """A file of these edges."""

    def put(folder: Path) -> None:
        text = "a,b\n" + "".join(f"{a},{b}\n" for a, b in edges)
        (folder / "edges.csv").write_text(text)

    return put


def after(put: Callable[[Path], None], found: Found) -> Found:
    def both(folder: Path) -> Any:
        put(folder)
        return found(folder)

    return both


def mixed(cfg: Any) -> Found:
    """Mixing weights f64[6, 6]."""

    def found(folder: Path) -> np.ndarray:
        edges = np.array(_edges(cfg, [f"client {k}" for k in range(6)]), np.int64)
        graph = topology.mixing(edges, 6, 6, 5)
        w = np.zeros((6, 6))
        np.add.at(w, (np.arange(6)[:, None], graph.neighbours), graph.weights)
        return w + np.diag(1 - w.sum(axis=1))

    return found


ROUND = [(k, (k + 1) % 6) for k in range(6)]
TOPOLOGIES: dict[str, Law] = {
    "star: nobody has a neighbour": Law(
        lambda folder: topology.degree(Star(), 6) - 1,  # tables have a column
        lambda folder: 0,
        lambda folder: topology.degree(Ring(), 6),
    ),
    "ring: of three it is complete": Law(pairs(Ring(), 3), pairs(Complete(), 3), pairs(Ring(), 4)),
    "torus: neighbours differ in one place of a grid": Law(
        pairs(Torus(rows=3), 9),
        lambda folder: sorted(
            (a, b) for a in range(9) for b in range(a + 1, 9) if (a // 3 == b // 3) != (a % 3 == b % 3)
        ),
        pairs(Regular(degree=4), 9),
    ),
    "regular: with all others as neighbours it is complete": Law(
        pairs(Regular(degree=5), 6), pairs(Complete(), 6), pairs(Regular(degree=4), 6)
    ),
    "complete: mixing is the mean": Law(
        mixed(Complete()), lambda folder: np.full((6, 6), 1 / 6), mixed(Ring()), 1e-6
    ),
    "edges: a ring that is written down is a ring": Law(
        after(listed(ROUND), pairs(Edges(path="edges.csv"), 6)),
        pairs(Ring(), 6),
        after(listed([*ROUND, (0, 3)]), pairs(Edges(path="edges.csv"), 6)),
    ),
}

# --- systems: seconds of a client's legs, or who is there ------------------------------------

LOAD, HELD, STEPS = Load(24, 12, 3.0, 4), np.arange(5, 11), np.full(6, 3, np.int32)


def machines(cfg: Any) -> Machines:
    ids = np.arange(6, dtype=np.uint64)
    return Machines(profiles(cfg, 3, [str(k) for k in ids], ids, np.arange(6)), LOAD, HELD)


def legs(cfg: Any) -> Found:
    return lambda folder: machines(cfg).legs(np.arange(6), STEPS)


def traced(**changes: float) -> Found:
    """Legs of machines that were written down."""

    def found(folder: Path) -> np.ndarray:
        drawn = machines(Lognormal()).profiles._asdict()
        with open(folder / "machines.csv", "w", newline="") as file:
            lines = csv.writer(file)
            lines.writerow(["client", *drawn])
            lines.writerows(
                [k, *(repr(float(column[k]) * changes.get(name, 1)) for name, column in drawn.items())]
                for k in range(6)
            )
        return machines(TracedSystem(path=str(folder / "machines.csv"))).legs(np.arange(6), STEPS)

    return found


def cohorts(cfg: Any) -> Found:
    def found(folder: Path) -> list[list[int]]:
        world = {"name": "uniform", "cohort": 3, "dropout": 0.2}
        e = replace(small.experiment(world=world), system=cfg)
        mine = None if isinstance(cfg, NoSystem) else machines(cfg)
        met = Schedule(e, HELD, STEPS, mine)
        return [met.meet(rnd).cohort.tolist() for rnd in range(9)]

    return found


ALIKE = [0.05, 24 / 6.25e6, 0.0, 0.05, 12 / 1.25e6]
SYSTEMS: dict[str, Law] = {
    "lognormal: without spread all have the medians": Law(
        legs(Lognormal(sigma=0.0)),
        lambda folder: np.array([ALIKE] * 6) + np.eye(5)[2] * 10 * 3.0 / 1e10,
        legs(Lognormal(sigma=0.5)),
        1e-8,
    ),
    "trace: machines that were drawn, written down": Law(traced(), legs(Lognormal()), traced(latency=0.5)),
    "none: the rounds of machines without a deadline": Law(
        cohorts(NoSystem()), cohorts(Lognormal()), cohorts(Lognormal(deadline=0.12))
    ),
}
