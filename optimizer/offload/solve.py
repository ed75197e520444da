"""The price method: edge time has one price, and at that price everybody chooses by himself.

At a price nu a user takes the place and the steps that are worth most to him, w(s) - nu s; the seconds that all
take fall as nu rises, so bisection finds the price at which they fit. What whole steps and whole users leave over
is filled by who gains most, and users near the price change places as long as that helps. `dynamic` judges it. [R]
"""

from collections.abc import Callable

import numpy as np

from optimizer.offload.problem import Infeasible, Plan, Problem, Vector, described, refuse

NEAR = 12
"""Users whose place is tried the other way round, those nearest to indifference first."""


def solve(problem: Problem) -> Plan:
    """Places, computation times and steps; Infeasible names the user, or the edge's time."""
    fewest = np.full(len(problem.users), problem.fewest_steps)
    can_local, can_edge = problem.most_local() >= fewest, problem.most_at_edge() >= fewest
    refuse(problem, ~can_local & ~can_edge, fewest, None)
    bound = ~can_local
    needed = int(bound.sum()) * problem.fewest_steps
    if needed > problem.edge.steps:
        raise Infeasible(
            "edge time",
            np.flatnonzero(bound),
            f"{int(bound.sum())} users can only be served by the edge and need {needed * problem.edge.step_s:.4g} "
            f"s of it at the least; {problem.edge.time_s:.4g} s are there",
        )
    local_steps = best_steps(problem.worth_local, problem, problem.most_local())
    local = np.where(can_local, problem.worth_local(local_steps), -np.inf)
    market = _Market(problem, local)
    chosen = market.polished(*market.clearing())
    return described(problem, chosen, np.where(chosen, market.steps(chosen), local_steps))


def best_steps(worth: Callable[[Vector], Vector], problem: Problem, most: Vector) -> Vector:
    """The steps (N,) of greatest `worth`, concave in them, from the fewest up to `most` (N,)."""
    low = np.full(most.shape, problem.fewest_steps)
    high = np.maximum(most, low)
    while (low < high).any():
        middle = (low + high) // 2
        with np.errstate(invalid="ignore"):
            rises = worth(middle + 1) - worth(middle) > 0
        low, high = np.where(rises & (low < high), middle + 1, low), np.where(rises, high, middle)
    return low


def edge_steps(problem: Problem, at_edge: np.ndarray) -> Vector:
    """The best steps (N,) of those at the edge within its time; of the others the fewest. They must fit."""
    return _Market(problem, np.zeros(len(problem.users))).steps(at_edge)


class _Market:
    """What each user gains by each further step at the edge, (S, N), which falls with the steps."""

    def __init__(self, problem: Problem, local: Vector) -> None:
        self._problem, self._local = problem, local
        self._fewest, self._room = problem.fewest_steps, problem.edge.steps
        worth = problem.worth_at_edge(np.arange(self._fewest, problem.most_steps + 1)[:, None])
        self._can = np.isfinite(worth[0])
        with np.errstate(invalid="ignore"):
            gains = np.nan_to_num(np.diff(worth, axis=0), nan=-np.inf, neginf=-np.inf)
        self._gains = np.minimum.accumulate(gains, axis=0)  # what rounding bends is straightened
        self._first = worth[0]
        self._sums = np.vstack([np.zeros(worth.shape[1]), np.cumsum(np.maximum(self._gains, -1e300), axis=0)])

    def steps(self, at_edge: np.ndarray) -> Vector:
        """The best steps (N,) of those at the edge: the greatest gains of all, while there is time."""
        left = self._room - int(at_edge.sum()) * self._fewest
        gains = self._gains[:, at_edge]
        more = (gains > 0).sum(axis=0)
        if more.sum() > left:
            # The price of a step: as many gains lie above it as there is time for.
            price = np.partition(gains.ravel(), gains.size - left - 1)[gains.size - left - 1]
            least = (gains > price).sum(axis=0)
            room = (gains >= price).sum(axis=0) - least
            before = np.cumsum(room) - room
            more = least + np.clip(left - int(least.sum()) - before, 0, room)
        steps = np.full(at_edge.shape, self._fewest)
        steps[at_edge] += more
        return steps

    def utility(self, at_edge: np.ndarray) -> float:
        """Of all users, if those go to the edge; -inf where they do not fit."""
        if int(at_edge.sum()) * self._fewest > self._room:
            return -np.inf
        more = self.steps(at_edge) - self._fewest
        worth = self._first + self._sums[more, np.arange(more.size)]
        return float(np.where(at_edge, worth, self._local).sum())

    def buyers(self, price: float) -> tuple[np.ndarray, Vector, int]:
        """Who goes to the edge at a price of a step, what each gains by it, and the steps of all of them."""
        more = (self._gains > price).sum(axis=0)
        worth = self._first + self._sums[more, np.arange(more.size)]
        with np.errstate(invalid="ignore"):
            gain = np.where(self._can, worth - price * (self._fewest + more) - self._local, -np.inf)
        at_edge = gain > 0
        return at_edge, gain, int((self._fewest + more)[at_edge].sum())

    def clearing(self) -> tuple[np.ndarray, Vector]:
        """Who buys, and what each gains, at the least price at which the edge's time is enough."""
        at_edge, gain, used = self.buyers(0.0)
        if used <= self._room:
            return at_edge, gain
        low, high = 0.0, 1.0
        while self.buyers(high)[2] > self._room and high < 1e12:
            low, high = high, 4 * high
        for _ in range(60):
            middle = (low + high) / 2
            low, high = (low, middle) if self.buyers(middle)[2] <= self._room else (middle, high)
        at_edge, gain, _ = self.buyers(high)
        return at_edge, gain

    def polished(self, at_edge: np.ndarray, gain: Vector) -> np.ndarray:
        """Changes of place, of one or two users near the price, as long as one helps."""
        movable = self._can & np.isfinite(self._local)
        order = np.argsort(np.where(movable, np.abs(gain), np.inf))[:NEAR]
        near = [int(n) for n in order if movable[n]]
        pairs = [(n, m) for i, n in enumerate(near) for m in near[:i]]
        best = self.utility(at_edge)
        while True:
            found = None
            for move in (*((n,) for n in near), *pairs):
                tried = at_edge.copy()
                tried[list(move)] ^= True
                value = self.utility(tried)
                if value > best + 1e-12 * abs(best):
                    best, found = value, tried
            if found is None:
                return at_edge
            at_edge = found
