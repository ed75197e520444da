"""The codecs of bitsandbytes, by bitsandbytes itself: dynamic 8-bit (Dettmers et al. 2022), NF4 and FP4 (Dettmers
et al. 2023).

Each rounds to the nearest entry of a table that is not even, times the block's largest magnitude. Tried on CPU;
on CUDA tensors bitsandbytes uses its own kernels, which were not tried here. PyTorch and bitsandbytes are
imported by quantizer.bnb, and that only when something is coded.
"""

from dataclasses import dataclass

import numpy as np

from quantizer import kernels
from quantizer.chunks import frozen
from quantizer.codecs import NOTHING, Codec, Rounding, blocks

BLOCK_SIZES = (64, 128, 256, 512, 1024, 2048, 4096)
SMALLEST = 1.2e-38  # bitsandbytes takes a block's scale for 1e-38 at least in four bits


@dataclass(frozen=True)
class Blockwise(Codec):
    """One of bitsandbytes' tables. In four bits the first of two values is in the upper half of the byte."""

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
        """See Codec. Nothing is drawn."""
        bad: int = kernels.first_not_finite(values)
        if bad >= 0:
            return bad
        from quantizer import bnb

        bnb.quantise(self.name, values, block_size, packed, scales)
        if errors.size:
            decoded = np.empty(values.size, np.float32)
            bnb.dequantise(self.name, packed, block_size, scales, decoded)
            np.subtract(values, decoded, out=errors)
        return -1

    def dequantise(
        self, packed: np.ndarray, bits: int, block_size: int, first: int, scales: np.ndarray, out: np.ndarray
    ) -> int:
        """See Codec; `first` is 0."""
        wrong = ~((scales >= 0) & np.isfinite(scales))
        if wrong.any():
            return int(wrong.argmax()) * block_size
        from quantizer import bnb

        bnb.dequantise(self.name, packed, block_size, scales, out)
        bad: int = kernels.first_not_finite(frozen(out))
        return bad

    def error_bound(self, values: np.ndarray, bits: int, block_size: int) -> np.ndarray:
        """Half the widest gap of the table, times the scale."""
        from quantizer import bnb

        table = np.sort(bnb.table(self.name).numpy().astype(np.float64))
        widest = max(np.diff(table).max() / 2, 1 - table[-1], table[0] + 1) + 2.0**-22  # and rounding
        bound = np.full(values.size, SMALLEST)
        for block in blocks(values, block_size):
            bound[block] += np.abs(values[block].astype(np.float64)).max() * widest
        return bound


CODECS = (
    Blockwise(7, "int8", (8,), BLOCK_SIZES, 4096),
    Blockwise(8, "nf4", (4,), BLOCK_SIZES, 64),
    Blockwise(9, "fp4", (4,), BLOCK_SIZES, 64),
)
