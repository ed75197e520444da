"""Clipping of an update to a norm, on the device: what leaves it is bounded."""

import math

import numpy as np


def clipped(update: dict[str, np.ndarray], clip_norm: float) -> dict[str, np.ndarray]:
    """`update`, scaled down to the L2 norm `clip_norm` where it is larger; all its tensors count together."""
    norm = math.sqrt(math.fsum(float(np.square(x, dtype=np.float64).sum()) for x in update.values()))
    if not norm > clip_norm:
        return update
    factor = clip_norm / norm
    return {name: (x * factor).astype(x.dtype) for name, x in update.items()}
