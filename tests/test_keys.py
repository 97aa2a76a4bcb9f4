"""Keys depend on what they should and on nothing else; the shuffle is a uniform permutation."""

from functools import cache
from itertools import permutations, product
from math import factorial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from scipy import stats

from fedsim import keys

MOST = 3000


@cache
def _shuffle():
    """Orders of range(n) for a batch of seeds and one epoch: uint32[seeds, MOST], entries from n on void."""

    def one(seed, n, epoch):
        position = jnp.minimum(jnp.arange(MOST, dtype=jnp.uint32), n - jnp.uint32(1))
        return keys.shuffle(position, n, keys.run_key(seed, keys.TRAIN), epoch)

    return jax.jit(jax.vmap(one, in_axes=(0, None, None)))


def orders(seeds, n, epoch=0):
    words = np.stack([keys.seed_words(int(s)) for s in seeds])
    return np.asarray(_shuffle()(words, np.uint32(n), np.uint32(epoch)))[:, :n]


@given(st.integers(1, MOST), st.integers(0, 2**63 - 1), st.integers(0, 2**32 - 1))
@example(1, 0, 0)
@example(2, 1, 0)
@example(MOST, 2**63 - 1, 2**32 - 1)
def test_shuffle_is_a_permutation(n, seed, epoch):
    assert np.array_equal(np.sort(orders([seed], n, epoch)[0]), np.arange(n))


def test_shuffle_is_a_permutation_for_every_small_n():
    for n in [*range(1, 130), 255, 256, 257, 1023, 1024, 1025, 2999]:
        assert np.array_equal(np.sort(orders([5], n)[0]), np.arange(n)), n


@cache
def _small():
    """The first eight entries for very many seeds; the width is the cost, so it is small here."""

    def one(seed, n, epoch):
        position = jnp.minimum(jnp.arange(8, dtype=jnp.uint32), n - jnp.uint32(1))
        return keys.shuffle(position, n, keys.run_key(seed, keys.TRAIN), epoch)

    return jax.jit(jax.vmap(one, in_axes=(0, None, 0)))


@pytest.mark.parametrize("n", [2, 3, 4, 5])
@pytest.mark.parametrize("vary", ["seed", "epoch"])
def test_every_order_comes_as_often_as_any_other(n, vary):
    draws = 30_000
    count = np.arange(draws, dtype=np.uint32)
    words = np.zeros((draws, 2), np.uint32)
    words[:, 1] = count if vary == "seed" else 17
    epochs = count if vary == "epoch" else np.zeros_like(count)
    found = np.asarray(_small()(words, np.uint32(n), epochs))[:, :n]
    index = found.astype(np.int64) @ (n ** np.arange(n, dtype=np.int64))
    seen, counts = np.unique(index, return_counts=True)
    assert {tuple((i // n ** np.arange(n)) % n) for i in seen.tolist()} == set(permutations(range(n)))
    assert stats.chisquare(counts).pvalue > 1e-3, counts
    assert len(counts) == factorial(n)


def test_places_of_a_larger_shuffle_are_uniform_and_epochs_unrelated():
    n, draws = 50, 1000
    words = range(draws)
    first, second = orders(words, n), orders(words, n, epoch=1)
    places = np.stack([np.bincount(first[:, i], minlength=n) for i in range(n)])
    assert stats.chisquare(places.ravel()).pvalue > 1e-3
    # Two epochs agree in a place as often as two strangers: Binomial(n * draws, 1 / n).
    same = int((first == second).sum())
    assert abs(same - draws) < 5 * draws**0.5


def test_keys_differ_by_seed_purpose_round_and_client():
    ids = np.array([0, 1, 2**32, 2**32 + 1, 2**64 - 1], np.uint64)
    made = {}
    for seed, purpose, rnd, i in product((0, 1, 2**32, 2**62), range(4), (0, 1, 7), range(len(ids))):
        words = (
            jnp.asarray(keys.seed_words(seed)),
            purpose,
            jnp.int32(rnd),
            jnp.asarray(keys.id_words(ids[i])),
        )
        made[seed, purpose, rnd, i] = jax.random.key_data(keys.client_key(*words)).tobytes()
    assert len(set(made.values())) == len(made)


def test_keys_of_runs_rounds_and_steps_differ():
    seed = jnp.asarray(keys.seed_words(3))
    made = [keys.run_key(seed, p) for p in range(4)]
    made += [keys.round_key(seed, p, jnp.int32(r)) for p in range(4) for r in range(3)]
    made += [keys.step_key(made[1], jnp.int32(s)) for s in range(3)]
    data = [jax.random.key_data(k).tobytes() for k in made]
    # round_key folds a round into the run's key, and step_key a step: same fold, same key, by design.
    assert len(set(data)) == len(data) - 3


@given(st.integers(0, 2**63 - 1))
def test_seed_words_hold_the_seed(seed):
    high, low = (int(w) for w in keys.seed_words(seed))
    assert (high << 32) + low == seed


@given(st.lists(st.integers(0, 2**64 - 1), min_size=1, max_size=5))
def test_id_words_hold_the_identity(ids):
    words = keys.id_words(np.array(ids, np.uint64)).astype(object)
    assert [(int(h) << 32) + int(low) for h, low in words] == ids
    assert keys.id_words(np.array(ids, np.uint64)).dtype == np.uint32


def test_a_shuffle_does_not_depend_on_who_asks():
    """Nor on how many positions are asked for at once."""
    seed = jnp.asarray(keys.seed_words(9))
    key = keys.client_key(seed, keys.TRAIN, jnp.int32(2), jnp.asarray(keys.id_words(np.array(77, np.uint64))))
    n = jnp.uint32(100)
    whole = np.asarray(keys.shuffle(jnp.arange(100, dtype=jnp.uint32), n, key, jnp.uint32(0)))
    some = np.asarray(keys.shuffle(jnp.array([7, 99, 7], jnp.uint32), n, key, jnp.uint32(0)))
    assert some.tolist() == whole[[7, 99, 7]].tolist()


def test_keys_are_folds_of_threefry():
    seed = jnp.asarray(keys.seed_words(2**40 + 3))
    theirs = jax.random.wrap_key_data(seed, impl="threefry2x32")
    for word in (keys.TRAIN, 7):
        theirs = jax.random.fold_in(theirs, word)
    ours = keys.round_key(seed, keys.TRAIN, jnp.int32(7))
    for mine, other in ((ours, theirs), (keys.step_key(ours, jnp.int32(9)), jax.random.fold_in(theirs, 9))):
        assert np.array_equal(jax.random.key_data(mine), jax.random.key_data(other))
    # A client whose first word is 0 is a fold of the second.
    client = keys.of_client(ours, jnp.array([0, 5], jnp.uint32))
    assert np.array_equal(jax.random.key_data(client), jax.random.key_data(jax.random.fold_in(theirs, 5)))


def test_bits_are_uniform_and_streams_have_nothing_in_common():
    key = keys.run_key(jnp.asarray(keys.seed_words(4)), keys.CHANNEL)
    drawn = [np.asarray(keys.bits(key, (100, 200), stream)) for stream in (0, 1)]
    assert all(x.dtype == np.uint32 for x in drawn)
    assert (drawn[0].ravel() == np.asarray(keys.bits(key, (20_000,), 0))).all()
    assert len(np.unique(np.concatenate(drawn))) > 40_000 - 10  # of 2^32: a fifth of a pair alike on average
    for x in (*drawn, drawn[0] ^ drawn[1]):
        assert np.unpackbits(x.ravel().view(np.uint8)).mean() == pytest.approx(0.5, abs=0.003)
