"""Adaptive clipping: how its noise is split, where the bound goes, and that it is what clients are told."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fedsim import config
from fedsim.base import RequestError
from fedsim.privacy.adaptive_clip import adaptive_clip, update_noise
from tests.golden import reference
from tests.simulate import small
from tests.simulate.quick import jit


@pytest.mark.parametrize(
    ("multiplier", "bits", "found"),
    [(1.0, 5.0, 1.0050378), (2.0, 5.0, (0.25 - 0.01) ** -0.5), (0.0, 5.0, 0.0), (0.0, 0.0, 0.0)],
)
def test_both_kinds_of_noise_cost_together_what_was_asked(multiplier, bits, found):
    assert float(update_noise(multiplier, bits)) == pytest.approx(found, rel=1e-6)
    if multiplier:
        assert found**-2 + (2 * bits) ** -2 == pytest.approx(multiplier**-2, rel=1e-6)


def test_the_updates_noise_is_in_units_of_the_bound_of_the_round():
    stage = adaptive_clip(config.AdaptiveClip(noise_multiplier=1.0, bit_noise=5.0))
    like = {"w": jnp.zeros(200_000, jnp.float32)}
    state = stage.init(like)._replace(clip_norm=jnp.float32(3.0))
    drawn, _ = jit(stage.server)(like, state, jax.random.key(0), jnp.float32(7))
    values = np.asarray(drawn["w"], np.float64) / (1.0050378 * 3 / 7)
    assert abs(values.std() - 1) < 4 / (2 * values.size) ** 0.5


@pytest.mark.parametrize("quantile", [0.2, 0.5, 0.9])
def test_the_bound_goes_to_the_quantile(quantile):
    """1000 clients whose norms are log-normal in every round, started 100 times too low."""
    cfg = config.AdaptiveClip(clip_norm=0.02, quantile=quantile, bit_noise=20.0, clip_step_size=0.2)
    stage = adaptive_clip(cfg)
    norms = np.exp(np.random.default_rng(0).normal(size=(200, 1000)) * 0.5 + 1).astype(np.float32)

    def one(state, now):
        mine, key = now
        reports = jax.vmap(lambda x: stage.report({"w": x[None]}, stage.announce(state, key)))(mine)
        total = jax.tree.map(lambda x: jnp.sum(x, axis=0), reports)
        return stage.hear(state, total, key, jnp.float32(1000)), state.clip_norm

    keys = jax.random.split(jax.random.key(0), len(norms))
    state, bounds = jit(
        lambda norms, keys: jax.lax.scan(one, stage.init({"w": norms[0, :1]}), (norms, keys))
    )(norms, keys)
    assert bounds[0] == pytest.approx(0.02)
    assert np.mean(bounds[-50:]) == pytest.approx(np.quantile(norms, quantile), rel=0.03)
    assert state.nonfinite == 0


def private(**privacy):
    return small.experiment(
        algorithm={"name": "fedavg", "weighting": "uniform"},
        privacy={"name": "adaptive_clip", "noise_multiplier": 0.0, "bit_noise": 0.0} | privacy,
        world={"name": "poisson", "rate": 0.5},
        rounds=8,
    )


def test_training_is_the_papers_loop():
    """Andrew et al. 2021, Alg. 1, without noise, with what is divided by being the expected cohort."""
    e = private(clip_norm=0.2, quantile=0.6, clip_step_size=0.7)
    lane = small.lane(e)
    columns = small.federation().columns
    assert columns is not None
    run = reference.Loop(e, reference.clients_of(lane, columns))
    trained = small.train([lane])
    en = trained.engine
    w, bound, expected = small.weights(en.models(en.init())[0][0]), 0.2, 0.5 * len(run.clients)
    shares = set()
    for t in range(e.rounds):
        total, bits = np.zeros_like(w), 0.0
        for k in run.cohort(t):
            update = run.local(k, w, t) - w
            length = np.linalg.norm(update)
            total += update * min(1, bound / length)
            bits += (length <= bound) - 0.5
        w = w + total / expected
        share = bits / expected + 0.5
        bound *= np.exp(-0.7 * (share - 0.6))
        shares.add(round(share, 3))
    assert len(shares) > 2
    np.testing.assert_allclose(small.weights(trained.models[0][0]), w, rtol=1e-5, atol=1e-5)
    assert en.measures(trained.handles) == [{"clip_norm": pytest.approx(bound, rel=1e-5), "nonfinite": 0}]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"quantile": 0.0}, r"privacy\.quantile must be in \(0, 1\), got 0"),
        ({"quantile": 1.0}, r"privacy\.quantile must be in \(0, 1\), got 1"),
        ({"clip_step_size": -0.1}, r"privacy\.clip_step_size must be in \[0, inf\), got -0\.1"),
        ({"bit_noise": 0.5}, r"privacy\.bit_noise must be more than half of privacy\.noise_multiplier=1\.0"),
        ({"noise_multiplier": -1.0}, r"privacy\.noise_multiplier must be in \[0, inf\), got -1"),
    ],
)
def test_what_it_cannot_work_with_is_refused(options, said):
    with pytest.raises(RequestError, match=said):
        config.AdaptiveClip(**options)
