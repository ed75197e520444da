"""Every integer choice, tried: slow, plainly right, and the judge of the fast solvers."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from fleet.errors import BadRequest
from optimizer.precision.problem import Point, Problem


@dataclass(frozen=True)
class Table:
    """Rounds and joules of all choices, shape (I, K, m, n); inf where eps is out of reach."""

    problem: Problem
    rounds: np.ndarray
    joules: np.ndarray

    def best(self, score: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> Point:
        """The choice with the least score(rounds, joules); BadRequest where no choice reaches eps."""
        feasible = np.isfinite(self.rounds)
        if not feasible.any():
            raise BadRequest(f"no choice reaches eps = {self.problem.learning.eps:g}")
        with np.errstate(invalid="ignore"):
            scores = np.where(feasible, score(self.rounds, self.joules), np.inf)
        at = np.unravel_index(np.argmin(scores), scores.shape)
        return self.problem.point(*(int(axis[j]) for axis, j in zip(self.problem.axes, at, strict=True)))


def table(problem: Problem) -> Table:
    """All choices."""
    i, k, m, n = np.ix_(*problem.axes)
    return Table(problem, problem.rounds(i, k, m, n), problem.joules(i, k, m, n))


def energy(table: Table) -> Point:
    """Least joules."""
    return table.best(lambda t, e: e)


def time(table: Table) -> Point:
    """Fewest rounds."""
    return table.best(lambda t, e: t)


def total(table: Table) -> Point:
    """Least joules plus rounds, as the paper adds them up."""
    return table.best(lambda t, e: t + e)


def nash(table: Table, disagreement: Point) -> Point:
    """Largest (T_D - T)(E_D - E) among the choices better than `disagreement` in both."""

    def score(t: np.ndarray, e: np.ndarray) -> np.ndarray:
        gain_t, gain_e = disagreement.rounds - t, disagreement.joules - e
        return np.where((gain_t > 0) & (gain_e > 0), -gain_t * gain_e, np.inf)

    return table.best(score)


def pareto(table: Table) -> tuple[Point, ...]:
    """The choices that no other beats in both rounds and joules, by rounds."""
    flat_t, flat_e = table.rounds.ravel(), table.joules.ravel()
    order = np.lexsort((flat_e, flat_t))
    order = order[np.isfinite(flat_t[order])]
    lowest = np.minimum.accumulate(flat_e[order])
    first = np.concatenate(([True], lowest[1:] < lowest[:-1]))
    axes = table.problem.axes
    points = []
    for flat in order[first]:
        at = np.unravel_index(flat, table.rounds.shape)
        points.append(table.problem.point(*(int(axis[j]) for axis, j in zip(axes, at, strict=True))))
    return tuple(points)
