"""Bits when the devices share one error budget.

    min sum_k E_k(q_k)   s.t.   sum_k w_k^2 J_k(q_k) <= delta,   q_k in BITS

A multiple-choice knapsack. A price on the error splits it by device and bounds what any choice can reach; what is
left between that bound and the best choice at hand is closed by branch and bound, which looks at the few
options that the bound does not exclude. [R]
"""

import numpy as np

from optimizer.models.quantisation import BITS, min_max_error
from optimizer.ondemand.allocate import energy
from optimizer.ondemand.problem import Devices, Infeasible, Vector

CLOSE = 1e-4
"""Relative distance from the bound at which a choice is good enough."""

ROUNDING = 1e-12
"""Relative: sums of errors in another order differ by so much at most, and a budget may be met exactly."""

NODES = 200_000
"""Branches looked at before the best found so far is taken."""


def shared_bits(devices: Devices, bandwidth_hz: Vector, budget: float) -> Vector:
    """q (N,) of least energy within the error budget; Infeasible names the constraint and the device."""
    joules, errors = choices(devices, bandwidth_hz)
    return np.asarray(np.asarray(BITS)[choose(joules, errors, budget)])


def choices(devices: Devices, bandwidth_hz: Vector) -> tuple[Vector, Vector]:
    """Joules and weighted error of each device at each width, both (N, len(BITS)); inf where impossible."""
    bits = np.asarray(BITS, float)
    joules = np.empty((len(devices), bits.size))
    for column, q in enumerate(bits):
        _, compute, radio = energy(devices, devices.payload_bits(np.full(len(devices), q)), bandwidth_hz)
        total = compute + radio
        joules[:, column] = np.where(np.isnan(total) | (total > devices.energy_joules), np.inf, total)
    errors = min_max_error(devices.values[:, None], devices.range[:, None], bits) * devices.weight[:, None] ** 2
    return joules, errors


def choose(joules: Vector, errors: Vector, budget: float) -> Vector:
    """For each row the column such that the joules are least and the errors sum up to `budget` at most."""
    possible = np.isfinite(joules)
    if not possible.any(axis=1).all():
        at = np.flatnonzero(~possible.any(axis=1))
        raise Infeasible("deadline", at, f"device {at[0]} cannot hold its deadline or its energy at any bit-width")
    least = np.where(possible, errors, np.inf)
    finest = np.argmin(least, axis=1)
    floor = least[np.arange(len(joules)), finest]
    if floor.sum() > budget:
        worst = int(np.argmax(floor))
        raise Infeasible(
            "error budget",
            [worst],
            f"the error is at least {floor.sum():.3g}, above the budget of {budget:.3g}; "
            f"device {worst} alone makes {floor[worst]:.3g} at {BITS[finest[worst]]} bits, "
            "the most that its deadline allows",
        )
    price, picked = _priced(joules, errors, budget)
    picked = _use_what_is_left(joules, errors, budget, picked)
    return _branch(joules, errors, budget, price, picked)


def _priced(joules: Vector, errors: Vector, budget: float) -> tuple[float, Vector]:
    """The least price at which each device's own choice keeps the budget, and that choice."""

    def at(price: float) -> Vector:
        with np.errstate(invalid="ignore"):
            return np.asarray(np.argmin(joules + price * errors, axis=1))

    def spent(picked: Vector) -> float:
        return float(errors[np.arange(len(picked)), picked].sum())

    if spent(at(0.0)) <= budget:
        return 0.0, at(0.0)
    low, high = 0.0, 1.0
    while spent(at(high)) > budget:
        low, high = high, high * 16
    while high - low > 1e-12 * high:
        middle = (low + high) / 2 if low == 0 or high / low < 4 else np.sqrt(low * high)
        low, high = (low, middle) if spent(at(middle)) <= budget else (middle, high)
        if low == 0 and high < 1e-300:
            break
    return high, at(high)


def _use_what_is_left(joules: Vector, errors: Vector, budget: float, picked: Vector) -> Vector:
    """Single changes that save joules and still fit, the largest saving first, until there is none."""
    picked, rows = picked.copy(), np.arange(len(picked))
    left = budget - errors[rows, picked].sum()
    while True:
        with np.errstate(invalid="ignore"):
            saving = joules[rows, picked][:, None] - joules
        saving[errors - errors[rows, picked][:, None] > left] = -np.inf
        row, column = np.unravel_index(np.argmax(saving), saving.shape)
        if not saving[row, column] > 0:
            return picked
        left -= errors[row, column] - errors[row, picked[row]]
        picked[row] = column


def _branch(joules: Vector, errors: Vector, budget: float, price: float, picked: Vector) -> Vector:
    rows = np.arange(len(picked))
    with np.errstate(invalid="ignore"):
        priced = joules + price * errors
    least = priced.min(axis=1)
    bound = least.sum() - price * budget
    best, best_joules = picked, joules[rows, picked].sum()
    above = priced - least[:, None]  # what an option adds to the bound
    target = best_joules * (1 - CLOSE)
    if bound >= target:
        return best
    options = [sorted((c for c in np.flatnonzero(a < target - bound)), key=a.__getitem__) for a in above]
    open_rows = [r for r in rows if len(options[r]) > 1]
    open_rows.sort(key=lambda r: -above[r, options[r][1]])
    current = np.array([o[0] for o in options])
    # The error that the rest makes at least: what a branch is cut by besides its joules.
    least_error = np.array([min(errors[r, c] for c in options[r]) for r in open_rows])
    rest_error = np.append(np.cumsum(least_error[::-1])[::-1], 0.0)
    closed = [r for r in rows if len(options[r]) == 1]
    base_error = float(sum(errors[r, current[r]] for r in closed))
    nodes = 0
    stack: list[tuple[int, float, float, tuple[int, ...]]] = [(0, bound, base_error, ())]
    while stack and nodes < NODES:
        depth, value, spent, chosen = stack.pop()
        nodes += 1
        if value >= best_joules * (1 - CLOSE) or spent + rest_error[depth] > budget * (1 + ROUNDING):
            continue
        if depth == len(open_rows):
            current[open_rows] = chosen
            total = joules[rows, current].sum()
            if total < best_joules and errors[rows, current].sum() <= budget:
                best, best_joules = current.copy(), total
            continue
        row = open_rows[depth]
        for column in reversed(options[row]):
            stack.append(
                (depth + 1, value + above[row, column], spent + errors[row, column], (*chosen, int(column)))
            )
    return best
