"""One piece of a tensor to scales and packed codes, wherever the tensor is."""

import numpy as np

from quantizer.chunks import Piece
from quantizer.codecs import NOTHING, Rounding
from quantizer.layout import Header
from quantizer.sources import Source

GOLDEN = 0x9E3779B97F4A7C15
ROUNDED_UP = 65408
"""From here on bfloat16 rounds to 65,536, which is no float16."""


def key(seed: int, tensor: int) -> np.uint64:
    """Where the random bits of tensor number `tensor` start: output `tensor` of splitmix64 from `seed`."""
    x = (int(seed) + (tensor + 1) * GOLDEN) % 2**64
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
    x = (x ^ (x >> 27)) * 0x94D049BB133111EB % 2**64
    return np.uint64(x ^ (x >> 31))


def quantise_piece(
    source: Source,
    piece: Piece,
    header: Header,
    tensor_key: np.uint64,
    packed: np.ndarray,
    scales: np.ndarray,
    rounding: Rounding,
    left: np.ndarray = NOTHING,
) -> None:
    """Codes and scales of `piece`; `left`, of its length or empty, receives value - decoded value."""
    first_block = piece[0] // header.block_size if header.block_size else 0
    if source.tensor is not None and not left.size:
        from quantizer import device as gpu

        part = source.tensor[slice(*piece)]
        bad = gpu.quantise(
            header.how, part, header.bits, header.block_size, tensor_key, first_block, packed, scales, rounding
        )
    else:
        bad = header.how.quantise(
            *(source.piece(piece), header.bits, header.block_size, tensor_key, first_block),
            *(packed, scales, rounding, left),
        )
    source.refuse(piece, bad, header.how.limit)
    if header.how.name == "bfloat16" and source.info.dtype == np.float16:
        beyond = np.abs(source.piece(piece)) >= ROUNDED_UP
        source.refuse(
            piece, int(beyond.argmax()) if beyond.any() else -1, "what is a float16 again after bfloat16"
        )
