"""One request: the cheapest width per step, number of steps and bits that meet a quality.

    min sum_i c(w_i)   s.t.   sum_i omega_i e_i(w_i)^2 <= D        for each number of steps and bits

D follows from the quality by the laws. A price nu on the error makes every step choose by itself,
w_i = argmin c(w) + nu omega_i e_i(w)^2, and the steps change their minds one at a time as nu grows: in the order
of error saved per cost. So one sort gives the choices of all nu (`frontier`), bisection finds the nu that meets
D, and what a whole step leaves over is closed by branch and bound. `dynamic` judges it. [R]
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from fleet.errors import BadRequest
from optimizer.generation.quality import QualityLaws, width_grid
from optimizer.models.checks import positive
from optimizer.ondemand.budget import choose

SLACK = 1e-9
"""Relative: a demand that is met to rounding is met."""


class OutOfReach(BadRequest):
    """No choice has the quality. `best` is the best there is."""

    def __init__(self, wanted: float, best: float, metric: str) -> None:
        super().__init__(f"{metric} {wanted:.4g} is out of reach: the best of all choices is {best:.4g}")
        self.wanted = wanted
        self.best = best


@dataclass(frozen=True)
class StepPrices:
    """What one step costs at each of `widths` (W,), which rise: multiplications, joules, in any one unit."""

    widths: tuple[float, ...]
    costs: tuple[float, ...]

    def __post_init__(self) -> None:
        positive(self, "widths", "costs")
        if len(self.widths) != len(self.costs) or not (np.diff(self.widths) > 0).all():
            raise BadRequest(f"StepPrices: {len(self.widths)} widths must rise and have {len(self.costs)} costs")


def by_square(widths: Sequence[float], each: float = 1.0, fixed: float = 0.0) -> StepPrices:
    """fixed + each w^2. [P] DDSM: the cost of a slimmed U-Net goes with w^2 within 1 %."""
    return StepPrices(tuple(widths), tuple(fixed + each * w**2 for w in widths))


@dataclass(frozen=True)
class Schedule:
    """One choice: a width per step, the noisiest first; what it costs and what quality may be promised."""

    widths: tuple[float, ...]
    bits: int
    cost: float
    quality: float

    @property
    def steps(self) -> int:
        """How many."""
        return len(self.widths)


@dataclass(frozen=True)
class Frontier:
    """The choices of all multipliers for some steps and bits, the cheapest first.

    errors, costs: (F,), of which `errors` falls and `costs` rises. picks: (F, s), indices of widths.
    """

    terms: np.ndarray
    costs: np.ndarray
    errors: np.ndarray
    picks: np.ndarray


def error_allowed(laws: QualityLaws, quality: float, steps: int, bits: int, widths: Sequence[float]) -> float:
    """D: the most of sum_i omega_i e_i^2 at which `quality` may be promised.

    nan where no width of `widths` meets it, inf where the narrowest does.
    """
    quality = laws.predicted_for(quality)
    left = quality - float(laws.steps.excess(steps)) - float(laws.bits.excess(bits))
    least = laws.width.width_for(left + SLACK * abs(quality))
    if least > max(widths) * (1 + SLACK):
        return np.nan
    if least <= min(widths):
        return np.inf
    if laws.by_step is None:
        return float(1 - least**2)
    grid = width_grid(laws.by_step)
    return float(np.interp(least, grid, laws.by_step.terms(steps, grid).sum(axis=0)))


@lru_cache(maxsize=512)
def frontier(laws: QualityLaws, steps: int, prices: StepPrices) -> Frontier:
    """See Frontier. Without a table of errors by step only the sum of w^2 counts."""
    terms, costs = step_terms(laws, steps, prices.widths), np.asarray(prices.costs)
    first = int(np.lexsort((terms.sum(axis=0), costs))[0])
    moves: list[tuple[float, int, int]] = [
        move for row in range(steps) for move in _hull(row, first, terms[row], costs)
    ]
    moves.sort(key=lambda m: -m[0])
    picks = np.full((len(moves) + 1, steps), first)
    for at, (_, row, column) in enumerate(moves, start=1):
        picks[at] = picks[at - 1]
        picks[at, row] = column
    return Frontier(terms, costs[picks].sum(axis=1), np.take_along_axis(terms, picks.T, axis=1).sum(axis=0), picks)


def step_terms(laws: QualityLaws, steps: int, widths: Sequence[float]) -> np.ndarray:
    """omega_i e_i(w)^2, (s, W)."""
    if laws.by_step is not None:
        return laws.by_step.terms(steps, widths)
    return np.broadcast_to((1 - np.asarray(widths, float) ** 2) / steps, (steps, len(widths)))


def _hull(row: int, first: int, terms: np.ndarray, costs: np.ndarray) -> list[tuple[float, int, int]]:
    """(error saved per cost, row, width) of each move along the lower hull from width `first`."""
    moves: list[tuple[float, int, int]] = []
    here = first
    while True:
        dearer = np.flatnonzero((costs > costs[here]) & (terms < terms[here]))
        if not dearer.size:
            return moves
        gains = (terms[here] - terms[dearer]) / (costs[dearer] - costs[here])
        best = int(np.flatnonzero(gains >= gains.max() * (1 - 1e-12))[0])
        here = int(dearer[best])
        moves.append((float(gains[best]), row, here))


def narrowest(laws: QualityLaws, quality: float, steps: int, bits: int, prices: StepPrices) -> Schedule:
    """The cheapest one width for all steps; OutOfReach."""
    values = laws.promised(laws.quality(np.asarray(prices.widths), steps, bits))
    good = values <= quality + SLACK * abs(quality)
    if not good.any():
        raise OutOfReach(quality, float(values.min()), laws.metric)
    at = int(np.argmin(np.where(good, prices.costs, np.inf)))
    return Schedule((prices.widths[at],) * steps, bits, steps * prices.costs[at], float(values[at]))


def cheapest_widths(laws: QualityLaws, quality: float, steps: int, bits: int, prices: StepPrices) -> Schedule:
    """The cheapest width per step; OutOfReach."""
    allowed = error_allowed(laws, quality, steps, bits, prices.widths)
    if np.isnan(allowed):
        best = float(laws.promised(laws.quality(max(prices.widths), steps, bits)))
        raise OutOfReach(quality, best, laws.metric)
    found = frontier(laws, steps, prices)
    at = _meets(found, allowed)
    picks = found.picks[at]
    if 0 < at < len(found.costs) and found.errors[at] < allowed * (1 - SLACK):
        costs = np.broadcast_to(np.asarray(prices.costs), found.terms.shape)
        picks = choose(costs, found.terms, max(allowed, float(found.errors[at])))
    return schedule(laws, picks, bits, prices)


def schedule(laws: QualityLaws, picks: np.ndarray, bits: int, prices: StepPrices) -> Schedule:
    """The schedule of indices of widths (s,)."""
    widths = tuple(prices.widths[int(p)] for p in picks)
    cost = float(np.asarray(prices.costs)[picks].sum())
    return Schedule(widths, bits, cost, float(laws.promised(laws.quality_of(widths, bits))))


def cheapest(
    laws: QualityLaws, quality: float, steps: Sequence[int], prices: Mapping[int, StepPrices]
) -> Schedule:
    """The cheapest number of steps of `steps`, bits of `prices` and width per step; OutOfReach."""
    bounds = []
    for s in steps:
        for bits, price in prices.items():
            allowed = error_allowed(laws, quality, s, bits, price.widths)
            if not np.isnan(allowed):
                bounds.append((least_cost(frontier(laws, s, price), allowed), s, bits))
    if not bounds:
        each = [laws.quality(max(p.widths), s, bits) for s in steps for bits, p in prices.items()]
        best = float(laws.promised(np.array(each)).min())
        raise OutOfReach(quality, best, laws.metric)
    found: Schedule | None = None
    for bound, s, bits in sorted(bounds):
        if found is not None and bound >= found.cost:
            break
        tried = cheapest_widths(laws, quality, s, bits, prices[bits])
        if found is None or tried.cost < found.cost:
            found = tried
    assert found is not None
    return found


def least_cost(found: Frontier, allowed: float) -> float:
    """What no choice of the same steps that keeps `allowed` can go below: the bound of the multiplier."""
    at = _meets(found, allowed)
    if at == 0:
        return float(found.costs[0])
    span = found.errors[at - 1] - found.errors[at]
    part = 1.0 if span <= 0 else min(1.0, (found.errors[at - 1] - allowed) / span)
    return float(found.costs[at - 1] + max(part, 0.0) * (found.costs[at] - found.costs[at - 1]))


def _meets(found: Frontier, allowed: float) -> int:
    """The first, that is the cheapest, point of the frontier whose error is `allowed` at most; else the last."""
    at = int(np.searchsorted(-found.errors, -allowed * (1 + SLACK)))
    return min(at, len(found.errors) - 1)
