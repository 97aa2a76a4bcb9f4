"""Random numbers that are functions of (seed, region, patient, purpose): a hash, and tables of quantiles.

Any patient can be made alone, in any order, on any number of threads, with NumPy or in a compiled program.
Words are the same bits everywhere; what is computed from them in floating point may round differently.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import lru_cache
from statistics import NormalDist
from typing import Any

import numpy as np

GOLDEN = 0x9E3779B9  # 2^32 / golden ratio: keeps the hash away from its fixed point 0
START, STRIDE = 1, 2  # purposes of the hash


@dataclass(frozen=True)
class Draws:
    """Streams of 32-bit words, one per patient; word j is `mix(start + j * stride)`.

    xp: numpy or jax.numpy. start, stride: uint32[n].
    """

    xp: Any
    start: Any
    stride: Any

    def words(self, at: int) -> Any:
        """uint32[n]: word `at` of every patient."""
        with np.errstate(over="ignore"):  # 32-bit words wrap round
            return mix(self.start + self.stride * np.uint32(at + 1))

    def uniform(self, at: int) -> Any:
        """float32[n] in (0, 1): odd multiples of 2^-24, the finest that stay below 1."""
        top = (self.words(at) >> np.uint32(9)).astype(np.int32).astype(np.float32)
        return top * np.float32(2.0**-23) + np.float32(2.0**-24)

    def normal(self, at: int) -> Any:
        """float32[n], standard normal, of 65,536 values."""
        return self.xp.asarray(quantiles())[(self.words(at) >> np.uint32(16)).astype(np.int32)]

    def exponential(self, at: int) -> Any:
        """float32[n], of mean 1."""
        return -self.xp.log(self.uniform(at))


def draws(xp: Any, seed: int, region: Any, patient: Any) -> Draws:
    """Streams of patients.

    Args:
      seed: any whole number; 64 bits of it count.
      region: (low, high) words of the region's name, uint32 or uint32[n] (`name_words`).
      patient: uint32[n], index within the region.
    """
    seed &= (1 << 64) - 1
    words = (np.uint32(seed & 0xFFFFFFFF), np.uint32(seed >> 32), *region, patient)
    with np.errstate(over="ignore"):
        start, stride = (_hash(purpose, words) for purpose in (START, STRIDE))
    return Draws(xp, start, stride | np.uint32(1))


def name_words(name: str) -> tuple[np.uint32, np.uint32]:
    """The first 64 bits of BLAKE2b of a name, as two words."""
    low, high = np.frombuffer(hashlib.blake2b(name.encode()).digest()[:8], dtype="<u4")
    return np.uint32(low), np.uint32(high)


def _hash(purpose: int, words: tuple[Any, ...]) -> Any:
    state: Any = np.uint32(purpose)
    for word in words:
        state = mix((word ^ state) + np.uint32(GOLDEN))
    return state


def mix(h: Any) -> Any:
    """MurmurHash3's 32-bit finaliser (Appleby 2011): a bijection in which each bit moves every other."""
    h = (h ^ (h >> np.uint32(16))) * np.uint32(0x85EBCA6B)
    h = (h ^ (h >> np.uint32(13))) * np.uint32(0xC2B2AE35)
    return h ^ (h >> np.uint32(16))


@lru_cache(maxsize=1)
def quantiles() -> np.ndarray:
    """float32[65536]: standard normal quantiles at (i + 1/2) / 65536."""
    inverse = NormalDist().inv_cdf
    lower = np.array([inverse((i + 0.5) / 65536) for i in range(32768)], dtype=np.float32)
    return np.concatenate([lower, -lower[::-1]])
