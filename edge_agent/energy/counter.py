"""What every source of joules looks like to the meter."""

from dataclasses import dataclass
from typing import Protocol

from fleet.domain import MeterInfo, Quality
from fleet.errors import WattbedError


class ReadFailed(WattbedError):
    """A counter could not be read just now."""


@dataclass(frozen=True)
class SourceInfo:
    """One counter: what it is and what its joules cover.

    `kind` is the technique ("rapl", "nvml_energy", "ina3221", "plug", "model"); `id` is unique on the device.
    A window shorter than `min_window_s` is flagged. `interval` is the relative half width that the joules
    are good to, None where nobody knows it.
    """

    id: str
    kind: str
    component: str
    scope: str
    quality: Quality
    min_window_s: float
    detail: str
    interval: float | None = None

    def meter_info(self) -> MeterInfo:
        """The same in the words of the wire."""
        return MeterInfo(self.id, self.component, self.scope, self.quality, self.detail)


@dataclass(frozen=True)
class Raw:
    """One reading: joules since some fixed moment, and when it was taken on the monotonic clock."""

    joules: float
    at_s: float


class EnergyCounter(Protocol):
    """A source of joules that only goes up."""

    @property
    def info(self) -> SourceInfo:
        """What this counter is."""

    def read(self) -> Raw:
        """The counter now; ReadFailed or OSError when it cannot be read."""
