"""Where every byte of a payload lies: wire format versions 1 and 2, documented byte by byte in docs/wire.md.

In version 1 the directory determines the rest: from names, shapes, bits and block size follow the offset of every
section and the length of the whole. `Header` computes them, `pack` writes them and `read_header` refuses
a payload that says anything else, before memory is allocated for what it claims to hold. In version 2 the tensors
are cut into frames whose lengths depend on the values; quantizer.frames reads and writes those.
"""

import math
import mmap
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from isal import isal_zlib as zlib

from quantizer import entropy
from quantizer.codecs import NAMES, Codec, codec
from quantizer.errors import PayloadError

Payload = bytes | bytearray | memoryview | mmap.mmap

MAGIC = b"WATTBEDQ"
VERSIONS = (1, 2)
ALIGNMENT = 64
FIXED = struct.Struct("<8sHHBBHIIQQQ")
FIXED_2 = struct.Struct("<8sHHBBBBIIQQd")
ENTRY = struct.Struct("<HBB")
CRC = struct.Struct("<I")
RAW, UNIFORM = 0, 1
SPARSE = 1
"""The one flag of version 2: only the largest values are there."""
DTYPES: dict[int, np.dtype[np.generic]] = {0: np.dtype("<f4"), 1: np.dtype("<f8"), 2: np.dtype("<f2")}
DTYPE_CODES = {dtype: code for code, dtype in DTYPES.items()}

MAX_TENSORS = 1 << 16
MAX_NAME_BYTES = 1024
MAX_DIMENSIONS = 32
MAX_VALUES = 1 << 40
MAX_DECODED_BYTES = 1 << 34
"""What `decode` makes of one payload at most, unless it is told another limit."""


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
    """What a payload says about itself. `block_size` is the number of values per scale, 0 where there are none.

    keep: the share of each tensor's values that is there, the largest; 1.0 is all. entropy: whether frames may be
    compressed. A header is of version 1 where that can say it.
    """

    bits: int
    block_size: int
    tensors: tuple[TensorInfo, ...]
    codec: int
    keep: float = 1.0
    entropy: int = entropy.NONE

    @property
    def version(self) -> int:
        """1 if the codec is float32 or uniform and all is there and as it is, else 2."""
        return 1 if self.codec in (RAW, UNIFORM) and self.keep == 1 and self.entropy == entropy.NONE else 2

    @cached_property
    def how(self) -> Codec:
        """The codec itself."""
        return codec(self.codec)

    @cached_property
    def header_bytes(self) -> int:
        """Length of the fixed part, the directory and their checksum."""
        per_tensor = ENTRY.size + (8 if self.version == 1 else 0)  # version 2 has no offsets
        entries = (per_tensor + len(t.name.encode()) + 8 * len(t.shape) for t in self.tensors)
        return FIXED.size + sum(entries) + CRC.size

    @property
    def values(self) -> int:
        """Number of values of all tensors."""
        return sum(tensor.size for tensor in self.tensors)

    @cached_property
    def sections(self) -> tuple[Section, ...]:
        """Where each tensor of a payload of version 1 lies, in the order of the directory."""
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
        """Length of the whole payload of version 1."""
        return self.scales_offset + 4 * sum(s.scales for s in self.sections) + CRC.size

    def pack(self) -> bytes:
        """The header with its checksum, `header_bytes` long."""
        if self.version == 1:
            fixed = FIXED.pack(
                *(MAGIC, 1, 0, self.codec, self.bits, 0, self.block_size, len(self.tensors)),
                *(self.header_bytes, self.scales_offset, self.payload_bytes),
            )
            offsets = [struct.pack("<Q", section.offset) for section in self.sections]
        else:
            flags = SPARSE if self.keep < 1 else 0
            fixed = FIXED_2.pack(
                *(MAGIC, 2, flags, self.codec, self.bits, self.entropy, 0, self.block_size, len(self.tensors)),
                *(self.header_bytes, self.values, self.keep),
            )
            offsets = [b""] * len(self.tensors)
        parts = [fixed]
        for tensor, offset in zip(self.tensors, offsets, strict=True):
            name = tensor.name.encode()
            parts.append(ENTRY.pack(len(name), DTYPE_CODES[tensor.dtype], len(tensor.shape)) + name)
            parts.append(struct.pack(f"<{len(tensor.shape)}Q", *tensor.shape) + offset)
        header = b"".join(parts)
        return header + CRC.pack(zlib.crc32(header))


def aligned(offset: int) -> int:
    """The next multiple of ALIGNMENT."""
    return -(-offset // ALIGNMENT) * ALIGNMENT


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

    PayloadError says which field is wrong, with numbers. The values and the frames of version 2 are not looked at.
    """
    held = memoryview(payload).nbytes
    view = memoryview(payload).cast("B")
    if held < FIXED.size + CRC.size:
        raise PayloadError(
            f"{held:,} bytes are too few for a payload; the shortest header has {FIXED.size + CRC.size}"
        )
    magic, version = struct.unpack_from("<8sH", view)
    if magic != MAGIC:
        raise PayloadError(f"not a payload: it begins with {magic!r} instead of {MAGIC!r}")
    if version not in VERSIONS:
        raise PayloadError(f"payload of wire format version {version}; known are {VERSIONS}")
    (header_bytes,) = struct.unpack_from("<Q", view, 24)
    if not FIXED.size + CRC.size <= header_bytes <= held:
        raise PayloadError(f"the header claims {header_bytes:,} bytes, the payload has {held:,}")
    end = header_bytes - CRC.size
    said, is_now = CRC.unpack_from(view, end)[0], zlib.crc32(view[:end])
    if said != is_now:
        raise PayloadError(f"the header is damaged: its CRC-32 is {is_now:08x} and should be {said:08x}")
    return _read_1(view[:end], held) if version == 1 else _read_2(view[:end], held)


def _read_1(view: memoryview, held: int) -> Header:
    """The header in `view`, without its checksum, of a payload of `held` bytes."""
    _, _, flags, codec_id, bits, reserved, block_size, count, _, scales_offset, total = FIXED.unpack_from(view)
    if flags or reserved:
        raise PayloadError(f"flags {flags:#x} and reserved field {reserved:#x} must be 0 in version 1")
    if codec_id not in (RAW, UNIFORM):
        raise PayloadError(f"unknown codec {codec_id}; version 1 has {RAW} (float32) and {UNIFORM} (uniform)")
    if (codec_id == RAW) != (bits == 32) or (bits == 32 and block_size):
        raise PayloadError(f"codec {codec_id} does not go with {bits} bits and block size {block_size:,}")
    tensors, offsets = _read_directory(
        view[FIXED.size :], count, _why_not(codec_id, bits, block_size), offsets=True
    )
    header = Header(bits, block_size, tensors, codec_id)
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


def _read_2(view: memoryview, held: int) -> Header:
    """The header in `view`, without its checksum, of a payload of `held` bytes."""
    fields = FIXED_2.unpack_from(view)
    _, _, flags, codec_id, bits, stage, reserved, block_size, count, header_bytes, values, keep = fields
    if flags & ~SPARSE or reserved:
        raise PayloadError(
            f"flags {flags:#x} and reserved field {reserved:#x}: version 2 knows flag {SPARSE:#x} only"
        )
    if codec_id >= len(NAMES):
        raise PayloadError(f"unknown codec {codec_id}; known are {dict(enumerate(NAMES))}")
    if stage not in entropy.NAMES:
        raise PayloadError(f"unknown entropy stage {stage}; known are {entropy.NAMES}")
    if not (0 < keep < 1 if flags & SPARSE else keep == 1):
        raise PayloadError(f"share {keep} of the values kept does not go with flags {flags:#x}")
    tensors, _ = _read_directory(view[FIXED_2.size :], count, _why_not(codec_id, bits, block_size), offsets=False)
    header = Header(bits, block_size, tensors, codec_id, keep, stage)
    if header.version != 2:
        raise PayloadError(f"codec {codec_id} with every value and no entropy stage belongs into version 1")
    if values != header.values:
        raise PayloadError(f"the header claims {values:,} values; its tensors have {header.values:,}")
    if header_bytes + CRC.size > held:
        raise PayloadError(f"the payload should have {header_bytes + CRC.size:,} bytes at least and has {held:,}")
    return header


def _why_not(codec_id: int, bits: int, block_size: int) -> str | None:
    return codec(codec_id).why_not(bits, block_size)


def _read_directory(
    view: memoryview, count: int, wrong: str | None, *, offsets: bool
) -> tuple[tuple[TensorInfo, ...], list[int]]:
    """The tensors in the directory `view` and the offsets it claims for them, if `offsets`; `wrong` is refused
    first.
    """
    if wrong:
        raise PayloadError(f"the header claims {wrong}")
    if count > MAX_TENSORS:
        raise PayloadError(f"the header claims {count:,} tensors; at most {MAX_TENSORS:,} are allowed")
    tensors: dict[str, TensorInfo] = {}
    found: list[int] = []
    at = 0
    for number in range(count):
        where = f"tensor {number} of {count}"
        if at + ENTRY.size > len(view):
            raise PayloadError(f"{where}: the directory of {len(view):,} bytes ends before it")
        name_bytes, dtype_code, ndim = ENTRY.unpack_from(view, at)
        at += ENTRY.size
        needed = name_bytes + 8 * (ndim + offsets)
        if at + needed > len(view):
            raise PayloadError(f"{where}: it needs {needed:,} bytes of the directory, {len(view) - at:,} are left")
        try:
            name = str(view[at : at + name_bytes], "utf-8")
        except UnicodeDecodeError as error:
            raise PayloadError(f"{where}: its name is not UTF-8: {error}") from error
        numbers = struct.unpack_from(f"<{ndim + offsets}Q", view, at + name_bytes)
        shape = numbers[:ndim]
        at += needed
        problem = why_no_tensor(name, shape)
        if problem:
            raise PayloadError(f"{where}: {problem}")
        if dtype_code not in DTYPES:
            raise PayloadError(f"{where}: unknown dtype code {dtype_code}; known are {sorted(DTYPES)}")
        if name in tensors:
            raise PayloadError(f"{where}: a second tensor called {name!r}")
        tensors[name] = TensorInfo(name, tuple(shape), DTYPES[dtype_code])
        found += numbers[ndim:]
    if at != len(view):
        raise PayloadError(f"the directory has {len(view):,} bytes; its {count:,} tensors need {at:,}")
    return tuple(tensors.values()), found
