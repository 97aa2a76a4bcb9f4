"""The Gaussian mechanism: what is clipped, how much noise there is, and that nothing tells who was there."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import stats

from fedsim import config, world
from fedsim.base import RequestError, build_choice
from fedsim.privacy import MECHANISMS
from fedsim.privacy.central import clip
from fedsim.privacy.gaussian import gaussian
from tests.contract.stages import CENTRAL
from tests.golden import reference
from tests.simulate import small

vectors = hnp.arrays(np.float32, 5, elements=st.floats(-(2.0**50), 2.0**50, width=32))


def norm(message):
    return float(np.linalg.norm(small.flat(message)))


def test_every_mechanism_is_named():
    assert MECHANISMS.keys() == config.MEMBERS["privacy"].keys()


@given(vectors, vectors, st.floats(1e-3, 1e3))
def test_a_clipped_message_is_within_the_bound(a, b, bound):
    message = {"a": jnp.asarray(a), "b": (jnp.asarray(b).reshape(5, 1),)}
    clipped = clip(message, bound)
    assert norm(clipped) <= bound * (1 + 1e-6)
    if 1e-15 < norm(message) <= bound * (1 - 1e-6):  # what is short enough stays as it is
        np.testing.assert_array_equal(small.flat(clipped), small.flat(message))
    elif norm(message) > bound:  # what is not keeps its direction, as one vector
        assert norm(clipped) == pytest.approx(bound, rel=1e-5)
        np.testing.assert_allclose(
            small.flat(clipped) / bound, small.flat(message) / norm(message), rtol=1e-4, atol=1e-6
        )


def test_a_message_of_zeros_stays():
    assert norm(clip({"w": jnp.zeros(3, jnp.float32)}, 1.0)) == 0


@pytest.mark.parametrize("bound", [0.0, -1.0, float("inf")])
@pytest.mark.parametrize("name", CENTRAL)
def test_a_bound_that_is_none_is_refused(name, bound):
    with pytest.raises(RequestError, match=rf"privacy\.clip_norm must be in \(0, inf\), got {bound}"):
        build_choice("privacy", {"name": name, "clip_norm": bound}, "privacy")


@pytest.mark.parametrize(("multiplier", "bound", "count"), [(1.0, 1.0, 1), (2.0, 0.5, 4), (0.7, 3.0, 10)])
def test_the_noise_has_the_deviation_it_should(multiplier, bound, count):
    stage = gaussian(config.GaussianPrivacy(clip_norm=bound, noise_multiplier=multiplier))
    like = {"w": jnp.zeros((40, 50), jnp.float32), "b": jnp.ones(1000, jnp.float32)}
    make = jax.jit(jax.vmap(lambda k: stage.server(like, stage.init(like), k, jnp.float32(count))[0]))
    drawn = make(jax.random.split(jax.random.key(0), 20))
    deviation = multiplier * bound / count
    values = np.concatenate([np.asarray(drawn["w"]).ravel(), np.asarray(drawn["b"]).ravel() - 1]) / deviation
    n = len(values)
    assert n == 60_000
    assert abs(values.mean()) < 4 / n**0.5
    assert abs(values.std() - 1) < 4 / (2 * n) ** 0.5
    assert stats.kstest(values, "norm").pvalue > 1e-3
    # Leaves and draws share no noise.
    rows = np.stack([np.asarray(drawn["w"])[0].ravel()[:1000], np.asarray(drawn["w"])[1].ravel()[:1000],
                     np.asarray(drawn["b"])[0]])  # fmt: skip
    assert np.abs(np.corrcoef(rows) - np.eye(3)).max() < 0.15


def test_no_noise_is_a_clip():
    stage = gaussian(config.GaussianPrivacy(clip_norm=1.0, noise_multiplier=0.0))
    aggregate = {"w": jnp.arange(3, dtype=jnp.float32)}
    after, _ = stage.server(aggregate, stage.init(aggregate), jax.random.key(0), jnp.float32(2))
    np.testing.assert_array_equal(after["w"], aggregate["w"])
    assert stage.mechanism is not None and stage.mechanism.sensitivity == 1.0


# --- in the engine ---------------------------------------------------------------------------

POISSON = {"name": "poisson", "rate": 0.25}
ENDLESS = replace(small.experiment().optimizer, step_size=1e38)


def private(**privacy):
    return small.experiment(
        algorithm={"name": "fedavg", "weighting": "uniform"},
        privacy={"name": "gaussian", "noise_multiplier": 0.0} | privacy,
        world=POISSON,
        rounds=8,
    )


def test_the_denominator_does_not_tell_who_was_there():
    """McMahan et al. 2018, Alg. 1: the clipped sum over q W, whatever the cohort's size, 0 included."""
    e = private(clip_norm=0.4)
    lane = small.lane(e)
    columns = small.federation().columns
    assert columns is not None
    run = reference.Loop(e, reference.clients_of(lane, columns))
    trained = small.train([lane])
    en = trained.engine
    w = small.weights(en.models(en.init())[0][0])
    sizes, lengths = set(), []
    for t in range(e.rounds):
        cohort = run.cohort(t)
        sizes.add(len(cohort))
        total = np.zeros_like(w)
        for k in cohort:
            update = run.local(k, w, t) - w
            lengths.append(np.linalg.norm(update))
            total += update * min(1, 0.4 / lengths[-1])
        w = w + total / (0.25 * len(run.clients))
    assert 0 in sizes and len(sizes) > 2 and min(lengths) < 0.4 < max(lengths)
    np.testing.assert_allclose(small.weights(trained.models[0][0]), w, rtol=1e-5, atol=1e-5)


def test_noise_of_runs_differs_by_seed_and_grows_with_the_multiplier():
    """Also in a round that nobody came to: silence would tell."""
    empty = [s for s in range(200) if len(world.cohort(config.Poisson(rate=0.25), s, 0, 6)) == 0][:8]
    base = private(noise_multiplier=1.0)
    lanes = [small.lane(replace(base, seed=s), rounds=1) for s in empty]
    lanes.append(small.lane(replace(private(noise_multiplier=3.0), seed=empty[0]), rounds=1))
    trained = small.train(lanes)
    en = trained.engine
    first = [small.weights(m) for m, _ in en.models(en.init())]
    moved = np.stack([small.weights(m) - f for (m, _), f in zip(trained.models, first, strict=True)])
    noise, again = moved[:-1] * 1.5, moved[-1] * 1.5  # times the expected cohort: deviation 1
    np.testing.assert_allclose(again, 3 * noise[0], rtol=1e-5, atol=1e-6)
    assert stats.kstest(noise.ravel(), "norm").pvalue > 1e-3
    assert len(np.unique(noise)) == noise.size


def test_updates_that_are_not_finite_move_nothing_and_are_counted():
    """All clients' steps are endless; what is left is noise, of which there is none here."""
    trained = small.train([small.lane(replace(private(clip_norm=0.4), optimizer=ENDLESS))])
    en = trained.engine
    columns = small.federation().columns
    assert columns is not None
    came = sum(len(en.schedules[0].meet(t).cohort) for t in range(8))
    assert en.measures(trained.handles) == [{"nonfinite": came}] and came > 5
    np.testing.assert_array_equal(
        small.weights(trained.models[0][0]), small.weights(en.models(en.init())[0][0])
    )
    assert trained.rounds[-1].finite.all()


def test_what_it_is_unsound_with_is_refused():
    with pytest.raises(RequestError, match=r"privacy=gaussian needs weights .* algorithm\.weighting=uniform"):
        small.engine([small.lane(small.experiment(privacy="gaussian"))])
    with pytest.raises(RequestError, match=r"privacy=gaussian needs a sum over clients.*algorithm=fedavg"):
        e = small.experiment(
            privacy="gaussian", aggregator="median", algorithm={"name": "fedavg", "weighting": "uniform"}
        )
        small.engine([small.lane(e)])
