"""The keys and keystreams of secure aggregation, the same on both sides.

Secrets are 16 bytes, which is what Shamir's scheme shares here; HKDF-SHA256 makes an X25519 key of one. A mask is
the keystream of ChaCha20, fast also on processors without instructions for AES, read as numbers modulo 2^k.
"""

import numpy as np
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.ciphers.algorithms import ChaCha20
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from fleet.errors import BadRequest

SECRET_BYTES = 16
KEY_BYTES = 32


def context(run: str, round: int, attempt: str) -> bytes:
    """What ties a key to one attempt."""
    return f"wattbed/{run}/{round}/{attempt}".encode()


def private_key(secret: bytes, where: bytes) -> X25519PrivateKey:
    """The X25519 key of a secret of 16 bytes."""
    return X25519PrivateKey.from_private_bytes(_derived(secret, where + b"/key"))


def agreed(private: X25519PrivateKey, public: bytes, where: bytes, purpose: str) -> bytes:
    """The 32 bytes that only the holders of either private key know; BadRequest where `public` is no key."""
    try:
        secret = private.exchange(X25519PublicKey.from_public_bytes(public))
    except ValueError as error:
        raise BadRequest(f"a public key of {len(public)} bytes is none of X25519: {error}") from None
    return _derived(secret, where + b"/" + purpose.encode())


def self_key(secret: bytes, where: bytes) -> bytes:
    """The key of a device's own mask."""
    return _derived(secret, where + b"/self")


def seal(key: bytes, text: bytes, where: bytes) -> bytes:
    """`text`, readable and unaltered with `key` only, which seals once."""
    return ChaCha20Poly1305(key).encrypt(bytes(12), text, where)


def unseal(key: bytes, box: bytes, where: bytes) -> bytes:
    """What was sealed; BadRequest where it was altered or is for somebody else."""
    try:
        return ChaCha20Poly1305(key).decrypt(bytes(12), box, where)
    except (InvalidTag, ValueError):
        raise BadRequest(f"a box of {len(box)} bytes does not open") from None


class Mask:
    """The numbers of one mask, one block after the other."""

    def __init__(self, key: bytes, ring_bits: int) -> None:
        self._stream = Cipher(ChaCha20(key, bytes(16)), mode=None).encryptor()
        self._type = np.dtype("<u2") if ring_bits <= 16 else np.dtype("<u4")

    def take(self, count: int) -> np.ndarray:
        """The next `count` numbers, to be taken modulo 2^ring_bits: uint32."""
        stream = self._stream.update(bytes(count * self._type.itemsize))
        return np.frombuffer(stream, self._type).astype(np.uint32)


def _derived(secret: bytes, info: bytes) -> bytes:
    return HKDF(SHA256(), KEY_BYTES, None, info).derive(secret)
