"""Samplers of whole-number noise: against their probabilities, tails included."""

from fractions import Fraction
from math import exp, sqrt

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special, stats

from fedsim import config
from fedsim.privacy.discrete_gaussian import discrete_gaussian_noise, tables
from fedsim.privacy.discrete_gaussian import rounded_up as rounded_deviation
from fedsim.privacy.skellam import masses, skellam_noise, table
from fedsim.privacy.skellam import rounded_up as rounded_variance
from tests.simulate.quick import jit

DRAWS = 200_000
SAMPLERS = {"discrete_gaussian": discrete_gaussian_noise, "skellam": skellam_noise}
# One program for each, whatever the deviation and the key.
DRAW = {name: jit(lambda key, deviation, f=f: f(key, DRAWS, deviation)) for name, f in SAMPLERS.items()}


def mass(name, variance):
    """(whole numbers, their probabilities), written out."""
    far = int(13 * sqrt(variance)) + 20
    k = np.arange(-far, far + 1)
    p = np.exp(-(k**2) / (2 * variance)) if name == "discrete_gaussian" else special.ive(np.abs(k), variance)
    return k, p / p.sum()


@pytest.mark.parametrize("name", SAMPLERS)
@pytest.mark.parametrize(("deviation", "variance"), [(0.4, (1, 1)), (3.0, (9, 9)), (40.5, (41**2, 1648))])
def test_numbers_come_up_as_often_as_they_should(name, deviation, variance):
    """Deviations are rounded up: to whole numbers, or to a variance of 8 bits."""
    k, p = mass(name, variance[name == "skellam"])
    x = np.asarray(DRAW[name](jax.random.key(7), np.float32(deviation)))
    seen = np.bincount(x - k[0], minlength=len(k))
    often = p * DRAWS >= 10
    below, above = ~often & (k < 0), ~often & (k > 0)
    seen, p = (np.array([*v[often], v[below].sum(), v[above].sum()]) for v in (seen, p))
    assert stats.chisquare(seen, p * DRAWS).pvalue > 1e-3
    far = DRAWS * p[-2:]  # both tails together, to which that is blind
    assert stats.binomtest(int(seen[-2:].sum()), DRAWS, far.sum() / DRAWS).pvalue > 1e-3


@pytest.mark.parametrize("name", SAMPLERS)
def test_draws_share_nothing_and_no_noise_is_none(name):
    key = jax.random.split(jax.random.key(0), 2)
    x, y = (np.asarray(DRAW[name](k, np.float32(20))) for k in key)
    bound = 4 / sqrt(DRAWS)
    assert abs(np.corrcoef(x, y)[0, 1]) < bound and abs(np.corrcoef(x[1:], x[:-1])[0, 1]) < bound
    assert not np.asarray(DRAW[name](key[0], np.float32(0))).any()


@pytest.mark.parametrize("name", SAMPLERS)
def test_what_is_drawn_is_no_less_than_what_is_accounted_for(name):
    """The account rounds the share up in float64, the program in float32."""
    cls = config.MEMBERS["privacy"][name]
    rng = np.random.default_rng(0)
    for multiplier in [*rng.uniform(0.1, 3, 40), 1.0, 0.5]:
        cfg = cls(noise_multiplier=float(multiplier), contributors=float(rng.integers(1, 9)), scale=64)
        share = np.float32(multiplier) * np.float32(64) / np.sqrt(np.float32(cfg.contributors))
        if name == "skellam":
            drawn = int(rounded_variance(jnp.float32(share)))
        else:
            drawn = int(rounded_deviation(jnp.float32(share))) ** 2
        assert drawn >= cfg.variance() >= cfg.share() ** 2 * (1 - 2e-6)
        assert cfg.variance() == drawn
    whole = cls(noise_multiplier=1.0, contributors=16.0, scale=64)
    assert whole.variance() == 256  # what is whole is not rounded up


def test_tables_of_the_discrete_gaussian_are_right_to_the_last_bit():
    above, kept = (t.astype(object) @ np.array([2**32, 1]) for t in tables())
    weight = [exp(-v * v / 2) for v in range(40)]
    for v, entry in enumerate(above):
        assert entry / 2**64 == pytest.approx(sum(weight[v + 1 :]) / sum(weight), rel=1e-12, abs=2.0**-64)
    assert list(kept[1:] / 2**64) == pytest.approx([exp(-q) for q in range(1, len(kept))], rel=1e-12)
    assert kept[0] == 2**64 - 1


@pytest.mark.parametrize("power", [0, 1, 7, 20])
def test_tables_of_skellam_are_its_probabilities(power):
    """As `scipy` has them to 12 digits, far out too; and the alias tables come to them exactly."""
    whole = masses(power)
    n = len(whole)
    assert sum(whole) == n * 2**64
    p = special.ive(np.arange(n), 2.0**power) * np.where(np.arange(n) == 0, 1, 2)
    np.testing.assert_allclose([m / n / 2**64 for m in whole], p, rtol=1e-11, atol=2.0**-60)
    t = table()
    mine = slice(int(t.begin[power]), int(t.begin[power]) + n)
    stays = t.stays[mine].astype(object) @ np.array([2**32, 1])
    found = [int(s) for s in stays]
    for k, (s, other) in enumerate(zip(stays, t.other[mine], strict=True)):
        found[int(other)] += 2**64 - int(s) if other != k else 0
    wrong = sum(abs(a - b) for a, b in zip(found, whole, strict=True))
    assert Fraction(wrong, n * 2**64) < Fraction(1, 2**60)
