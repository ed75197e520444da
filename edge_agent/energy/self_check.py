"""Whether two sources that should agree do: a GPU's energy counter beside its power, a board beside a plug."""

import logging
import threading
import time
from collections.abc import Callable, Iterable, Mapping

from edge_agent.energy.counter import Delta, Tracker
from edge_agent.energy.gpu import GpuEnergy
from edge_agent.energy.integrate import SensorTracker
from edge_agent.energy.unwrap import CounterTracker

log = logging.getLogger(__name__)

CHECK_S = 6.0
"""A counter that moves in steps of 100 ms needs five seconds or more."""

AGREE = (0.8, 1.25)
"""Ratios outside are logged as a warning: one of the two figures is wrong, and nobody here can say which."""

Pairs = Mapping[str, tuple[Tracker, Tracker]]
"""By source: the source and what should agree with it."""


class SelfChecks:
    """Checks each of `pairs` once, in the background and at the same time, from now on."""

    def __init__(self, pairs: Pairs, seconds: float = CHECK_S) -> None:
        self._ratios: dict[str, float] = {}
        self._threads = [
            threading.Thread(target=self._check, args=(name, *pair, seconds), name=f"check {name}", daemon=True)
            for name, pair in pairs.items()
        ]
        for thread in self._threads:
            thread.start()

    def ratios(self) -> dict[str, float]:
        """By source its joules over those of what should agree, where that is known by now."""
        return dict(self._ratios)

    def wait(self) -> None:
        """Until all checks have ended."""
        for thread in self._threads:
            thread.join()

    def _check(self, name: str, one: Tracker, other: Tracker, seconds: float) -> None:
        found = ratio(one, other, seconds)
        if found is None:
            log.info("%s could not be checked by %s", name, other.info.detail)
            return
        self._ratios[name] = found
        agree = AGREE[0] <= found <= AGREE[1]
        log.log(
            logging.INFO if agree else logging.WARNING,
            "%s says %.2f times the joules of %s over %g s",
            *(name, found, other.info.detail, seconds),
        )


def pairs(trackers: Iterable[Tracker]) -> Pairs:
    """Energy counters of GPUs among `trackers`, each beside the power of its GPU; with memories of their own."""
    found: dict[str, tuple[Tracker, Tracker]] = {}
    for tracker in trackers:
        source = tracker.source if isinstance(tracker, CounterTracker) else None
        if isinstance(source, GpuEnergy) and (sensor := source.power_beside()) is not None:
            found[tracker.info.id] = CounterTracker(source), SensorTracker(sensor)
    return found


def ratio(
    one: Tracker,
    other: Tracker,
    seconds: float,
    interval_s: float = 0.1,
    sleep: Callable[[float], None] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
) -> float | None:
    """Joules of `one` over joules of `other` in the same `seconds`; None if either failed, reset or gave none.

    On an idle GPU 0.57 has been
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
