"""The joules of a host are divided among those who worked on it, and nothing is lost or made.

    dynamic    = max(0, E - P_idle * dt)
    share_i    = dCPU_i / dCPU_busy            agents; the rest of the busy time is `_other`
    E          = idle + sum of agents + other

CPU time is a fair key for equal work only (threads of one core, vector units and clock rates differ in power), so
a share is derived, never measured. A GPU is divided by phase instead: to the agents that see it and train.
"""

import math
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

OTHERS_OVER_S = 1.0
"""The rest of the host's CPU time is taken over this long at least: /proc/stat counts in hundredths of one."""


@dataclass(frozen=True)
class Division:
    """Joules of one slice: what the idle host would have used, what each agent got, and the rest."""

    idle_joules: float
    agents: Mapping[str, float]
    other_joules: float


def divide(
    joules: float, seconds: float, idle_watts: float | None, cpu_s: Mapping[str, float], other_cpu_s: float
) -> Division:
    """Divides `joules` by CPU time. Without `idle_watts` nothing is idle: the whole is divided.

    `cpu_s` and `other_cpu_s` are CPU seconds of the same slice, none below zero. When nobody computed, it is
    all `other`.
    """
    idle = 0.0 if idle_watts is None else min(joules, idle_watts * seconds)
    dynamic = joules - idle
    busy_s = math.fsum(cpu_s.values()) + other_cpu_s
    if busy_s <= 0:
        return Division(idle, dict.fromkeys(cpu_s, 0.0), dynamic)
    agents = {agent: dynamic * (spent / busy_s) for agent, spent in cpu_s.items()}
    return Division(idle, agents, dynamic - math.fsum(agents.values()))


def divide_gpu(joules: float, seconds: float, idle_watts: float | None, training: Iterable[str]) -> Division:
    """Divides the joules of a GPU equally among the agents that train on it now; with none it is all `other`."""
    idle = 0.0 if idle_watts is None else min(joules, idle_watts * seconds)
    dynamic = joules - idle
    names = sorted(set(training))
    if not names:
        return Division(idle, {}, dynamic)
    agents = dict.fromkeys(names, dynamic / len(names))
    return Division(idle, agents, dynamic - math.fsum(agents.values()))


class OtherCpu:
    """CPU time that no agent used, slice by slice.

    The agents' counters are exact to a microsecond or better, the host's counts in hundredths. So the rate of
    the others is taken over the shortest stretch that ends now and lasts OTHERS_OVER_S; over any
    longer time it is the host's busy time less the agents'.
    """

    def __init__(self) -> None:
        self._seen: deque[tuple[float, float]] = deque()
        self._agents_s = 0.0

    def slice(self, now_s: float, seconds: float, busy_s: float | None, agents_s: float) -> float:
        """CPU seconds of the others in the slice of `seconds` that ends at `now_s`.

        `busy_s` is the host's busy CPU time since boot, None when it could not be read; `agents_s` what the
        agents used in the slice.
        """
        self._agents_s += agents_s
        if busy_s is None:
            self._seen.clear()
            return 0.0
        self._seen.append((now_s, busy_s - self._agents_s))
        while len(self._seen) > 2 and self._seen[1][0] <= now_s - OTHERS_OVER_S:
            self._seen.popleft()
        (began_s, before), (_, after) = self._seen[0], self._seen[-1]
        if now_s <= began_s:
            return 0.0
        return max(0.0, after - before) / (now_s - began_s) * seconds
