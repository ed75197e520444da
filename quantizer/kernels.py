"""The inner loops: values to packed codes and back, into an array or into a running sum.

All arithmetic is float64 and rounded to float32 once, or float32 where it comes to the same or its error is
promised, without fused or reordered operations, so the bytes and the sums are the same on every machine. Each
kernel runs on one thread and releases the GIL; quantizer.chunks decides who runs what. Arrays are contiguous and
aligned; inputs are read-only views, so that each kernel has one signature only. A piece is worked on tile by tile,
and a tile's codes stay in the first cache.
"""

from typing import Any

import numpy as np

from quantizer.compiled import compiled
from quantizer.packing import pack, unpack, unpack_short
from quantizer.tiles import (
    ABSOLUTE,
    FIXED,
    GOLDEN,
    GREATEST_SPAN,
    INFINITE,
    LEAST_SPAN,
    MINMAX,
    SHORT_BITS,
    SIGN,
    SIGN_ONE,
    SYMMETRIC,
    code,
    draw_short,
    extremes,
    first_above,
    halve,
    hash_pairs,
    highest_code,
    largest_magnitude,
    line,
    mean_magnitude,
    mix,
    multiples,
    put,
    restore_short,
    take,
)

TILE = 2048
READ_FLOATS = "Array(float32, 1, 'C', readonly=True, aligned=True)"
READ_BYTES = "Array(uint8, 1, 'C', readonly=True, aligned=True)"


@compiled(
    f"int64({READ_FLOATS}, int64, int64, int64, boolean, uint64, int64, uint8[::1], float32[::1], float32[::1])"
)
def quantise(
    values: Any,
    form: int,
    bits: int,
    block_size: int,
    nearest: bool,
    key: Any,
    first_block: int,
    packed: Any,
    scales: Any,
    errors: Any,
) -> int:
    """Codes of `values` (n,) float32 into `packed` (ceil(n * bits / 8),) uint8, and the scales of their blocks.

    A value between two codes goes to one of them by chance, so that the mean is right, or with `nearest` to the
    nearer. The random bits depend on `key`, the number of the block (`first_block` is that of values[0]) and
    the place in it, and on nothing else. `errors`, (n,) or empty and possibly the memory of `values`,
    receives value - decoded value. Returns the index of the first NaN or Inf, or -1.
    """
    n = values.size
    codes = np.empty(TILE, np.uint16)
    random, spare = np.empty(TILE, np.uint32), np.empty(TILE, np.float32)
    steps = multiples(TILE)
    magnitudes = values.view(np.uint32)
    top = highest_code(form, bits)
    drawn_short = bits <= SHORT_BITS and not nearest and form not in (SIGN, SIGN_ONE)
    fill = at = 0
    keys = np.empty(-(-n // block_size), np.uint64)
    for block in range(keys.size):
        keys[block] = mix(key + np.uint64(first_block + block + 1) * GOLDEN)
    halves = keys.view(np.uint32)
    for block in range(keys.size):
        lo, hi = block * block_size, min((block + 1) * block_size, n)
        largest = largest_magnitude(magnitudes[lo:hi])
        if largest >= INFINITE:
            for i in range(lo, hi):
                if np.uint32(magnitudes[i] & ABSOLUTE) >= INFINITE:
                    return i
        if form == SYMMETRIC:
            scales.view(np.uint32)[block] = largest
        elif form == MINMAX:
            scales[2 * block], scales[2 * block + 1] = extremes(values[lo:hi])
        elif form == SIGN:
            scales[block] = np.float32(mean_magnitude(values[lo:hi]))
        zero, step, least, _ = line(form, bits, scales, block)
        if form == SYMMETRIC:
            per_step = zero / np.float64(scales[block]) if largest > 0 else 0.0
        elif form == MINMAX:
            per_step = top / (np.float64(scales[2 * block + 1]) - least) if step > 0 else 0.0
        else:
            per_step = zero
        low, high = halves[2 * block], halves[2 * block + 1]
        span = top / per_step if per_step > 0 else LEAST_SPAN
        short = drawn_short and LEAST_SPAN <= span <= GREATEST_SPAN
        start = lo
        while start < hi:
            count = min(TILE - fill, hi - start)
            tile = values[start : start + count]
            into = codes[fill : fill + count]
            if short:
                sixteen = hash_pairs(low, high, start - lo, steps, random[: count // 2 + 1])
                floats = np.float32(least), np.float32(per_step), np.float32(zero), np.float32(top)
                if bits == 8 and not errors.size:
                    draw_short(tile, sixteen, *floats, packed[start : start + count])
                    start += count
                    continue
                draw_short(tile, sixteen, *floats, into)
            else:
                doubles = least, per_step, zero, float(top)
                code(tile, form, nearest, low, high, start - lo, steps, random, *doubles, into)
            if bits == 8 and not errors.size:
                pack(codes, count, 8, packed, start)
                start += count
                continue
            if errors.size:
                take(tile, into, zero, step, least, spare, errors[start : start + count])
            fill += count
            start += count
            if fill == TILE or start == n:
                at = pack(codes, fill, bits, packed, at)
                fill = 0
    return -1


@compiled(f"int64({READ_BYTES}, int64, int64, int64, int64, {READ_FLOATS}, boolean, float64, float32[::1])")
def dequantise(
    packed: Any, form: int, bits: int, block_size: int, first: int, scales: Any, add: bool, weight: float, out: Any
) -> int:
    """Values first .. first + n of a tensor into `out` (n,) float32, or with `add` weight * value to what is
    there.

    `packed` starts with the code of value `first`; `scales` are all of the tensor's.
    Returns the index in `out` of the first value whose code or scale is not one that quantise makes, or -1.
    """
    n = out.size
    top = highest_code(form, bits)
    codes, short_codes = np.empty(TILE, np.uint16), np.empty(TILE, np.uint8)
    short = bits in (1, 2, 4, 8)
    parts = np.empty(2, np.float32)
    at = start = 0
    while start < n:
        held = min(TILE, n - start)
        if short:
            at = unpack_short(packed, at, bits, held, short_codes)
        else:
            at = unpack(packed, at, bits, held, codes)
        used = 0
        while used < held:
            block = (first + start) // block_size
            count = min(held - used, (block + 1) * block_size - first - start)
            zero, step, least, right = line(form, bits, scales, block)
            if not right:
                return start
            into, until = out[start : start + count], used + count
            if short:
                these = short_codes[used:until]
                if not add and form in (SYMMETRIC, FIXED) and LEAST_SPAN < step < GREATEST_SPAN:
                    halve(step, parts)
                    restore_short(these, int(zero), parts, into)
                    bad = first_above(these, top)
                else:
                    bad = put(these, top, int(zero), step, least, add, weight, into)
            else:
                bad = put(codes[used:until], top, int(zero), step, least, add, weight, into)
            if bad >= 0:
                return start + bad
            used += count
            start += count
    return -1


@compiled(f"float64({READ_FLOATS}, {READ_FLOATS}, int64)")
def squared_reach(values: Any, rest: Any, block_size: int) -> float:
    """The sum over blocks of the square of the largest magnitude in `values` + `rest`, both (n,) float32; an empty
    `rest` stands for zeros. Inf or NaN where a value is.
    """
    total = 0.0
    largest, sums = np.empty(1, np.uint32), np.empty(TILE, np.float32)
    magnitudes = values.view(np.uint32)
    for start in range(0, values.size, block_size):
        stop = min(start + block_size, values.size)
        if rest.size:
            largest[0] = 0
            for at in range(start, stop, TILE):
                tile, other = values[at : min(at + TILE, stop)], rest[at : min(at + TILE, stop)]
                both = sums[: tile.size]
                for i in range(tile.size):
                    both[i] = tile[i] + other[i]
                largest[0] = max(largest[0], largest_magnitude(both.view(np.uint32)))
        else:
            largest[0] = largest_magnitude(magnitudes[start:stop])
        reach = np.float64(largest.view(np.float32)[0])
        total += reach * reach
    return total


@compiled(f"int64({READ_FLOATS})")
def first_not_finite(values: Any) -> int:
    """Index of the first NaN or Inf in `values` (n,) float32, or -1."""
    magnitudes = values.view(np.uint32)
    for start in range(0, values.size, TILE):
        if largest_magnitude(magnitudes[start : start + TILE]) >= INFINITE:
            for i in range(start, min(start + TILE, values.size)):
                if np.uint32(magnitudes[i] & ABSOLUTE) >= INFINITE:
                    return i
    return -1


@compiled(f"int64({READ_FLOATS}, float64, float32[::1])")
def add_scaled(values: Any, weight: float, sums: Any) -> int:
    """sums += weight * values, both (n,) float32, computed in float64 and rounded once.

    Returns the index of the first NaN or Inf in `values`, or -1; nothing from its tile on has been added then.
    """
    magnitudes = values.view(np.uint32)
    for start in range(0, values.size, TILE):
        stop = min(start + TILE, values.size)
        if largest_magnitude(magnitudes[start:stop]) >= INFINITE:
            for i in range(start, stop):
                if np.uint32(magnitudes[i] & ABSOLUTE) >= INFINITE:
                    return i
        tile, into = values[start:stop], sums[start:stop]
        for i in range(tile.size):
            into[i] = np.float32(into[i] + weight * np.float64(tile[i]))
    return -1


@compiled(f"void({READ_BYTES}, int64, int64, uint8[::1])")
def lay_out(packed: Any, bits: int, count: int, symbols: Any) -> None:
    """`count` packed codes as bytes that are alike: see quantizer.entropy."""
    if bits == 32:
        for i in range(count):
            symbols[i] = packed[4 * i + 3]
            for k in range(3):
                symbols[count + 3 * i + k] = packed[4 * i + k]
        return
    codes = np.empty(TILE, np.uint16)
    at = 0
    below = count
    for start in range(0, count, TILE):
        held = min(TILE, count - start)
        at = unpack(packed, at, bits, held, codes)
        if bits == 3:
            for i in range(0, held, 2):
                upper = codes[i + 1] if i + 1 < held else np.uint16(0)
                symbols[(start + i) // 2] = np.uint8(codes[i]) | np.uint8(upper << 3)
        elif bits < 8:
            for i in range(held):
                symbols[start + i] = np.uint8(codes[i])
        else:
            for i in range(held):
                symbols[start + i] = np.uint8(codes[i] >> np.uint16(bits - 8))
                codes[i] &= np.uint16((1 << (bits - 8)) - 1)
            below = pack(codes, held, bits - 8, symbols, below)


@compiled(f"int64({READ_BYTES}, int64, int64, uint8[::1])")
def gather_up(symbols: Any, bits: int, count: int, packed: Any) -> int:
    """The packed codes that lay_out made `symbols` of; 0, or -1 where a symbol is none that it makes."""
    if bits == 32:
        for i in range(count):
            packed[4 * i + 3] = symbols[i]
            for k in range(3):
                packed[4 * i + k] = symbols[count + 3 * i + k]
        return 0
    codes, upper = np.empty(TILE, np.uint16), np.empty(TILE, np.uint16)
    at = 0
    below = count
    for start in range(0, count, TILE):
        held = min(TILE, count - start)
        if bits == 3:
            for i in range(0, held, 2):
                symbol = symbols[(start + i) // 2]
                if symbol >> 6 or (i + 1 == held and symbol >> 3):
                    return -1
                codes[i] = symbol & 7
                codes[i + 1] = symbol >> 3
        elif bits < 8:
            for i in range(held):
                if symbols[start + i] >> bits:
                    return -1
                codes[i] = symbols[start + i]
        else:
            below = unpack(symbols, below, bits - 8, held, codes)
            for i in range(held):
                upper[i] = np.uint16(symbols[start + i]) << np.uint16(bits - 8)
            for i in range(held):
                codes[i] |= upper[i]
        at = pack(codes, held, bits, packed, at)
    return 0
