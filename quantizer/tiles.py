"""What is done to a tile of values: random bits, scales, codes, and values again. Compiled into quantizer.kernels.

A code c of a block stands for (c - zero) * step + least, and the forms differ in what the block's scales say of
these three:

    SYMMETRIC   one scale s, the largest magnitude   zero = L, step = s / L, least = 0      L = 2^(bits-1) - 1
    MINMAX      two, the least and the greatest      zero = 0, step = (greatest - least) / (2^bits - 1)
    FIXED       none                                 zero = 2^(bits-1), step = 2^(1-bits), least = 0
    SIGN        one scale s, the mean magnitude      zero = 0, step = 2 s, least = -s
    SIGN_ONE    none                                 the same with s = 1
"""

from typing import Any

import numpy as np

from quantizer.compiled import inner

SYMMETRIC, MINMAX, FIXED, SIGN, SIGN_ONE = range(5)

LANES = 16  # partial sums, so that the order of additions is fixed and there are some to do at once
ABSOLUTE = np.uint32(0x7FFFFFFF)  # a float32 without its sign; as integers these sort like the values
INFINITE = np.uint32(0x7F800000)
SHORT_BITS = 8
SHORT_ERROR = 2.0**-14
"""How much more than a step, in steps, a code of up to SHORT_BITS may be off: see draw_short."""

LEAST_SPAN, GREATEST_SPAN = 2.0**-100, 2.0**100
"""Between these, steps and their inverses are far from the ends of float32."""

FIRST_16 = np.uint32(0xFFFFFF00)
"""What is kept of a float32 for its first 16 bits, with the one that is not written."""

GOLDEN = np.uint64(0x9E3779B97F4A7C15)
PLACE = np.uint32(0x9E3779B9)


@inner
def mix(x: Any) -> Any:
    """The output function of splitmix64 (Steele, Lea and Flood 2014): 64 bits to 64 well mixed bits."""
    x = np.uint64(x)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


@inner
def largest_magnitude(magnitudes: Any) -> Any:
    """The largest of float32 seen as uint32, without signs; INFINITE or more if one is not finite."""
    largest = np.uint32(0)
    for i in range(magnitudes.size):
        largest = max(largest, np.uint32(magnitudes[i] & ABSOLUTE))
    return largest


@inner
def extremes(tile: Any) -> Any:
    """The least and the greatest of `tile`: float32, finite."""
    # As int32 with the magnitude of negatives turned over, float32 sort like the values; LLVM vectorises that.
    ordered = tile.view(np.int32)
    least, greatest = np.int32(0x7FFFFFFF), np.int32(-0x80000000)
    for i in range(tile.size):
        key = np.int32(ordered[i] ^ np.int32(np.int32(ordered[i] >> np.int32(31)) & np.int32(0x7FFFFFFF)))
        least = min(least, key)
        greatest = max(greatest, key)
    found = np.empty(2, np.int32)
    found[0] = least ^ ((least >> np.int32(31)) & np.int32(0x7FFFFFFF))
    found[1] = greatest ^ ((greatest >> np.int32(31)) & np.int32(0x7FFFFFFF))
    as_floats = found.view(np.float32)
    return as_floats[0], as_floats[1]


@inner
def mean_magnitude(tile: Any) -> Any:
    """The mean of |tile|, summed in float64 in a fixed order."""
    partial = np.zeros(LANES, np.float64)
    whole = tile.size - tile.size % LANES
    for i in range(0, whole, LANES):
        for lane in range(LANES):
            partial[lane] += abs(np.float64(tile[i + lane]))
    total = 0.0
    for lane in range(LANES):
        total += partial[lane]
    for i in range(whole, tile.size):
        total += abs(np.float64(tile[i]))
    return total / tile.size


@inner
def line(form: int, bits: int, scales: Any, block: int) -> Any:
    """(zero, step, least) of a block, as above, and whether its scales are ones that quantise makes."""
    if form == SYMMETRIC:
        top = (1 << (bits - 1)) - 1
        scale = scales[block]
        return float(top), np.float64(scale) / top, 0.0, scale >= 0 and scale < np.inf
    if form == MINMAX:
        least, greatest = scales[2 * block], scales[2 * block + 1]
        step = (np.float64(greatest) - np.float64(least)) / ((1 << bits) - 1)
        return 0.0, step, np.float64(least), step >= 0 and step < np.inf
    if form == FIXED:
        return float(1 << (bits - 1)), 2.0 / (1 << bits), 0.0, True
    scale = scales[block] if form == SIGN else np.float32(1)
    return 0.0, 2 * np.float64(scale), -np.float64(scale), scale >= 0 and scale < np.inf


@inner
def highest_code(form: int, bits: int) -> int:
    """The highest code that is allowed."""
    return (1 << bits) - 2 if form == SYMMETRIC else (1 << bits) - 1


@inner
def multiples(count: int) -> Any:
    """What hash_places takes for up to `count` places: (count,) uint32."""
    found = np.empty(count, np.uint32)
    for i in range(count):
        found[i] = np.uint32(i * PLACE)
    return found


@inner
def hash_places(low: Any, high: Any, first: int, steps: Any, random: Any) -> None:
    """32 random bits for each place of a block from `first` on: lowbias32 (Wellons 2018) of place * PLACE, keyed
    by `low` and `high`.

    steps: `multiples` of as many places or more. What is read from memory is uint32 to LLVM; what was cut from 64
    bits it computes in 64, at half the speed.
    """
    start = np.uint32(first * PLACE + low)
    for i in range(random.size):
        h = np.uint32(steps[i] + start)
        h = np.uint32(np.uint32((h ^ (h >> np.uint32(16))) * np.uint32(0x7FEB352D)) + high)
        h = np.uint32((h ^ (h >> np.uint32(15))) * np.uint32(0x846CA68B))
        random[i] = np.uint32(h ^ (h >> np.uint32(16)))


@inner
def draw(tile: Any, random: Any, least: float, per_step: float, zero: float, top: float, codes: Any) -> None:
    """Codes of `tile`, each the one above or below by chance.

    With t drawn evenly from the multiples of 2^-32 in [0, 1), ceil(y - t) is floor(y) + 1 with the probability
    y - floor(y), to 2^-32.
    """
    for i in range(tile.size):
        y = (np.float64(tile[i]) - least) * per_step
        codes[i] = np.int32(min(np.ceil(y - np.float64(random[i]) * 2.0**-32) + zero, top))


@inner
def hash_pairs(low: Any, high: Any, first: int, steps: Any, pairs: Any) -> Any:
    """16 random bits for each place of a block from `first` on: halves of the 32 of place / 2, the lower first.

    `pairs` is memory for them, (n / 2 + 1,) uint32 for n places; what is returned lies in it, uint16.
    """
    hash_places(low, high, first // 2, steps, pairs)
    return pairs.view(np.uint16)[first % 2 :]


@inner
def draw_short(tile: Any, random: Any, least: Any, per_step: Any, zero: Any, top: Any, codes: Any) -> None:
    """The same for codes of up to 8 bits, all in float32: twice the lanes, and half the hashes.

    t is drawn from the odd multiples of 2^-16, so a value between two codes gets the upper one with the right
    probability to 2^-16. y is off by at most 3 * 2^-24 of 255 steps, and so is the error beyond one step.
    """
    for i in range(tile.size):
        y = np.float32(np.float32(tile[i] - least) * per_step)
        t = np.float32(np.float32(np.int32(random[i] | np.uint16(1))) * np.float32(2.0**-16))
        codes[i] = np.uint8(np.int32(min(max(np.float32(y + np.float32(t + zero)), np.float32(0)), top)))


@inner
def draw_clipped(tile: Any, random: Any, per_step: float, zero: float, top: float, codes: Any) -> None:
    """The same for values that may lie beyond -1 and 1, which count as those."""
    for i in range(tile.size):
        y = min(max(np.float64(tile[i]) * per_step, -per_step), per_step)
        codes[i] = np.int32(min(np.ceil(y - np.float64(random[i]) * 2.0**-32) + zero, top))


@inner
def round_to_nearest(tile: Any, least: float, per_step: float, zero: float, top: float, codes: Any) -> None:
    """Codes of `tile`, each the nearest; halves go down."""
    for i in range(tile.size):
        y = (np.float64(tile[i]) - least) * per_step
        codes[i] = np.int32(min(max(np.ceil(y - 0.5) + zero, 0.0), top))


@inner
def signs(tile: Any, codes: Any) -> None:
    """1 where a value is not negative, else 0."""
    for i in range(tile.size):
        codes[i] = 1 if tile[i] >= 0 else 0


@inner
def code(
    tile: Any,
    form: int,
    nearest: bool,
    low: Any,
    high: Any,
    first: int,
    steps: Any,
    random: Any,
    least: float,
    per_step: float,
    zero: float,
    top: float,
    codes: Any,
) -> None:
    """Codes of `tile` by `form`; `first` is the place of tile[0] in the block with the key `low`, `high`."""
    if form in (SIGN, SIGN_ONE):
        signs(tile, codes)
    elif nearest:
        round_to_nearest(tile, least, per_step, zero, top, codes)
    else:
        hash_places(low, high, first, steps, random[: tile.size])
        if form == FIXED:
            draw_clipped(tile, random, per_step, zero, top, codes)
        else:
            draw(tile, random, least, per_step, zero, top, codes)


@inner
def take(tile: Any, codes: Any, zero: float, step: float, least: float, spare: Any, left: Any) -> None:
    """left = tile - what `codes` stand for. Both may be the same memory, so it goes through `spare`."""
    for i in range(tile.size):
        spare[i] = tile[i] - np.float32((np.float64(codes[i]) - zero) * step + least)
    for i in range(tile.size):
        left[i] = spare[i]


@inner
def restore(codes: Any, zero: int, step: float, least: float, out: Any) -> None:
    """out = what `codes` stand for."""
    for i in range(out.size):
        out[i] = np.float32(np.float64(np.int64(codes[i]) - zero) * step + least)


@inner
def halve(step: float, parts: Any) -> None:
    """`step` as the sum of two float32 in `parts` (2,): its first 16 bits and what float32 holds of the rest."""
    parts[0] = np.float32(step)
    parts.view(np.uint32)[0] &= FIRST_16
    parts[1] = np.float32(step - np.float64(parts[0]))


@inner
def restore_short(codes: Any, zero: int, parts: Any, out: Any) -> None:
    """What `restore` does, to the last bit, in float32 and so with twice the lanes; see `halve` for `parts`.

    For SYMMETRIC and FIXED, codes of up to SHORT_BITS and steps between LEAST_SPAN and GREATEST_SPAN. m steps of
    s / L, s a float32 and L odd, differ from what lies half-way between two float32 by 1 / (2 L) of their distance
    or more: an odd number of 1 / (2 L) of it, for s times a power of 2 is even where L times an odd number is not.
    What is summed here is off by 2^-14 of it: m times the first part is exact, the second part and m times it are
    off by 2^-24 of at most 2^-15 of the value each. So both round to the same. A step of FIXED has no second part.
    """
    high, low, middle = parts[0], parts[1], np.int32(zero)
    for i in range(out.size):
        times = np.float32(np.int32(np.int32(codes[i]) - middle))
        out[i] = np.float32(np.float32(times * high) + np.float32(times * low))


@inner
def restore_and_add(codes: Any, zero: int, step: float, least: float, weight: float, sums: Any) -> None:
    """sums += weight * what `codes` stand for, rounded to float32 before and after."""
    for i in range(sums.size):
        value = np.float32(np.float64(np.int64(codes[i]) - zero) * step + least)
        sums[i] = np.float32(sums[i] + weight * np.float64(value))


@inner
def first_above(codes: Any, top: int) -> int:
    """The index of the first of `codes` above `top`, or -1."""
    highest = codes[0]
    for i in range(codes.size):
        highest = max(highest, codes[i])
    if highest > top:
        for i in range(codes.size):
            if codes[i] > top:
                return i
    return -1


@inner
def put(codes: Any, top: int, zero: int, step: float, least: float, add: bool, weight: float, out: Any) -> int:
    """What `codes` stand for into `out`, or with `add` weight * it to what is there; the index of the first code
    above `top`, or -1.
    """
    if add:
        restore_and_add(codes, zero, step, least, weight, out)
    else:
        restore(codes, zero, step, least, out)
    return first_above(codes, top)
