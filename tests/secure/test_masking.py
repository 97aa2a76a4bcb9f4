"""Fixed point and masks in the compiled program."""

from fractions import Fraction
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fedsim.config import SecureSum
from fedsim.config.secure import Bonawitz, LightSecAgg
from fedsim.secure.attendance import check
from fedsim.secure.masking import Masking, Upload, more

ONE = jnp.float32(1)
PLAIN = Bonawitz(mode="exact")  # without masks, which take long to compile


def key(u: int) -> Any:
    return jax.random.fold_in(jax.random.key(0), u)


def summed(uploads: list[Upload]) -> Upload:
    return jax.tree.map(lambda *x: sum(x[1:], start=x[0]), *uploads)


def through(cfg: SecureSum, values: list[Any], heaviest: Any = ONE) -> tuple[Any, int]:
    """The sum of values' trees as the server gets it, and how many of their numbers were clipped."""
    masking = Masking(cfg)
    uploads = [masking.upload(v, (), heaviest, key(u)) for u, v in enumerate(values)]
    (total, _), clipped = masking.total(summed(uploads), (values[0], ()), heaviest)
    return total, int(clipped)


@pytest.mark.parametrize("mode", ["fast", "exact"])
def test_a_sum_is_that_of_the_rounded_numbers_exactly(mode: Any) -> None:
    cfg = Bonawitz(range=2.0, bits=12, mode=mode)
    values = np.random.default_rng(0).uniform(-2, 2, (5, 40)).astype(np.float32)
    total, clipped = through(cfg, [jnp.asarray(v) for v in values])
    top = 2**11 - 1
    whole = [sum(round(Fraction(float(v)) * top / 2) for v in values[:, i]) for i in range(40)]
    np.testing.assert_array_equal(np.asarray(total), np.array(whole, np.float32) * np.float32(2.0 / top))
    assert clipped == 0


def test_both_modes_give_the_same_bits_and_only_one_adds_masks_here() -> None:
    values = [jnp.asarray(v) for v in np.random.default_rng(1).normal(size=(4, 9)).astype(np.float32)]
    sums = [np.asarray(through(Bonawitz(mode=m), values)[0]) for m in ("fast", "exact")]
    assert sums[0].tobytes() == sums[1].tobytes()
    fast, exact = (Masking(Bonawitz(mode=m)).upload(values[0], (), ONE, key(0)) for m in ("fast", "exact"))
    assert exact.masks == () and (np.asarray(fast.numbers[0]) != np.asarray(exact.numbers[0])).all()


@pytest.mark.parametrize("cfg", [Bonawitz(mode="exact"), LightSecAgg(mode="exact")], ids=lambda c: c.name)
def test_the_largest_cohort_at_the_edge_of_the_range_does_not_wrap(cfg: SecureSum) -> None:
    top = 2 ** (cfg.bits - 1) - 1
    most = (cfg.modulus - 1) // 2 // top
    check(cfg, most, most)
    masking = Masking(cfg)
    for value in (1.0, -1.0, jnp.inf, -jnp.inf):
        sent = masking.upload(jnp.full(1, value, jnp.float32), (), ONE, key(0))
        many = jax.tree.map(lambda x: x * jnp.uint32(most), sent)  # as many clients that send the same
        (total, _), clipped = masking.total(many, (jnp.zeros(1, jnp.float32), ()), ONE)
        assert float(total[0]) == pytest.approx(np.sign(value) * most, rel=1e-6)
        assert int(clipped) == (most if np.isinf(value) else 0)


@pytest.mark.long
def test_numbers_beyond_the_range_are_clipped_and_counted_and_nothing_else_is() -> None:
    beyond = jnp.array([1.5, -7.0, jnp.nan, jnp.inf, 0.25, 1.0, -1.0], jnp.float32)
    total, clipped = through(PLAIN, [beyond, jnp.zeros(7, jnp.float32)])
    assert clipped == 4
    np.testing.assert_allclose(np.asarray(total), [1, -1, 0, 1, 0.25, 1, -1], atol=2**-19)


def test_weights_are_numbers_like_others() -> None:
    """A weighted message and its weight, in units of the heaviest."""
    heavy = jnp.float32(64)
    values = [(jnp.full(3, w * m, jnp.float32), jnp.float32(w)) for w, m in ((50.0, 0.9), (3.0, -0.5))]
    (message, weight), clipped = through(PLAIN, values, heavy)
    assert clipped == 0 and float(weight) == pytest.approx(53, abs=64 * 2**-19)
    np.testing.assert_allclose(np.asarray(message), 50 * 0.9 - 1.5, atol=64 * 2**-19)


def test_reports_are_summed_beside_in_steps_of_their_own() -> None:
    """Halves and counts come back as they are, whatever range and weights are."""
    masking, heavy = Masking(Bonawitz(range=0.01)), jnp.float32(64)
    reports = [(jnp.float32(h), jnp.int32(n)) for h, n in ((0.5, 1), (-0.5, 0), (0.5, 1))]
    uploads = [masking.upload((), r, heavy, key(u)) for u, r in enumerate(reports)]
    (_, (halves, count)), clipped = masking.total(summed(uploads), ((), reports[0]), heavy)
    assert (float(halves), int(count), int(clipped)) == (0.5, 2, 0)


@pytest.mark.long
def test_a_message_that_was_clipped_to_a_norm_is_not_longer_for_being_rounded() -> None:
    message = jnp.asarray(np.random.default_rng(2).normal(size=1000).astype(np.float32))
    message = message / jnp.linalg.norm(message)
    for inward, longer in ((True, False), (False, True)):
        masking = Masking(Bonawitz(bits=8, mode="exact"), inward)
        sent = masking.upload(message, (), ONE, key(0))
        (found, _), _ = masking.total(sent, (message, ()), ONE)
        assert (float(jnp.linalg.norm(found)) > 1) == longer


def test_whole_numbers_go_in_as_they_are() -> None:
    """A mechanism's with noise of its own: neither scaled, clipped nor counted."""
    values = [jnp.array([2**20, -(2**21), 7], jnp.int32), jnp.array([1, 2, -9], jnp.int32)]
    total, clipped = through(Bonawitz(bits=4, mode="exact"), values)
    assert total.dtype == jnp.int32 and total.tolist() == [2**20 + 1, 2 - 2**21, -2] and clipped == 0


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_sums_have_the_dtype_of_what_is_summed(dtype: Any) -> None:
    total, _ = through(PLAIN, [jnp.full(4, 0.5, dtype), jnp.full(4, 0.25, dtype)])
    assert total.dtype == dtype and np.allclose(np.asarray(total, np.float32), 0.75, atol=0.01)


def test_masks_are_uniform_and_new_for_every_client_and_round() -> None:
    masking, zeros = Masking(Bonawitz()), jnp.zeros(20_000, jnp.float32)
    one, two = (np.asarray(masking.upload(zeros, (), ONE, key(u)).numbers[0]) for u in (0, 1))
    for seen in (one, two, one ^ two):
        bits = np.unpackbits(seen.view(np.uint8))
        assert abs(bits.mean() - 0.5) < 0.003  # five deviations
        assert np.histogram(seen, 8, (0, 2**32))[0].min() > 2500 * 0.9
    assert abs(np.corrcoef(one.astype(float), two.astype(float))[0, 1]) < 0.04


def test_a_count_of_clipped_numbers_ends_at_the_largest_there_is() -> None:
    assert int(more(jnp.uint32(5), jnp.uint32(6))) == 11
    assert int(more(jnp.uint32(2**32 - 2), jnp.uint32(6))) == 2**32 - 1
