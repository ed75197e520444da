"""How far the values of an update reach: what the error of a codec with a scale per block is in proportion to."""

from collections.abc import Mapping
from math import sqrt

import numpy as np

from quantizer import kernels
from quantizer.chunks import frozen, pieces
from quantizer.codecs import NOTHING


def live_range(
    update: Mapping[str, np.ndarray], residual: Mapping[str, np.ndarray] | None, block_size: int
) -> float:
    """Twice the root mean square, over all blocks, of the largest magnitude in each; 0.0 without any values.

    Of update + residual, which is what is encoded; residual None stands for zeros. A tensor's last block may be
    shorter than block_size and counts as one. NaN or Inf where the values have one.
    """
    squares, blocks = 0.0, 0
    for name, tensor in update.items():
        flat = tensor.reshape(-1)
        rest = NOTHING if residual is None else residual[name].reshape(-1)
        for start, stop in pieces(flat.size, block_size):
            squares += kernels.squared_reach(_floats(flat[start:stop]), _floats(rest[start:stop]), block_size)
        blocks += -(-flat.size // block_size)
    return 2 * sqrt(squares / blocks) if blocks else 0.0


def _floats(values: np.ndarray) -> np.ndarray:
    return frozen(np.ascontiguousarray(values, np.float32))
