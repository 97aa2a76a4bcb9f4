"""Laws that every aggregator obeys, found by listing, and the identities that each declares."""

from dataclasses import replace
from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fedsim.aggregation import AGGREGATORS
from fedsim.base import GROUPS, build
from fedsim.data.names import client_ids
from fedsim.data.preprocess import Constants
from fedsim.simulate.engine import Handles, simulate
from fedsim.simulate.lanes import Lane, root_rows
from fedsim.simulate.worker import COMPILED
from tests.golden.rules import IDENTITIES, RULES
from tests.simulate import small

N, D = 11, 6
SHORT = {"median"}
every_rule = pytest.mark.parametrize("name", sorted(AGGREGATORS))


def test_every_rule_has_a_loop_and_declares_an_identity() -> None:
    assert RULES.keys() == AGGREGATORS.keys() and {*RULES, "mean"} == set(GROUPS["aggregator"])
    assert all(any(getattr(rule, law) is not None for law in IDENTITIES) for rule in RULES.values())


# --- the rule by itself ----------------------------------------------------------------------


@cache
def compiled(name: str, options: tuple[tuple[str, Any], ...]) -> Any:
    """(whether the first row is the server's, first state, the rule), compiled for any float32 rows."""
    made = AGGREGATORS[name](build(GROUPS["aggregator"][name], dict(options)))
    return made.rooted, made.init, jax.jit(made.combine)


def combined(
    name: str, rows: np.ndarray, present: Any = True, weights: Any = 1.0, options: Any = None
) -> np.ndarray:
    """The aggregate of rows [N, D], cut into a matrix and a vector as messages are."""
    _, init, combine = compiled(name, tuple((options or {}).items()))
    present, weights = np.broadcast_to(present, N), np.broadcast_to(weights, N)
    rows = np.where(present[:, None], rows, 0).astype(np.float32)
    messages = {"a": jnp.asarray(rows[:, :4].reshape(-1, 2, 2)), "b": jnp.asarray(rows[:, 4:])}
    state = init(jax.tree.map(lambda x: jnp.zeros(x.shape[1:], x.dtype), messages))
    factors = jnp.asarray(np.where(present, weights, 0), jnp.float32)
    found, new = combine(messages, factors, jnp.asarray(present), state)
    assert jax.tree.map(jnp.shape, found) == {"a": (2, 2), "b": (2,)}
    assert jax.tree.map(jnp.shape, new) == jax.tree.map(jnp.shape, state)
    assert {x.dtype for x in jax.tree.leaves((found, new))} == {jnp.dtype("float32")}
    return np.concatenate([np.asarray(found["a"]).ravel(), found["b"]])


def rooted(name: str) -> bool:
    return bool(compiled(name, ())[0])


def drawn(seed: int, spread: float = 1.0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(N, D)) * spread + 3


@every_rule
@pytest.mark.parametrize("absent", [(), (1, 4), (10,)])
def test_against_the_loop(name: str, absent: tuple[int, ...]) -> None:
    """And so rows that are absent add nothing, wherever they lie."""
    rule, present = RULES[name], ~np.isin(np.arange(N), absent)
    for seed in range(5):
        rows, weights = drawn(seed), np.random.default_rng(seed).uniform(1, 9, N)
        found = combined(name, rows, present, weights, rule.options)
        x = rows.astype(np.float32).astype(np.float64)[present]
        np.testing.assert_allclose(found, rule.loop(x, weights[present]), rtol=2e-5, atol=2e-6)


@every_rule
def test_nobody_there_is_no_update(name: str) -> None:
    assert not combined(name, np.ones((N, D)), False).any()


@every_rule
def test_half_precision_is_kept(name: str) -> None:
    """Traced only."""
    made = AGGREGATORS[name](build(GROUPS["aggregator"][name], {}))
    message = {"a": jax.ShapeDtypeStruct((2, 2), jnp.bfloat16), "b": jax.ShapeDtypeStruct((3,), jnp.bfloat16)}
    stack = jax.tree.map(lambda x: jax.ShapeDtypeStruct((N, *x.shape), x.dtype), message)
    state = jax.eval_shape(made.init, message)
    weights, present = jax.ShapeDtypeStruct((N,), jnp.float32), jax.ShapeDtypeStruct((N,), jnp.bool_)
    found, new = jax.eval_shape(made.combine, stack, weights, present, state)
    assert found == message and new == state


# --- identities ------------------------------------------------------------------------------


def equal(name: str, options: Any) -> float:
    row = np.array([0.1, -0.2, 0.3, 0.05, 0.0, -0.1])
    return float(np.abs(combined(name, np.tile(row, (N, 1)), options=options) - row).max())


def order(name: str, options: Any) -> float:
    worst = 0.0
    for seed in range(20):
        rows, rng = drawn(seed), np.random.default_rng(seed)
        moved = rng.permutation(N)
        if rooted(name):  # of clients, the server is none
            moved = np.concatenate([[0], 1 + rng.permutation(N - 1)])
        found, other = (combined(name, x, options=options) for x in (rows, rows[moved]))
        worst = max(worst, float(np.abs(found - other).max()))
    return worst


def unweighted(name: str, options: Any) -> float:
    rows, weights = drawn(0), np.random.default_rng(0).uniform(1, 9, N)
    return float(np.abs(combined(name, rows, weights=weights, options=options) - combined(name, rows)).max())


def mean(name: str, options: Any) -> float:
    rows, weights = drawn(0), np.ones(N)
    if RULES[name].unweighted is None:
        weights = np.random.default_rng(0).uniform(1, 9, N)
    found = combined(name, rows, weights=weights, options=options)
    return float(np.abs(found - weights @ rows / weights.sum()).max())


def survives(name: str, options: Any) -> float:
    """How far beyond what is allowed the worst of some lies carries the aggregate; the mean goes far."""
    rng = np.random.default_rng(7)
    honest = rng.normal(size=(N - 2, D)) * 0.05 + 0.5
    centre = honest.mean(axis=0)
    allowed = 2 * np.linalg.norm(honest - centre, axis=1).max()
    worst = 0.0
    for lie in (1e6, -1e6, 1e15, -1e15, 1e6 * rng.normal(size=D), -10.0):
        rows = np.concatenate([honest, np.broadcast_to(lie, (2, D))])
        assert np.linalg.norm(rows.mean(axis=0) - centre) > 2 * allowed
        worst = max(worst, float(np.linalg.norm(combined(name, rows, options=options) - centre)) / allowed)
    return max(0.0, worst - 1)


LAWS = {"equal": equal, "order": order, "unweighted": unweighted, "mean": mean, "survives": survives}


@every_rule
@pytest.mark.parametrize("law", IDENTITIES)
def test_identity(name: str, law: str) -> None:
    """What is declared holds to rounding, what is not does not."""
    options = getattr(RULES[name], law)
    found = LAWS[law](name, options)
    assert found < 1e-5 if options is not None else found > 1e-2


# --- in the engine ---------------------------------------------------------------------------


def lane(name: str, **changes: Any) -> Lane:
    options = RULES[name].options | ({"attackers": 0} if name == "bulyan" else {})
    setting: dict[str, Any] = {
        "algorithm": {"name": "fedavg", "weighting": "uniform"},
        "data": {"preprocess": {"scope": "pooled"}},
        "world": "all",
    }
    return small.lane(small.experiment(aggregator={"name": name, **options}, **setting | changes))


@cache
def alone(name: str) -> small.Trained:
    return small.train([lane(name)])


def bits(trained: small.Trained, at: int = 0) -> Any:
    return trained.states[at], trained.scores()[at]


@cache
def updates() -> tuple[np.ndarray, np.ndarray]:
    """(first model, updates of one round [1 + clients, n], the first of the server's own rows), from runs of
    the mean with one client each."""
    plain = replace(lane("fltrust"), rounds=1)
    rows = root_rows(plain)
    e = small.experiment(
        algorithm={"name": "fedavg", "weighting": "uniform"},
        data={"preprocess": {"scope": "pooled"}},
        world="all",
    )
    part, none = plain.clients, np.zeros(len(small.SIZES), np.int32)
    server = replace(
        part,
        rows=rows,
        offsets=np.array([0] + [len(rows)] * len(none), np.int64),
        train=np.array([len(rows), *none[1:]], np.int32),
        ids=np.concatenate([client_ids(["\0root"]), part.ids[1:]]),
    )
    single = [
        replace(part, train=np.where(np.arange(len(none)) == k, part.train, 0)) for k in range(len(none))
    ]
    ends = [
        small.train([replace(plain, experiment=e, clients=clients)]).models[0][0]
        for clients in (server, *single)
    ]
    en = small.engine([replace(plain, experiment=e)])
    first = small.weights(en.models(en.init())[0][0])
    return first, np.array([small.weights(end) - first for end in ends])


@every_rule
def test_with_the_engine_it_is_a_fedavg_of_another_mean(name: str) -> None:
    first, rows = updates()
    rows = rows if rooted(name) else rows[1:]
    wanted = first + RULES[name].loop(rows, np.ones(len(rows)))
    got = small.train([replace(lane(name), rounds=1)]).models[0][0]
    np.testing.assert_allclose(small.weights(got), wanted, rtol=2e-4, atol=2e-5)


@every_rule
def test_packing_and_stopping_leave_the_bits_and_compile_nothing(name: str) -> None:
    mine = bits(alone(name))
    before = len(COMPILED)
    others = [lane(name, seed=9, optimizer={"step_size": 0.01}), lane(name, split={"test": 0.6})]
    packed = small.train([others[0], lane(name), replace(others[1], rounds=1)])
    small.assert_same_bits(bits(packed, 1), mine)
    small.assert_same_bits(bits(small.train([lane(name)], stops=[1, 3])), mine)
    assert len(COMPILED) == before


@every_rule
def test_resumed_is_uninterrupted(name: str) -> None:
    begun = small.train([lane(name)], stops=[1])
    en = small.engine([lane(name)])
    for team, its in zip(en.teams, begun.engine.teams, strict=True):
        team.restore(np.concatenate(its.slots))
    saved = begun.engine.fetch(begun.handles)
    handles = [Handles(en.place(t, jax.tree.map(np.array, state))) for t, state in enumerate(saved)]
    (handles,) = (h for h, _ in simulate(en, handles, [3], first=1))
    (state,) = small.by_lane(en, en.fetch(handles))
    small.assert_same_bits(state, alone(name).states[0])


@every_rule
def test_empty_slots_add_nothing(name: str) -> None:
    """Not even 0 times NaN: the constants that an empty slot reads are poisoned."""

    def behind(c: Constants | None) -> Constants:
        assert c is not None
        first = [np.concatenate([np.full_like(x, np.nan), x]) for x in (c.impute, c.shift, c.scale)]
        return Constants(impute=first[0], shift=first[1], scale=first[2], of_client=c.of_client + 1)

    clean = lane(name)
    found = small.train([replace(clean, constants=behind(clean.constants))]).states[0]
    assert np.isfinite(small.flat(found)).all()
    small.assert_same_bits(found, alone(name).states[0])
