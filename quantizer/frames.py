"""The frames of version 2: each a run of one tensor's values that is coded, compressed and read by itself.

A frame is 8 bytes of head, a body and zeros up to a multiple of 8. How many values it holds follows from the
block size; how many bytes, the head says, and a reader compares that with what the values need. The body:

    [how many are kept, how long their places are, their places]     only where not all values are there
    scales
    codes, packed, or compressed by quantizer.entropy where the head says so
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from quantizer import entropy, largest
from quantizer.chunks import VALUES, Piece, frozen, in_order
from quantizer.codecs import NOTHING, Rounding
from quantizer.coding import key, quantise_piece
from quantizer.errors import PayloadError
from quantizer.largest import Cut
from quantizer.layout import CRC, Header, Payload, TensorInfo
from quantizer.output import Output, Region, Space
from quantizer.sources import Source

HEAD = struct.Struct("<IB3x")
KEPT = struct.Struct("<II")
ALIGNMENT = 8
PLAIN, COMPRESSED = 0, 1
SAMPLES = 4
PAYS = 0.03
"""The entropy stage is worth its time from this share of the bytes on."""

Job = tuple[int, Piece]
"""Number of the tensor, values of the frame."""


def cut(size: int, block_size: int) -> list[Piece]:
    """The frames of a tensor of `size` values: as many whole blocks as come near VALUES values."""
    step = max(VALUES // block_size, 1) * block_size if block_size else VALUES
    return [(start, min(start + step, size)) for start in range(0, size, step)]


def payload_bytes(header: Header) -> int | None:
    """Length of the payload with this header, or None where it depends on the values."""
    if header.version == 1:
        return header.payload_bytes
    if header.keep < 1 or header.entropy:
        return None
    return (
        sum(_regions(header, _jobs(header))[-1], start=0) + CRC.size if header.values else header.header_bytes + 4
    )


def write(
    output: Output, header: Header, read: list[Source], seed: int, rounding: Rounding, left: dict[str, np.ndarray]
) -> None:
    """The frames of `read`, from the header's end on."""
    keys = [key(seed, number) for number in range(len(read))]
    jobs = _jobs(header)
    if header.keep == 1 and not header.entropy:
        regions = _regions(header, jobs)

        def fill(i: int, space: Space) -> np.ndarray:
            number, piece = jobs[i]
            out = space()
            _dense(header, read[number], piece, keys[number], rounding, _part(left, read[number], piece), out)
            return out

        output.fill(regions, fill)
        return
    cuts = [largest.cut(source, header.keep, cut(source.info.size, header.block_size)) for source in read]

    def frame(job: Job) -> bytes:
        number, piece = job
        source = read[number]
        return _frame(header, source, piece, cuts[number], keys[number], rounding, _part(left, source, piece))

    if jobs:
        output.write(bytes(-output.at % ALIGNMENT))
    for data in in_order(frame, jobs):
        output.write(data)


def pays(header: Header, read: list[Source], seed: int, rounding: Rounding) -> bool:
    """Whether the entropy stage makes a sample of the frames shorter by PAYS."""
    jobs = _jobs(header)
    if not jobs:
        return False
    ends = np.cumsum([stop - start for _, (start, stop) in jobs])
    places = (np.arange(SAMPLES) + 0.5) / SAMPLES * ends[-1]
    before = after = 0
    for i in sorted(set(np.searchsorted(ends, places, side="right"))):
        number, piece = jobs[i]
        count = piece[1] - piece[0]
        scales, packed = _empty(header, count)
        quantise_piece(read[number], piece, header, key(seed, number), packed, scales, rounding)
        before += packed.nbytes + scales.nbytes
        after += min(len(entropy.compress(packed, header.bits, count)), packed.nbytes) + scales.nbytes
    return after <= (1 - PAYS) * before


def _jobs(header: Header) -> list[Job]:
    return [(i, piece) for i, info in enumerate(header.tensors) for piece in cut(info.size, header.block_size)]


def _regions(header: Header, jobs: list[Job]) -> list[Region]:
    """Where the frames of `jobs` lie if all values are there and none is compressed."""
    regions, at = [], _aligned(header.header_bytes)
    for _, (start, stop) in jobs:
        length = _aligned(HEAD.size + _body_bytes(header, stop - start))
        regions.append((at, length))
        at += length
    return regions


def _aligned(length: int) -> int:
    return -(-length // ALIGNMENT) * ALIGNMENT


def _body_bytes(header: Header, count: int) -> int:
    """Scales and packed codes of `count` values."""
    return 4 * header.how.scales(count, header.block_size) + -(-count * header.bits // 8)


def _empty(header: Header, count: int) -> tuple[np.ndarray, np.ndarray]:
    scales = np.empty(header.how.scales(count, header.block_size), np.float32)
    return scales, np.empty(-(-count * header.bits // 8), np.uint8)


def _part(left: dict[str, np.ndarray], source: Source, piece: Piece) -> np.ndarray:
    return left[source.info.name][slice(*piece)] if left else NOTHING


def _dense(
    header: Header,
    source: Source,
    piece: Piece,
    tensor_key: np.uint64,
    rounding: Rounding,
    left: np.ndarray,
    out: np.ndarray,
) -> None:
    """The frame of `piece` into `out`, which has its length."""
    count = piece[1] - piece[0]
    body = _body_bytes(header, count)
    HEAD.pack_into(out.data, 0, body, PLAIN)
    first_code = HEAD.size + 4 * header.how.scales(count, header.block_size)
    scales = out[HEAD.size : first_code].view("<f4")
    quantise_piece(source, piece, header, tensor_key, out[first_code : HEAD.size + body], scales, rounding, left)
    out[HEAD.size + body :] = 0


def _frame(
    header: Header,
    source: Source,
    piece: Piece,
    which: Cut | None,
    tensor_key: np.uint64,
    rounding: Rounding,
    left: np.ndarray,
) -> bytes:
    """The frame of `piece`: only its largest values if `which` says which, and compressed if that is shorter."""
    count, places = piece[1] - piece[0], b""
    if which is None:
        scales, packed = _empty(header, count)
        quantise_piece(source, piece, header, tensor_key, packed, scales, rounding, left)
    else:
        values = source.piece(piece)
        where, kept = which.take(values, piece)
        residual = np.empty(kept.size if left.size else 0, np.float32)
        count = kept.size
        scales, packed = _empty(header, count)
        bad = header.how.quantise(
            *(kept, header.bits, header.block_size, tensor_key, piece[0] // (header.block_size or 1)),
            *(packed, scales, rounding, residual),
        )
        source.refuse(piece, int(where[bad]) if bad >= 0 else -1, header.how.limit)
        places = largest.places(where)
        places = KEPT.pack(count, len(places)) + places
        places += bytes(-len(places) % 4)
        if left.size:
            np.copyto(left, values)
            left[where] = residual
    kind, codes = PLAIN, packed.tobytes()
    if header.entropy:
        short = entropy.compress(packed, header.bits, count)
        if len(short) < len(codes):
            kind, codes = COMPRESSED, short
    body = places + scales.tobytes() + codes
    frame = HEAD.pack(len(body), kind) + body
    return frame + bytes(-len(frame) % ALIGNMENT)


@dataclass(frozen=True)
class Frame:
    """One frame in a payload: its values, and the offset and length of its body."""

    piece: Piece
    offset: int
    length: int
    kind: int


def scan(payload: Payload, header: Header) -> Iterator[tuple[TensorInfo, list[Frame]]]:
    """The frames of each tensor; PayloadError where a head lies. Reads the heads only."""
    view = memoryview(payload).cast("B")
    end = view.nbytes - CRC.size
    at = _aligned(header.header_bytes) if header.values else header.header_bytes
    for info in header.tensors:
        found = []
        for piece in cut(info.size, header.block_size):
            where = f"tensor {info.name!r}: the frame of values {piece[0]:,} to {piece[1] - 1:,}"
            if at + HEAD.size > end:
                raise PayloadError(f"{where} is missing; the payload ends at byte {end:,}")
            length, kind = HEAD.unpack_from(view, at)
            if kind not in (PLAIN, COMPRESSED) or (kind == COMPRESSED and not header.entropy):
                raise PayloadError(f"{where} is of kind {kind}, which its header does not allow")
            left = end - at - HEAD.size
            if length > left:
                raise PayloadError(f"{where} claims {length:,} bytes; {left:,} are left")
            needed = _body_bytes(header, piece[1] - piece[0])
            if kind == PLAIN and header.keep == 1 and length != needed:
                raise PayloadError(f"{where} claims {length:,} bytes; its values need {needed:,}")
            found.append(Frame(piece, at + HEAD.size, length, kind))
            at = min(at + _aligned(HEAD.size + length), end)
        yield info, found
    if at != end:
        raise PayloadError(f"{end - at:,} bytes lie behind the last frame")


def read_frame(payload: Payload, header: Header, info: TensorInfo, frame: Frame) -> "Codes":
    """What is in `frame`; PayloadError where its parts do not fit. Allocates no more than its values need."""
    where = f"tensor {info.name!r}: the frame of values {frame.piece[0]:,} to {frame.piece[1] - 1:,}"
    body = np.frombuffer(payload, np.uint8, frame.length, frame.offset)
    count = frame.piece[1] - frame.piece[0]
    places = None
    if header.keep < 1:
        if body.size < KEPT.size:
            raise PayloadError(f"{where} has {body.size} bytes; {KEPT.size} say how many values are kept")
        kept, length = KEPT.unpack_from(body.data)
        if kept > count or length > body.size - KEPT.size:
            raise PayloadError(
                f"{where} claims {kept:,} of {count:,} values and {length:,} bytes of {body.size:,}"
            )
        found = largest.read_places(body[KEPT.size : KEPT.size + length], kept, count)
        if found is None:
            raise PayloadError(f"{where}: the places of {kept:,} values are damaged")
        places, count = found, kept
        body = body[min(KEPT.size + length + -length % 4, body.size) :]
    scales_bytes, codes_bytes = 4 * header.how.scales(count, header.block_size), -(-count * header.bits // 8)
    left = body.size - scales_bytes
    if left < 0 or (frame.kind == PLAIN and left != codes_bytes):
        needed = scales_bytes + codes_bytes
        raise PayloadError(
            f"{where} has {body.size:,} bytes of codes and scales; {needed:,} are due for {count:,}"
        )
    codes = body[scales_bytes:]
    if frame.kind == COMPRESSED:
        expanded = entropy.expand(codes.data, header.bits, count)
        if isinstance(expanded, str):
            raise PayloadError(f"{where} holds {expanded}")
        codes = expanded
    scales = np.frombuffer(body[:scales_bytes], "<f4")
    return Codes(header, count, frozen(scales), frozen(codes), places)


@dataclass(frozen=True)
class Codes:
    """A frame's scales and packed codes of `count` values, which are all of its values or those at `places`."""

    header: Header
    count: int
    scales: np.ndarray
    packed: np.ndarray
    places: np.ndarray | None

    def restore(self, out: np.ndarray) -> int:
        """The frame's values into `out`; the place of the first that no code stands for, or -1."""
        h = self.header
        if self.places is None:
            return h.how.dequantise(self.packed, h.bits, h.block_size, 0, self.scales, out)
        values = np.empty(self.count, np.float32)
        bad = h.how.dequantise(self.packed, h.bits, h.block_size, 0, self.scales, values)
        if bad >= 0:
            return int(self.places[bad])
        largest.scatter(self.places, frozen(values), out)
        return -1

    def add(self, weight: float, sums: np.ndarray) -> int:
        """The same, adding weight * value to `sums`, which is spoiled if the answer is not -1."""
        h = self.header
        if self.places is None:
            return h.how.add(self.packed, h.bits, h.block_size, 0, self.scales, weight, sums)
        values = np.empty(self.count, np.float32)
        bad = h.how.dequantise(self.packed, h.bits, h.block_size, 0, self.scales, values)
        if bad >= 0:
            return int(self.places[bad])
        largest.scatter_add(self.places, frozen(values), weight, sums)
        return -1
