"""Bytes to arrays, into a running sum, or to nothing but a verdict.

Every reader refuses what `encode` does not make: a header that lies, a code or scale out of range, NaN
and Inf. The checksum is read unless `verify` is False, which is for bytes that were verified before.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from functools import partial

import numpy as np
from isal import isal_zlib as zlib

from quantizer import kernels
from quantizer.chunks import WORD, Piece, frozen, in_order, pieces
from quantizer.errors import PayloadError
from quantizer.layout import CRC, Header, Payload, Section, TensorInfo, read_header


def decode(payload: Payload, *, verify: bool = True, views: bool = False) -> dict[str, np.ndarray]:
    """The tensors of `payload`: writable, owning their memory, in the order, shapes and dtypes encoded.

    views: float32 tensors at 32 bits are read-only views of the payload, which must outlive them, instead of
    copies; their values are not looked at. PayloadError says what is wrong with the payload.
    """
    header = read_header(payload)
    if verify:
        _verify(payload)
    tensors = {}
    for stored in _stored(payload, header):
        if views and stored.viewable:
            tensor = stored.view()
        else:
            tensor = np.empty(stored.info.shape, stored.info.dtype)
            stored.each(partial(stored.copy, tensor.reshape(-1)))
        tensors[stored.info.name] = tensor
    return tensors


def add_to(payload: Payload, weight: float, sums: Mapping[str, np.ndarray]) -> None:
    """sums[name] += weight * value for every tensor of `payload`, each value rounded to float32 once.

    sums: writable C-contiguous float32 arrays. Names and shapes must be those of the payload, else
    PayloadError names the tensor and both shapes and nothing has been added. A value out of range is a
    PayloadError too, but `sums` is spoiled then: `check` first. Allocates nothing of a tensor's size.
    """
    if not math.isfinite(weight):
        raise ValueError(f"weight {weight}; it must be finite")
    header = read_header(payload)
    _compare(header, {name: array.shape for name, array in sums.items()})
    for name, array in sums.items():
        if array.dtype != np.float32 or not (array.flags.c_contiguous and array.flags.writeable):
            raise ValueError(
                f"sum {name!r} must be writable contiguous float32; it is {array.dtype}, {array.strides=}"
            )
    for stored in _stored(payload, header):
        stored.each(partial(stored.add, sums[stored.info.name].reshape(-1), float(weight)))


def check(payload: Payload, shapes: Mapping[str, tuple[int, ...]], *, verify: bool) -> Header:
    """The header of `payload`, after PayloadError for anything that would stop `decode` or `add_to`.

    Its tensors are exactly `shapes`, in any order, and all their values are finite; with `verify` the
    checksum is right. Allocates nothing of a tensor's size.
    """
    header = read_header(payload)
    _compare(header, shapes)
    if verify:
        _verify(payload)
    for stored in _stored(payload, header):
        stored.each(stored.check)
    return header


def verify(payload: Payload) -> Header:
    """The header of `payload`, after PayloadError where its length or its checksum is wrong. Reads no value."""
    header = read_header(payload)
    _verify(payload)
    return header


def _verify(payload: Payload) -> None:
    """PayloadError if the checksum at the end is not that of the bytes before it."""
    view = memoryview(payload).cast("B")
    end = view.nbytes - CRC.size
    said, is_now = CRC.unpack_from(view, end)[0], zlib.crc32(view[:end])
    if said != is_now:
        raise PayloadError(f"the payload is damaged: its CRC-32 is {is_now:08x} and should be {said:08x}")


def _compare(header: Header, shapes: Mapping[str, tuple[int, ...]]) -> None:
    """PayloadError unless the tensors of `header` are those of `shapes`."""
    held = {tensor.name: tensor.shape for tensor in header.tensors}
    for name, shape in shapes.items():
        if name not in held:
            raise PayloadError(
                f"tensor {name!r} of shape {tuple(shape)} is missing; the payload has {len(held):,} tensors"
            )
        if held[name] != tuple(shape):
            raise PayloadError(f"tensor {name!r} has shape {held[name]} instead of {tuple(shape)}")
    for name in held.keys() - shapes.keys():
        raise PayloadError(f"tensor {name!r} of shape {held[name]} is not one of the {len(shapes):,} expected")


class _Stored:
    """One tensor in a payload, read piece by piece."""

    def __init__(self, payload: Payload, header: Header, info: TensorInfo, section: Section) -> None:
        self.info = info
        self._bits, self._block_size = header.bits, header.block_size
        # Reading whole words is safe: padding and checksum lie behind.
        words = -(-section.length // 4)
        dtype = "<f4" if header.bits == 32 else "<u4"
        self._data = np.frombuffer(payload, dtype, words, section.offset)
        offset = header.scales_offset + 4 * section.first_scale
        self._scales = frozen(np.frombuffer(payload, "<f4", section.scales, offset))

    @property
    def viewable(self) -> bool:
        """Whether the payload holds the tensor as it is."""
        return self._bits == 32 and self.info.dtype == np.float32

    def view(self) -> np.ndarray:
        """The tensor in the payload's memory, read-only."""
        return frozen(self._data[: self.info.size]).reshape(self.info.shape)

    def each(self, work: Callable[[Piece], object]) -> None:
        """Calls `work` with pieces that cover the tensor, on several threads."""
        for _ in in_order(work, pieces(self.info.size)):
            pass

    def values(self, piece: Piece, out: np.ndarray | None = None) -> np.ndarray:
        """The values of `piece`: in `out`, float32, if given; else in new or in the payload's memory."""
        start, stop = piece
        if self._bits == 32:
            values = frozen(self._data[start:stop])
            bad = kernels.first_not_finite(values)
            if out is not None:
                out[:] = values
        else:
            values = np.empty(stop - start, np.float32) if out is None else out
            words = frozen(self._data[start * self._bits // WORD : -(-stop * self._bits // WORD)])
            bad = kernels.dequantise(words, self._bits, self._block_size, start, self._scales, values)
        if bad >= 0:
            found = f"is {values[bad]}, not finite" if self._bits == 32 else "is out of range"
            raise PayloadError(f"tensor {self.info.name!r}: value {start + bad:,} of {self.info.size:,} {found}")
        return values

    def check(self, piece: Piece) -> np.ndarray:
        """The values of `piece`; PayloadError too if one is out of the range of the dtype to give back."""
        values = self.values(piece)
        if self.info.dtype == np.float16 and np.abs(values).max() > np.finfo(np.float16).max:
            raise PayloadError(f"tensor {self.info.name!r}: a value is {np.abs(values).max()}, beyond its float16")
        return values

    def copy(self, flat: np.ndarray, piece: Piece) -> None:
        """Writes the values of `piece` to their place in `flat`."""
        target = flat[slice(*piece)]
        if self.info.dtype == np.float32:
            self.values(piece, target)
        else:
            target[:] = self.check(piece)

    def add(self, flat: np.ndarray, weight: float, piece: Piece) -> None:
        """Adds `weight` times the values of `piece` to their place in `flat`."""
        kernels.add_scaled(frozen(self.values(piece)), weight, flat[slice(*piece)])


def _stored(payload: Payload, header: Header) -> Iterator[_Stored]:
    for info, section in zip(header.tensors, header.sections, strict=True):
        yield _Stored(payload, header, info, section)
