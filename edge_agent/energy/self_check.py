"""Whether two sources that should agree do: a GPU's energy counter beside its power, a board beside a plug."""

import time
from collections.abc import Callable

from edge_agent.energy.counter import Delta, Tracker


def ratio(
    one: Tracker,
    other: Tracker,
    seconds: float,
    interval_s: float = 0.1,
    sleep: Callable[[float], None] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
) -> float | None:
    """Joules of `one` over joules of `other` in the same `seconds`; None if either failed, reset or gave none.

    A counter that moves in steps of 100 ms needs five seconds or more. On an idle GPU 0.57 has been
    reported (ml-energy/zeus#181), so two sources are never mixed in one comparison.
    """
    until = clock() + seconds
    joules = [0.0, 0.0]
    one.advance()
    other.advance()
    while clock() < until:
        sleep(interval_s)
        for index, step in enumerate((one.advance(), other.advance())):
            if not isinstance(step, Delta):
                return None
            joules[index] += step.joules
    return joules[0] / joules[1] if joules[1] > 0 else None
