"""The codecs: how float32 values become codes of some bits, and what each promises about what comes back.

`codec(id)` finds one by its number in the header or by its name. A codec works on one piece of a tensor at a time
and knows nothing of payloads, tensors or threads.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Literal

import numpy as np

from quantizer import kernels
from quantizer.chunks import frozen
from quantizer.tiles import FIXED, MINMAX, SHORT_BITS, SHORT_ERROR, SIGN, SIGN_ONE, SYMMETRIC

DEFAULT_BLOCK_SIZE = 2048
BLOCK_SIZES = range(8, (1 << 20) + 1)
HALF_ULP, HALF_LEAST = 2.0**-24, 2.0**-150
"""Rounding a decoded value to float32 costs half a unit in its last place: relative, and absolute for the
least.
"""

NOTHING = np.empty(0, np.float32)
Rounding = Literal["drawn", "nearest"]


@dataclass(frozen=True)
class Codec(ABC):
    """One way to code values. `id` stands in the header; `bits` are the bit-widths it has.

    block_sizes: how many values may share scales; `block_size` is the usual number, 0 where blocks mean nothing.
    """

    id: int
    name: str
    bits: range | tuple[int, ...]
    block_sizes: range | tuple[int, ...] = BLOCK_SIZES
    block_size: int = DEFAULT_BLOCK_SIZE
    per_block: int = 1
    """Float32 scales per block."""
    limit: str = "float32"
    """What a finite value that the codec refuses lies beyond."""

    def scales(self, values: int, block_size: int) -> int:
        """Number of scales of `values` values."""
        return self.per_block * -(-values // block_size) if self.per_block and block_size else 0

    def biased(self, bits: int) -> bool:
        """Whether E[Q(x)] differs from x for some x that the codec takes."""
        return True

    def feedback(self, bits: int) -> Rounding | None:
        """How to round with error feedback, so that residuals stay bounded; None if they would not."""
        return "drawn"

    def why_not(self, bits: int, block_size: int) -> str | None:
        """What is wrong with `bits` or `block_size`, or None."""
        if bits not in self.bits:
            return f"{bits} bits; codec {self.name!r} has {_listed(self.bits)}"
        if block_size not in self.block_sizes:
            return f"block size {block_size:,}; codec {self.name!r} takes {_listed(self.block_sizes)} values"
        return None

    @abstractmethod
    def quantise(
        self,
        values: np.ndarray,
        bits: int,
        block_size: int,
        key: np.uint64,
        first_block: int,
        packed: np.ndarray,
        scales: np.ndarray,
        rounding: Rounding = "drawn",
        errors: np.ndarray = NOTHING,
    ) -> int:
        """Codes of `values` (n,) float32 into `packed` (ceil(n * bits / 8),) uint8, and their scales.

        errors: (n,) or empty and possibly the memory of `values`; receives value - decoded value. Returns the
        index of the first value that is not finite or beyond the codec's limit, or -1.
        """

    @abstractmethod
    def dequantise(
        self, packed: np.ndarray, bits: int, block_size: int, first: int, scales: np.ndarray, out: np.ndarray
    ) -> int:
        """Values first .. first + n of a piece into `out` (n,) float32; `packed` begins with the code of the
        first.

        `scales` are all of the piece's. Returns the index in `out` of the first that no code stands for, or -1.
        """

    def add(
        self,
        packed: np.ndarray,
        bits: int,
        block_size: int,
        first: int,
        scales: np.ndarray,
        weight: float,
        sums: np.ndarray,
    ) -> int:
        """The same, adding weight * value to `sums`, which is spoiled if the answer is not -1."""
        values = np.empty(sums.size, np.float32)
        bad = self.dequantise(packed, bits, block_size, first, scales, values)
        return bad if bad >= 0 else kernels.add_scaled(frozen(values), weight, sums)

    @abstractmethod
    def error_bound(self, values: np.ndarray, bits: int, block_size: int) -> np.ndarray:
        """What |Q(x) - x| never exceeds for each of `values` (n,) float32, however it is drawn: (n,) float64."""

    def variance_bound(self, values: np.ndarray, bits: int, block_size: int) -> float:
        """What E||Q(x) - x||^2 over the draws never exceeds."""
        return float(np.square(self.error_bound(values, bits, block_size)).sum())


@dataclass(frozen=True)
class Affine(Codec):
    """Evenly spaced codes by the fused kernel of quantizer.kernels; see quantizer.tiles for the forms.

    Drawn, E[Q(x)] = x and |Q(x) - x| < step, up to 8 bits step * (1 + 2^-14), for `fixed` where x is in
    [-1, 1 - step]; the variance is at most step^2 / 4 per value. With "nearest" the error is at most step / 2.
    One bit of `fixed` and of `sign` is the sign.
    """

    form: int = SYMMETRIC

    def form_at(self, bits: int) -> int:
        """The form of the codes at `bits`."""
        return SIGN_ONE if self.form == FIXED and bits == 1 else self.form

    def biased(self, bits: int) -> bool:
        """Signs are; the rest is unbiased, `fixed` within its range."""
        return self.form_at(bits) in (SIGN, SIGN_ONE)

    def feedback(self, bits: int) -> Rounding | None:
        """Drawn steps leave up to (update + residual) / L behind and that grows with the rounds at L = 1.

        The nearest of so few steps leaves at most half a step. Two codes at the ends of a block have no bound at
        all: the codec `sign` is for that.
        """
        if self.form == MINMAX and bits == 1:
            return None
        return "nearest" if bits == 2 and self.form in (SYMMETRIC, MINMAX) else "drawn"

    def quantise(
        self,
        values: np.ndarray,
        bits: int,
        block_size: int,
        key: np.uint64,
        first_block: int,
        packed: np.ndarray,
        scales: np.ndarray,
        rounding: Rounding = "drawn",
        errors: np.ndarray = NOTHING,
    ) -> int:
        """See Codec. The random bits depend on `key`, the number of the block and the place in it, and on nothing
        else.
        """
        nearest = rounding == "nearest"
        bad: int = kernels.quantise(
            values, self.form_at(bits), bits, block_size, nearest, key, first_block, packed, scales, errors
        )
        return bad

    def dequantise(
        self, packed: np.ndarray, bits: int, block_size: int, first: int, scales: np.ndarray, out: np.ndarray
    ) -> int:
        """See Codec."""
        bad: int = kernels.dequantise(packed, self.form_at(bits), bits, block_size, first, scales, False, 0.0, out)
        return bad

    def add(
        self,
        packed: np.ndarray,
        bits: int,
        block_size: int,
        first: int,
        scales: np.ndarray,
        weight: float,
        sums: np.ndarray,
    ) -> int:
        """See Codec."""
        bad: int = kernels.dequantise(
            packed, self.form_at(bits), bits, block_size, first, scales, True, weight, sums
        )
        return bad

    def error_bound(self, values: np.ndarray, bits: int, block_size: int) -> np.ndarray:
        """A step, or for signs what the one value that comes back is away."""
        x = values.astype(np.float64)
        form = self.form_at(bits)
        if form == SIGN_ONE:
            return np.abs(x - np.where(x >= 0, 1, -1))
        if form == FIXED:
            step = 2.0 / 2**bits
            return np.where(x > 1 - step, x - (1 - step), np.where(x < -1, -1 - x, step))
        bound = np.empty_like(x)
        for block in blocks(x, block_size):
            part = x[block]
            if form == SIGN:
                bound[block] = np.abs(np.abs(part) - np.abs(part).mean())
                scale = np.abs(part).mean()
            elif form == SYMMETRIC:
                scale = np.abs(part).max()
                bound[block] = scale / (2 ** (bits - 1) - 1)
            else:
                scale = max(abs(part.min()), abs(part.max()))
                bound[block] = (part.max() - part.min()) / (2**bits - 1)
            if bits <= SHORT_BITS and form != SIGN:
                bound[block] *= 1 + SHORT_ERROR
            bound[block] += scale * HALF_ULP * (1 + 2.0**-20) + HALF_LEAST
        return bound

    def variance_bound(self, values: np.ndarray, bits: int, block_size: int) -> float:
        """A quarter of the squared step per value (a draw between two ends has its greatest variance in the
        middle).
        """
        squares = np.square(self.error_bound(values, bits, block_size))
        return float(squares.sum() if self.biased(bits) else self._quarter(values, bits, block_size))

    def _quarter(self, values: np.ndarray, bits: int, block_size: int) -> float:
        bound = self.error_bound(values, bits, block_size)
        if self.form != FIXED:
            return float(np.square(bound).sum() / 4)
        step = 2.0 / 2**bits
        inside = (values >= -1) & (values <= 1 - step)
        return float(np.where(inside, bound**2 / 4, bound**2).sum())


def blocks(values: np.ndarray, block_size: int) -> Iterator[slice]:
    """The blocks of `values` (n,)."""
    for start in range(0, values.size, block_size):
        yield slice(start, min(start + block_size, values.size))


def _listed(numbers: range | tuple[int, ...]) -> str:
    if isinstance(numbers, range):
        return f"{numbers.start:,} to {numbers.stop - 1:,}"
    return ", ".join(f"{number:,}" for number in numbers)


@cache
def _known() -> dict[int, Codec]:
    from quantizer.blockwise import CODECS
    from quantizer.floats import BFLOAT16, FLOAT16, FLOAT32

    affine = [
        Affine(1, "uniform", range(2, 17), form=SYMMETRIC),
        Affine(2, "minmax", range(1, 17), per_block=2, form=MINMAX),
        Affine(3, "fixed", range(1, 17), per_block=0, form=FIXED),
        Affine(4, "sign", (1,), form=SIGN),
    ]
    return {codec.id: codec for codec in (FLOAT32, *affine, FLOAT16, BFLOAT16, *CODECS)}


NAMES = ("float32", "uniform", "minmax", "fixed", "sign", "float16", "bfloat16", "int8", "nf4", "fp4")


def codec(id: int | str) -> Codec:
    """The codec with this number or name; ValueError lists them all."""
    number = NAMES.index(id) if id in NAMES else id
    if isinstance(number, str) or number not in _known():
        raise ValueError(
            f"unknown codec {id!r}; known are {', '.join(f'{i} {name}' for i, name in enumerate(NAMES))}"
        )
    return _known()[number]


def chosen(id: int | str | None, bits: int) -> Codec:
    """`codec(id)`, or without one what `bits` say: 1 the sign, 2 to 16 uniform. 32 bits are float32 with every
    id.
    """
    if bits == 32:
        return codec("float32")
    if id is None:
        return codec("sign" if bits == 1 else "uniform")
    return codec(id)
