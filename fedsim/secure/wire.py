"""What messages are made of, as bytes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from fedsim.secure.cost import packed

# What one client sends to, or gets from, each of several others.
Parts = Mapping[int, bytes]

_IDENTITY = 4


def member(u: int) -> bytes:
    """A client's identity among those that begin."""
    return u.to_bytes(_IDENTITY, "little")


def pack(numbers: np.ndarray, modulus: int) -> bytes:
    """Numbers below the modulus, u64[m], with no bit between them."""
    width = (modulus - 1).bit_length()
    bits = numbers[:, None] >> np.arange(width, dtype=np.uint64) & np.uint64(1)
    return np.packbits(bits.astype(np.uint8), bitorder="little").tobytes()


def unpack(message: bytes, length: int, modulus: int) -> np.ndarray:
    """What `pack` packed, u64[length]."""
    width = (modulus - 1).bit_length()
    assert len(message) == packed(length, modulus)
    bits = np.unpackbits(np.frombuffer(message, np.uint8), count=length * width, bitorder="little")
    return bits.reshape(length, width).astype(np.uint64) @ (np.uint64(1) << np.arange(width, dtype=np.uint64))


def size(message: Any) -> int:
    """Bytes of a message; parts carry whom they are from or for, and of a set of clients go identities."""
    if isinstance(message, bytes):
        return len(message)
    if isinstance(message, frozenset):
        return _IDENTITY * len(message)
    return sum(_IDENTITY + len(part) for part in message.values())
