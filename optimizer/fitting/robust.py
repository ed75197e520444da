"""Fits that one odd round cannot move: medians, Siegel's line of repeated medians, and when a device has changed.

A device may become slower or faster in the middle of a run. Two rounds in a row that lie off the median so far in
one direction, by more than a quarter and by more than its rounds usually scatter, begin a new regime,
and what was before is not looked at any more. One such round is an outlier.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import median_abs_deviation, siegelslopes

from optimizer.fitting.sample import RECENT

CHANGE = float(np.log(1.25))
"""A change is at least this much, in logarithms."""

SCATTERS = 4.0
"""A change is at least so many standard deviations, told from the median absolute deviation."""

SPREAD = 1.3
"""A slope is fitted where the largest x is at least so many times the least."""

ENOUGH = 3
"""Samples that a slope takes."""

LATEST = 3
"""How dear things are now is the median of so many samples: hosts that are shared drift from round to round."""


def present(logs: Sequence[float]) -> int:
    """The index at which the present regime of a series of logarithms begins."""
    begin = 0
    for i in range(2, len(logs)):
        before = np.asarray(logs[begin : i - 1])
        if before.size == 0:
            continue
        middle = float(np.median(before))
        scatter = float(median_abs_deviation(before, scale="normal")) if before.size > 2 else 0.0
        limit = max(CHANGE, SCATTERS * scatter)
        one, two = logs[i - 1] - middle, logs[i] - middle
        if min(abs(one), abs(two)) > limit and one * two > 0:
            begin = i - 1
    return begin


@dataclass(frozen=True)
class Line:
    """y = fixed + per_unit * law(x), from `samples` samples; `residual` is their median relative distance."""

    fixed: float
    per_unit: float
    law: Callable[[float], float]
    samples: int
    residual: float

    def at(self, x: float) -> float:
        """y at `x`."""
        return self.fixed + self.per_unit * self.law(x)


def line(xs: Sequence[float], ys: Sequence[float], law: Callable[[float], float]) -> Line | None:
    """The line through the samples of the present regime, in the order of time; None without any.

    `law(x)` > 0 is what is known of the shape before: y is in proportion to it unless the samples show a slope.
    """
    pairs = [(x, y) for x, y in zip(xs, ys, strict=True) if y > 0 and law(x) > 0]
    begin = present([float(np.log(y / law(x))) for x, y in pairs])
    kept = pairs[begin:][-RECENT:]
    if not kept:
        return None
    u, y = (np.asarray(v, float) for v in zip(*((law(x), y) for x, y in kept), strict=True))
    fixed, per_unit = intercept_and_slope(u, y)
    now = float(np.median((y / (fixed + per_unit * u))[-LATEST:]))
    fixed, per_unit = fixed * now, per_unit * now
    residual = float(np.median(np.abs(fixed + per_unit * u - y) / y))
    return Line(fixed, per_unit, law, len(kept), residual)


def intercept_and_slope(u: np.ndarray, y: np.ndarray) -> tuple[float, float]:
    """Siegel's line, neither part of it negative; y in proportion to u where u hardly differs."""
    if u.size >= ENOUGH and u.max() >= SPREAD * u.min():
        slope = float(siegelslopes(y, u).slope)
        fixed = float(np.median(y - slope * u))
        if slope >= 0 and fixed >= 0:
            return fixed, slope
        if slope < 0:
            return float(np.median(y)), 0.0
    return 0.0, float(np.median(y / u))
