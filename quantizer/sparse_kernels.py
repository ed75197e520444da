"""The inner loops of top-k: which values are kept, and their places as a string of bits.

Places are kept as gaps in Rice's code (Rice and Plaunt 1971): a gap g is g >> r zeros, a one, and the r lowest
bits of g, lowest first. Gaps between values kept by chance are geometric, and for those the code is within 4 % of
their entropy.
"""

from typing import Any

import numpy as np

from quantizer.compiled import compiled
from quantizer.tiles import ABSOLUTE, INFINITE

READ_FLOATS = "Array(float32, 1, 'C', readonly=True, aligned=True)"
READ_BYTES = "Array(uint8, 1, 'C', readonly=True, aligned=True)"
READ_PLACES = "Array(uint32, 1, 'C', readonly=True, aligned=True)"
MOST_BITS = 24  # of r; pieces have at most 2^20 values


@compiled(f"int64({READ_FLOATS}, int64, int64, int64[::1])")
def count_digits(values: Any, prefix: int, shift: int, bins: Any) -> int:
    """Adds to bins[d] how many magnitudes, as integers, are `prefix` followed by the digit d and `shift` bits.

    The number of bins is a power of two. Returns the index of the first NaN or Inf, or -1.
    """
    magnitudes = values.view(np.uint32)
    top = np.int64(bins.size)
    for i in range(values.size):
        magnitude = np.uint32(magnitudes[i] & ABSOLUTE)
        if magnitude >= INFINITE:
            return i
        digits = np.int64(magnitude) >> shift
        if digits // top == prefix:
            bins[digits % top] += 1
    return -1


@compiled(f"UniTuple(int64, 2)({READ_FLOATS}, uint32)")
def count_kept(values: Any, threshold: Any) -> Any:
    """How many magnitudes are above `threshold`, a float32 seen as an integer, and how many are equal to it."""
    magnitudes = values.view(np.uint32)
    above = equal = 0
    for i in range(values.size):
        magnitude = np.uint32(magnitudes[i] & ABSOLUTE)
        above += magnitude > threshold
        equal += magnitude == threshold
    return above, equal


@compiled(f"int64({READ_FLOATS}, uint32, int64, uint32[::1], float32[::1])")
def gather(values: Any, threshold: Any, ties: int, places: Any, kept: Any) -> int:
    """Places and values of magnitudes above `threshold` and of the first `ties` equal to it; their number."""
    magnitudes = values.view(np.uint32)
    count = 0
    for i in range(values.size):
        magnitude = np.uint32(magnitudes[i] & ABSOLUTE)
        if magnitude < threshold:
            continue
        if magnitude == threshold:
            if ties == 0:
                continue
            ties -= 1
        places[count] = i
        kept[count] = values[i]
        count += 1
    return count


@compiled(f"UniTuple(int64, 2)({READ_PLACES})")
def rice_size(places: Any) -> Any:
    """The r that makes the code of rising `places` shortest, and its length in bits."""
    best, shortest = 0, np.int64(1) << np.int64(62)
    for r in range(MOST_BITS + 1):
        bits = np.int64(places.size) * (r + 1)
        before = np.int64(-1)
        for i in range(places.size):
            bits += (np.int64(places[i]) - before - 1) >> r
            before = np.int64(places[i])
        if bits < shortest:
            best, shortest = r, bits
    return best, shortest


@compiled(f"void({READ_PLACES}, int64, uint8[::1])")
def rice_write(places: Any, r: int, out: Any) -> None:
    """The code of rising `places` into `out`, which is zero."""
    at = np.int64(0)
    before = np.int64(-1)
    for i in range(places.size):
        gap = np.int64(places[i]) - before - 1
        before = np.int64(places[i])
        at += gap >> r
        out[at >> 3] |= np.uint8(1 << (at & 7))
        at += 1
        for bit in range(r):
            out[at >> 3] |= np.uint8(((gap >> bit) & 1) << (at & 7))
            at += 1


@compiled(f"int64({READ_BYTES}, int64, int64, uint32[::1])")
def rice_read(code: Any, r: int, size: int, places: Any) -> int:
    """`places`, all below `size`, from their code; 0, or -1 where the code is not one that rice_write makes."""
    at = np.int64(0)
    end = 8 * np.int64(code.size)
    place = np.int64(-1)
    for i in range(places.size):
        gap = np.int64(0)
        while at < end and not (code[at >> 3] >> (at & 7)) & 1:
            gap += 1
            at += 1
        at += 1
        if at + r > end:
            return -1
        gap <<= r
        for bit in range(r):
            gap |= np.int64((code[at >> 3] >> (at & 7)) & 1) << bit
            at += 1
        place += gap + 1
        if place >= size:
            return -1
        places[i] = place
    if end - at >= 8:
        return -1
    while at < end:
        if (code[at >> 3] >> (at & 7)) & 1:
            return -1
        at += 1
    return 0


@compiled(f"void({READ_PLACES}, {READ_FLOATS}, float32[::1])")
def scatter(places: Any, kept: Any, out: Any) -> None:
    """out[places] = kept, and 0 elsewhere."""
    out[:] = 0
    for i in range(places.size):
        out[places[i]] = kept[i]


@compiled(f"void({READ_PLACES}, {READ_FLOATS}, float64, float32[::1])")
def scatter_add(places: Any, kept: Any, weight: float, sums: Any) -> None:
    """sums[places] += weight * kept, computed in float64 and rounded once."""
    for i in range(places.size):
        sums[places[i]] = np.float32(sums[places[i]] + weight * np.float64(kept[i]))
