"""Mechanisms that protect from the server too: noise on single messages, labels exchanged at random."""

from dataclasses import replace
from math import exp, sqrt

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from fedsim import config, keys
from fedsim.base import RequestError, build_choice
from fedsim.local import Rows, Window
from fedsim.model import Spec
from fedsim.privacy import MECHANISMS
from fedsim.privacy.randomised_response import answer, threshold
from fedsim.simulate.structure import answered
from tests.golden import reference
from tests.simulate import small
from tests.simulate.quick import jit

UNIFORM = {"algorithm": {"name": "fedavg", "weighting": "uniform"}}


# --- Gaussian --------------------------------------------------------------------------------


def test_every_message_is_clipped_and_has_noise_of_its_own():
    cfg = build_choice(
        "privacy", {"name": "local_gaussian", "clip_norm": 0.5, "noise_multiplier": 3.0}, "privacy"
    )
    stage = MECHANISMS["local_gaussian"](cfg)
    message = {"w": jnp.full((100, 50), 1.0, jnp.float32), "b": jnp.zeros(1000, jnp.float32)}
    send = jit(jax.vmap(lambda key: stage.client(message, (), (), key)[0]))
    sent = send(jax.random.split(jax.random.key(0), 4))
    noise = np.stack(
        [np.concatenate([w.ravel() - 0.5 / sqrt(5000), b]) for w, b in zip(sent["w"], sent["b"], strict=True)]
    )
    assert stats.kstest(noise.ravel() / 1.5, "norm").pvalue > 1e-3
    assert np.abs(np.corrcoef(noise) - np.eye(4)).max() < 4 / sqrt(6000)


def test_it_needs_no_sum_but_weights_that_do_not_tell():
    """What arrives is protected already: rules that see single messages may follow."""
    local = {"privacy": {"name": "local_gaussian", "noise_multiplier": 0.1}}
    small.engine([small.lane(small.experiment(**UNIFORM, **local, aggregator="median"))])
    with pytest.raises(RequestError, match=r"privacy=local_gaussian needs weights that do not depend"):
        small.engine([small.lane(small.experiment(**local))])


def test_what_is_not_finite_is_counted_where_all_messages_are_seen_too():
    e = small.experiment(
        **UNIFORM,
        privacy={"name": "local_gaussian", "noise_multiplier": 0.0},
        aggregator="median",
        world="all",
        optimizer={"step_size": 1e38},
        rounds=2,
    )
    trained = small.train([small.lane(e)])
    assert trained.engine.measures(trained.handles)[0]["nonfinite"] == 12


# --- randomised response ---------------------------------------------------------------------


@pytest.mark.parametrize(("classes", "epsilon"), [(2, 1.0), (5, 0.3)])
def test_answers_come_up_as_often_as_they_should(classes, epsilon):
    n = 200_000
    label = np.arange(n, dtype=np.int32) % classes
    draw = jit(lambda key, epsilon: answer(label, classes, epsilon, jax.random.bits(key, (n, 2), jnp.uint32)))
    given = np.asarray(draw(jax.random.key(3), np.float32(epsilon)))
    assert given.dtype == np.int32 and given.min() == 0 and given.max() == classes - 1
    keep = config.RandomisedResponse(epsilon=epsilon).keep(classes)
    for own in range(classes):
        seen = np.bincount(given[label == own], minlength=classes)
        p = np.where(np.arange(classes) == own, keep, (1 - keep) / (classes - 1))
        assert stats.chisquare(seen, p * seen.sum()).pvalue > 1e-3


@pytest.mark.parametrize("classes", [2, 3, 100])
def test_no_answer_tells_more_than_epsilon(classes):
    """Exactly, of the 32 bits that decide: at most, and up to where the margin is felt no less."""
    for epsilon in [*np.linspace(0.01, 15.99, 400), 1.0, 16.0]:
        keep = int(threshold(classes, jnp.float32(epsilon)))
        turns = np.diff(np.arange(classes) * (2**32 // (classes - 1)))  # of the other classes, the rarest
        other = (2**32 - keep) * (turns.min() / 2**32)
        assert keep <= exp(epsilon) * other
        assert epsilon > 5 or keep >= exp(epsilon) * other * (1 - 1e-3)


def test_a_row_has_one_answer_whenever_it_is_read():
    label = np.arange(64, dtype=np.int32) % 2
    rows = Rows(lambda window, at: {"y": jnp.asarray(label)[at.astype(jnp.int32)]}, jnp.float32)
    labels = MECHANISMS["randomised_response"](config.RandomisedResponse(epsilon=0.5)).labels
    zero = jnp.zeros((), jnp.int32)
    seed, window = jnp.asarray(keys.seed_words(3)), Window(zero, zero, zero, ())

    @jit
    def read(ident, at):
        return answered(labels, Spec((1,), "binary", 2), seed, ident, rows).take(window, at)["y"]

    one, other = (jnp.asarray(keys.id_words(np.array([i]))[0]) for i in (5, 6))
    order = np.random.default_rng(0).permutation(64).astype(np.uint32)
    first = np.asarray(read(one, np.arange(64, dtype=np.uint32)))
    np.testing.assert_array_equal(read(one, order), first[order])
    second = np.asarray(read(other, np.arange(64, dtype=np.uint32)))
    assert 5 < (first != label).sum() < 45 and 5 < (first != second).sum() < 59


def test_training_sees_answers_alone_the_same_in_every_round():
    """FedAvg once more in a slow loop, on the answers."""
    e = small.experiment(privacy={"name": "randomised_response", "epsilon": 0.5})
    lane = small.lane(e)
    columns = small.federation().columns
    assert columns is not None
    labels = MECHANISMS["randomised_response"](e.privacy).labels
    assert labels is not None
    drawn = keys.run_key(jnp.asarray(keys.seed_words(e.seed)), keys.LABELS)
    clients, changed = [], 0
    for c in reference.clients_of(lane, columns):
        at = jnp.arange(c.n, dtype=jnp.uint32)
        key = keys.of_client(drawn, jnp.asarray(c.ident))
        given = np.asarray(labels(jnp.asarray(c.y, jnp.int32), at, 2, key))
        changed += int((given != c.y).sum())
        clients.append(c._replace(y=given.astype(np.float64)))
    assert changed > 10
    run = reference.Loop(e, clients)
    trained = small.train([lane])
    w = small.weights(trained.engine.models(trained.engine.init())[0][0])
    for t in range(e.rounds):
        cohort = run.cohort(t)
        w = w + run.mean(cohort, [run.local(k, w, t) - w for k in cohort], w)
    np.testing.assert_allclose(small.weights(trained.models[0][0]), w, rtol=1e-5, atol=1e-5)


@pytest.mark.long
def test_models_that_are_made_to_be_judged_see_answers_too():
    """With labels that say nothing, fine-tuning learns nothing of the true ones."""
    e = small.experiment(algorithm="finetune", rounds=1, world="all", optimizer={"epochs": 40})
    told = replace(e, privacy=config.RandomisedResponse(epsilon=1e-6))
    plain, private = (small.own(small.train([small.lane(x)]), 0) for x in (e, told))
    columns = small.federation().columns
    assert columns is not None
    clients = reference.clients_of(small.lane(e), columns)

    def right(models):
        hits = [((c.x @ w[:-1] + w[-1] > 0) == c.y) for c, w in zip(clients, models, strict=True)]
        return np.concatenate(hits).mean()

    good, chance = (right([small.weights(m[k]) for k in sorted(m)]) for m in (plain, private))
    assert good > 0.85 > 0.75 > chance


@pytest.mark.parametrize("epsilon", [0.0, -1.0, 17.0])
def test_epsilons_out_of_range(epsilon):
    with pytest.raises(RequestError, match=r"privacy\.epsilon must be in \(0, 16\]"):
        config.RandomisedResponse(epsilon=epsilon)


def test_what_has_no_classes_or_changes_places_is_refused():
    with pytest.raises(RequestError, match=r"with split=drift rows change places"):
        small.experiment(
            privacy="randomised_response",
            split={"name": "drift", "base": "natural"},
        )
