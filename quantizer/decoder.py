"""Bytes to arrays, into a running sum, or to nothing but a verdict.

Every reader refuses what `encode` does not make: a header that lies, a code or scale out of range, NaN
and Inf. The checksum is read unless `verify` is False, which is for bytes that were verified before.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
from isal import isal_zlib as zlib

from quantizer import frames, kernels
from quantizer.chunks import FEW_LONG, LONG, WORD, Piece, at_once, frozen, in_order, pieces
from quantizer.codecs import Codec
from quantizer.errors import PayloadError
from quantizer.layout import CRC, MAX_DECODED_BYTES, Header, Payload, Section, TensorInfo, read_header

LINE_BYTES = 64
CRC_PART_BYTES = 1 << 22
"""What one thread takes: less is done before another has woken up."""


def decode(
    payload: Payload,
    *,
    verify: bool = True,
    views: bool = False,
    into: Mapping[str, np.ndarray] | None = None,
    limit_bytes: int = MAX_DECODED_BYTES,
) -> dict[str, np.ndarray]:
    """The tensors of `payload`: writable, each in memory of its own, in the order, shapes and dtypes encoded.

    views: float32 tensors of version 1 at 32 bits are read-only views of the payload, which must outlive them,
    instead of copies; their values are not looked at. into: arrays to write to instead of new ones, where one of
    the name, shape and dtype is there, writable and C-contiguous; after an error they are spoiled.
    PayloadError says what is wrong with the payload, or that its tensors would take more than `limit_bytes`.
    """
    header = read_header(payload)
    needed = sum(tensor.size * tensor.dtype.itemsize for tensor in header.tensors)
    if needed > limit_bytes:
        raise PayloadError(f"the payload claims tensors of {needed:,} bytes; at most {limit_bytes:,} are allowed")
    if verify:
        _verify(payload)
    stored = list(_stored(payload, header))  # all that the header claims is there before memory is taken for it
    tensors, work = {}, []
    for one in stored:
        if views and one.viewable:
            tensor = one.view()
        else:
            tensor = _place(one.info, into or {})
            flat = tensor.reshape(-1)
            work += [partial(one.copy, flat, piece) for piece in one.runs]
        tensors[one.info.name] = tensor
    _run(work, FEW_LONG)
    return tensors


def add_to(payload: Payload, weight: float, sums: Mapping[str, np.ndarray]) -> None:
    """sums[name] += weight * value for every tensor of `payload`, each value rounded to float32 once.

    sums: writable C-contiguous float32 arrays. Names and shapes must be those of the payload, else
    PayloadError names the tensor and both shapes and nothing has been added. A value out of range is a
    PayloadError too, but `sums` is spoiled then: `check` first. Allocates nothing of a tensor's size.
    """
    add_many_to([payload], [weight], sums)


def add_many_to(payloads: Sequence[Payload], weights: Sequence[float], sums: Mapping[str, np.ndarray]) -> None:
    """What `add_to` of each payload with its weight, one after the other, gives; to the last bit, and faster.

    The sum of a piece stays in the cache while every payload's part of it is added. Errors are those of `add_to`.
    """
    for weight in weights:
        if not math.isfinite(weight):
            raise ValueError(f"weight {weight}; it must be finite")
    for name, array in sums.items():
        if array.dtype != np.float32 or not (array.flags.c_contiguous and array.flags.writeable):
            raise ValueError(
                f"sum {name!r} must be writable contiguous float32; it is {array.dtype}, {array.strides=}"
            )
    shapes = {name: array.shape for name, array in sums.items()}
    added: dict[str, list[tuple[_Tensor, float]]] = {name: [] for name in sums}
    for payload, weight in zip(payloads, weights, strict=True):
        header = read_header(payload)
        _compare(header, shapes)
        for one in _stored(payload, header):
            added[one.info.name].append((one, float(weight)))
    work: list[Callable[[], object]] = []
    for name, parts in added.items():
        total = sums[name].reshape(-1)
        if len({tuple(one.pieces) for one, _ in parts}) == 1:
            work += [partial(_add_piece, parts, total, piece) for piece in parts[0][0].pieces]
        else:  # cut differently: another format or block size
            work.append(partial(_add_whole, parts, total))
    _run(work)


def check(payload: Payload, shapes: Mapping[str, tuple[int, ...]], *, verify: bool) -> Header:
    """The header of `payload`, after PayloadError for anything that would stop `decode` or `add_to`.

    Its tensors are exactly `shapes`, in any order, and all their values are finite; with `verify` the
    checksum is right. Allocates nothing of a tensor's size.
    """
    header = read_header(payload)
    _compare(header, shapes)
    if verify:
        _verify(payload)
    _run([partial(one.check, piece) for one in _stored(payload, header) for piece in one.pieces])
    return header


def norm(payload: Payload, shapes: Mapping[str, tuple[int, ...]], *, verify: bool) -> float:
    """The L2 norm of all values of `payload` together, after what `check` does. Always finite.

    Squares are summed in float64, piece by piece and then exactly, so it does not depend on the threads.
    """
    header = read_header(payload)
    _compare(header, shapes)
    if verify:
        _verify(payload)
    stored = list(_stored(payload, header))
    squares: list[list[float]] = [[0.0] * len(one.pieces) for one in stored]

    def add(one: _Tensor, sums: list[float], number: int) -> None:
        values = one.check(one.pieces[number]).astype(np.float64)
        sums[number] = float(np.square(values, out=values).sum())

    _run([partial(add, one, s, i) for one, s in zip(stored, squares, strict=True) for i in range(len(s))])
    return math.sqrt(math.fsum(x for sums in squares for x in sums))


def verify(payload: Payload) -> Header:
    """The header of `payload`, after PayloadError where its length or its checksum is wrong. Reads no value."""
    header = read_header(payload)
    _verify(payload)
    return header


def _verify(payload: Payload) -> None:
    """PayloadError if the checksum at the end is not that of the bytes before it."""
    view = memoryview(payload).cast("B")
    end = view.nbytes - CRC.size
    said, is_now = CRC.unpack_from(view, end)[0], _crc(view[:end])
    if said != is_now:
        raise PayloadError(f"the payload is damaged: its CRC-32 is {is_now:08x} and should be {said:08x}")


def _crc(view: memoryview) -> int:
    """The CRC-32 of `view`, made of those of parts, on several threads."""
    parts = [view[start : start + CRC_PART_BYTES] for start in range(0, view.nbytes, CRC_PART_BYTES)]
    whole = 0
    for part, crc in zip(parts, in_order(zlib.crc32, parts), strict=True):
        whole = zlib.crc32_combine(whole, crc, part.nbytes)
    return whole


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


def _place(info: TensorInfo, into: Mapping[str, np.ndarray]) -> np.ndarray:
    """Where to decode a tensor to."""
    given = into.get(info.name)
    if given is not None and (given.shape, given.dtype) == (info.shape, info.dtype) and given.flags.carray:
        return given
    return _empty(info.shape, info.dtype)


def _empty(shape: tuple[int, ...], dtype: np.dtype[Any]) -> np.ndarray:
    """As np.empty, and on a cache line's edge: what is written 64 bytes at a time then is in one line each."""
    nbytes = math.prod(shape) * dtype.itemsize
    memory = np.empty(nbytes + LINE_BYTES, np.uint8)
    first = -memory.ctypes.data % LINE_BYTES
    return memory[first : first + nbytes].view(dtype).reshape(shape)


def _run(work: Sequence[Callable[[], object]], each: int = 1) -> None:
    """Calls all of `work`, on several threads if there is enough for `each`."""
    at_once(lambda call: call(), work, each)


def _add_piece(parts: Sequence[tuple["_Tensor", float]], total: np.ndarray, piece: Piece) -> None:
    for one, weight in parts:
        one.add(total, weight, piece)


def _add_whole(parts: Sequence[tuple["_Tensor", float]], total: np.ndarray) -> None:
    for one, weight in parts:
        for piece in one.pieces:
            one.add(total, weight, piece)


def _stored(payload: Payload, header: Header) -> Iterator["_Tensor"]:
    """The tensors of `payload`; PayloadError where a frame lies."""
    if header.version == 1:
        for info, section in zip(header.tensors, header.sections, strict=True):
            yield _Section(payload, header, info, section)
    else:
        for info, found in frames.scan(payload, header):
            yield _Framed(payload, header, info, found)


class _Tensor(ABC):
    """One tensor in a payload, read piece by piece."""

    info: TensorInfo
    pieces: list[Piece]
    runs: list[Piece]
    """The same in fewer parts, for what is read once and not again."""

    viewable: bool

    @abstractmethod
    def values(self, piece: Piece, out: np.ndarray) -> int:
        """The values of `piece` into `out`, float32; the place of the first that is out of range, or -1."""

    @abstractmethod
    def plus(self, piece: Piece, weight: float, sums: np.ndarray) -> int:
        """The same, adding weight * value to `sums`."""

    def view(self) -> np.ndarray:
        """The tensor in the payload's memory, read-only, if it is `viewable`."""
        raise NotImplementedError

    def refuse(self, piece: Piece, bad: int, found: str = "is out of range") -> None:
        """PayloadError if `bad` is a place in `piece` and not -1."""
        if bad >= 0:
            place = piece[0] + bad
            raise PayloadError(f"tensor {self.info.name!r}: value {place:,} of {self.info.size:,} {found}")

    def copy(self, tensor: np.ndarray, piece: Piece) -> None:
        """Puts the values of `piece` into `tensor` (n,)."""
        start, stop = piece
        if tensor.dtype == np.float32:
            self.refuse(piece, self.values(piece, tensor[start:stop]))
        else:
            tensor[start:stop] = self.check(piece)

    def add(self, total: np.ndarray, weight: float, piece: Piece) -> None:
        """Adds weight * value to `total` (n,)."""
        self.refuse(piece, self.plus(piece, weight, total[slice(*piece)]))

    def check(self, piece: Piece) -> np.ndarray:
        """The values of `piece`; PayloadError too if one is out of the range of the dtype to give back."""
        values = np.empty(piece[1] - piece[0], np.float32)
        self.refuse(piece, self.values(piece, values))
        if self.info.dtype == np.float16:
            # What rounds to 65,520 or more has no float16.
            beyond = np.abs(values) >= 65520
            bad = int(beyond.argmax()) if beyond.any() else -1
            self.refuse(piece, bad, f"is {values[bad]}, beyond its float16")
        return values


class _Section(_Tensor):
    """A tensor of version 1."""

    def __init__(self, payload: Payload, header: Header, info: TensorInfo, section: Section) -> None:
        self.info = info
        self.pieces = pieces(info.size, header.block_size or WORD)
        # Other dtypes go through memory of a run's size.
        longest = LONG if info.dtype == np.float32 else None
        self.runs = pieces(info.size, header.block_size or WORD, longest)
        self.viewable = header.bits == 32 and info.dtype == np.float32
        self._how: Codec = header.how
        self._bits, self._block_size = header.bits, header.block_size
        self._data = frozen(np.frombuffer(payload, np.uint8, section.length, section.offset))
        offset = header.scales_offset + 4 * section.first_scale
        self._scales = frozen(np.frombuffer(payload, "<f4", section.scales, offset))

    def view(self) -> np.ndarray:
        """See _Tensor."""
        return self._floats((0, self.info.size)).reshape(self.info.shape)

    def _floats(self, piece: Piece) -> np.ndarray:
        return frozen(self._data[4 * piece[0] : 4 * piece[1]].view("<f4"))

    def _packed(self, piece: Piece) -> np.ndarray:
        return self._data[piece[0] * self._bits // 8 : -(-piece[1] * self._bits // 8)]

    def values(self, piece: Piece, out: np.ndarray) -> int:
        """See _Tensor."""
        if self._bits == 32:
            values = self._floats(piece)
            out[:] = values
            self._refuse_float(piece, values)
            return -1
        return self._how.dequantise(self._packed(piece), self._bits, self._block_size, piece[0], self._scales, out)

    def plus(self, piece: Piece, weight: float, sums: np.ndarray) -> int:
        """See _Tensor."""
        if self._bits == 32:
            values = self._floats(piece)
            if kernels.add_scaled(values, weight, sums) >= 0:
                self._refuse_float(piece, values)
            return -1
        packed = self._packed(piece)
        return self._how.add(packed, self._bits, self._block_size, piece[0], self._scales, weight, sums)

    def _refuse_float(self, piece: Piece, values: np.ndarray) -> None:
        bad = kernels.first_not_finite(values)
        self.refuse(piece, bad, f"is {values[bad]}, not finite" if bad >= 0 else "")

    def check(self, piece: Piece) -> np.ndarray:
        """See _Tensor. At 32 bits nothing is copied."""
        if not self.viewable:
            return super().check(piece)
        values = self._floats(piece)
        self._refuse_float(piece, values)
        return values


class _Framed(_Tensor):
    """A tensor of version 2."""

    viewable = False

    def __init__(self, payload: Payload, header: Header, info: TensorInfo, found: list[frames.Frame]) -> None:
        self.info = info
        self.pieces = self.runs = [frame.piece for frame in found]
        self._frames = {frame.piece: frame for frame in found}
        self._payload, self._header = payload, header

    def _codes(self, piece: Piece) -> frames.Codes:
        return frames.read_frame(self._payload, self._header, self.info, self._frames[piece])

    def values(self, piece: Piece, out: np.ndarray) -> int:
        """See _Tensor."""
        return self._codes(piece).restore(out)

    def plus(self, piece: Piece, weight: float, sums: np.ndarray) -> int:
        """See _Tensor."""
        return self._codes(piece).add(weight, sums)
