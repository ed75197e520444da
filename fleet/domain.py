"""The words of wattbed: experiment > run > round > assignment > phase, and what is known of each.

Every class is frozen. Every number carries its unit in its name. `None` means "not known" or "not
measured" and is never the same as zero. fleet.wire mirrors these classes to the protobuf messages of
the same name.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum


class Quality(StrEnum):
    """How a joule came to be known. The three are never added up or relabelled."""

    MEASURED = "measured"
    DERIVED = "derived"
    ESTIMATED = "estimated"


class Phase(StrEnum):
    """What an agent was doing in a window."""

    DOWNLOAD = "download"
    TRAIN = "train"
    QUANTIZE = "quantize"
    UPLOAD = "upload"
    IDLE = "idle"


class Origin(StrEnum):
    """Where a predicted number comes from."""

    PRESET = "preset"
    FITTED = "fitted"


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

    Each is "tbf", "netem", "netfilter", "relay" or "none". `trace` says how the rate changes over time.
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


@dataclass(frozen=True)
class Capabilities:
    """What a device is, what it can measure and what of it can be set. `kind` names an entry of fleet.kinds.

    `cpu_quota` is CPU seconds per second that its container may use, None without a quota; `link` is the
    link that is emulated, None for the device's own.
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


@dataclass(frozen=True)
class EnergyReading:
    """What one source says about one window. `joules` None: the source could not say."""

    source: str
    component: str
    scope: str
    quality: Quality
    joules: float | None
    low_joules: float | None = None
    high_joules: float | None = None
    flags: tuple[str, ...] = ()


@dataclass(frozen=True)
class PhaseMeasured:
    """One window of one phase of one assignment. `window` is unique and makes a repeat harmless."""

    window: str
    run: str
    round: int
    phase: Phase
    started_at_s: float
    seconds: float
    readings: tuple[EnergyReading, ...] = ()
    levers: tuple[LeverOutcome, ...] = ()


@dataclass(frozen=True)
class Prediction:
    """What an assignment was expected to cost, and from what it was computed (`samples` 0: a preset)."""

    joules: float | None
    seconds: float | None
    origin: Origin = Origin.PRESET
    samples: int = 0


@dataclass(frozen=True)
class Assignment:
    """What one device is asked to do in one round.

    `model_sha256` names the payload to start from, already quantised to `bits_down`. `deadline_at_s`
    is Unix time on the coordinator's clock. `residual_round` is the last round in which an update of
    this device was counted: its error-feedback residual is the one to start from.
    """

    run: str
    round: int
    device: str
    model_sha256: str
    model_bytes: int
    shard: int
    bits_up: int
    bits_down: int
    precision: str
    width: float
    train_steps: int
    seed: int
    deadline_at_s: float
    residual_round: int | None = None
    power_limit_watts: float | None = None
    frequency_hz: float | None = None
    predicted: Prediction = Prediction(None, None)


@dataclass(frozen=True)
class Task:
    """An assignment with what of the experiment the device needs to carry it out."""

    assignment: Assignment
    workload: str
    options_json: str
    shards: int
    block_size: int
    error_feedback: bool


@dataclass(frozen=True)
class Hello:
    """The first message of an agent on its stream."""

    protocol_version: int
    device: str
    capabilities: Capabilities
    metrics_address: str | None = None


@dataclass(frozen=True)
class Welcome:
    """The coordinator's answer to a hello."""

    protocol_version: int
    heartbeat_interval_s: float
    coordinator_time_s: float


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


@dataclass(frozen=True)
class Progress:
    """How far an assignment has come: `done` of `total` steps or bytes of its phase."""

    run: str
    round: int
    phase: Phase
    done: int
    total: int
    loss: float | None = None


@dataclass(frozen=True)
class TaskFailed:
    """The agent gives an assignment up, and why."""

    run: str
    round: int
    reason: str


@dataclass(frozen=True)
class Cancel:
    """The coordinator no longer wants this assignment."""

    run: str
    round: int
    reason: str


@dataclass(frozen=True)
class MeasurementAck:
    """The window is in the log; the agent may forget it."""

    window: str


@dataclass(frozen=True)
class UpdateHeader:
    """What an update is, said before its bytes. `samples` is its weight in the mean."""

    run: str
    round: int
    device: str
    sha256: str
    size_bytes: int
    offset_bytes: int
    samples: int
    loss: float
    protocol_version: int


AgentMessage = Hello | Heartbeat | Progress | PhaseMeasured | TaskFailed
CoordinatorMessage = Welcome | HeartbeatAck | Task | Cancel | MeasurementAck


@dataclass(frozen=True)
class RunSummary:
    """One line about a run."""

    run: str
    experiment: str
    phase: str
    round: int
    rounds: int
    started_at_s: float
    devices: int
    ended_at_s: float | None = None
    reason: str | None = None


@dataclass(frozen=True)
class DeviceSummary:
    """One line about a device."""

    device: str
    capabilities: Capabilities
    attached: bool
    changed_at_s: float
    metrics_address: str | None = None
    power: tuple[Power, ...] = ()
    run: str | None = None
    round: int | None = None


@dataclass(frozen=True)
class Metric:
    """A number about a model, and what it was computed with."""

    name: str
    value: float
    detail: str = ""


@dataclass(frozen=True)
class PhaseReport:
    """All windows of one phase of one assignment: one reading per (source, component, scope, quality)."""

    phase: Phase
    seconds: float
    windows: int
    readings: tuple[EnergyReading, ...] = ()


@dataclass(frozen=True)
class DeviceReport:
    """One assignment in the ledger: predicted beside measured, bytes counted and never computed."""

    device: str
    kind: str
    status: str
    bits_up: int
    bits_down: int
    precision: str
    width: float
    train_steps: int
    samples: int
    update_bytes: int
    wire_up_bytes: int
    wire_down_bytes: int
    predicted: Prediction
    loss: float | None = None
    phases: tuple[PhaseReport, ...] = ()
    reason: str | None = None


@dataclass(frozen=True)
class RoundReport:
    """One round in the ledger. Round 0 is the untrained model, with status "initial"."""

    round: int
    status: str
    opened_at_s: float
    closed_at_s: float | None = None
    seconds: float | None = None
    reason: str | None = None
    model_sha256: str | None = None
    model_bytes: int | None = None
    grid_sha256: str | None = None
    metrics: tuple[Metric, ...] = ()
    devices: tuple[DeviceReport, ...] = ()


@dataclass(frozen=True)
class RunReport:
    """The ledger of one run."""

    run: RunSummary
    experiment_json: str
    rounds: tuple[RoundReport, ...] = ()


@dataclass(frozen=True)
class LoggedEvent:
    """One line of the log: its number, time, kind and body."""

    seq: int
    at_s: float
    kind: str
    json: str


@dataclass(frozen=True)
class DeviceProgress:
    """Live progress of one device; not in the log."""

    device: str
    progress: Progress


@dataclass(frozen=True)
class Replay:
    """What folding a run's log anew gave."""

    events: int
    same_state: bool
    state_sha256: str
    run: RunSummary


@dataclass(frozen=True)
class Evaluation:
    """What was found out about a model: numbers, and a grid of samples as PNG where the workload has one."""

    metrics: tuple[Metric, ...]
    grid_png: bytes | None = field(default=None, repr=False)


def joules_by_quality(readings: Iterable[EnergyReading]) -> dict[Quality, float]:
    """Sum of joules per quality over `readings`; a quality nothing was read for is absent, not zero."""
    sums: dict[Quality, float] = {}
    for reading in readings:
        if reading.joules is not None:
            sums[reading.quality] = sums.get(reading.quality, 0.0) + reading.joules
    return sums
