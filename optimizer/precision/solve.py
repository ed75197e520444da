"""The fast solvers: the paper's closed forms find the neighbourhood, searches over planes of integers finish.

[P] arXiv 2207.09387: K = 1 spends least energy; I by a cubic, m by the Lambert function, n by a line search, in
turns; K = N and full precision take the fewest rounds; Nash bargaining between the two. The paper ends at real
numbers and rounds them; here the last word has a search over the integers of two axes at a time, which
`exhaustive` judges. Where the paper follows the Pareto boundary by penalty normal-boundary inspection, this
minimises a weighted Chebyshev distance, which reaches the same points.
"""

import math
from collections.abc import Callable, Iterable
from itertools import combinations

import numpy as np
from scipy.optimize import minimize
from scipy.special import wrightomega

from optimizer.models.convergence import drift, margin
from optimizer.precision.problem import Point, Problem

Score = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""What to make small, of rounds and joules."""

LN4 = math.log(4)


def energy_minimal(problem: Problem) -> Point:
    """The choice with the least joules."""
    return _search(problem, lambda t, e: e, [_energy_by_closed_forms(problem)])


def time_minimal(problem: Problem) -> Point:
    """The choice with the fewest rounds: all devices at full precision, I = sqrt(c0 / (4 G^2 (1 + 1/N)))."""
    learning = problem.learning
    k, m, n = learning.devices, problem.max_update_bits, problem.chip.full_bits
    a, _, c0 = _parabola(problem, k, m, n)
    i = min(max(1.0, math.sqrt(max(c0, 0.0) / a)), learning.max_iterations)
    near = [problem.point(j, k, m, n) for j in {math.floor(i), math.ceil(i)}]
    return min(near, key=lambda p: p.rounds)


def disagreement(problem: Problem) -> Point:
    """(I_max, 1, 1, n_min): what each side of the bargain falls back to."""
    return problem.point(problem.learning.max_iterations, 1, 1, problem.least_precision)


def nash(problem: Problem) -> Point:
    """The Nash bargaining point: largest (T_D - T)(E_D - E)."""
    return _search(problem, _bargain(disagreement(problem)), _ends(problem))


def total_minimal(problem: Problem) -> Point:
    """The sum point: least joules plus rounds."""
    return _search(problem, lambda t, e: t + e, _ends(problem))


def pareto(problem: Problem, points: int) -> tuple[Point, ...]:
    """At most `points` (2 or more) choices from the fewest rounds to the least joules; none beats another."""
    energy, time = energy_minimal(problem), time_minimal(problem)
    span_t, span_e = energy.rounds - time.rounds, time.joules - energy.joules
    if span_t <= 0 or span_e <= 0:
        return (time,)
    found = [time]
    for share in np.linspace(0, 1, points)[1:-1]:

        def distance(t: np.ndarray, e: np.ndarray, share: float = share) -> np.ndarray:
            late, costly = (t - time.rounds) / span_t, (e - energy.joules) / span_e
            return np.maximum(late * (1 - share), costly * share) + 1e-6 * (late + costly)

        found.append(_search(problem, distance, [energy, time, found[-1]]))
    return _undominated([*found, energy])


def one_precision(problem: Problem, i: int, k: int) -> Point:
    """The conference's problem: n = m, for given I and K. [P] arXiv 2111.07911, an integer line search."""
    n = np.arange(problem.least_precision, min(problem.chip.full_bits, problem.max_update_bits) + 1)
    best = int(n[np.argmin(problem.joules(i, k, n, n))])
    return problem.point(i, k, best, best)


def relaxed_nash(problem: Problem) -> Point:
    """The Nash point over real I, K, m, n, as the paper gives it: near the integer one, by a local search."""
    score = _bargain(disagreement(problem))
    start = nash(problem)
    low = [float(axis[0]) for axis in problem.axes]
    high = [float(axis[-1]) for axis in problem.axes]
    scale = abs(float(score(np.asarray(start.rounds), np.asarray(start.joules))))

    def value(x: np.ndarray) -> float:
        return float(score(problem.rounds(*x), problem.joules(*x))) / scale

    first = [start.I, start.K, start.m, start.n]
    options = {"xatol": 1e-9, "fatol": 1e-15, "maxiter": 20_000, "maxfev": 20_000}
    found = minimize(value, first, method="Nelder-Mead", bounds=list(zip(low, high, strict=True)), options=options)
    return problem.point(*(float(x) for x in found.x))


def _ends(problem: Problem) -> list[Point]:
    return [energy_minimal(problem), time_minimal(problem)]


def _bargain(fallback: Point) -> Score:
    def score(t: np.ndarray, e: np.ndarray) -> np.ndarray:
        gain_t, gain_e = fallback.rounds - t, fallback.joules - e
        return np.where((gain_t > 0) & (gain_e > 0), -gain_t * gain_e, np.inf)

    return score


def _undominated(points: Iterable[Point]) -> tuple[Point, ...]:
    kept: list[Point] = []
    for point in sorted(set(points), key=lambda p: (p.rounds, p.joules)):
        if not kept or point.joules < kept[-1].joules:
            kept.append(point)
    return tuple(kept)


def _search(problem: Problem, score: Score, starts: Iterable[Point]) -> Point:
    """The best that searches over two axes at a time reach from each of `starts`."""
    reached = [_descend(problem, score, p) for p in starts]
    return min(reached, key=lambda p: _value(score, p))


def _value(score: Score, point: Point) -> float:
    return float(score(np.asarray(point.rounds), np.asarray(point.joules)))


def _descend(problem: Problem, score: Score, start: Point) -> Point:
    axes = problem.axes
    here = [np.asarray([_nearest(axis, x)]) for axis, x in zip(axes, _choice(start), strict=True)]
    best = math.inf
    while True:
        before = best
        for first, second in combinations(range(4), 2):
            grid = [axes[j] if j in (first, second) else here[j] for j in range(4)]
            open_grid = np.ix_(*grid)
            with np.errstate(invalid="ignore"):
                scores = np.nan_to_num(score(problem.rounds(*open_grid), problem.joules(*open_grid)), nan=np.inf)
            at = np.unravel_index(np.argmin(scores), scores.shape)
            if scores[at] < best:
                best = float(scores[at])
                here = [axis[j : j + 1] for axis, j in zip(grid, at, strict=True)]
        if not best < before:
            return problem.point(*(int(x[0]) for x in here))


def _choice(point: Point) -> tuple[float, float, float, float]:
    return point.I, point.K, point.m, point.n


def _nearest(axis: np.ndarray, x: float) -> int:
    return int(np.clip(round(x), axis[0], axis[-1]))


def _parabola(problem: Problem, k: float, m: float, n: float) -> tuple[float, float, float]:
    """a, b, c0 with T = (scale / I) (a I^2 + b I + c0)."""
    learning, d = problem.learning, problem.network.parameters
    g2 = learning.gradient**2
    c0 = learning.variance + 4 * g2 + 4 * learning.smoothness * learning.heterogeneity
    c0 -= learning.gamma / _scale(problem, n)
    return 4 * g2 * (1 + 1 / k), -8 * g2 + 4 * d * g2 / (k * 4**m), c0


def _scale(problem: Problem, n: float) -> float:
    learning = problem.learning
    left = float(margin(learning, problem.network.parameters, n))
    return learning.beta**2 / (learning.contraction * left)


def _energy_by_closed_forms(problem: Problem) -> Point:
    """Real I and m at K = 1, n by line search, in turns until nothing moves."""
    i, m, n = 1.0, float(problem.max_update_bits), problem.chip.full_bits
    ns = problem.axes[3]
    for _ in range(50):
        before = i, m, n
        i = _best_iterations(problem, m, n)
        m = _best_update_bits(problem, i, n)
        n = int(ns[np.argmin(problem.joules(i, 1, m, ns))])
        if np.allclose(before, (i, m, n), rtol=1e-12):
            break
    return problem.point(i, 1, m, n)


def _best_iterations(problem: Problem, m: float, n: float) -> float:
    """The positive root of 2 a E_t I^3 + (a E_u + b E_t) I^2 - c0 E_u, within 1 to I_max."""
    a, b, c0 = _parabola(problem, 1, m, n)
    train, upload = float(problem.train_joules(n)), m * problem.joules_per_bit
    roots = np.roots([2 * a * train, a * upload + b * train, 0.0, -c0 * upload])
    positive = roots[(np.abs(roots.imag) < 1e-9 * np.abs(roots)) & (roots.real > 0)].real
    best = float(positive.max()) if positive.size else 1.0
    return min(max(best, 1.0), float(problem.learning.max_iterations))


def _best_update_bits(problem: Problem, i: float, n: float) -> float:
    """m = M_B - W_-1(-M_A ln 4 e^(M_B ln 4)) / ln 4, within bounds; 1 where energy only grows with m."""
    learning, d = problem.learning, problem.network.parameters
    k1 = 4 * d * i * learning.gradient**2
    rest = float(drift(learning, d, i, 1, np.inf)) - learning.gamma / _scale(problem, n)
    if rest <= 0:
        return float(problem.max_update_bits)
    m_a = rest / (k1 * LN4)
    m_b = 1 / LN4 - i * float(problem.train_joules(n)) / problem.joules_per_bit
    exponent = math.log(m_a * LN4) + m_b * LN4
    if exponent > -1:
        return 1.0
    w = wrightomega(complex(exponent, -math.pi)).real  # W_-1(-e^exponent), where the exponential itself underflows
    return min(max(m_b - float(w) / LN4, 1.0), float(problem.max_update_bits))


def at_full_bits(problem: Problem, point: Point) -> Point:
    """The same I and K with 32-bit training and 32-bit updates: what quantised learning is compared with."""
    return problem.point(point.I, point.K, problem.max_update_bits, problem.chip.full_bits)
