"""Laws that every attack obeys, found by listing, and what each declares of its lies."""

from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fedsim.attack import ATTACKS
from fedsim.base import GROUPS, build
from fedsim.model import Spec
from fedsim.simulate.build import build as engine_of
from fedsim.simulate.engine import Handles, simulate
from fedsim.simulate.items import COLUMN
from fedsim.simulate.lanes import Lane
from fedsim.simulate.worker import COMPILED
from tests.contract.test_algorithms import Tracing, TracingWorkers
from tests.simulate import small

# What holds of a liar. rows: it trains on its rows as they are. agreed: all send the same. own: what it sends
# is a multiple of what it would send. hidden: its message is no farther from an honest one than two honest
# ones are from each other. What is not named is violated.
DECLARED: dict[str, tuple[str, ...]] = {
    "none": ("rows", "own", "hidden"),
    "label_flip": ("own", "hidden"),  # of the message, which follows from other rows
    "sign_flip": ("rows", "own"),
    "gaussian": ("rows",),
    "free_rider": ("rows", "agreed", "own"),
    "alie": ("rows", "agreed", "hidden"),
    "inner_product": ("rows", "agreed"),
    "min_max": ("rows", "agreed", "hidden"),
    "backdoor": ("own",),
}
OPTIONS: dict[str, dict[str, Any]] = {"backdoor": {"target": 1}, "gaussian": {"deviation": 3.0}}
N, SPEC = 11, Spec((5,), "binary", 2)
SHORT = {"sign_flip"}
every_attack = pytest.mark.parametrize("name", sorted(ATTACKS))


def test_every_attack_declares_something() -> None:
    assert DECLARED.keys() == ATTACKS.keys() == GROUPS["attack"].keys() and all(DECLARED.values())


# --- lies ------------------------------------------------------------------------------------


@cache
def lies(name: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(what all would send [N, 6], what they do, bool[N] who lies): messages about 3, the
    liars' true ones in the middle."""
    attack = ATTACKS[name](build(GROUPS["attack"][name], OPTIONS.get(name, {})))
    rng = np.random.default_rng(3)
    liar = np.arange(N) % 4 == 1
    honest = (3 + rng.normal(size=(N, 6)) * np.where(liar, 0.5, 1.0)[:, None]).astype(np.float32)

    @jax.jit
    def sent(stack: jax.Array) -> jax.Array:
        tree = {"a": stack[:, :4].reshape(-1, 2, 2), "b": stack[:, 4:]}
        flag = jnp.asarray(liar)
        new = tree
        if attack.message is not None:
            keys = jax.random.split(jax.random.key(0), N)
            new = jax.vmap(attack.message, in_axes=(0, None, 0))(tree, jnp.float32(4), keys)
        if attack.collude is not None:
            one = attack.collude(tree, jnp.ones(N, bool), flag)
            new = jax.tree.map(lambda x, y: jnp.broadcast_to(x, y.shape), one, tree)
        flat = jnp.concatenate([new["a"].reshape(N, 4), new["b"]], axis=1)
        return jnp.where(flag[:, None], flat, stack)

    return honest, np.asarray(sent(jnp.asarray(honest))), liar


def rows(name: str) -> float:
    attack = ATTACKS[name](build(GROUPS["attack"][name], OPTIONS.get(name, {})))
    x = jnp.arange(40, dtype=jnp.float32).reshape(8, 5)
    batch = {"x": x, "y": jnp.zeros(8, jnp.int32), "mask": jnp.ones(8, bool)}
    changed = attack.rows(batch, SPEC) if attack.rows is not None else batch
    assert {k: (v.shape, v.dtype) for k, v in changed.items()} == {
        k: (v.shape, v.dtype) for k, v in batch.items()
    }
    return float(sum(jnp.sum(changed[k] != batch[k]) for k in batch))


def agreed(name: str) -> float:
    _, sent, liar = lies(name)
    return float(np.ptp(sent[liar], axis=0).max())


def own(name: str) -> float:
    """Largest sine of the angle between what a liar sends and would have sent."""
    honest, sent, liar = (x.astype(np.float64) for x in lies(name))
    a, b = honest[liar > 0], sent[liar > 0]
    along = np.sum(a * b, axis=1, keepdims=True) / np.sum(a * a, axis=1, keepdims=True) * a
    return float((np.linalg.norm(b - along, axis=1) / np.maximum(np.linalg.norm(b, axis=1), 1e-12)).max())


def hidden(name: str) -> float:
    """By how much of the widest honest pair the farthest lie is farther out than that."""
    _, sent, liar = lies(name)
    x = sent[~liar]
    widest = max(np.linalg.norm(a - b) for a in x for b in x)
    return max(0.0, max(float(np.linalg.norm(a - b)) for a in x for b in sent[liar]) / float(widest) - 1)


LAWS = {"rows": rows, "agreed": agreed, "own": own, "hidden": hidden}


@every_attack
@pytest.mark.parametrize("law", sorted(LAWS))
def test_what_is_declared_holds_and_what_is_not_does_not(name: str, law: str) -> None:
    found = LAWS[law](name)
    assert found < 1e-5 if law in DECLARED[name] else found > 1e-2


# --- in the engine ---------------------------------------------------------------------------


def lane(name: str, **changes: Any) -> Lane:
    """Two of six clients lie; weights alike, so that the mean of messages is plain."""
    attack = {"name": name, **OPTIONS.get(name, {})} | ({"share": 0.34} if name != "none" else {})
    uniform = {"name": "fedavg", "weighting": "uniform"}
    return small.lane(small.experiment(attack=attack, algorithm=uniform, world="all", **changes))


@cache
def alone(name: str) -> small.Trained:
    return small.train([lane(name)])


@pytest.mark.long
@every_attack
def test_who_tells_the_truth_is_believed(name: str) -> None:
    """Where nobody's flag is up, the same program trains as if there were no attack."""
    trained = alone(name)
    assert np.isfinite(small.flat(trained.states[0].server)).all()
    en = small.engine([lane(name)])
    (team,) = en.teams
    plan = team.pack(0)
    assert (plan.items[..., COLUMN["liar"]].sum() == 2) == (name != "none")
    plan.items[..., COLUMN["liar"]] = 0
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(team), "pack", lambda self, rnd: plan)
        handles, _ = en.advance(en.init(), 0, 3)
    (state,) = small.by_lane(en, en.fetch(handles))
    honest = small.flat(alone("none").states[0].server)
    np.testing.assert_allclose(small.flat(state.server), honest, rtol=1e-5, atol=1e-6)
    if name != "none":
        assert np.abs(small.flat(trained.states[0].server) - honest).max() > 1e-3


@every_attack
def test_packing_and_stopping_leave_the_bits_and_compile_nothing(name: str) -> None:
    mine = alone(name)
    before = len(COMPILED)
    others = [lane(name, seed=9, optimizer={"step_size": 0.01}), lane(name, split={"test": 0.6})]
    packed = small.train([others[0], lane(name), others[1]])
    small.assert_same_bits(packed.states[1], mine.states[0])
    small.assert_same_bits(small.train([lane(name)], stops=[1, 3]).states, mine.states)
    en = small.engine([lane(name)])
    saved = [jax.tree.map(np.array, s) for s in en.fetch(small.train([lane(name)], stops=[1]).handles)]
    handles = [Handles(en.place(t, state)) for t, state in enumerate(saved)]
    (handles,) = (h for h, _ in simulate(en, handles, [3], first=1))
    small.assert_same_bits(small.by_lane(en, en.fetch(handles)), mine.states)
    assert len(COMPILED) == before


@every_attack
def test_half_precision_is_kept(name: str) -> None:
    """Traced only."""
    half = lane(name, numerics={"dtype": "bfloat16"})
    en = engine_of(small.federation(), [half], "cpu", lambda s: TracingWorkers(lambda d: Tracing(s, d), 1))
    first = en.init()
    last, _ = en.advance(first, 0, 1)
    assert jax.tree.leaves(first[0].state) == jax.tree.leaves(last[0].state)
