"""All randomness inside a compiled program comes from here.

A key is a function of (seed, purpose, round, client) and of nothing else: not of the position in a
cohort, the block, the worker, or the algorithm, so rivals share cohorts, shuffles and first weights.
"""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import numpy as np

Array = jax.Array
Key = jax.Array

INIT, TRAIN, CHANNEL, SERVER, LABELS, AUDIT = range(6)  # purposes

# With 8 some orders of four rows came up 5 % more often than others; with 16 none can be told apart.
_HALF_ROUNDS = 16


def seed_words(seed: int) -> np.ndarray:
    """The seed as uint32[2], high word first: how seeds enter a program."""
    return np.array([(seed >> 32) & 0xFFFFFFFF, seed & 0xFFFFFFFF], np.uint32)


def id_words(ids: np.ndarray) -> np.ndarray:
    """Client identities uint64[n] as uint32[n, 2], high word first."""
    ids = np.asarray(ids, np.uint64)
    return np.stack([(ids >> np.uint64(32)).astype(np.uint32), ids.astype(np.uint32)], axis=-1)


def run_key(seed: Array, purpose: int) -> Key:
    """Key of a run (`seed` is uint32[2]) for what happens once, such as the first weights."""
    return _hashed(seed, jnp.uint32(0), jnp.uint32(purpose))


def round_key(seed: Array, purpose: int, rnd: Array) -> Key:
    """Key of what the server draws in one round."""
    return step_key(run_key(seed, purpose), rnd)


def client_key(seed: Array, purpose: int, rnd: Array, client: Array) -> Key:
    """Key of one client in one round; `client` is uint32[2]: 32 bits alone would collide."""
    return of_client(round_key(seed, purpose, rnd), client)


def of_client(key: Key, client: Array) -> Key:
    """Key of one client from the round's: both words of its identity in one hash."""
    return _hashed(jax.random.key_data(key), client[0], client[1])


def step_key(key: Key, step: Array) -> Key:
    """Key of one local step."""
    return _hashed(jax.random.key_data(key), jnp.uint32(0), step.astype(jnp.uint32))


def apart(key: Key, number: int) -> Key:
    """A key of its own for each `number` from 0 on, which neither `step_key` nor `fold_in` makes of `key`."""
    return _hashed(jax.random.key_data(key), jnp.uint32(number + 1), jnp.uint32(0))


def bits(key: Key, shape: tuple[int, ...], stream: int) -> Array:
    """u32[shape], uniform: one word of what Threefry makes of each number's place; others in another stream.

    Nothing is put together or cut, so that it is one pass with whatever uses it; JAX's own takes a multiple.
    """
    at = jnp.arange(math.prod(shape), dtype=jnp.uint32).reshape(shape)
    return _threefry(jax.random.key_data(key), jnp.full_like(at, stream), at)[0]


def _hashed(key: Array, high: Array, low: Array) -> Key:
    return jax.random.wrap_key_data(_threefry(key, high, low), impl="threefry2x32")


@jax.jit  # traced once, though a program hashes several times
def _threefry(key: Array, high: Array, low: Array) -> Array:
    """Threefry-2x32 with 20 rounds (Salmon et al. 2011): where `high` is 0, `jax.random.fold_in(key, low)`.

    Written out, because on CPU JAX's own is a loop of small programs: slow to compile, and slow for
    the few keys that a round needs.
    """
    keys = key[0], key[1], key[0] ^ key[1] ^ jnp.uint32(0x1BD11BDA)
    x, y = high + keys[0], low + keys[1]
    for i in range(5):
        for turn in ((13, 15, 26, 6), (17, 29, 16, 24))[i % 2]:
            x = x + y
            y = x ^ (y << turn | y >> (32 - turn))
        x, y = x + keys[(i + 1) % 3], y + keys[(i + 2) % 3] + jnp.uint32(i + 1)
    return jnp.stack([x, y])


def _mix(x: Array) -> Array:
    """Finaliser of MurmurHash3 (Appleby): a bijection of uint32 in which every bit moves every bit."""
    x = x ^ (x >> 16)
    x = x * jnp.uint32(0x85EBCA6B)
    x = x ^ (x >> 13)
    x = x * jnp.uint32(0xC2B2AE35)
    return x ^ (x >> 16)


@jax.jit  # traced once, however often a program asks: unrolled, it is half of what there is to trace
def shuffle(position: Array, n: Array, key: Key, epoch: Array) -> Array:
    """Where `position` goes in a random permutation of range(n): computed, not sorted or stored.

    A generalised Feistel network over Z_a x Z_b with a * b slightly above n, walked until it lands
    below n (Black and Rogaway, "Ciphers with Arbitrary Finite Domains", 2002, methods 2 and 3), so
    that a batch costs its own rows and no index plan has to exist.

    Args:
      position: uint32[...], each below n.
      n: uint32 scalar, 1 to 2**31.
      key: scalar key of the client and round; epoch: uint32 scalar, each epoch another permutation.

    Returns:
      uint32[...], distinct for distinct positions.
    """
    words = jax.random.key_data(key)
    epoch = _mix(epoch.astype(jnp.uint32) + jnp.uint32(0x9E3779B9))
    a = jnp.floor(jnp.sqrt(n.astype(jnp.float32))).astype(jnp.uint32) + jnp.uint32(1)
    b = n // a + jnp.uint32(1)
    # One subkey per half-round, shared by all positions.
    count = jnp.arange(_HALF_ROUNDS, dtype=jnp.uint32)
    word = jnp.where(count % 2 == 0, words[0], words[1])
    subkeys = _mix(word ^ _mix(epoch + count * jnp.uint32(0x61C88647)))

    def below(h: Array, m: Array) -> Array:  # uniform on range(m) for m < 2**16
        return ((h >> 16) * m) >> 16

    def add(x: Array, y: Array, m: Array) -> Array:
        s = x + y
        return jnp.where(s >= m, s - m, s)

    def outside(pair: Array) -> Array:
        return (pair >> 16) * b + (pair & jnp.uint32(0xFFFF)) >= n

    def walk(state: tuple[Array, Array]) -> tuple[Array, Array]:
        """One encryption: of everything first, then of what still lies outside."""
        first, pair = state
        left, right = pair >> 16, pair & jnp.uint32(0xFFFF)
        for i in range(0, _HALF_ROUNDS, 2):
            left = add(left, below(_mix(right ^ subkeys[i]), a), a)
            right = add(right, below(_mix(left ^ subkeys[i + 1]), b), b)
        return jnp.zeros((), bool), jnp.where(first | outside(pair), left << 16 | right, pair)

    # Both halves in one word, as each is below 2**16, and nothing else comes out of the loop's body:
    # XLA would compute the encryption once for each of several results.
    left = position // b
    begin = jnp.ones((), bool), left << 16 | (position - left * b)
    _, pair = jax.lax.while_loop(lambda state: state[0] | jnp.any(outside(state[1])), walk, begin)
    return (pair >> 16) * b + (pair & jnp.uint32(0xFFFF))
