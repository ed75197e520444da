"""The words of a device's session: what it says on attaching and to stay attached, and what it is told."""

from dataclasses import dataclass

from fleet.device import Capabilities
from fleet.energy import Quality
from fleet.phase import Phase


@dataclass(frozen=True)
class Hello:
    """The first message of an agent on its stream."""

    protocol_version: int
    device: str
    capabilities: Capabilities
    metrics_address: str | None = None


@dataclass(frozen=True)
class Welcome:
    """The coordinator's answer to a hello. `device` is the name to go by from now on; None: that of the hello."""

    protocol_version: int
    heartbeat_interval_s: float
    coordinator_time_s: float
    device: str | None = None


@dataclass(frozen=True)
class Power:
    """The present power of one component, by one source."""

    watts: float
    source: str
    component: str
    quality: Quality


@dataclass(frozen=True)
class PhaseTotal:
    """Attributed energy and time of one phase since the agent started."""

    phase: Phase
    seconds: float
    component: str
    quality: Quality
    joules: float | None
    source: str
    scope: str = ""


@dataclass(frozen=True)
class Heartbeat:
    """A sign of life with what is worth plotting; never an event of the log."""

    sequence: int
    agent_time_s: float
    cpu_seconds_total: float
    memory_bytes: int
    power: tuple[Power, ...] = ()
    totals: tuple[PhaseTotal, ...] = ()


@dataclass(frozen=True)
class HeartbeatAck:
    """Echo of a heartbeat's sequence number."""

    sequence: int
