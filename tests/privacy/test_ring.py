"""Messages as whole numbers of a ring: what is rounded, what is summed, what comes back."""

from dataclasses import replace
from math import sqrt

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from fedsim import config
from fedsim.base import RequestError, build_choice
from fedsim.privacy import MECHANISMS, ring
from tests.simulate import small
from tests.simulate.quick import jit

NAMES = ("discrete_gaussian", "skellam")
SHAPES = {"w": (40, 50), "b": (30,)}  # 2,030 numbers, 2,048 with the padding


def privacy(name="discrete_gaussian", **options):
    return build_choice("privacy", {"name": name, "contributors": 1.0} | options, "privacy")


def message(seed=0, size=1.0):
    rng = np.random.default_rng(seed)
    return {k: (size * rng.normal(size=s)).astype(np.float32) for k, s in SHAPES.items()}


# --- rounding --------------------------------------------------------------------------------


def test_rounding_is_unbiased_and_never_too_long():
    """Also where many roundings are drawn again: the bound is in the middle of what lengths come up."""
    x = jnp.asarray(np.random.default_rng(1).uniform(-3, 3, 64), jnp.float32)
    low = np.floor(np.asarray(x, np.float64))
    share = np.asarray(x, np.float64) - low
    expected = np.sum(low**2 + share * (2 * low + 1))
    keys = jax.random.split(jax.random.key(0), 20_000)
    for bound in (2**20, int(expected)):
        draw = jit(jax.vmap(lambda key, bound=bound: ring.rounded(x, bound, key)))
        whole = np.asarray(draw(keys))
        assert set(np.unique(whole - low)) == {0, 1}
        assert (np.square(whole).sum(axis=1) <= bound).all()
        if bound == 2**20:
            apart = (whole.mean(axis=0) - np.asarray(x)) / np.sqrt(share * (1 - share) / len(keys))
            assert stats.kstest(apart, "norm").pvalue > 1e-3
            assert 0.3 < (np.square(whole).sum(axis=1) > expected).mean() < 0.7


def test_what_cannot_be_short_enough_is_nothing():
    x = jnp.full(64, 1.5, jnp.float32)
    assert not np.asarray(ring.rounded(x, 63, jax.random.key(0))).any()


@pytest.mark.parametrize("bias", [0.0, 0.5, 0.99])
def test_the_bound_is_the_papers(bias):
    cfg, d = privacy(scale=100, bias=bias), 4096
    loose = (100 + 64) ** 2
    tight = 100**2 + d / 4 + (sqrt(2 * np.log(1 / bias)) * (100 + 32) if bias else np.inf)
    assert cfg.squared_norm(d) == int(min(loose, tight))


# --- there and back --------------------------------------------------------------------------


def there_and_back(cfg, messages, shift=0, state=None):
    """The mean that the server makes of the messages, their sum in 64 bits, and its state; no noise at it."""
    stage = MECHANISMS[cfg.name](cfg)
    state = stage.init(messages[0]) if state is None else state

    @jit
    def send(message, key):
        return stage.client(message, (), stage.announce(state, jax.random.key(9)), jax.random.key(key))[0]

    sent = [np.asarray(send(m, i)) for i, m in enumerate(messages)]
    assert all(x.dtype == np.int32 and x.shape == (2048,) for x in sent)
    total = np.sum(np.array(sent, np.int64), axis=0)
    with np.errstate(over="ignore"):
        wrapped = np.sum(np.array(sent, np.int32), axis=0, dtype=np.int32) + np.int32(shift)
    count = jnp.float32(len(messages))
    mean, after = jit(lambda t: stage.server(t, state, jax.random.key(3), count))(wrapped)
    return mean, total, after


def test_without_noise_the_mean_of_clipped_messages_comes_back():
    """Within the stated error: rounding moves each message by less than sqrt(d) steps."""
    cfg = privacy(clip_norm=30.0, noise_multiplier=0.0, scale=2**12, bits=24)
    messages = [message(0, 0.1), message(1, 0.2), message(2, 5.0)]
    mean, _, after = there_and_back(cfg, messages)
    lengths = [np.linalg.norm(small.flat(m)) for m in messages]
    assert lengths[1] < 30 < lengths[2]
    exact = np.mean([small.flat(m) * min(1, 30 / n) for m, n in zip(messages, lengths, strict=True)], axis=0)
    apart = np.linalg.norm(small.flat(mean) - exact)
    assert 0 < apart < 30 / 2**12 * sqrt(2048)
    # Rounding errors of independent messages, at most 1/4 each in variance.
    assert apart < 30 / 2**12 * sqrt(2048 / 4 / 3) * 1.2
    assert after.wrapped == 0
    assert jax.tree.map(lambda x: (x.shape, x.dtype), mean) == jax.tree.map(
        lambda x: (x.shape, x.dtype), messages[0]
    )


def test_the_next_rounds_rotation_is_another_and_inverted_too():
    cfg = privacy(clip_norm=30.0, noise_multiplier=0.0, scale=2**12, bits=24)
    mean, first, state = there_and_back(cfg, [message()])
    again, second, _ = there_and_back(cfg, [message()], state=state)
    assert np.abs(first - second).max() > 100
    np.testing.assert_allclose(small.flat(mean), small.flat(again), atol=6 * 30 / 2**12)


@pytest.mark.parametrize("bits", [8, 20, 30])
def test_the_number_nearest_zero_is_taken(bits):
    m = 2**bits
    values = np.array([0, 1, -1, m // 2 - 1, -m // 2, m // 2, m - 1, m, -m, 2**31 - 1, -(2**31)], np.int64)
    found = np.asarray(ring.centred(jnp.asarray(values.astype(np.int32)), bits))
    np.testing.assert_array_equal(found, (values + m // 2) % m - m // 2)


def test_sums_are_of_the_ring_and_what_it_does_not_hold_is_counted():
    """The same bits whatever multiple of the modulus is added, as masks that cancel may; counted, though."""
    cfg = privacy(clip_norm=30.0, noise_multiplier=2.0, scale=2**10, bits=20)
    messages = [message(i, 0.1) for i in range(5)]
    mean, total, after = there_and_back(cfg, messages)
    shifted, _, wrapped = there_and_back(cfg, messages, shift=3 * 2**20)
    small.assert_same_bits(jax.device_get(shifted), jax.device_get(mean))
    assert after.wrapped == 0 and wrapped.wrapped == 2048
    narrow = replace(cfg, bits=12)
    _, total, after = there_and_back(narrow, messages)
    outside = (total < -(2**11)) | (total >= 2**11)
    assert 0 < outside.sum() < 2048 and after.wrapped == outside.sum()


@pytest.mark.parametrize("name", NAMES)
def test_noise_of_those_who_come_adds_up(name):
    """Of six shares of eight: as much less variance as is missing, and that is what is accounted for."""
    cfg = privacy(name, clip_norm=1.0, noise_multiplier=1.0, contributors=8.0, scale=100, bits=20)
    nothing = jax.tree.map(np.zeros_like, message())
    for came in (8, 6):
        mean, total, _ = there_and_back(cfg, [nothing] * came)
        assert total.var() == pytest.approx(came * cfg.variance(), rel=5 * sqrt(2 / 2048))
        # Rotation and scale keep it: noise_multiplier * clip_norm on the sum, where all come.
        assert small.flat(mean).std() * came == pytest.approx(sqrt(came / 8), rel=0.1)


def test_what_is_not_finite_is_nothing():
    cfg = privacy(noise_multiplier=0.0)
    for wrong in (np.nan, np.inf, 1e30):
        mean, _, _ = there_and_back(cfg, [message() | {"b": np.full(30, wrong, np.float32)}])
        assert not small.flat(mean).any()


# --- what is refused -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"bits": 31}, r"privacy\.bits must be in \[2, 30\], got 31"),
        ({"scale": 0}, r"privacy\.scale must be in"),
        ({"bias": 1.0}, r"privacy\.bias must be in \[0, 1\)"),
        ({"clip_norm": 0.0}, r"privacy\.clip_norm must be in \(0, inf\)"),
        ({"relation": "add_or_remove_one"}, r"has no account .* set privacy\.relation=replace_special"),
        ({"contributors": 0.5}, r"privacy\.contributors must be >= 1"),
        ({"noise_multiplier": 5.0}, r"up to a deviation of 1024 steps, and privacy\.noise_multiplier=5"),
    ],
)
def test_options_out_of_range(options, said):
    with pytest.raises(RequestError, match=said):
        privacy("skellam", **options)


def test_a_ring_that_is_too_small_for_the_cohort_is_refused():
    cfg = privacy(bits=12, scale=256, contributors=10.0)
    with pytest.raises(RequestError, match=r"privacy\.bits=12 is too small a ring: .* set privacy\.bits=13"):
        cfg.check_ring(64, 20)
    replace(cfg, bits=13).check_ring(64, 20)
    with pytest.raises(RequestError, match=r"contributors=10 clients' noise .* and 8 take part.* to 8"):
        replace(cfg, bits=13).check_ring(64, 8)
    with pytest.raises(RequestError, match=r"privacy\.scale=16384 is too fine for messages of"):
        replace(cfg, bits=30, scale=2**14).check_ring(2**32, 20)


def test_shares_of_noise_need_a_secure_sum():
    with pytest.raises(RequestError, match=r"with secure=none the server would see every message"):
        experiment(secure="none")


# --- in the engine ---------------------------------------------------------------------------

EXACT = {"name": "discrete_gaussian", "clip_norm": 100.0, "noise_multiplier": 0.0, "contributors": 1.0}


def experiment(**changes):
    base = {"algorithm": {"name": "fedavg", "weighting": "uniform"}, "world": "all", "secure": "bonawitz"}
    return small.experiment(**(base | {"privacy": EXACT | {"scale": 2**14, "bits": 28}} | changes))


def test_a_fine_ring_without_noise_is_fedavg():
    """Every round moves the model by less than a message's rounding error from what FedAvg makes."""
    e = experiment(rounds=1)
    lanes = [small.lane(x) for x in (e, replace(e, privacy=config.NoPrivacy()))]
    found, exact = (small.weights(small.train([lane]).models[0][0]) for lane in lanes)
    step = 100.0 / 2**14
    assert 0 < np.linalg.norm(found - exact) < step * sqrt(8)


@pytest.mark.long
def test_bits_do_not_depend_on_how_the_cohort_is_summed():
    """The same messages in blocks of one, by groups of one or all in one: sums of whole numbers are exact."""
    cut = [experiment(rounds=2, numerics={"block": 1, "group": group}) for group in (1, 6)]
    small.assert_same_bits(*(small.train([small.lane(e)]).states[0].server for e in cut))


def test_what_it_is_unsound_with_is_refused():
    with pytest.raises(RequestError, match=r"sums whole numbers .* algorithm=scaffold takes another"):
        small.engine([small.lane(experiment(algorithm={"name": "scaffold", "weighting": "uniform"}))])
    with pytest.raises(RequestError, match=r"weights that do not depend on the data"):
        small.engine([small.lane(experiment(algorithm="fedavg"))])
    with pytest.raises(RequestError, match=r"privacy\.bits=4 is too small a ring"):
        small.engine([small.lane(experiment(privacy=EXACT | {"bits": 4}))])
