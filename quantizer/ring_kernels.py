"""Whole numbers as one string of bits, lowest first, as in quantizer.packing but of up to 32 bits each."""

from typing import Any

import numpy as np

from quantizer.compiled import compiled

READ_BYTES = "Array(uint8, 1, 'C', readonly=True, aligned=True)"
READ_WORDS = "Array(uint32, 1, 'C', readonly=True, aligned=True)"


@compiled(f"void({READ_WORDS}, int64, uint8[::1])")
def pack_words(words: Any, bits: int, packed: Any) -> None:
    """The lowest `bits` of each of `words` (n,) into `packed` (ceil(n * bits / 8),)."""
    mask = (np.uint64(1) << np.uint64(bits)) - np.uint64(1)
    held, filled, at = np.uint64(0), 0, 0
    for i in range(words.size):
        held |= (np.uint64(words[i]) & mask) << np.uint64(filled)
        filled += bits
        while filled >= 8:
            packed[at] = np.uint8(held & np.uint64(255))
            held >>= np.uint64(8)
            filled -= 8
            at += 1
    if filled > 0:
        packed[at] = np.uint8(held & np.uint64(255))


@compiled(f"void({READ_BYTES}, int64, uint32[::1])")
def unpack_words(packed: Any, bits: int, words: Any) -> None:
    """`words` (n,), each of `bits`, from `packed` (ceil(n * bits / 8),)."""
    mask = (np.uint64(1) << np.uint64(bits)) - np.uint64(1)
    held, filled, at = np.uint64(0), 0, 0
    for i in range(words.size):
        while filled < bits:
            held |= np.uint64(packed[at]) << np.uint64(filled)
            filled += 8
            at += 1
        words[i] = np.uint32(held & mask)
        held >>= np.uint64(bits)
        filled -= bits
