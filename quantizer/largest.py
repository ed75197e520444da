"""Top-k: the largest magnitudes of a tensor, found without sorting it, and their places as bytes.

As integers, magnitudes of float32 sort like the values, so three passes that count digits of 11, 10 and 10 bits
find the k-th largest exactly. Of equal magnitudes the first ones are kept. Biased: error feedback sends the
others later.
"""

import math
from dataclasses import dataclass

import numpy as np

from quantizer import sparse_kernels as kernels
from quantizer.chunks import Piece, frozen, in_order
from quantizer.sources import Source

DIGITS = ((20, 11), (10, 10), (0, 10))
"""Shift and number of bits of each digit, from the highest on."""


@dataclass(frozen=True)
class Cut:
    """Which values of a tensor are kept: magnitudes above `threshold`, and the first so many equal to it per
    frame.
    """

    threshold: np.uint32
    ties: dict[Piece, int]

    def take(self, values: np.ndarray, piece: Piece) -> tuple[np.ndarray, np.ndarray]:
        """Places in the frame and values of what is kept of `values`."""
        places, kept = np.empty(values.size, np.uint32), np.empty(values.size, np.float32)
        count = kernels.gather(values, self.threshold, self.ties[piece], places, kept)
        return frozen(places[:count]), frozen(kept[:count])


def cut(source: Source, keep: float, frames: list[Piece]) -> Cut | None:
    """The cut that keeps the share `keep` of a tensor, at least one value; None for all. ValueError as
    Source.refuse.
    """
    if keep == 1:
        return None
    left = max(1, math.ceil(keep * source.info.size))
    prefix = 0
    for shift, bits in DIGITS if frames else ():
        counts = _count(source, frames, prefix, shift, 1 << bits)
        above = np.cumsum(counts[::-1])[::-1] - counts
        digit = int(np.flatnonzero(above < left)[0])
        left -= int(above[digit])
        prefix = prefix << bits | digit
    threshold, ties = np.uint32(prefix), {}
    kept = in_order(lambda piece: kernels.count_kept(source.piece(piece), threshold), frames)
    for piece, (_, equal) in zip(frames, kept, strict=True):
        ties[piece] = min(left, equal)
        left -= ties[piece]
    return Cut(threshold, ties)


def _count(source: Source, frames: list[Piece], prefix: int, shift: int, bins: int) -> np.ndarray:
    """How many magnitudes that begin with `prefix` have each next digit."""

    def work(piece: Piece) -> np.ndarray:
        counts = np.zeros(bins, np.int64)
        source.refuse(piece, kernels.count_digits(source.piece(piece), prefix, shift, counts))
        return counts

    return np.asarray(sum(in_order(work, frames)))


def places(where: np.ndarray) -> bytes:
    """Rising places as bytes: r, and Rice's code."""
    r, bits = kernels.rice_size(where)
    code = np.zeros(-(-bits // 8), np.uint8)
    kernels.rice_write(where, r, code)
    return bytes([r]) + code.tobytes()


def read_places(code: np.ndarray, kept: int, size: int) -> np.ndarray | None:
    """The `kept` rising places below `size` in `code`; None if it is not one that `places` makes."""
    if not code.size or code[0] > kernels.MOST_BITS:
        return None
    found = np.empty(kept, np.uint32)
    if kernels.rice_read(frozen(code[1:]), int(code[0]), size, found) < 0:
        return None
    return frozen(found)


def scatter(where: np.ndarray, kept: np.ndarray, out: np.ndarray) -> None:
    """out[where] = kept, and 0 elsewhere."""
    kernels.scatter(where, kept, out)


def scatter_add(where: np.ndarray, kept: np.ndarray, weight: float, sums: np.ndarray) -> None:
    """sums[where] += weight * kept, computed in float64 and rounded once."""
    kernels.scatter_add(where, kept, weight, sums)
