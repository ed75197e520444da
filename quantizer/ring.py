"""Codes as whole numbers modulo 2^k, which masks are added to: a sum of updates can be had, and no part of it.

An update coded with `fixed` at b bits is a list of codes c, each standing for (c - 2^(b-1)) 2^(1-b). The codes of
n devices add up exactly modulo 2^k with k = b + ceil(log2 n), and so do the values. A ring payload holds the codes
of all tensors in the order of their names, each below 2^k, and says nothing of the tensors:

    8s  "WATTBEDR"      u16 version 1      u8 bits b      u8 ring bits k      u32 zeros      u64 number of values
    the numbers, k bits each, lowest bit first, in blocks of BLOCK values that begin at a byte
    u32 CRC-32 of all before it

What is masked looks random, so nothing else can be checked about it.
"""

import struct
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from isal import isal_zlib as zlib

from quantizer import frames
from quantizer.chunks import frozen
from quantizer.errors import PayloadError
from quantizer.layout import CRC, Payload, read_header
from quantizer.output import Digest, HashedOutput, Sink
from quantizer.ring_kernels import pack_words, unpack_words

MAGIC = b"WATTBEDR"
HEAD = struct.Struct("<8sHBBIQ")
BLOCK = 1 << 16
MOST_BITS = 32


@dataclass(frozen=True)
class Ring:
    """What a ring payload says of itself: bits of a code, bits of a number, how many there are."""

    bits: int
    ring_bits: int
    values: int

    @property
    def payload_bytes(self) -> int:
        """Its length."""
        whole, rest = divmod(self.values, BLOCK)
        return HEAD.size + whole * self.block_bytes + -(-rest * self.ring_bits // 8) + CRC.size

    @property
    def block_bytes(self) -> int:
        """Length of a whole block."""
        return BLOCK * self.ring_bits // 8

    def block(self, payload: Payload, start: int) -> np.ndarray:
        """The numbers from `start`, a multiple of BLOCK, to the end of its block: uint32."""
        count = min(BLOCK, self.values - start)
        offset = HEAD.size + start // BLOCK * self.block_bytes
        packed = np.frombuffer(payload, np.uint8, -(-count * self.ring_bits // 8), offset)
        words = np.empty(count, np.uint32)
        unpack_words(frozen(packed), self.ring_bits, words)
        return words


def ring_bits(bits: int, devices: int) -> int:
    """k for codes of `bits` of up to `devices` devices."""
    return bits + (devices - 1).bit_length()


def codes(payload: Payload) -> Iterator[np.ndarray]:
    """The codes of a payload of the codec `fixed`, in the order of the tensors' names, BLOCK at a time: uint32.

    PayloadError where it is coded otherwise or damaged.
    """
    header = read_header(payload)
    if header.how.name != "fixed" or header.keep < 1:
        raise PayloadError(f"codes of codec {header.how.name!r} cannot be added up; those of 'fixed' can")
    found = {info.name: (info, frame) for info, frame in frames.scan(payload, header)}
    held = np.empty(0, np.uint32)
    for name in sorted(found):
        info, of_tensor = found[name]
        for frame in of_tensor:
            read = frames.read_frame(payload, header, info, frame)
            words = np.empty(read.count, np.uint32)
            unpack_words(frozen(read.packed), header.bits, words)
            held = np.concatenate([held, words])
            while held.size >= BLOCK:
                yield held[:BLOCK]
                held = held[BLOCK:]
    if held.size:
        yield held


def write(sink: Sink, ring: Ring, blocks: Iterable[np.ndarray], digest: Digest) -> str:
    """A ring payload of `blocks` of BLOCK numbers uint32, the last one shorter, taken modulo; its hash in hex."""
    output = HashedOutput(sink, digest)
    output.write(HEAD.pack(MAGIC, 1, ring.bits, ring.ring_bits, 0, ring.values))
    for words in blocks:
        packed = np.empty(-(-words.size * ring.ring_bits // 8), np.uint8)
        pack_words(frozen(np.ascontiguousarray(words)), ring.ring_bits, packed)
        output.write(packed.data)
    if output.at != ring.payload_bytes - CRC.size:
        raise ValueError(f"{output.at:,} bytes were written for {ring.values:,} values")
    output.write(CRC.pack(output.crc))
    return output.digest.hexdigest()


def read_ring(payload: Payload, *, verify: bool) -> Ring:
    """What `payload` is; PayloadError: no ring payload, one of the wrong length or, if `verify`, a damaged one."""
    view = memoryview(payload).cast("B")
    if view.nbytes < HEAD.size + CRC.size:
        raise PayloadError(f"{view.nbytes} bytes are too few for a ring payload")
    magic, version, bits, ring, zeros, values = HEAD.unpack_from(view)
    if magic != MAGIC or version != 1 or zeros:
        raise PayloadError(f"not a ring payload of version 1: it begins with {magic!r}, {version}, {zeros}")
    if not 1 <= bits <= ring <= MOST_BITS:
        raise PayloadError(f"codes of {bits} bits in a ring of {ring} bits")
    found = Ring(bits, ring, values)
    if view.nbytes != found.payload_bytes:
        raise PayloadError(f"the payload should have {found.payload_bytes:,} bytes and has {view.nbytes:,}")
    if verify:
        said, is_now = CRC.unpack_from(view, view.nbytes - CRC.size)[0], zlib.crc32(view[: -CRC.size])
        if said != is_now:
            raise PayloadError(f"the payload is damaged: its CRC-32 is {is_now:08x} and should be {said:08x}")
    return found


def spread(sums: np.ndarray, start: int, out: Mapping[str, np.ndarray]) -> None:
    """Puts `sums`, values `start` and following of all tensors in the order of their names, into `out`."""
    at = 0
    for _, array in sorted(out.items()):
        flat = array.reshape(-1)
        first, last = max(start, at), min(start + sums.size, at + flat.size)
        if first < last:
            flat[first - at : last - at] = sums[first - start : last - start]
        at += flat.size


def value_of(sums: np.ndarray, bits: int, devices: int) -> np.ndarray:
    """What sums of codes of `devices` devices stand for: float64, exact."""
    return (sums.astype(np.float64) - devices * 2.0 ** (bits - 1)) * 2.0 ** (1 - bits)
