"""Values as shorter floats, or as they are: each rounds to the nearest, halves to the even one."""

from dataclasses import dataclass

import numpy as np

from quantizer import kernels
from quantizer.chunks import frozen
from quantizer.codecs import NOTHING, Codec, Rounding


@dataclass(frozen=True)
class Cast(Codec):
    """A float format of `mantissa` stored bits, whose least magnitude but zero is `least`. |Q(x) - x| <= half a
    unit.
    """

    mantissa: int = 23
    least: float = 2.0**-149

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
        if self.name == "float16":
            with np.errstate(over="ignore"):
                short = values.astype("<f2")
            packed[:] = short.view(np.uint8)
            exponent = short.view(np.uint16) & 0x7C00 == 0x7C00
        elif self.name == "bfloat16":
            raw = values.view(np.uint32)
            short = ((raw + 0x7FFF + (raw >> 16 & 1)) >> 16).astype("<u2")
            packed[:] = short.view(np.uint8)
            exponent = short & 0x7F80 == 0x7F80
        else:
            packed[:] = values.view(np.uint8)
            exponent = np.zeros(1, bool)
        if exponent.any():
            return int(exponent.argmax())
        if errors.size:
            decoded = np.empty(values.size, np.float32)
            self._widen(packed, decoded)
            np.subtract(values, decoded, out=errors)
        return -1

    def dequantise(
        self, packed: np.ndarray, bits: int, block_size: int, first: int, scales: np.ndarray, out: np.ndarray
    ) -> int:
        """See Codec."""
        self._widen(packed, out)
        bad: int = kernels.first_not_finite(frozen(out))
        return bad

    def _widen(self, packed: np.ndarray, out: np.ndarray) -> None:
        if self.name == "float16":
            out[:] = np.frombuffer(packed, "<f2")
        elif self.name == "bfloat16":
            np.left_shift(
                np.frombuffer(packed, "<u2"), 16, out=out.view(np.uint32), dtype=np.uint32, casting="unsafe"
            )
        else:
            out[:] = np.frombuffer(packed, "<f4")

    def error_bound(self, values: np.ndarray, bits: int, block_size: int) -> np.ndarray:
        """Half a unit in the last place of each value."""
        if self.name == "float32":
            return np.zeros(values.size)
        half = 2.0 ** -(self.mantissa + 1)
        return np.maximum(np.abs(values.astype(np.float64)) * half, self.least / 2)


FLOAT32 = Cast(0, "float32", (32,), (0,), 0, 0)
FLOAT16 = Cast(5, "float16", (16,), (0,), 0, 0, "float16", 10, 2.0**-24)
BFLOAT16 = Cast(6, "bfloat16", (16,), (0,), 0, 0, "bfloat16", 7, 2.0**-133)
