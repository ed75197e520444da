"""What requests choose from: points of steps, bits and width per step, and which of them meets a quality.

For each number of steps and bits the points are all that no other beats, where these are few enough to be
counted; else those of the multiplier's frontier and its neighbours by one step. A quality falls on the cheapest
point of each row that meets it. [R]
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import comb

import numpy as np

from optimizer.generation.quality import QualityLaws, width_grid
from optimizer.generation.schedule import SLACK, Frontier, StepPrices, frontier, step_terms

COUNTED = 6000
"""Most sets of widths, without their order, of which every undominated one is kept."""


@dataclass(frozen=True)
class Row:
    """The points of one number of steps and bits, the cheapest first; (F,) each, widths (F, s) as indices.

    errors: sum of omega e^2, which falls. qualities: what may be promised of each point.
    """

    steps: int
    bits: int
    widths: tuple[float, ...]
    errors: np.ndarray
    qualities: np.ndarray
    picks: np.ndarray

    def counts(self) -> np.ndarray:
        """(F, W): how many steps of each point have each width."""
        return np.stack([(self.picks == w).sum(axis=1) for w in range(len(self.widths))], axis=1)


def rows(laws: QualityLaws, steps: Sequence[int], prices: Mapping[int, StepPrices]) -> tuple[Row, ...]:
    """One row for each of `steps` and of the bits in `prices`."""
    return tuple(_row(laws, s, bits, price) for s in steps for bits, price in prices.items())


@lru_cache(maxsize=512)
def _row(laws: QualityLaws, steps: int, bits: int, prices: StepPrices) -> Row:
    costs, few = np.asarray(prices.costs), comb(steps + len(prices.widths) - 1, steps) <= COUNTED
    if few:
        errors, picks = _all_points(step_terms(laws, steps, prices.widths), costs)
    else:
        errors, picks = _points(frontier(laws, steps, prices), costs)
    equal = _equal_widths(laws, steps, prices.widths, errors)
    one = np.ptp(picks, axis=1) == 0
    equal[one] = np.asarray(prices.widths)[picks[one, 0]]
    promised = laws.promised(laws.quality(equal, steps, bits))
    return Row(steps, bits, prices.widths, errors, promised, picks)


def _all_points(terms: np.ndarray, prices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Errors and picks of every undominated choice, by dynamic programming over the steps."""
    cost, error, picks = np.zeros(1), np.zeros(1), np.zeros((1, 0), int)
    for row in terms:
        costs, errors = np.add.outer(cost, prices).ravel(), np.add.outer(error, row).ravel()
        order = np.lexsort((errors, np.round(costs, 9)))
        kept = order[errors[order] < np.minimum.accumulate(np.append(np.inf, errors[order][:-1])) * (1 - 1e-12)]
        before, last = np.divmod(kept, prices.size)
        cost, error, picks = costs[kept], errors[kept], np.column_stack([picks[before], last])
    return error, picks


def _points(found: Frontier, prices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Errors and picks of the frontier and of every point that takes one step of it back."""
    count, steps = found.picks.shape
    rows_of = np.arange(steps)
    before = np.empty((count, steps), int)  # what each step had before its last move
    before[0] = found.picks[0]
    for at in range(1, count):
        moved = found.picks[at] != found.picks[at - 1]
        before[at] = np.where(moved, found.picks[at - 1], before[at - 1])
    back_cost = found.costs[:, None] + prices[before] - prices[found.picks]
    back_error = found.errors[:, None] + found.terms[rows_of, before] - found.terms[rows_of, found.picks]
    costs = np.concatenate([found.costs, back_cost.ravel()])
    errors = np.concatenate([found.errors, back_error.ravel()])
    order = np.lexsort((errors, costs))
    kept = order[errors[order] < np.minimum.accumulate(np.append(np.inf, errors[order][:-1])) * (1 - 1e-12)]
    picks = np.empty((kept.size, steps), int)
    for at, index in enumerate(kept):
        if index < count:
            picks[at] = found.picks[index]
            continue
        point, row = divmod(int(index) - count, steps)
        picks[at] = found.picks[point]
        picks[at, row] = before[point, row]
    return errors[kept], picks


def _equal_widths(laws: QualityLaws, steps: int, widths: Sequence[float], errors: np.ndarray) -> np.ndarray:
    """QualityLaws.equal_width for many at once."""
    if laws.by_step is None:
        return np.asarray(np.sqrt(np.maximum(1 - errors, min(widths) ** 2)))
    grid = width_grid(laws.by_step)
    return np.asarray(np.interp(-errors, -laws.by_step.terms(steps, grid).sum(axis=0), grid))


def meets(laws: QualityLaws, row: Row, qualities: np.ndarray) -> np.ndarray:
    """For each of `qualities` (R,) the index of the cheapest point of `row` that meets it; -1 if none does."""
    best_so_far = np.minimum.accumulate(row.qualities)
    at = np.searchsorted(-best_so_far, -(qualities + SLACK * np.abs(qualities)))
    return np.where(at < best_so_far.size, at, -1)
