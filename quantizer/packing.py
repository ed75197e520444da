"""Codes as one string of bits, lowest first (docs/wire.md): 8 codes of b bits fill b bytes.

Compiled into quantizer.kernels. Codes are uint16 in arrays with room for a multiple of 8.
"""

from typing import Any

import numpy as np

from quantizer.compiled import inner

QUARTERS = np.uint64(0x0000FFFF0000FFFF)
HALVES = np.uint64(0x00000000FFFFFFFF)
ONE = np.uint64(1)


@inner
def pack(codes: Any, count: int, bits: int, packed: Any, at: int) -> int:
    """`count` codes into `packed` from `at` on; returns where they end. Codes up to a multiple of 8 become 0."""
    for i in range(count, count + -count % 8):
        codes[i] = 0
    end = min(at + -(-count * bits // 8), int(packed.size))
    out = packed[at:end]
    if bits == 8:
        for i in range(out.size):
            out[i] = np.uint8(codes[i])
        return end
    if bits == 4:
        for i in range(out.size):
            out[i] = np.uint8(codes[2 * i]) | np.uint8(codes[2 * i + 1] << 4)
        return end
    if bits == 2:
        for i in range(out.size):
            low = np.uint8(codes[4 * i]) | np.uint8(codes[4 * i + 1] << 2)
            out[i] = low | np.uint8(codes[4 * i + 2] << 4) | np.uint8(codes[4 * i + 3] << 6)
        return end
    if bits == 16:
        for i in range(count):
            out[2 * i] = np.uint8(codes[i])
            out[2 * i + 1] = np.uint8(codes[i] >> np.uint16(8))
        return end
    b = np.uint64(bits)
    fours = codes.view(np.uint64)
    for group in range(-(-count // 8)):
        v, w = fours[2 * group], fours[2 * group + 1]
        v = (v & QUARTERS) | ((v >> np.uint64(16)) & QUARTERS) << b
        v = (v & HALVES) | (v >> np.uint64(32)) << (b + b)
        w = (w & QUARTERS) | ((w >> np.uint64(16)) & QUARTERS) << b
        w = (w & HALVES) | (w >> np.uint64(32)) << (b + b)
        v |= w << np.uint64(4 * bits)
        w >>= np.uint64(64 - 4 * bits)
        for i in range(min(bits, end - at)):
            packed[at] = np.uint8(v)
            v >>= np.uint64(8)
            at += 1
            if i == 7:
                v = w
    return end


@inner
def unpack_short(packed: Any, at: int, bits: int, count: int, codes: Any) -> int:
    """What `unpack` does, for 1, 2, 4 or 8 bits; `codes` may be uint8 too, which is faster to go on with."""
    end = at + -(-count * bits // 8)
    source = packed[at:end]
    if bits == 8:
        for i in range(source.size):
            codes[i] = source[i]
    elif bits == 4:
        for i in range(source.size):
            codes[2 * i] = source[i] & np.uint8(15)
            codes[2 * i + 1] = source[i] >> np.uint8(4)
    elif bits == 2:
        for i in range(source.size):
            codes[4 * i] = source[i] & np.uint8(3)
            codes[4 * i + 1] = (source[i] >> np.uint8(2)) & np.uint8(3)
            codes[4 * i + 2] = (source[i] >> np.uint8(4)) & np.uint8(3)
            codes[4 * i + 3] = source[i] >> np.uint8(6)
    else:
        for i in range(source.size):
            for k in range(8):
                codes[8 * i + k] = (source[i] >> np.uint8(k)) & np.uint8(1)
    return end


@inner
def unpack(packed: Any, at: int, bits: int, count: int, codes: Any) -> int:
    """`count` codes from `packed`, from `at` on; returns where they end. Writes up to 7 more codes."""
    if bits in (1, 2, 4, 8):
        return unpack_short(packed, at, bits, count, codes)
    end = at + -(-count * bits // 8)
    source = packed[at:end]
    if bits == 16:
        for i in range(count):
            codes[i] = np.uint16(source[2 * i]) | np.uint16(np.uint16(source[2 * i + 1]) << np.uint16(8))
        return end
    b = np.uint64(bits)
    fours = codes.view(np.uint64)
    pair = ((ONE << b) - ONE) * np.uint64(0x0000000100000001)
    half = (ONE << (b + b)) - ONE
    for group in range(-(-count // 8)):
        v = w = np.uint64(0)
        held = min(bits, end - at)
        for i in range(min(held, 8)):
            v |= np.uint64(packed[at + i]) << np.uint64(8 * i)
        for i in range(8, held):
            w |= np.uint64(packed[at + i]) << np.uint64(8 * i - 64)
        at += held
        w = w << np.uint64(64 - 4 * bits) | v >> np.uint64(4 * bits)
        v = (v & half) | ((v >> (b + b)) & half) << np.uint64(32)
        w = (w & half) | ((w >> (b + b)) & half) << np.uint64(32)
        fours[2 * group] = (v & pair) | ((v >> b) & pair) << np.uint64(16)
        fours[2 * group + 1] = (w & pair) | ((w >> b) & pair) << np.uint64(16)
    return end
