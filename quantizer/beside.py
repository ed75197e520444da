"""The same places of several payloads side by side, tile by tile: what a median over updates needs.

However many payloads there are and however large, what is held is one tile of all of them. A tensor that is cut
into frames is read frame by frame; where a tile is smaller than a frame, that frame is read again for the next.
"""

from collections.abc import Iterator, Mapping, Sequence
from functools import partial

import numpy as np

from quantizer.chunks import VALUES, WORD, Piece, at_once
from quantizer.decoder import _compare, _Section, _stored, _Tensor
from quantizer.layout import Payload, read_header

TILE_BYTES = 1 << 25
"""Of a tile, over all payloads."""


def across(
    payloads: Sequence[Payload], shapes: Mapping[str, tuple[int, ...]], *, tile_bytes: int = TILE_BYTES
) -> Iterator[tuple[str, Piece, np.ndarray]]:
    """(name, [start, stop), values (payloads, stop - start) float32) for every tile of every tensor of `shapes`.

    The values are written over by the next tile; the caller may change them. PayloadError names a tensor that is
    not as in `shapes`, or a value out of range.
    """
    stored: list[dict[str, _Tensor]] = []
    for payload in payloads:
        header = read_header(payload)
        _compare(header, shapes)
        stored.append({one.info.name: one for one in _stored(payload, header)})
    memory = np.empty(0, np.float32)
    for name in shapes:
        parts = [tensors[name] for tensors in stored]
        for start, stop in _tiles(parts, tile_bytes):
            if memory.size < len(parts) * (stop - start):
                memory = np.empty(len(parts) * (stop - start), np.float32)
            values = memory[: len(parts) * (stop - start)].reshape(len(parts), stop - start)
            rows = [partial(_read, one, (start, stop), row) for one, row in zip(parts, values, strict=True)]
            at_once(lambda read: read(), rows)
            yield name, (start, stop), values


def _tiles(parts: Sequence[_Tensor], tile_bytes: int) -> list[Piece]:
    """What a tensor is cut into: the pieces of its payloads if they are alike and not too long, else even ones."""
    most = max(tile_bytes // (4 * len(parts)), WORD)
    pieces = parts[0].pieces
    if all(one.pieces == pieces for one in parts) and all(stop - start <= most for start, stop in pieces):
        return pieces
    step = min(most, VALUES) // WORD * WORD
    size = parts[0].info.size
    return [(start, min(start + step, size)) for start in range(0, size, step)]


def _read(one: _Tensor, tile: Piece, out: np.ndarray) -> None:
    """The values of `tile` into `out`."""
    start, stop = tile
    if isinstance(one, _Section):
        one.refuse(tile, one.values(tile, out))
        return
    for piece in one.pieces:
        first, last = max(piece[0], start), min(piece[1], stop)
        if first >= last:
            continue
        if (first, last) == piece:
            one.refuse(piece, one.values(piece, out[first - start : last - start]))
        else:
            values = np.empty(piece[1] - piece[0], np.float32)
            one.refuse(piece, one.values(piece, values))
            out[first - start : last - start] = values[first - piece[0] : last - piece[0]]
