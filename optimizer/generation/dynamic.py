"""The judge of `schedule`: dynamic programming over the steps, slow and plainly right.

After i steps only those choices are kept that no other beats in both cost and error; every width is tried for the
next step. Nothing is rounded, so the answer is exact.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from optimizer.generation.quality import QualityLaws
from optimizer.generation.schedule import SLACK, StepPrices, error_allowed, step_terms


def least_cost(terms: np.ndarray, costs: Sequence[float], allowed: float) -> float:
    """The least sum of `costs` (W,) over choices whose `terms` (s, W) sum up to `allowed` at most; inf if none."""
    total, error = np.zeros(1), np.zeros(1)
    rest = np.append(np.cumsum(terms.min(axis=1)[::-1])[::-1], 0.0)
    for row, left in zip(terms, rest[1:], strict=True):
        total, error = (np.add.outer(a, b).ravel() for a, b in ((total, np.asarray(costs)), (error, row)))
        possible = error + left <= allowed * (1 + SLACK)
        total, error = total[possible], error[possible]
        order = np.lexsort((error, total))
        total, error = total[order], error[order]
        kept = error < np.minimum.accumulate(np.append(np.inf, error[:-1]))
        total, error = total[kept], error[kept]
    return float(total[0]) if total.size else np.inf


def cheapest(laws: QualityLaws, quality: float, steps: Sequence[int], prices: Mapping[int, StepPrices]) -> float:
    """The cost of the best choice of steps, bits and width per step; inf where none has the quality."""
    best = np.inf
    for s in steps:
        for bits, price in prices.items():
            allowed = error_allowed(laws, quality, s, bits, price.widths)
            if not np.isnan(allowed):
                best = min(best, least_cost(step_terms(laws, s, price.widths), price.costs, allowed))
    return best
