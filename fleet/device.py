"""What a device says about itself: its sources of joules, its levers, its link."""

from dataclasses import dataclass

from fleet.energy import Quality


@dataclass(frozen=True)
class MeterInfo:
    """One source of joules on a device, and what its figures cover."""

    source: str
    component: str
    scope: str
    quality: Quality
    detail: str = ""


@dataclass(frozen=True)
class RejectedMeter:
    """A source of joules that was looked for and cannot be read on a device, and why."""

    source: str
    reason: str


@dataclass(frozen=True)
class VersionInfo:
    """A program or library that measurements depend on."""

    what: str
    version: str


@dataclass(frozen=True)
class LeverInfo:
    """Something of a device that can be set, in `unit`, between the device's own bounds."""

    lever: str
    unit: str
    minimum: float
    maximum: float
    detail: str = ""


@dataclass(frozen=True)
class LeverOutcome:
    """What came of a request to set a lever. `applied` None: it was refused, for `reason`."""

    lever: str
    requested: float
    applied: float | None
    reason: str = ""


@dataclass(frozen=True)
class LinkInfo:
    """An emulated link. The delay is one way; `loss` a probability; the `_by` say what emulates it.

    Each is "tbf", "netem", "netfilter", "relay" or "none". `trace` says how the rate changes over time. The watts
    are what its radio is modelled to draw while it sends and receives; None: nothing is modelled.
    """

    rate_up_bps: float
    rate_down_bps: float
    delay_s: float
    jitter_s: float
    loss: float
    rate_by: str
    delay_by: str
    loss_by: str
    trace: str = "constant"
    transmit_watts: float | None = None
    receive_watts: float | None = None


@dataclass(frozen=True)
class Capabilities:
    """What a device is, what it can measure and what of it can be set. `kind` names an entry of fleet.kinds.

    `cpu_quota` is CPU seconds per second that its container may use, None without a quota; `link` is the
    link that is emulated, None for the device's own. `model_storage_bytes` of disk are for models to generate
    images with, None where it generates none; `place` is "edge" where it does so for others, else "device".
    """

    kind: str
    cpu_model: str
    cpu_cores: int
    memory_bytes: int
    machine: str
    agent_version: str
    gpu_model: str | None = None
    meters: tuple[MeterInfo, ...] = ()
    rejected_meters: tuple[RejectedMeter, ...] = ()
    levers: tuple[LeverInfo, ...] = ()
    cpu_quota: float | None = None
    link: LinkInfo | None = None
    compute_capability: str | None = None
    gpu_memory_bytes: int | None = None
    kernel_modules: tuple[str, ...] = ()
    versions: tuple[VersionInfo, ...] = ()
    model_storage_bytes: int | None = None
    place: str = "device"
