"""The entropy stage: codes of a frame, shorter where some are more frequent than others.

zstd's Huffman coder works on bytes, so codes are laid out as bytes that are alike:

    bits 1, 2, 4, 8       as they are packed: eight, four, two or one code per byte
    bits 3                two codes per byte
    bits 5, 6, 7          one code per byte
    bits 9 to 16 and 32   the upper 8 bits of every code, then the lower ones packed

On updates of trained networks this comes within 5 % of the entropy of the codes (bench/quantizer.py measures it).
A frame stays as it is where that does not make it shorter.
"""

import threading

import numpy as np
import zstandard

from quantizer import kernels
from quantizer.chunks import frozen

LEVEL = 1
NONE, ZSTD = 0, 1
NAMES = {NONE: "none", ZSTD: "zstd"}

_own = threading.local()  # a context of zstd is for one thread at a time, and costs more than a small frame


def symbols_bytes(bits: int, count: int) -> int:
    """Length of `count` codes laid out."""
    if bits == 3:
        return -(-count // 2)
    if bits in (5, 6, 7):
        return count
    return count + -(-count * (bits - 8) // 8) if bits > 8 else -(-count * bits // 8)


def compress(packed: np.ndarray, bits: int, count: int) -> bytes:
    """`count` packed codes, compressed. The same codes give the same bytes with the same version of zstd."""
    if not hasattr(_own, "compressor"):
        _own.compressor = zstandard.ZstdCompressor(level=LEVEL, write_checksum=False, write_content_size=True)
    symbols = packed
    if bits not in (1, 2, 4, 8):
        symbols = np.empty(symbols_bytes(bits, count), np.uint8)
        kernels.lay_out(frozen(packed), bits, count, symbols)
    data: bytes = _own.compressor.compress(symbols.data)
    return data


def expand(data: memoryview, bits: int, count: int) -> np.ndarray | str:
    """The `count` packed codes in `data`, or what is wrong with it. Allocates what `count` needs, whatever `data`
    claims.
    """
    expected = symbols_bytes(bits, count)
    try:
        claimed = zstandard.get_frame_parameters(data).content_size
    except zstandard.ZstdError as error:
        return f"no zstd frame: {error}"
    if claimed != expected:
        return f"a zstd frame of {claimed:,} bytes where {expected:,} are due"
    if not hasattr(_own, "decompressor"):
        _own.decompressor = zstandard.ZstdDecompressor()
    try:
        expanded = _own.decompressor.decompress(data, max_output_size=expected, allow_extra_data=False)
    except zstandard.ZstdError as error:
        return f"a damaged zstd frame: {error}"
    symbols = np.frombuffer(expanded, np.uint8)
    if bits in (1, 2, 4, 8):
        return symbols
    packed = np.empty(-(-count * bits // 8), np.uint8)
    if kernels.gather_up(symbols, bits, count, packed) < 0:
        return f"a code of more than {bits} bits"
    return packed
