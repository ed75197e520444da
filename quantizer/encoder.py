"""Arrays to bytes: every codec, dense or only the largest values, compressed where that pays.

The usual codec, `uniform`, codes a block of values with largest magnitude s in steps of s / (2^(bits-1) - 1),
from -s to s with zero in the middle. A value between two steps goes to the upper one with the probability that
makes the mean right (Alistarh et al. 2017, "QSGD", with the maximum norm). Promised for every finite x:

    E[Q(x)] = x        |Q(x) - x| < step, up to the rounding of Q(x) to float32

What the others promise stands with them: `quantizer.codec(id).error_bound(...)`, `.variance_bound(...)`,
`.biased(...)`.

The random bits are a function of seed, number of the tensor, number of the block and place in it, so
the bytes do not depend on the number of threads or on how the work was cut. Values travel as float32:
float16 is widened, float64 is rounded to float32 first (also at 32 bits), and decode gives back the dtype
that came in. NaN, Inf and float64 values beyond float32 are refused.
"""

import io
from collections.abc import Mapping
from dataclasses import replace
from typing import Literal

import numpy as np

from quantizer import entropy, frames, kernels
from quantizer.chunks import FEW_LONG, LONG, WORD, Piece, pieces
from quantizer.codecs import DEFAULT_BLOCK_SIZE, NOTHING, Rounding, chosen
from quantizer.coding import key, quantise_piece
from quantizer.layout import CRC, Header
from quantizer.output import Digest, HashedOutput, Output, Placed, Region, Sink, Space
from quantizer.sources import Source, Tensors, sources

BLOCK_SIZE = DEFAULT_BLOCK_SIZE
Entropy = Literal["off", "auto", "on"]


def encode(
    tensors: Tensors,
    bits: int,
    *,
    seed: int,
    block_size: int | None = None,
    codec: int | str | None = None,
    keep: float = 1.0,
    entropy: Entropy = "off",
) -> bytes:
    """`tensors` as one payload, 1 to 16 `bits` per value or 32 for float32 as it is.

    tensors: any shapes, float16, float32 or float64, NumPy's or PyTorch's. codec: an id or name of
    quantizer.codec; without one, `sign` at 1 bit and `uniform` at 2 to 16; 32 bits are float32 with every codec.
    block_size: values per scale, 8 to 2**20 for most codecs (2,048 if None; the usual one of the codec); ignored
    where there are no scales. keep: the share of each tensor's values to send, the largest (at least one); the
    others come back as 0. entropy: compress the codes if a sample says that it pays ("auto"), always or never.
    seed: 0 to 2**64 - 1. The same arguments always give the same bytes. ValueError names the tensor that cannot
    be encoded.
    """
    read = sources(tensors)
    header = header_for(read, bits, block_size, codec, keep, entropy, seed)
    size = frames.payload_bytes(header)
    if size is not None:
        placed = Placed(size)
        write(placed, header, read, seed)
        return placed.bytes()
    buffer = io.BytesIO()
    write(Output(buffer), header, read, seed)
    return buffer.getvalue()


def encode_to(
    sink: Sink,
    tensors: Tensors,
    bits: int,
    *,
    seed: int,
    block_size: int | None = None,
    codec: int | str | None = None,
    keep: float = 1.0,
    entropy: Entropy = "off",
    digest: Digest | None = None,
) -> str:
    """Writes the bytes of `encode` to `sink` piece by piece and returns their sha256, or `digest`, in hex.

    Nothing of a tensor's size is allocated for contiguous tensors. After an error `sink` holds a part.
    """
    read = sources(tensors)
    output = HashedOutput(sink, digest)
    write(output, header_for(read, bits, block_size, codec, keep, entropy, seed), read, seed)
    return output.digest.hexdigest()


def header_for(
    read: list[Source],
    bits: int,
    block_size: int | None,
    codec: int | str | None,
    keep: float,
    stage: Entropy,
    seed: int,
    rounding: Rounding = "drawn",
) -> Header:
    """The header of the payload that `read` makes; ValueError says what cannot be encoded."""
    if not 0 <= seed < 2**64:
        raise ValueError(f"seed {seed}; it is 0 to 2**64 - 1")
    if not 0 < keep <= 1:
        raise ValueError(f"keep {keep}; it is a share of the values, above 0 and at most 1")
    if stage not in ("off", "auto", "on"):
        raise ValueError(f"entropy {stage!r}; known are off, auto and on")
    how = chosen(codec, bits)
    if how.block_sizes == (0,):
        block_size = 0
    elif block_size is None:
        block_size = how.block_size
    wrong = how.why_not(bits, block_size)
    if wrong:
        raise ValueError(wrong)
    header = Header(bits, block_size, tuple(source.info for source in read), how.id, float(keep))
    if stage == "off":
        return header
    compressed = replace(header, entropy=entropy.ZSTD)
    return compressed if stage == "on" or frames.pays(compressed, read, seed, rounding) else header


def write(
    output: Output,
    header: Header,
    read: list[Source],
    seed: int,
    *,
    rounding: Rounding = "drawn",
    errors: Mapping[str, np.ndarray] | None = None,
) -> None:
    """The payload of `read` with `header` into `output`.

    errors: contiguous float32 arrays of the tensors' shapes, which receive value - decoded value; they may be the
    tensors themselves.
    """
    left = {name: array.reshape(-1) for name, array in (errors or {}).items()}
    output.write(header.pack())
    if header.version == 2:
        frames.write(output, header, read, seed, rounding, left)
    elif header.bits == 32:
        _write_floats(output, header, read, left)
    else:
        _write_codes(output, header, read, seed, rounding, left)
    output.write(CRC.pack(output.crc))


def _write_floats(output: Output, header: Header, read: list[Source], left: dict[str, np.ndarray]) -> None:
    """The values of version 1 at 32 bits, uncopied where they are float32 already."""
    regions, jobs = _cut(header)

    def work(i: int, space: Space) -> np.ndarray:
        number, piece = jobs[i]
        values = read[number].piece(piece)
        read[number].refuse(piece, kernels.first_not_finite(values))
        return values.view(np.uint8)

    output.fill(regions, work, FEW_LONG)
    for residual in left.values():
        residual.fill(0)
    output.write_at(header.scales_offset, b"")


def _write_codes(
    output: Output, header: Header, read: list[Source], seed: int, rounding: Rounding, left: dict[str, np.ndarray]
) -> None:
    """Codes and scales of version 1."""
    regions, jobs = _cut(header)
    scales = np.empty(sum(s.scales for s in header.sections), "<f4")
    keys = [key(seed, number) for number in range(len(read))]

    def work(i: int, space: Space) -> np.ndarray:
        number, (start, stop) = jobs[i]
        first = header.sections[number].first_scale + start // header.block_size
        own = scales[first : first + -(-(stop - start) // header.block_size)]
        out = space()
        residual = left[read[number].info.name][start:stop] if left else NOTHING
        quantise_piece(read[number], (start, stop), header, keys[number], out, own, rounding, residual)
        return out

    output.fill(regions, work, FEW_LONG)
    output.write_at(header.scales_offset, scales.data)


def _cut(header: Header) -> tuple[list[Region], list[tuple[int, Piece]]]:
    """The regions of a payload of version 1, and of each the number of the tensor and the piece of it."""
    regions, jobs = [], []
    for number, (info, section) in enumerate(zip(header.tensors, header.sections, strict=True)):
        for start, stop in pieces(info.size, header.block_size or WORD, LONG):
            offset = section.offset + start * header.bits // 8
            regions.append((offset, -(-(stop - start) * header.bits // 8)))
            jobs.append((number, (start, stop)))
    return regions, jobs
