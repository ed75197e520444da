"""Two readings of a power sensor become joules: the trapezoid under them."""

from edge_agent.energy.counter import Delta, First, Gap, PowerSensor, Raw, SourceInfo, Step
from edge_agent.energy.reading import advance


class Integrator:
    """Lays a trapezoid under each two readings of one sensor, on the time of the readings.

    Exact for power that is straight between readings. Two readings further apart than `max_gap_s` are a gap
    and no straight line. Power below zero (the offset of a shunt at rest) counts as it is, so a step may be
    a few joules below zero.
    """

    def __init__(self, info: SourceInfo) -> None:
        self._info = info
        self._before: Raw | None = None

    def forget(self) -> None:
        """The next reading has none before it."""
        self._before = None

    def update(self, raw: Raw) -> Step:
        """What was spent between the reading before and `raw`."""
        before, self._before = self._before, raw
        if before is None or raw.at_ns < before.at_ns:
            return First()
        seconds = (raw.at_ns - before.at_ns) * 1e-9
        if self._info.max_gap_s is not None and seconds > self._info.max_gap_s:
            return Gap(seconds)
        return Delta((before.value + raw.value) / 2 * seconds)


class SensorTracker:
    """A power sensor with the memory that makes joules of its readings."""

    def __init__(self, sensor: PowerSensor) -> None:
        self.source = sensor
        self.info = sensor.info
        self._integrator = Integrator(sensor.info)

    def advance(self) -> Step:
        """Reads the sensor and says what came since the time before. Never raises for a failed reading."""
        return advance(self.source, self._integrator)
