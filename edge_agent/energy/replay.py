"""A trace goes through the trackers that the live sources go through, on its own clock."""

from collections import Counter, deque
from collections.abc import Iterable
from dataclasses import dataclass

from edge_agent.energy.counter import Delta, Failed, Gap, Raw, Reset, SourceInfo
from edge_agent.energy.integrate import SensorTracker
from edge_agent.energy.reading import SourceFailed
from edge_agent.energy.trace import Reading, Source, Trace
from edge_agent.energy.unwrap import CounterTracker


class ReplaySource:
    """A source that says what a trace says, reading by reading."""

    def __init__(self, info: SourceInfo, readings: Iterable[Reading]) -> None:
        self.info = info
        self._readings = deque(readings)

    def __len__(self) -> int:
        """How many readings are left."""
        return len(self._readings)

    def read(self) -> Raw:
        """The next reading; SourceFailed where the trace has a failure, and "ended" after the last one."""
        if not self._readings:
            raise SourceFailed("ended", f"the trace of {self.info.id} is at its end")
        reading = self._readings.popleft()
        if reading.raw is None:
            raise SourceFailed(reading.err or "unknown", f"{self.info.id}: {reading.err} in the trace")
        return Raw(reading.raw, reading.t_ns)


@dataclass(frozen=True)
class Replayed:
    """What a source's readings come to. `joules` None: no two readings could be subtracted or joined.

    `seconds` is the time from its first to its last reading, `gap_seconds` the part of it that gaps take,
    `errors` how many readings failed by reason.
    """

    joules: float | None
    seconds: float
    readings: int
    wraps: int
    resets: int
    gaps: int
    gap_seconds: float
    errors: dict[str, int]


def tracker_of(source: Source, readings: Iterable[Reading]) -> CounterTracker | SensorTracker:
    """The tracker of a live source of this kind, on the readings of a trace."""
    replayed = ReplaySource(source.info, readings)
    return CounterTracker(replayed) if source.reads == "joules" else SensorTracker(replayed)


def replay(trace: Trace) -> dict[str, Replayed]:
    """By source: what its readings come to."""
    by_source: dict[str, list[Reading]] = {id: [] for id in trace.sources}
    for reading in trace.readings:
        by_source[reading.src].append(reading)
    return {id: _replayed(source, by_source[id]) for id, source in trace.sources.items()}


def _replayed(source: Source, readings: list[Reading]) -> Replayed:
    tracker = tracker_of(source, readings)
    steps = [tracker.advance() for _ in readings]
    deltas = [step for step in steps if isinstance(step, Delta)]
    gaps = [step.seconds for step in steps if isinstance(step, Gap)]
    return Replayed(
        joules=sum(step.joules for step in deltas) if deltas else None,
        seconds=(readings[-1].t_ns - readings[0].t_ns) * 1e-9 if readings else 0.0,
        readings=len(readings),
        wraps=sum(step.wrapped for step in deltas),
        resets=sum(isinstance(step, Reset) for step in steps),
        gaps=len(gaps),
        gap_seconds=sum(gaps),
        errors=dict(Counter(step.reason for step in steps if isinstance(step, Failed))),
    )
