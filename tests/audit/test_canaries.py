"""Canary clients: their directions, that they go the way of all messages, and what they show of a run."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fedsim.algorithms import Reduction
from fedsim.audit import bounds, canaries, joining
from fedsim.base import RequestError
from fedsim.config.audit import CanaryClients
from fedsim.simulate import audited as simulated
from tests.simulate import small

WIDE = {"name": "mlp", "hidden": [64]}
DELTA = 1e-5


def audited(noise=1.0, rounds=4, audit=None, **changes):
    e = small.experiment(
        task=WIDE,
        algorithm={"name": "fedavg", "weighting": "uniform"},
        privacy={"name": "gaussian", "noise_multiplier": noise, "clip_norm": 0.5},
        audit={"name": "clients", "canaries": 200} | (audit or {}),
        rounds=rounds,
        **({"world": "all"} | changes),
    )
    return e


def seen(e):
    trained = small.train([small.lane(e)])
    evidence, total, _ = trained.engine.audited(trained.handles)[0]
    return evidence, total, joining.included(e.seed, e.audit.joining), trained


# --- directions ------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [6, 449])
def test_directions_are_unit_vectors_with_little_of_each_other(size):
    like = {"a": jnp.zeros(size // 3, jnp.float32), "b": jnp.zeros((size - size // 3, 1), jnp.float32)}
    cfg = CanaryClients(canaries=40, magnitude=2.0)
    send = jax.jit(lambda shares, r: canaries.message(cfg, like, shares, r))
    alone = 0.5 * jnp.eye(40)
    vectors = np.stack([small.flat(send(share, jnp.int32(0))) for share in alone])
    gram = vectors @ vectors.T
    np.testing.assert_allclose(np.diag(gram), 1.0, rtol=1e-5)  # magnitude times sensitivity
    apart = gram[~np.eye(40, dtype=bool)]
    assert abs(apart.mean()) < 0.1 and apart.std() <= 1.2 / np.sqrt(size)
    np.testing.assert_array_equal(small.flat(send(alone[7], jnp.int32(1))), -vectors[7])
    shares = np.random.default_rng(1).normal(size=40).astype(np.float32)
    together = small.flat(send(0.5 * shares, jnp.int32(0)))
    np.testing.assert_allclose(together, shares @ vectors, rtol=1e-4, atol=1e-5)
    # The fast transform is the product with each.
    aggregate = jax.tree.map(
        lambda x: jnp.asarray(np.random.default_rng(0).normal(size=x.shape), jnp.float32), like
    )
    fast = canaries.products(aggregate, canaries.directions(like, 40), 40)
    np.testing.assert_allclose(fast, vectors @ small.flat(aggregate), rtol=1e-4, atol=1e-4)


# --- in the engine ---------------------------------------------------------------------------


def test_canaries_go_the_way_of_every_message():
    """Without noise: clipped to the norm that a client may have, they come out of the sum as they went in,
    round after round, and those that were left out do not."""
    e = audited(noise=0.0)
    _, total, included, _ = seen(e)
    assert abs(total[included].mean() - e.rounds) < 0.2 and abs(total[~included].mean()) < 0.2
    # Signs of random directions and of clients' updates: far less than a canary.
    assert total[included].min() > 1 > 0.5 > abs(np.median(total[~included]))


def test_canaries_that_are_summed_first_arrive_as_each_alone(monkeypatch):
    ways = []

    def joined(total, there, canary):
        ways.append("alone")
        return one_by_one(total, there, canary)

    one_by_one = canaries.joined
    monkeypatch.setattr(canaries, "joined", joined)
    options = {"noise": 0.0, "world": {"name": "poisson", "rate": 0.5}, "audit": {"canaries": 64}}
    together = seen(audited(**options))
    assert not ways
    monkeypatch.setattr(simulated, "weighted_mean", Reduction(lambda m, w: m, lambda t, c: t))
    alone = seen(audited(numerics={"block": 8, "group": 2}, **options))  # compiled anew
    assert ways
    np.testing.assert_allclose(together[1], alone[1], atol=2e-5)
    one, other = (small.flat(x[3].models[0][0]) for x in (together, alone))
    np.testing.assert_allclose(one, other, atol=1e-6)


@pytest.mark.parametrize("noise", [1.0, 5.0])
def test_what_is_shown_is_what_the_noise_allows(noise):
    e = audited(noise=noise)
    evidence, total, included, _ = seen(e)
    truth = np.sqrt(e.rounds) / noise
    apart = bounds.gaussian(total, included, 0.95)
    assert abs(apart.estimate - truth) < 4 * np.sqrt(4 / 200 + truth**2 / 400)
    assert apart.bound < truth
    assert bounds.one_run(evidence, included, DELTA, 0.95).epsilon < bounds.epsilon_of(truth, DELTA)


def test_no_more_than_noise_shows_nothing():
    _, total, included, _ = seen(audited(noise=1e4))
    assert bounds.gaussian(total, included, 0.95).estimate < 0.5


@pytest.mark.long
def test_only_the_sum_of_releases_may_be_seen():
    """With `sees=final` canaries keep their sign, and the score is the sum's."""
    e = audited(noise=0.0, audit={"sees": "final"})
    evidence, total, included, trained = seen(e)
    np.testing.assert_array_equal(evidence, total)
    assert abs(total[included].mean() - total[~included].mean() - e.rounds) < 0.3
    # What a plain average of messages adds up to is the model's way from its first to its last weights.
    en = trained.engine
    moved = jax.tree.map(lambda a, b: a - b, trained.models[0][0], en.models(en.init())[0][0])
    by_model = canaries.products(moved, canaries.directions(moved, 200), 200)
    unit = 0.5 / 6  # the clip over the clients that are expected
    np.testing.assert_allclose(np.asarray(by_model) / unit, total, rtol=1e-3, atol=1e-3)


@pytest.mark.long
def test_where_a_client_may_be_replaced_canaries_send_the_opposite():
    e = audited(noise=2.0)
    opposed = small.experiment(
        task=WIDE,
        algorithm={"name": "fedavg", "weighting": "uniform"},
        privacy={"name": "gaussian", "noise_multiplier": 2.0, "clip_norm": 0.5, "relation": "replace_one"},
        audit={"name": "clients", "canaries": 200, "relation": "replace_one"},
        rounds=4,
        world="all",
    )
    one, two = (
        bounds.gaussian(total, included, 0.95).estimate
        for _, total, included, _ in (seen(x) for x in (e, opposed))
    )
    assert abs(one - 1.0) < 0.6 and abs(two - 2.0) < 0.6  # sqrt(4) / 2, and twice that
    assert set(joining.signs(opposed).tolist()) == {1, -1} and set(joining.signs(e).tolist()) == {0, 1}


def test_canaries_join_as_clients_do():
    signs = jnp.asarray(joining.signs(audited()))
    drawn = np.stack([canaries.there(jax.random.key(r), signs, jnp.float32(0.25)) for r in range(100)])
    assert 60 < signs.sum() < 140 and not drawn[:, signs == 0].any()
    n = 100 * float(signs.sum())
    assert abs(drawn.sum() / n - 0.25) < 4 * np.sqrt(0.25 * 0.75 / n)
    np.testing.assert_array_equal(canaries.there(jax.random.key(0), signs, jnp.float32(1)), signs)


def test_canaries_count_for_nobody():
    assert small.experiment().audit.joining == 0
    trained = seen(audited())[3]
    assert trained.rounds[-1].cohort.tolist() == [6]
    np.testing.assert_array_equal(trained.engine.teams[0].select(0)[0].positions, np.arange(6))


def test_two_packed_runs_are_audited_as_each_alone():
    one, two = audited(), audited(noise=5.0)
    together = small.train([small.lane(one), small.lane(two)])
    for i, e in enumerate((one, two)):
        evidence, total, _ = together.engine.audited(together.handles)[i]
        alone = seen(e)
        small.assert_same_bits((evidence, total), alone[:2])
        small.assert_same_bits(together.states[i].server, alone[3].states[0].server)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"privacy": "none"}, "audits what protects a client, and privacy=none does not"),
        ({"world": {"name": "uniform", "cohort": 3, "dropout": 0.1}}, "without dropout"),
        ({"world": {"name": "cyclic"}}, "got world=cyclic; choose one of these"),
        ({"privacy": {"name": "gaussian", "relation": "replace_one"}}, "set both to replace_one, or neither"),
        ({"algorithm": {"name": "local", "weighting": "uniform"}}, "with algorithm=local they send nothing"),
        ({"algorithm": {"name": "fedmgda", "weighting": "uniform"}}, "scores a sum of messages"),
        ({"channel": {"name": "topk"}}, "keeps something at clients"),
    ],
)
def test_what_canaries_can_say_nothing_of_is_refused(changes, message):
    values = {"privacy": {"name": "gaussian"}, "world": "all"} | changes
    values = {"algorithm": {"name": "fedavg", "weighting": "uniform"}} | values
    with pytest.raises(RequestError, match=message):
        small.engine([small.lane(small.experiment(audit="clients", rounds=9, **values))])
