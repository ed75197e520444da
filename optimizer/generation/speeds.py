"""How fast to run a queue when joules go with the square of the clock: no faster than the deadlines need.

All batches are there from the beginning, so the clock that spends least falls from deadline to deadline: the
densest run of batches first, at the speed that just meets its last deadline, then the densest of the rest. [P]
Yao, Demers, Shenker, "A scheduling model for reduced CPU energy" (1995), for jobs that are all released at once.
"""

from collections.abc import Sequence

import numpy as np

from optimizer.generation.serving import EnergyLaw, Server


def clocks(server: Server, begin_s: float, seconds: Sequence[float], deadlines_s: Sequence[float]) -> list[float]:
    """The part of the full clock for each batch; `seconds` are at the full clock. 1 throughout without KAPPA.

    Never below `server.slowest`, and 1 for a batch that is late already.
    """
    if server.energy_law is not EnergyLaw.KAPPA or server.slowest >= 1:
        return [1.0] * len(seconds)
    parts: list[float] = []
    at, start = 0, begin_s
    while at < len(seconds):
        work = np.cumsum(seconds[at:])
        left = np.asarray(deadlines_s[at:]) - start
        with np.errstate(divide="ignore", invalid="ignore"):
            needed = np.where(left > 0, work / left, np.inf)
        densest = int(np.flatnonzero(needed == needed.max())[-1])
        part = float(np.clip(needed[densest], server.slowest, 1.0))
        parts += [part] * (densest + 1)
        start += float(work[densest]) / part
        at += densest + 1
    return parts
