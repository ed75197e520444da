"""Gaussian noise that nobody can foretell who lacks the key, and that is the same again after a crash.

z = sqrt(-2 ln u) cos, sin(2 pi v)        Box and Muller 1958, u in (0, 1], v in [0, 1) from 53 bits each

of the keystream of ChaCha20, whose key is HMAC-SHA256(coordinator's key, run and round). Computed in float64 and
rounded to float32 with the sum it is added to; what floating point does to the tails (Mironov 2012) is left.
"""

import hmac
import os
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import ChaCha20

KEY_BYTES = 32
BLOCK = 1 << 16
"""Values drawn at once."""


class Secret:
    """A key of this coordinator, in a file that only its user can read; made when it is first needed."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def key(self, purpose: str) -> bytes:
        """The 32 bytes for one purpose."""
        if not self._path.exists():
            self._make()
        return hmac.digest(self._path.read_bytes(), purpose.encode(), "sha256")

    def _make(self) -> None:
        part = self._path.with_suffix(".part")
        part.unlink(missing_ok=True)
        file = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            os.write(file, os.urandom(KEY_BYTES))
            os.fsync(file)
        finally:
            os.close(file)
        part.rename(self._path)


def add_gaussian(values: Mapping[str, np.ndarray], deviation: float, key: bytes) -> None:
    """Adds noise of standard deviation `deviation` to every value of contiguous float32 arrays, by name."""
    drawn = _normal(key)
    for _, array in sorted(values.items()):
        flat = array.reshape(-1)
        for start in range(0, flat.size, BLOCK):
            part = flat[start : start + BLOCK]
            part += deviation * next(drawn)[: part.size]


def uniform(key: bytes, count: int) -> np.ndarray:
    """`count` numbers of [0, 1): float64."""
    stream = Cipher(ChaCha20(key, bytes(16)), mode=None).encryptor()
    return _unit(stream.update(bytes(8 * count)))


def _normal(key: bytes) -> Iterator[np.ndarray]:
    """Standard normal numbers, BLOCK at a time: float64."""
    stream = Cipher(ChaCha20(key, bytes(16)), mode=None).encryptor()
    zeros = bytes(8 * BLOCK)
    while True:
        units = _unit(stream.update(zeros))
        radius = np.sqrt(-2 * np.log1p(-units[: BLOCK // 2]))
        angle = 2 * np.pi * units[BLOCK // 2 :]
        yield np.concatenate([radius * np.cos(angle), radius * np.sin(angle)])


def _unit(stream: bytes) -> np.ndarray:
    return (np.frombuffer(stream, "<u8") >> np.uint64(11)).astype(np.float64) * 2.0**-53
