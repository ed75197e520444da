"""Two readings of a counter become joules, through wraps, resets and gaps."""

from edge_agent.energy.counter import Delta, EnergyCounter, First, Gap, Raw, Reset, SourceInfo, Step
from edge_agent.energy.reading import advance


class Unwrapper:
    """Subtracts each reading of one counter from the one after it. Never made for a sum of counters.

    A fall is a wrap where the range is known and the joules it implies are possible within `max_watts`; any
    other fall is a reset. Two readings closer than `min_window_s` are judged as if they were that far apart,
    because a counter moves in jumps.
    """

    def __init__(self, info: SourceInfo) -> None:
        self._info = info
        self._before: Raw | None = None

    def forget(self) -> None:
        """The next reading has nothing to be subtracted from."""
        self._before = None

    def update(self, raw: Raw) -> Step:
        """What `raw` says beside the reading before it."""
        info = self._info
        before, self._before = self._before, raw
        if before is None or raw.at_ns < before.at_ns:
            return First()
        seconds = (raw.at_ns - before.at_ns) * 1e-9
        if info.max_gap_s is not None and seconds > info.max_gap_s:
            return Gap(seconds)
        joules = raw.value - before.value
        fell = joules < 0
        if fell and info.wrap_j is not None:
            joules += info.wrap_j
        possible = info.max_watts is None or joules <= info.max_watts * max(seconds, info.min_window_s)
        return Delta(joules, wrapped=fell) if joules >= 0 and possible else Reset()


class CounterTracker:
    """A counter with the memory that makes joules of its readings."""

    def __init__(self, counter: EnergyCounter) -> None:
        self.source = counter
        self.info = counter.info
        self._unwrapper = Unwrapper(counter.info)

    def advance(self) -> Step:
        """Reads the counter and says what came since the time before. Never raises for a failed reading."""
        return advance(self.source, self._unwrapper)
