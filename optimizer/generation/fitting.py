"""Quality laws from measurements, with residuals that say what the fit is worth.

`residual` is cross-validated: each measurement is predicted by a fit of all the others, and the median of the
relative distances is kept; None where there are too few to leave one out.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TypeVar

import numpy as np
from scipy.optimize import lsq_linear

from fleet.errors import BadRequest
from optimizer.generation.quality import FULL_BITS, BitsLaw, StepLaw, WidthLaw

Law = TypeVar("Law")
STEEPEST = 8.0
"""Of the exponents g that are tried."""


def fit_width(widths: Sequence[float], values: Sequence[float]) -> WidthLaw:
    """a + c (w^-g - 1) by least squares of relative deviations; BadRequest for fewer than three widths."""
    x, y = _pairs(widths, values, at_least=3)
    law = _width(x, y)
    return replace(law, samples=y.size, residual=_left_out(x, y, 4, lambda a, b: _width(a, b).at))


def fit_steps(steps: Sequence[float], values: Sequence[float]) -> StepLaw:
    """The falling convex law nearest to the points, by least squares; BadRequest for fewer than two."""
    x, y = _pairs(steps, values, at_least=2)
    law = _steps(x, y)
    return replace(law, samples=y.size, residual=_left_out(x, y, 4, lambda a, b: _steps(a, b).at, inside=True))


def fit_bits(bits: Sequence[float], values: Sequence[float]) -> BitsLaw:
    """harm 4^-bits above the value at the most bits; BadRequest for fewer than two."""
    x, y = _pairs(bits, values, at_least=2)

    def at(bits: np.ndarray) -> np.ndarray:
        return np.where(bits >= FULL_BITS, 0.0, 4.0**-bits)

    matrix = np.column_stack([np.ones(x.size), at(x)]) / y[:, None]
    scale = np.abs(matrix).max(axis=0)
    found = lsq_linear(matrix / scale, np.ones(x.size), bounds=(0, np.inf)).x / scale
    off = np.abs(found[0] + found[1] * at(x) - y) / y
    return BitsLaw(float(found[1]), int(y.size), float(np.median(off)))


def _pairs(x: Sequence[float], y: Sequence[float], at_least: int) -> tuple[np.ndarray, np.ndarray]:
    """Sorted by x, the mean of those measured at the same x."""
    given, values = np.asarray(x, float), np.asarray(y, float)
    if given.size != values.size or not (np.isfinite(values) & (values > 0)).all():
        raise BadRequest(f"a fit needs as many values above zero as places: {given.size} and {values.size} given")
    places = np.unique(given)
    if places.size < at_least:
        raise BadRequest(f"a fit of this law needs {at_least} different places at least, not {places.size}")
    return places, np.array([values[given == place].mean() for place in places])


def _width(x: np.ndarray, y: np.ndarray) -> WidthLaw:
    """`a` and `c` by linear least squares, neither below zero; the exponent by finer and finer grids."""
    low, high = 0.01, STEEPEST
    for _ in range(4):
        g = np.geomspace(low, high, 60)
        a, c, off = _linear(x[:, None] ** -g - 1, y)
        at = int(np.argmin(off))
        low, high = g[max(at - 1, 0)], g[min(at + 1, g.size - 1)]
    return WidthLaw(float(a[at]), float(c[at]), float(g[at]))


def _linear(rises: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """a, c >= 0 (G,) that make (a + c rises) / y nearest to 1, and the squares left; `rises` is (N, G)."""
    u, v = (1 / y)[:, None], rises / y[:, None]
    uu, uv, vv = (u * u).sum(axis=0), (u * v).sum(axis=0), (v * v).sum(axis=0)
    su, sv = u.sum(axis=0), v.sum(axis=0)
    a = (su * vv - sv * uv) / (uu * vv - uv**2)
    c = (sv - a * uv) / vv
    only_a, only_c = su / uu, np.maximum(sv / vv, 0.0)
    a, c = np.where(c < 0, only_a, np.maximum(a, 0.0)), np.where(c < 0, 0.0, np.where(a < 0, only_c, c))
    return a, c, ((a * u + c * v - 1) ** 2).sum(axis=0)


def _steps(x: np.ndarray, y: np.ndarray) -> StepLaw:
    """As a constant and hinges max(x_k - x, 0), all zero or more: falling and convex whatever they are."""
    hinges = np.maximum(x[1:][None, :] - x[:, None], 0.0)
    matrix = np.column_stack([np.ones(x.size), hinges])
    scale = matrix.max(axis=0)
    found = lsq_linear(matrix / scale, y, bounds=(0, np.inf), tol=1e-14).x
    return StepLaw(tuple(map(float, x)), tuple(map(float, matrix / scale @ found)))


def _left_out(
    x: np.ndarray,
    y: np.ndarray,
    at_least: int,
    fit: Callable[[np.ndarray, np.ndarray], Callable[[np.ndarray], np.ndarray]],
    inside: bool = False,
) -> float | None:
    """Median relative distance of each point from the fit of the others; `inside`: the ends are never left out."""
    if x.size < at_least:
        return None
    left = range(1, x.size - 1) if inside else range(x.size)
    off = [abs(float(fit(np.delete(x, k), np.delete(y, k))(x[k])) - y[k]) / y[k] for k in left]
    return float(np.median(off))
