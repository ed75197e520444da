"""The baselines that the price method is held against. All name an Infeasible user or the edge's time. [R]"""

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from optimizer.offload import solve
from optimizer.offload.problem import Plan, Problem, Vector, described, refuse


def all_local(problem: Problem) -> Plan:
    """Everybody on his device, with the steps that are worth most there."""
    none = np.zeros(len(problem.users), bool)
    return described(problem, none, _local_steps(problem))


def all_edge(problem: Problem) -> Plan:
    """Everybody at the edge, whose time is shared out as well as can be."""
    every = np.ones(len(problem.users), bool)
    fewest = np.full(every.shape, problem.fewest_steps)
    refuse(problem, problem.most_at_edge() < fewest, fewest, every)
    if every.size * problem.fewest_steps > problem.edge.steps:
        return described(problem, every, fewest)  # says by how much the edge's time is short
    return described(problem, every, solve.edge_steps(problem, every))


def by_chance(problem: Problem, seed: int) -> Plan:
    """Half of the users, drawn, go to the edge while it has time, with the steps worth most there."""
    random = np.random.default_rng(seed)
    order = random.permutation(len(problem.users))
    wanted = random.random(order.size) < 0.5
    return _in_turn(problem, order, lambda n: bool(wanted[n]))


def by_channel(problem: Problem) -> Plan:
    """Who has the best channel goes to the edge first, while it has time, with the steps worth most there."""
    return _in_turn(problem, np.argsort(-problem.users.gain, kind="stable"), lambda n: True)


def fixed_steps(problem: Problem, steps: int) -> Plan:
    """The same steps for all, or as many as a user's limits allow; places by the price of edge time."""
    return _without_step_control(problem, np.full(len(problem.users), steps))


def alternating(problem: Problem) -> Plan:
    """Places and computation times in turns; steps are not controlled: as many as anything allows."""
    return _without_step_control(problem, np.full(len(problem.users), problem.most_steps))


def _in_turn(problem: Problem, order: Sequence[int] | Vector, wants: Callable[[int], bool]) -> Plan:
    """Those who can be served nowhere else go to the edge first, with the fewest steps if they must."""
    local_steps, most_edge = _local_steps(problem), problem.most_at_edge()
    edge_steps = solve.best_steps(problem.worth_at_edge, problem, most_edge)
    stuck = problem.most_local() < problem.fewest_steps
    refuse(problem, stuck & (most_edge < problem.fewest_steps), local_steps, None)
    at_edge, steps = np.zeros(stuck.size, bool), local_steps.copy()
    left = problem.edge.steps
    for n in sorted(map(int, order), key=lambda n: not stuck[n]):
        taken = int(edge_steps[n])
        if stuck[n]:
            behind = int(stuck.sum() - at_edge.sum() - 1) * problem.fewest_steps
            taken = max(problem.fewest_steps, min(taken, left - behind))
        elif not wants(n) or most_edge[n] < problem.fewest_steps or taken > left:
            continue
        at_edge[n], steps[n] = True, taken
        left -= taken
    return described(problem, at_edge, steps)


def _without_step_control(problem: Problem, wanted: Vector) -> Plan:
    """Each at one number of steps by place; who goes to the edge by worth gained per step of its time."""
    most_local, most_edge = problem.most_local(), problem.most_at_edge()
    local_steps, edge_steps = np.minimum(wanted, most_local), np.minimum(wanted, most_edge)
    fewest = problem.fewest_steps
    refuse(problem, (local_steps < fewest) & (edge_steps < fewest), np.full(wanted.shape, fewest), None)
    local = np.where(local_steps >= fewest, problem.worth_local(local_steps), -np.inf)
    edge = np.where(edge_steps >= fewest, problem.worth_at_edge(edge_steps), -np.inf)
    with np.errstate(invalid="ignore"):
        gain = (edge - local) / np.maximum(edge_steps, 1)
    at_edge, left = np.zeros(wanted.shape, bool), problem.edge.steps
    for n in np.argsort(-gain, kind="stable"):
        if gain[n] > 0 and (edge_steps[n] <= left or not np.isfinite(local[n])):
            at_edge[n] = True
            left -= int(edge_steps[n])
    return described(problem, at_edge, np.where(at_edge, edge_steps, local_steps))


def _local_steps(problem: Problem) -> Vector:
    return solve.best_steps(problem.worth_local, problem, problem.most_local())


def every(problem: Problem, seed: int, steps: int) -> Mapping[str, Callable[[], Plan]]:
    """All schemes by name; `steps` are those of "fixed steps"."""
    return {
        "all local": lambda: all_local(problem),
        "all edge": lambda: all_edge(problem),
        "random": lambda: by_chance(problem, seed),
        "greedy by channel": lambda: by_channel(problem),
        f"fixed steps ({steps})": lambda: fixed_steps(problem, steps),
        "alternating, no step control": lambda: alternating(problem),
        "price method": lambda: solve.solve(problem),
    }
