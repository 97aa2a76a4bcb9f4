"""The one place that imports `cryptography`: key agreement, encryption, a stream of random bytes.

Keys are made from the simulation's seed, so that a run can be repeated: nothing here is fit to protect
real messages.
"""

from __future__ import annotations

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CTR
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

# A key seals one message, and one message only: its nonce may be a constant.
_NONCE = bytes(12)


def public(secret: bytes) -> bytes:
    """The X25519 public key of 32 secret bytes."""
    return X25519PrivateKey.from_private_bytes(secret).public_key().public_bytes_raw()


def agree(secret: bytes, other: bytes, purpose: bytes) -> bytes:
    """32 bytes that the owners of two key pairs share: X25519, then HKDF with SHA-256."""
    shared = X25519PrivateKey.from_private_bytes(secret).exchange(X25519PublicKey.from_public_bytes(other))
    return HKDF(algorithm=SHA256(), length=32, salt=None, info=purpose).derive(shared)


def seal(key: bytes, plain: bytes) -> bytes:
    """AES-GCM: the ciphertext and a tag of 16 bytes."""
    return AESGCM(key).encrypt(_NONCE, plain, None)


def unseal(key: bytes, sealed: bytes) -> bytes:
    """Raises `cryptography.exceptions.InvalidTag` for what was not sealed with this key."""
    return AESGCM(key).decrypt(_NONCE, sealed, None)


def stream(seed: bytes, length: int) -> bytes:
    """`length` bytes that nobody without the 32 bytes of `seed` can tell from random ones: AES in counter
    mode."""
    return Cipher(AES(seed), CTR(bytes(16))).encryptor().update(bytes(length))
