"""How good a model becomes at some bits: value = best + harm * 4^-bits, from runs that ended at unlike bits.

The error of a quantiser is in proportion to 4^-bits (its variance), and a metric that gets worse with small errors
does so in proportion at first [R]. Good for loss and FID, where less is better.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import least_squares


@dataclass(frozen=True)
class QualityFit:
    """A metric against bits. `residual` is the median relative distance of its `samples` runs."""

    metric: str
    best: float
    harm: float
    samples: int
    residual: float

    def at(self, bits: float) -> float:
        """The value to expect at `bits`."""
        return self.best + self.harm * float(np.exp2(-2 * bits))


def quality(metric: str, bits: Sequence[float], values: Sequence[float]) -> QualityFit | None:
    """The fit over runs; None unless they ended at two bit-widths at least."""
    q, y = np.asarray(bits, float), np.asarray(values, float)
    if np.unique(q).size < 2:
        return None
    x = 4.0**-q
    scale_x, scale_y = float(x.max()), float(np.median(np.abs(y))) or 1.0

    def deviations(p: np.ndarray) -> np.ndarray:
        return np.asarray(p[0] + p[1] * x / scale_x - y / scale_y)

    found = least_squares(deviations, [1.0, 0.1], bounds=([-np.inf, 0], np.inf), loss="soft_l1", f_scale=0.05)
    best, harm = float(found.x[0] * scale_y), float(found.x[1] * scale_y / scale_x)
    residual = float(np.median(np.abs(best + harm * x - y) / scale_y))
    return QualityFit(metric, best, harm, len(y), residual)
