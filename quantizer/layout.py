"""Where every byte of a payload lies: wire format version 1, documented byte by byte in docs/wire.md.

The directory determines the rest: from names, shapes, bits and block size follow the offset of every
section and the length of the whole. `Header` computes them, `pack` writes them and `read_header` refuses
a payload that says anything else, before memory is allocated for what it claims to hold.
"""

import math
import mmap
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from isal import isal_zlib as zlib

from quantizer.errors import PayloadError

Payload = bytes | bytearray | memoryview | mmap.mmap

MAGIC = b"WATTBEDQ"
VERSION = 1
ALIGNMENT = 64
FIXED = struct.Struct("<8sHHBBHIIQQQ")
ENTRY = struct.Struct("<HBB")
CRC = struct.Struct("<I")
RAW, UNIFORM = 0, 1
CODECS = {RAW: "float32", UNIFORM: "stochastic uniform"}
DTYPES: dict[int, np.dtype[np.generic]] = {0: np.dtype("<f4"), 1: np.dtype("<f8"), 2: np.dtype("<f2")}
DTYPE_CODES = {dtype: code for code, dtype in DTYPES.items()}

MAX_TENSORS = 1 << 16
MAX_NAME_BYTES = 1024
MAX_DIMENSIONS = 32
MAX_VALUES = 1 << 40
BLOCK_SIZES = range(8, (1 << 20) + 1)


@dataclass(frozen=True)
class TensorInfo:
    """One tensor of a payload. `dtype` is what decode gives back; the values travel as float32 or as codes."""

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype[np.generic]

    @property
    def size(self) -> int:
        """Number of values."""
        return math.prod(self.shape)


@dataclass(frozen=True)
class Section:
    """Where one tensor lies: byte offset and length of its values or codes, first scale and their number."""

    offset: int
    length: int
    first_scale: int
    scales: int


@dataclass(frozen=True)
class Header:
    """What a payload says about itself. `block_size` is the number of values per scale, 0 at 32 bits."""

    bits: int
    block_size: int
    tensors: tuple[TensorInfo, ...]
    version: int = VERSION

    @property
    def codec(self) -> int:
        """Number of the codec."""
        return RAW if self.bits == 32 else UNIFORM

    @cached_property
    def header_bytes(self) -> int:
        """Length of the fixed part, the directory and their checksum."""
        entries = (ENTRY.size + len(t.name.encode()) + 8 * (len(t.shape) + 1) for t in self.tensors)
        return FIXED.size + sum(entries) + CRC.size

    @cached_property
    def sections(self) -> tuple[Section, ...]:
        """Where each tensor lies, in the order of the directory."""
        sections, offset, scale = [], aligned(self.header_bytes), 0
        for tensor in self.tensors:
            length = -(-tensor.size * self.bits // 8)
            scales = -(-tensor.size // self.block_size) if self.block_size else 0
            sections.append(Section(offset, length, scale, scales))
            offset, scale = aligned(offset + length), scale + scales
        return tuple(sections)

    @cached_property
    def scales_offset(self) -> int:
        """Where the scales of all blocks of all tensors begin."""
        last = self.sections[-1] if self.sections else Section(aligned(self.header_bytes), 0, 0, 0)
        return aligned(last.offset + last.length)

    @cached_property
    def payload_bytes(self) -> int:
        """Length of the whole payload."""
        return self.scales_offset + 4 * sum(s.scales for s in self.sections) + CRC.size

    def pack(self) -> bytes:
        """The header with its checksum, `header_bytes` long."""
        parts = [
            FIXED.pack(
                *(MAGIC, self.version, 0, self.codec, self.bits, 0, self.block_size, len(self.tensors)),
                *(self.header_bytes, self.scales_offset, self.payload_bytes),
            )
        ]
        for tensor, section in zip(self.tensors, self.sections, strict=True):
            name = tensor.name.encode()
            parts.append(ENTRY.pack(len(name), DTYPE_CODES[tensor.dtype], len(tensor.shape)) + name)
            parts.append(struct.pack(f"<{len(tensor.shape)}QQ", *tensor.shape, section.offset))
        header = b"".join(parts)
        return header + CRC.pack(zlib.crc32(header))


def aligned(offset: int) -> int:
    """The next multiple of ALIGNMENT."""
    return -(-offset // ALIGNMENT) * ALIGNMENT


def why_not_quantised(bits: int, block_size: int) -> str | None:
    """What is wrong with `bits` or `block_size`, or None."""
    if bits != 32 and not 2 <= bits <= 16:
        return f"{bits} bits; a payload has 2 to 16, or 32"
    if bits != 32 and block_size not in BLOCK_SIZES:
        return f"block size {block_size:,}; it is {BLOCK_SIZES.start:,} to {BLOCK_SIZES.stop - 1:,} values"
    return None


def why_no_tensor(name: str, shape: Sequence[int]) -> str | None:
    """What is wrong with `name` or `shape` of a tensor, or None."""
    if not 1 <= len(name.encode()) <= MAX_NAME_BYTES:
        return f"its name is {len(name.encode()):,} bytes long; 1 to {MAX_NAME_BYTES:,} are allowed"
    if len(shape) > MAX_DIMENSIONS:
        return f"it has {len(shape)} dimensions; at most {MAX_DIMENSIONS} are allowed"
    if math.prod(d for d in shape if d) > MAX_VALUES:
        return f"its shape is {tuple(shape)}; at most {MAX_VALUES:,} values are allowed"
    return None


def read_header(payload: Payload) -> Header:
    """The header of `payload`; every length in it agrees with the others and with the bytes that are there.

    PayloadError says which field is wrong, with numbers. The values themselves are not looked at.
    """
    held = memoryview(payload).nbytes
    view = memoryview(payload).cast("B")
    if held < FIXED.size + CRC.size:
        raise PayloadError(
            f"{held:,} bytes are too few for a payload; the shortest header has {FIXED.size + CRC.size}"
        )
    magic, version, flags, codec, bits, reserved, block_size, count, header_bytes, scales_offset, total = (
        FIXED.unpack_from(view)
    )
    if magic != MAGIC:
        raise PayloadError(f"not a payload: it begins with {magic!r} instead of {MAGIC!r}")
    if version != VERSION:
        raise PayloadError(f"payload of wire format version {version}; this is version {VERSION}")
    if not FIXED.size + CRC.size <= header_bytes <= held:
        raise PayloadError(f"the header claims {header_bytes:,} bytes, the payload has {held:,}")
    end = header_bytes - CRC.size
    said, is_now = CRC.unpack_from(view, end)[0], zlib.crc32(view[:end])
    if said != is_now:
        raise PayloadError(f"the header is damaged: its CRC-32 is {is_now:08x} and should be {said:08x}")
    if flags or reserved:
        raise PayloadError(f"flags {flags:#x} and reserved field {reserved:#x} must be 0 in version {VERSION}")
    if codec not in CODECS:
        raise PayloadError(f"unknown codec {codec}; known are {CODECS}")
    wrong = why_not_quantised(bits, block_size)
    if wrong:
        raise PayloadError(f"the header claims {wrong}")
    if (codec == RAW) != (bits == 32) or (bits == 32 and block_size):
        raise PayloadError(f"codec {codec} does not go with {bits} bits and block size {block_size:,}")
    if count > MAX_TENSORS:
        raise PayloadError(f"the header claims {count:,} tensors; at most {MAX_TENSORS:,} are allowed")
    tensors, offsets = _read_directory(view[FIXED.size : end], count)
    header = Header(bits, block_size, tensors, version)
    for tensor, section, offset in zip(tensors, header.sections, offsets, strict=True):
        if offset != section.offset:
            raise PayloadError(
                f"tensor {tensor.name!r} claims offset {offset:,}; by its place it is {section.offset:,}"
            )
    if scales_offset != header.scales_offset:
        raise PayloadError(
            f"the header claims scales at {scales_offset:,}; by its tensors they are at {header.scales_offset:,}"
        )
    if total != header.payload_bytes:
        raise PayloadError(f"the header claims {total:,} bytes; its tensors need {header.payload_bytes:,}")
    if total != held:
        raise PayloadError(f"the payload should have {total:,} bytes and has {held:,}")
    return header


def _read_directory(view: memoryview, count: int) -> tuple[tuple[TensorInfo, ...], list[int]]:
    """The tensors in the directory `view` and the offsets it claims for them."""
    tensors: dict[str, TensorInfo] = {}
    offsets = []
    at = 0
    for number in range(count):
        where = f"tensor {number} of {count}"
        if at + ENTRY.size > len(view):
            raise PayloadError(f"{where}: the directory of {len(view):,} bytes ends before it")
        name_bytes, dtype_code, ndim = ENTRY.unpack_from(view, at)
        at += ENTRY.size
        needed = name_bytes + 8 * (ndim + 1)
        if at + needed > len(view):
            raise PayloadError(f"{where}: it needs {needed:,} bytes of the directory, {len(view) - at:,} are left")
        try:
            name = str(view[at : at + name_bytes], "utf-8")
        except UnicodeDecodeError as error:
            raise PayloadError(f"{where}: its name is not UTF-8: {error}") from error
        *shape, offset = struct.unpack_from(f"<{ndim}QQ", view, at + name_bytes)
        at += needed
        wrong = why_no_tensor(name, shape)
        if wrong:
            raise PayloadError(f"{where}: {wrong}")
        if dtype_code not in DTYPES:
            raise PayloadError(f"{where}: unknown dtype code {dtype_code}; known are {sorted(DTYPES)}")
        if name in tensors:
            raise PayloadError(f"{where}: a second tensor called {name!r}")
        tensors[name] = TensorInfo(name, tuple(shape), DTYPES[dtype_code])
        offsets.append(offset)
    if at != len(view):
        raise PayloadError(f"the directory has {len(view):,} bytes; its {count:,} tensors need {at:,}")
    return tuple(tensors.values()), offsets
