"""How much slower work is beside the sampler of a meter, by the clock, in pairs that are short and many."""

import hashlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from statistics import median

from edge_agent.energy.meter import Meter

STRETCH_S = 0.2
"""How long each half of a pair works."""

RESAMPLES = 2000
"""Of the pairs, for the interval of their median."""

_BLOCK = bytes(1 << 17)


def _in_c() -> None:
    hashlib.sha256(_BLOCK).digest()


def _in_python() -> None:
    sum(range(10_000))


KINDS: dict[str, Callable[[], None]] = {"in C": _in_c, "in Python": _in_python}
"""One step of each kind. In C, as training is, it lets go of the interpreter's lock; in Python it never does."""


@dataclass(frozen=True)
class Slower:
    """By how much work of one kind is slower: median of `pairs` pairs and its 95 % interval (bootstrap)."""

    kind: str
    median: float
    low: float
    high: float
    pairs: int

    def held(self, most: float) -> str:
        """Whether it is less than `most`, if that can be told."""
        return "yes" if self.high < most else "no" if self.low >= most else "cannot be told"

    def __str__(self) -> str:
        return f"{self.median:.2%} ({self.low:.2%} to {self.high:.2%})"


def slowdown(meter: Meter, kind: str, pairs: int, hz: float) -> Slower:
    """Pairs of equal length with `hz` samples a second and without, in turn first. Closes the meter.

    Work begins anywhere between two samples, so that a stretch has as many as its length says.
    """
    random, found = Random(0), []
    for pair in range(pairs):
        speeds = {}
        for sampled in (False, True) if pair % 2 else (True, False):
            if sampled:
                meter.start(hz)
            time.sleep(random.uniform(0, 1 / hz))
            speeds[sampled] = _speed(KINDS[kind])
            meter.close()
        found.append(speeds[False] / speeds[True] - 1)
    medians = sorted(median(random.choices(found, k=pairs)) for _ in range(RESAMPLES))
    return Slower(kind, median(found), medians[RESAMPLES // 40], medians[-RESAMPLES // 40], pairs)


def _speed(step: Callable[[], None]) -> float:
    """Steps per second on this thread."""
    steps, began_s = 0, time.perf_counter()
    while (worked_s := time.perf_counter() - began_s) < STRETCH_S:
        step()
        steps += 1
    return steps / worked_s
