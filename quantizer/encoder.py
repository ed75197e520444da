"""Arrays to bytes: the stochastic uniform codec, and float32 as it is.

A block of values with largest magnitude s is coded in steps of s / (2^(bits-1) - 1), from -s to s with
zero in the middle. A value between two steps goes to the upper one with the probability that makes the
mean right (Alistarh et al. 2017, "QSGD", with the maximum norm). Promised for every finite x:

    E[Q(x)] = x        |Q(x) - x| < step, up to the rounding of Q(x) to float32

The random bits are a function of seed, number of the tensor, number of the block and place in it, so
the bytes do not depend on the number of threads or on how the work was cut. Values travel as float32:
float16 is widened, float64 is rounded to float32 first (also at 32 bits), and decode gives back the dtype
that came in. NaN, Inf and float64 values beyond float32 are refused.
"""

import hashlib
import io
from collections.abc import Iterator, Mapping
from typing import Protocol

import numpy as np
from isal import isal_zlib as zlib

from quantizer import kernels
from quantizer.chunks import WORD, Piece, frozen, in_order, pieces
from quantizer.layout import CRC, DTYPE_CODES, MAX_TENSORS, Header, TensorInfo, why_no_tensor, why_not_quantised

BLOCK_SIZE = 2048
NOTHING = np.empty(0, np.float32)


class Sink(Protocol):
    """What a payload is written to: takes all the bytes it is given and keeps no reference to them."""

    def write(self, data: memoryview, /) -> object:
        """Takes all of `data`."""


def encode(tensors: Mapping[str, np.ndarray], bits: int, *, seed: int, block_size: int = BLOCK_SIZE) -> bytes:
    """`tensors` as one payload, 2 to 16 `bits` per value or 32 for float32 as it is.

    tensors: any shapes, float16, float32 or float64. block_size: values per float32 scale, 8 to 2**20;
    ignored at 32 bits. seed: 0 to 2**64 - 1. The same arguments always give the same bytes. ValueError
    names the tensor that cannot be encoded.
    """
    buffer = io.BytesIO()
    header = header_of(tensors, bits, block_size)
    buffer.seek(header.payload_bytes - 1)
    buffer.write(b"\0")  # the buffer at its full size at once: growing it would copy what is there
    buffer.seek(0)
    write(Output(buffer), header, tensors, seed)
    return buffer.getvalue()


def encode_to(
    sink: Sink, tensors: Mapping[str, np.ndarray], bits: int, *, seed: int, block_size: int = BLOCK_SIZE
) -> str:
    """Writes the bytes of `encode` to `sink` piece by piece and returns their sha256 in hex.

    Nothing of a tensor's size is allocated for contiguous tensors. After an error `sink` holds a part.
    """
    output = HashedOutput(sink)
    write(output, header_of(tensors, bits, block_size), tensors, seed)
    return output.sha256.hexdigest()


class Output:
    """A sink and the CRC-32 of what went into it."""

    def __init__(self, sink: Sink) -> None:
        self._sink = sink
        self.crc = 0

    def write(self, data: memoryview) -> None:
        """Passes `data` on."""
        self.crc = zlib.crc32(data, self.crc)
        self._sink.write(data)


class HashedOutput(Output):
    """The same with the sha256."""

    def __init__(self, sink: Sink) -> None:
        super().__init__(sink)
        self.sha256 = hashlib.sha256()

    def write(self, data: memoryview) -> None:
        """Passes `data` on."""
        super().write(data)
        self.sha256.update(data)


def header_of(tensors: Mapping[str, np.ndarray], bits: int, block_size: int) -> Header:
    """The header of the payload that `tensors` make; ValueError says what cannot be encoded."""
    wrong = why_not_quantised(bits, block_size)
    if wrong:
        raise ValueError(wrong)
    if len(tensors) > MAX_TENSORS:
        raise ValueError(f"{len(tensors):,} tensors; at most {MAX_TENSORS:,} are allowed")
    infos = []
    for name, tensor in tensors.items():
        wrong = why_no_tensor(name, tensor.shape)
        if wrong:
            raise ValueError(f"tensor {name!r}: {wrong}")
        dtype = tensor.dtype.newbyteorder("<")
        if dtype not in DTYPE_CODES:
            raise ValueError(
                f"tensor {name!r}: its dtype is {tensor.dtype}; float16, float32 and float64 are known"
            )
        infos.append(TensorInfo(name, tensor.shape, dtype))
    return Header(bits, 0 if bits == 32 else block_size, tuple(infos))


def write(
    output: Output,
    header: Header,
    tensors: Mapping[str, np.ndarray],
    seed: int,
    *,
    nearest: bool = False,
    errors: Mapping[str, np.ndarray] | None = None,
) -> None:
    """The payload of `tensors` with `header` into `output`.

    nearest: the nearer step instead of a drawn one. errors: contiguous float32 arrays of the tensors'
    shapes, which receive value - decoded value; they may be the tensors themselves.
    """
    if not 0 <= seed < 2**64:
        raise ValueError(f"seed {seed}; it is 0 to 2**64 - 1")
    scales = np.empty(sum(s.scales for s in header.sections), "<f4")
    at = 0

    def put(data: memoryview, offset: int) -> None:
        nonlocal at
        if offset > at:
            output.write(memoryview(bytes(offset - at)))
        output.write(data)
        at = offset + data.nbytes

    put(memoryview(header.pack()), 0)
    for number, (info, section) in enumerate(zip(header.tensors, header.sections, strict=True)):
        values = np.ascontiguousarray(tensors[info.name]).reshape(-1)
        left = errors[info.name].reshape(-1) if errors is not None else NOTHING
        if header.bits == 32:
            coded = _as_float32(info.name, values)
        else:
            own = scales[section.first_scale : section.first_scale + section.scales]
            coded = _as_codes(info.name, values, header, _key(seed, number), nearest, own, left)
        offset = section.offset
        for data in coded:
            put(data, offset)
            offset += data.nbytes
        if header.bits == 32:
            left.fill(0)
    put(scales.data, header.scales_offset)
    put(memoryview(CRC.pack(output.crc)), header.payload_bytes - CRC.size)


def _as_float32(name: str, values: np.ndarray) -> Iterator[memoryview]:
    """`values` (n,) as float32, piece by piece and uncopied where they are float32 already."""

    def work(piece: Piece) -> memoryview:
        chunk = _float32(values, piece)
        _refuse_bad(name, values, piece, kernels.first_not_finite(chunk))
        return chunk.data.cast("B")

    return in_order(work, pieces(values.size))


def _as_codes(
    name: str,
    values: np.ndarray,
    header: Header,
    key: np.uint64,
    nearest: bool,
    scales: np.ndarray,
    left: np.ndarray,
) -> Iterator[memoryview]:
    """The packed codes of `values` (n,), piece by piece; fills `scales` and, unless it is empty, `left`."""
    bits, block_size = header.bits, header.block_size

    def work(piece: Piece) -> memoryview:
        start, stop = piece
        words = np.empty(-(-(stop - start) * bits // WORD), "<u4")
        first, last = start // block_size, -(-stop // block_size)
        chunk, own = _float32(values, piece), scales[first:last]
        bad = kernels.quantise(chunk, bits, block_size, nearest, key, first, words, own, left[start:stop])
        _refuse_bad(name, values, piece, bad)
        return words.data.cast("B")[: -(-(stop - start) * bits // 8)]

    return in_order(work, pieces(values.size, block_size))


def _float32(values: np.ndarray, piece: Piece) -> np.ndarray:
    with np.errstate(over="ignore"):  # becomes Inf and is refused by name
        return frozen(values[slice(*piece)].astype("<f4", copy=False))


def _refuse_bad(name: str, values: np.ndarray, piece: Piece, bad: int) -> None:
    """ValueError if `bad` is an index into `piece` and not -1."""
    if bad >= 0:
        value = values[piece[0] + bad]
        beyond = ", beyond float32" if np.isfinite(value) else ""
        raise ValueError(f"tensor {name!r}: value {piece[0] + bad:,} of {values.size:,} is {value}{beyond}")


def _key(seed: int, tensor: int) -> np.uint64:
    """Where the random bits of a tensor start: output `tensor` of splitmix64 from `seed`."""
    return np.uint64(kernels.mix(np.uint64((int(seed) + (tensor + 1) * int(kernels.GOLDEN)) % 2**64)))
