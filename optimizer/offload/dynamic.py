"""Dynamic programming over whole steps of edge time: exact, and the judge of the price method."""

import numpy as np

from optimizer.offload.problem import Infeasible, Plan, Problem, described


def solve(problem: Problem) -> Plan:
    """The best plan of all; Infeasible where there is none. Time and memory go with users x edge steps x steps."""
    count, room = len(problem.users), problem.edge.steps
    choices = np.arange(problem.fewest_steps, problem.most_steps + 1)
    local = np.stack([problem.worth_local(np.full(count, s)) for s in choices], axis=1)
    edge = np.stack([problem.worth_at_edge(np.full(count, s)) for s in choices], axis=1)
    best = np.zeros(room + 1)  # by the steps of edge time that may be used
    taken = np.zeros((count, room + 1), int)  # of user n at that much time: his steps at the edge, 0 for local
    for n in range(count):
        new = best + local[n].max()
        for s, worth in zip(choices[choices <= room], edge[n], strict=False):
            offered = best[: room + 1 - s] + worth
            better = offered > new[s:]
            new[s:][better] = offered[better]
            taken[n, s:][better] = s
        best = new
    if not np.isfinite(best[room]):
        raise Infeasible(
            "edge time", range(count), "no places and steps hold every deadline, battery and the edge's time"
        )
    steps, left = choices[local.argmax(axis=1)].copy(), room
    at_edge = np.zeros(count, bool)
    for n in reversed(range(count)):
        if taken[n, left]:
            at_edge[n], steps[n] = True, taken[n, left]
            left -= int(taken[n, left])
    return described(problem, at_edge, steps)
