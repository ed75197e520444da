"""Devices to train and to compare on: those of the log by their fitted constants, drawn anew around them.

A drawn device is one of the log's with another speed, other watts and a little of its own at each entry; every
assignment scatters. So a network cannot learn one fleet by heart, only how devices are.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fleet.errors import BadRequest
from optimizer.fitting import Choice, FleetFit
from optimizer.policy import Candidate

SPEED = 0.5
"""Spread of a device's speed and of its watts around those of the log, in logarithms."""

OWN = 0.1
"""Spread of a device's own costs by entry."""

SCATTER = 0.03
"""Spread of an assignment around its device's costs."""


@dataclass(frozen=True)
class Drawn:
    """Seconds and joules of each entry (M,) on one device, without scatter, and the deadline that it has."""

    seconds: np.ndarray
    joules: np.ndarray
    deadline_s: float

    @property
    def best(self) -> int:
        """The entry of fewest joules that holds the deadline."""
        return int(np.argmin(np.where(self.seconds <= self.deadline_s, self.joules, np.inf)))

    def takes(self, entry: int, random: np.random.Generator) -> tuple[float, float]:
        """Seconds and joules of one assignment."""
        scatter = np.exp(SCATTER * random.standard_normal(2))
        return float(self.seconds[entry] * scatter[0]), float(self.joules[entry] * scatter[1])


@dataclass(frozen=True)
class Simulator:
    """Seconds and joules of the log's devices by entry, both (D, M)."""

    seconds: np.ndarray
    joules: np.ndarray

    def draw(self, random: np.random.Generator) -> Drawn:
        """A device, with a deadline that at least its quickest entry holds."""
        at = int(random.integers(len(self.seconds)))
        pace, watts = np.exp(SPEED * random.standard_normal(2))
        own = np.exp(OWN * random.standard_normal((2, self.seconds.shape[1])))
        seconds = self.seconds[at] * pace * own[0]
        joules = self.joules[at] * pace * watts * own[0] * own[1]
        low, high = np.log(seconds.min() * 1.2), np.log(seconds.max() * 1.5)
        return Drawn(seconds, joules, float(np.exp(random.uniform(min(low, high), high))))


def simulator(candidates: Sequence[Candidate], fits: FleetFit, menu: Sequence[Choice]) -> Simulator:
    """Of all candidates whose costs are known for the whole of `menu`; BadRequest where there is none."""
    seconds, joules = [], []
    for candidate in candidates:
        costs = [fits.cost(candidate, choice) for choice in menu]
        took = [cost.seconds for cost in costs]
        spent = [cost.joules for cost in costs]
        if None not in took and None not in spent:
            seconds.append(took)
            joules.append(spent)
    if not seconds:
        raise BadRequest(
            f"of none of {len(candidates)} devices it is known what the menu costs; calibrate one, or let them "
            "take part in a run of this workload"
        )
    return Simulator(np.asarray(seconds, float), np.asarray(joules, float))
