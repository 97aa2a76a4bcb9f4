"""Ten planted bugs: the audit or a check finds each of them, and finds nothing where there is none.

The audit here is that of a run without clients' own messages: canaries through a mechanism's two halves,
round by round, scored as the engine scores them (tests/audit/test_canaries.py holds that it does), and its
bound beside what the accountant says.
"""

from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fedsim import config, local, tasks, trees, world
from fedsim.accounting import accountants
from fedsim.accounting.events import Gaussian, PoissonGaussian
from fedsim.audit import bounds, canaries, checks, joining
from fedsim.config.audit import CanaryClients
from fedsim.model import Batch, Model, Spec
from fedsim.privacy.central import clip
from fedsim.privacy.gaussian import gaussian
from tests.simulate import small

ROUNDS, CLIP, NOISE, COUNT, DELTA = 8, 0.5, 4.0, 10.0, 1e-5
LIKE = {f"layer {i}": {"kernel": jnp.zeros((4, 32), jnp.float32)} for i in range(4)}
CANARIES = CanaryClients(canaries=400)


def sound(noise=NOISE):
    return gaussian(config.GaussianPrivacy(clip_norm=CLIP, noise_multiplier=noise))


def shown(stage, replaced=False, seed=0):
    """The Gaussian bound on epsilon that an audit of these rounds shows."""
    coin = joining.included(seed, CANARIES.canaries)
    cfg = replace(CANARIES, relation="replace_one" if replaced else "add_or_remove_one")
    every = jnp.arange(cfg.canaries, dtype=jnp.uint32)
    signs = jnp.where(coin, 1.0, -1.0 if replaced else 0.0)

    def one(rnd, canary, sign):
        key = jax.random.fold_in(jax.random.key(seed), rnd)
        sent = canaries.message(cfg, LIKE, jnp.where(every == canary, sign * CLIP, 0), rnd)
        return stage.client(sent, (), (), jax.random.fold_in(key, canary))[0]

    seen, state = canaries.unseen(CANARIES.canaries), stage.init(LIKE)
    for rnd in jnp.arange(ROUNDS, dtype=jnp.int32):  # not compiled as a whole, which would take longer
        sums = jax.tree.map(lambda x: jnp.sum(x, axis=0), jax.vmap(partial(one, rnd))(every, signs))
        key = jax.random.fold_in(jax.random.key(seed + 1), rnd)
        noisy, state = stage.server(trees.scale(sums, 1 / COUNT), state, key, jnp.float32(COUNT))
        seen = canaries.look(cfg, seen, noisy, jnp.float32(CLIP / COUNT), jnp.float32(1), rnd, signs)
    apart = bounds.gaussian(np.asarray(seen.total, np.float64), coin, 0.95)
    return bounds.epsilon_of(apart.bound, DELTA)


def accounted(relation="add_or_remove_one"):
    return accountants.epsilon([(Gaussian(noise_multiplier=NOISE), ROUNDS)], DELTA, relation).epsilon


@pytest.mark.parametrize(("replaced", "relation"), [(False, "add_or_remove_one"), (True, "replace_one")])
def test_a_sound_mechanism_keeps_its_account(replaced, relation):
    found = shown(sound(), replaced)
    assert 0.5 * accounted(relation) < found < accounted(relation)


def noise_halved():
    return replace(sound(), server=sound(NOISE / 2).server)


def clip_skipped():
    return replace(sound(), client=lambda message, memory, state, key: (message, memory))


def clip_per_layer():
    """Each layer is clipped to the norm that the whole message is accounted with."""

    def client(message, memory, state, key):
        return {name: clip(layer, CLIP) for name, layer in message.items()}, memory

    return replace(sound(), client=client)


def noise_reused():
    honest = sound()

    def server(aggregate, state, key, count):
        return honest.server(aggregate, state, jax.random.key(7), count)

    return replace(honest, server=server)


def wrong_unit():
    """Each of a client's five records is clipped, and the account is a client's."""
    return replace(sound(), client=lambda message, memory, state, key: (clip(message, 5 * CLIP), memory))


@pytest.mark.parametrize("bug", [noise_halved, clip_skipped, clip_per_layer, noise_reused, wrong_unit])
def test_the_audit_contradicts_the_account(bug):
    assert shown(bug()) > accounted()


def test_a_wrong_relation_is_contradicted():
    """A client's data may be replaced, and the account is of clients who come or go."""
    assert shown(sound(), replaced=True) > accounted("add_or_remove_one")


# --- checks ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("bug", "check", "said"),
    [
        (clip_skipped, checks.clipped, "is sent with norm"),
        (clip_per_layer, checks.clipped, "a message .long. is sent with norm 1, above 0.5"),
        (wrong_unit, checks.clipped, "is sent with norm 2.5, above 0.5"),
        (noise_reused, checks.fresh, "two rounds have the same noise"),
    ],
)
def test_what_a_mechanism_promises_is_tried(bug, check, said):
    import re

    assert re.search(said, check(bug(), LIKE) or "")
    assert check(sound(), LIKE) is None


def test_numbers_that_are_not_finite_are_found():
    def let_through(message, memory, state, key):
        length = jnp.sqrt(trees.squared_norm(message))
        return trees.scale(message, jnp.minimum(1, CLIP / jnp.maximum(length, 1e-30))), memory

    assert "is sent on" in (checks.clipped(replace(sound(), client=let_through), LIKE) or "")
    assert checks.clipped(sound(), LIKE) is None


def test_rows_that_fill_a_batch_are_found():
    task = tasks.build(config.Logistic(init="normal"), Spec((5,), "binary", 2), "float32")
    oracle, model = local.plain(task), task.init(jax.random.key(0))
    rng = np.random.default_rng(0)
    batch = {
        "x": jnp.asarray(rng.normal(size=(4, 5)), jnp.float32),
        "y": jnp.asarray([0, 1, 1, 0], jnp.int32),
        "mask": jnp.asarray([True, True, True, False]),
    }

    def careless(rows: Batch) -> Model:
        return oracle.gradient(model, rows | {"mask": jnp.ones(4, bool)}, None)[0]

    assert "change the answer" in (checks.padding(careless, batch) or "")
    assert checks.padding(lambda rows: oracle.gradient(model, rows, None)[0], batch) is None


def test_a_fixed_cohort_is_no_poisson_sample():
    event = PoissonGaussian(noise_multiplier=1.0, rate=0.3)

    def cohorts(cfg):
        return [world.cohort(cfg, 3, rnd, 20) for rnd in range(300)]

    fixed, free = config.Uniform(cohort=6), config.Poisson(rate=0.3)
    assert "vary 0 times" in (checks.poisson(cohorts(fixed), 20, event.rate) or "")
    assert "on average" in (checks.poisson(cohorts(config.Poisson(rate=0.4)), 20, event.rate) or "")
    assert checks.poisson(cohorts(free), 20, event.rate) is None


@pytest.mark.long
@pytest.mark.parametrize("bug", [False, True])
def test_a_sum_divided_by_the_realised_batch_is_found(bug, monkeypatch):
    """In the engine: what is divided by the weights that came is not what the audit was told."""
    from fedsim import privacy
    from fedsim.simulate import build, worker

    if bug:
        careless = partial(lambda cfg: replace(gaussian(cfg), fixed=False))
        monkeypatch.setitem(privacy.MECHANISMS, "gaussian", careless)
    monkeypatch.setattr(build, "_KNOWN", {})
    monkeypatch.setattr(worker, "PROGRAMS", {})
    monkeypatch.setattr(worker, "COMPILED", {})
    e = small.experiment(
        task={"name": "mlp", "hidden": [64]},
        algorithm={"name": "fedavg", "weighting": "uniform"},
        privacy={"name": "gaussian", "noise_multiplier": 0.0},
        world={"name": "poisson", "rate": 0.5},
        audit={"name": "clients", "canaries": 60},
        rounds=12,
    )
    trained = small.train([small.lane(e)])
    _, total, joined = trained.engine.audited(trained.handles)[0]
    found = checks.denominator(total, joined)
    assert (found is not None and "divided by another number" in found) if bug else found is None
