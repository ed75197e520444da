"""What every source of joules looks like, from the raw reading up to the meter.

A *source* is read raw: an `EnergyCounter` gives joules of its own that wrap at a known range, a `PowerSensor`
gives watts. A *tracker* turns raw readings into steps: an unwrapper subtracts two readings of a counter, an
integrator lays a trapezoid under two readings of a sensor. The meter asks trackers only, and a step either carries
joules or says why it does not. Raw readings are what `wattbed energy record` keeps, so a trace replays
through everything above it.
"""

from dataclasses import dataclass
from typing import Protocol

from fleet.domain import MeterInfo, Quality
from fleet.errors import WattbedError

RAIL = "rail"
"""The component of a source that overlaps others (core, uncore, psys, VDD_SOC): shown, never in a total."""


class ReadFailed(WattbedError):
    """A source could not be read just now."""


@dataclass(frozen=True)
class SourceInfo:
    """One source: what it is and what its joules cover.

    `kind` is the technique (rapl, nvml_energy, nvml_power, ina3221, plug, battery, model); `id` is unique on the
    host. `component` is cpu, dram, gpu, board, wall or RAIL; `scope` what the figure covers: package, module,
    board, wall. `unit_j` is the least step of a counter; `wrap_j` where it starts again, None if it never does.
    More than `max_watts` between two readings is a reset and not a wrap. A window shorter than `min_window_s` is
    flagged; two readings further apart than `max_gap_s` are a gap and nobody gets the joules between. `interval`
    is the relative half width the joules are good to, None where nobody knows it. `rail` names a RAIL.
    """

    id: str
    kind: str
    component: str
    scope: str
    quality: Quality
    min_window_s: float
    detail: str
    interval: float | None = None
    unit_j: float | None = None
    wrap_j: float | None = None
    max_watts: float | None = None
    max_gap_s: float | None = None
    rail: str | None = None

    def meter_info(self) -> MeterInfo:
        """The same in the words of the wire."""
        return MeterInfo(self.id, self.component, self.scope, self.quality, self.detail)


@dataclass(frozen=True)
class Raw:
    """One raw reading: joules (EnergyCounter) or watts (PowerSensor), and when on the monotonic clock."""

    value: float
    at_ns: int


class EnergyCounter(Protocol):
    """A source of joules that only goes up, but for wraps and resets."""

    @property
    def info(self) -> SourceInfo:
        """What this source is."""

    def read(self) -> Raw:
        """Joules since some moment of the counter's own; ReadFailed or OSError when it cannot be read."""


class PowerSensor(Protocol):
    """A source of watts; may be negative where the hardware has an offset."""

    @property
    def info(self) -> SourceInfo:
        """What this source is."""

    def read(self) -> Raw:
        """Watts now; ReadFailed or OSError when it cannot be read."""


@dataclass(frozen=True)
class Rejected:
    """A source that was looked for and cannot be used here: why, and what to paste to mend it, if anything."""

    id: str
    reason: str
    fix: str = ""


@dataclass(frozen=True)
class First:
    """The first good reading since the start, a failure or a reset: there is nothing to subtract from."""


@dataclass(frozen=True)
class Delta:
    """Joules since the reading before; `wrapped`: the counter went past its range once."""

    joules: float
    wrapped: bool = False


@dataclass(frozen=True)
class Reset:
    """The counter fell and no wrap explains it: what was spent in between is not known."""


@dataclass(frozen=True)
class Gap:
    """The reading before is too old to say what was spent since; `seconds` is how old."""

    seconds: float


@dataclass(frozen=True)
class Failed:
    """The source could not be read; `reason` is a short word for why."""

    reason: str


Step = First | Delta | Reset | Gap | Failed


class Tracker(Protocol):
    """A source with the memory that makes joules of its readings."""

    @property
    def info(self) -> SourceInfo:
        """What the source is."""

    def advance(self) -> Step:
        """Reads the source and says what came since the time before. Never raises for a failed reading."""
