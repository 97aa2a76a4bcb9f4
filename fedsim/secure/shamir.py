"""Shamir's sharing: a secret is a polynomial's value at 0, a share its value at another place.

Source: Shamir, "How to Share a Secret", CACM 1979.

In the field of 2**255 - 19, which holds the secret keys of X25519 as they are used, and seeds: 32 bytes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

PRIME = 2**255 - 19
BYTES = 32


def secret(rng: np.random.Generator) -> bytes:
    """32 bytes that are both an element of the field and, as X25519 uses it, a secret key."""
    drawn = bytearray(rng.bytes(BYTES))
    drawn[0] &= 0b11100000  # two bits more than X25519 clears, so that all are below the prime
    drawn[-1] = drawn[-1] & 0b01111111 | 0b01000000
    return bytes(drawn)


def element(rng: np.random.Generator) -> int:
    """A random element of the field."""
    return int.from_bytes(rng.bytes(2 * BYTES), "little") % PRIME


def split(value: bytes, needed: int, places: Sequence[int], rng: np.random.Generator) -> dict[int, bytes]:
    """A share for each place (above 0); any `needed` of them give the value, and fewer nothing."""
    polynomial = [int.from_bytes(value, "little"), *(element(rng) for _ in range(needed - 1))]
    shares = {}
    for place in places:
        total = 0
        for coefficient in reversed(polynomial):
            total = (total * place + coefficient) % PRIME
        shares[place] = total.to_bytes(BYTES, "little")
    return shares


def join(shares: Mapping[int, bytes]) -> bytes:
    """The value that `split` shared, by Lagrange's formula at 0."""
    total = 0
    for i, share in shares.items():
        above = below = 1
        for j in shares:
            if j != i:
                above, below = above * j % PRIME, below * (j - i) % PRIME
        total += int.from_bytes(share, "little") * above * pow(below, -1, PRIME)
    return (total % PRIME).to_bytes(BYTES, "little")
