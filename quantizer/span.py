"""How far the values of an update reach: what the error of a codec with a scale per block is in proportion to."""

from collections.abc import Mapping
from math import sqrt

import numpy as np

CHUNK = 1 << 16
"""Values looked at in one go: they stay in the second cache."""


def live_range(
    update: Mapping[str, np.ndarray], residual: Mapping[str, np.ndarray] | None, block_size: int
) -> float:
    """Twice the root mean square, over all blocks, of the largest magnitude in each; 0.0 without any values.

    Of update + residual, which is what is encoded; residual None stands for zeros. A tensor's last block may be
    shorter than block_size and counts as one. NaN or Inf where the values have one.
    """
    squares, blocks = 0.0, 0
    step = block_size * max(1, CHUNK // block_size)
    room = np.empty(step, np.float32)
    for name, tensor in update.items():
        flat = np.ascontiguousarray(tensor).reshape(-1)
        rest = None if residual is None else np.ascontiguousarray(residual[name]).reshape(-1)
        for begin in range(0, flat.size, step):
            part = flat[begin : begin + step]
            values = room[: part.size]
            if rest is None:
                np.abs(part, out=values, casting="same_kind")
            else:
                np.add(part, rest[begin : begin + step], out=values, casting="same_kind")
                np.abs(values, out=values)
            whole = part.size // block_size
            largest = _largest(values[: whole * block_size].reshape(whole, block_size)).astype(np.float64)
            squares += float(largest @ largest)
            blocks += whole
            if whole * block_size < part.size:
                squares += float(values[whole * block_size :].max()) ** 2
                blocks += 1
    return 2 * sqrt(squares / blocks) if blocks else 0.0


def _largest(rows: np.ndarray) -> np.ndarray:
    """The largest of each row of (N, M), which is overwritten: folded in halves, which is several times faster."""
    while rows.shape[1] > 8 and rows.shape[1] % 2 == 0:
        half = rows.shape[1] // 2
        rows = np.maximum(rows[:, :half], rows[:, half:], out=rows[:, :half])
    found: np.ndarray = rows.max(axis=1)
    return found
