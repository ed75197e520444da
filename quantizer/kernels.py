"""The inner loops, compiled on first use and kept on disk.

All arithmetic is float64 and rounded to float32 once, without fused or reordered operations, so the
bytes and the sums are the same on every machine. Each kernel runs on one thread and releases the GIL;
quantizer.chunks decides who runs what. Arrays are contiguous; inputs are read-only views, so that each
kernel is compiled for one signature only.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from numba import njit

TILE = 1024
ABSOLUTE = np.uint32(0x7FFFFFFF)  # a float32 without its sign; as integers these sort like the values
INFINITE = np.uint32(0x7F800000)
GOLDEN = np.uint64(0x9E3779B97F4A7C15)


def _compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """`function` as machine code, cached on disk where numba finds a folder it may write to."""
    try:
        compiled: Callable[..., Any] = njit(function, cache=True, nogil=True, error_model="numpy")
    except RuntimeError:  # read-only installation and no NUMBA_CACHE_DIR
        compiled = njit(function, nogil=True, error_model="numpy")
    return compiled


@_compiled
def mix(x: Any) -> Any:
    """The output function of splitmix64 (Steele, Lea and Flood 2014): 64 bits to 64 well mixed bits."""
    x = np.uint64(x)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


@_compiled
def quantise(
    values: Any,
    bits: int,
    block_size: int,
    nearest: bool,
    key: Any,
    first_block: int,
    words: Any,
    scales: Any,
    errors: Any,
) -> int:
    """Codes of `values` (n,) float32 packed into `words` (ceil(n * bits / 32),) uint32, one scale per block.

    A value y steps long becomes floor(y) or, with probability y - floor(y), floor(y) + 1; with `nearest`
    the nearer of the two. The random bits depend on `key`, the number of the block (`first_block` is that
    of values[0]) and the place in it, and on nothing else. `errors`, (n,) or empty and possibly the memory
    of `values`, receives value - decoded value. Returns the index of the first NaN or Inf, or -1.
    """
    n = values.size
    top = (1 << (bits - 1)) - 1
    codes = np.empty(TILE, np.int32)
    random = np.empty(TILE, np.uint32)
    magnitudes = values.view(np.uint32)
    scale_bits = scales.view(np.uint32)
    stored = np.uint64(0)
    have = 0
    word = 0
    for block in range(scales.size):
        lo = block * block_size
        hi = min(lo + block_size, n)
        largest = np.uint32(0)
        for i in range(lo, hi):
            largest = max(largest, np.uint32(magnitudes[i] & ABSOLUTE))
        if largest >= INFINITE:
            for i in range(lo, hi):
                if np.uint32(magnitudes[i] & ABSOLUTE) >= INFINITE:
                    return i
        scale_bits[block] = largest
        scale = scales[block]
        step = np.float64(scale) / top
        per_step = top / np.float64(scale) if scale > 0 else 0.0
        block_key = mix(key + np.uint64(first_block + block + 1) * GOLDEN)
        low = np.uint32(block_key)
        high = np.uint32(block_key >> np.uint64(32))
        for start in range(lo, hi, TILE):
            count = min(TILE, hi - start)
            tile = values[start : start + count]
            # One loop per step, so that each is vectorised. First the hash lowbias32 (Wellons 2018), keyed.
            for i in range(count):
                h = np.uint32(np.uint32(start - lo + i) * np.uint32(0x9E3779B9) + low)
                h = np.uint32(np.uint32((h ^ (h >> np.uint32(16))) * np.uint32(0x7FEB352D)) + high)
                h = np.uint32((h ^ (h >> np.uint32(15))) * np.uint32(0x846CA68B))
                random[i] = np.uint32(h ^ (h >> np.uint32(16)))
            for i in range(count):
                y = min(max(tile[i] * per_step, np.float64(-top)), np.float64(top))
                down = np.floor(y)
                threshold = 0.5 if nearest else np.float64(random[i]) * 2.0**-32
                codes[i] = np.int32(down) + np.int32(y - down > threshold) + top
            if errors.size:
                left = errors[start : start + count]
                for i in range(count):
                    left[i] = tile[i] - np.float32((codes[i] - top) * step)
            for i in range(count):
                stored |= np.uint64(codes[i]) << np.uint64(have)
                have += bits
                if have >= 32:
                    words[word] = np.uint32(stored)
                    word += 1
                    stored >>= np.uint64(32)
                    have -= 32
    if have:
        words[word] = np.uint32(stored)
    return -1


@_compiled
def dequantise(words: Any, bits: int, block_size: int, first: int, scales: Any, out: Any) -> int:
    """Values first .. first + n of a tensor into `out` (n,) float32.

    `words` starts with the code of value `first`, a multiple of 32; `scales` are all of the tensor's.
    Returns the index in `out` of the first value whose code or scale is not one that quantise makes, or -1.
    """
    n = out.size
    top = (1 << (bits - 1)) - 1
    mask = np.uint64((1 << bits) - 1)
    codes = np.empty(TILE, np.int32)
    stored = np.uint64(0)
    have = 0
    word = 0
    start = 0
    while start < n:
        block = (first + start) // block_size
        count = min(TILE, n - start, (block + 1) * block_size - first - start)
        highest = np.int32(0)
        for i in range(count):
            if have < bits:
                stored |= np.uint64(words[word]) << np.uint64(have)
                word += 1
                have += 32
            codes[i] = np.int32(stored & mask)
            stored >>= np.uint64(bits)
            have -= bits
        scale = scales[block]
        if not (scale >= 0 and scale < np.inf):
            return start
        step = np.float64(scale) / top
        for i in range(count):
            highest = max(highest, codes[i])
            out[start + i] = np.float32((codes[i] - top) * step)
        if highest > 2 * top:
            for i in range(count):
                if codes[i] > 2 * top:
                    return start + i
        start += count
    return -1


@_compiled
def first_not_finite(values: Any) -> int:
    """Index of the first NaN or Inf in `values` (n,) float32, or -1."""
    for start in range(0, values.size, TILE):
        finite = True
        for i in range(start, min(start + TILE, values.size)):
            finite &= abs(values[i]) < np.inf
        if not finite:
            for i in range(start, min(start + TILE, values.size)):
                if not abs(values[i]) < np.inf:
                    return i
    return -1


@_compiled
def add_scaled(values: Any, weight: float, sums: Any) -> None:
    """sums += weight * values, both (n,) float32, computed in float64 and rounded once."""
    for i in range(values.size):
        sums[i] = np.float32(sums[i] + weight * np.float64(values[i]))
