"""The words of wattbed: experiment > run > round > assignment > phase, and what is known of each.

Every class is frozen. Every number carries its unit in its name. `None` means "not known" or "not
measured" and is never the same as zero. fleet.wire mirrors these classes to the protobuf messages of
the same name. What a device, a joule and a calibration are is said in modules of their own.
"""

from dataclasses import dataclass, field

from fleet.calibration import Calibrate as Calibrate
from fleet.calibration import Calibration as Calibration
from fleet.calibration import CalibrationAck as CalibrationAck
from fleet.calibration import CalibrationGivenUp as CalibrationGivenUp
from fleet.calibration import CalibrationPlan as CalibrationPlan
from fleet.calibration import CalibrationProgress as CalibrationProgress
from fleet.calibration import CalibrationRow as CalibrationRow
from fleet.calibration import CancelCalibration as CancelCalibration
from fleet.calibration import UnitJoules as UnitJoules
from fleet.device import Capabilities as Capabilities
from fleet.device import LeverInfo as LeverInfo
from fleet.device import LeverOutcome as LeverOutcome
from fleet.device import LinkInfo as LinkInfo
from fleet.device import MeterInfo as MeterInfo
from fleet.device import RejectedMeter as RejectedMeter
from fleet.device import VersionInfo as VersionInfo
from fleet.energy import EnergyReading as EnergyReading
from fleet.energy import Quality as Quality
from fleet.enrolment import DeviceSummary as DeviceSummary
from fleet.enrolment import Enrolled as Enrolled
from fleet.enrolment import TokenSummary as TokenSummary
from fleet.generation import Batch as Batch
from fleet.generation import CancelGeneration as CancelGeneration
from fleet.generation import Demand as Demand
from fleet.generation import Expected as Expected
from fleet.generation import Feasible as Feasible
from fleet.generation import GenerationEnded as GenerationEnded
from fleet.generation import GenerationMeasured as GenerationMeasured
from fleet.generation import GenerationProgress as GenerationProgress
from fleet.generation import GenerationRequest as GenerationRequest
from fleet.generation import GenerationTask as GenerationTask
from fleet.generation import ImagesHeader as ImagesHeader
from fleet.generation import KeepModels as KeepModels
from fleet.generation import ModelRef as ModelRef
from fleet.generation import ModelsHeld as ModelsHeld
from fleet.generation import PhaseJoules as PhaseJoules
from fleet.generation import Placement as Placement
from fleet.generation import Portion as Portion
from fleet.generation import Preview as Preview
from fleet.generation import Recipe as Recipe
from fleet.generation import RequestReport as RequestReport
from fleet.masking import KeysOffered as KeysOffered
from fleet.masking import KeysWanted as KeysWanted
from fleet.masking import Masking as Masking
from fleet.masking import MasksReady as MasksReady
from fleet.masking import Member as Member
from fleet.masking import Revealed as Revealed
from fleet.masking import RevealWanted as RevealWanted
from fleet.masking import Sealed as Sealed
from fleet.masking import Share as Share
from fleet.masking import SharesDelivered as SharesDelivered
from fleet.masking import SharesSealed as SharesSealed
from fleet.masking import SharesWanted as SharesWanted
from fleet.number import Number
from fleet.origin import Origin as Origin
from fleet.phase import Phase as Phase
from fleet.session import Heartbeat as Heartbeat
from fleet.session import HeartbeatAck as HeartbeatAck
from fleet.session import Hello as Hello
from fleet.session import PhaseTotal as PhaseTotal
from fleet.session import Power as Power
from fleet.session import Welcome as Welcome


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
    """What an assignment was expected to cost, and from what it was computed (`samples` 0: a preset).

    `quality` and `scope` are those of the joules it was fitted to, which it is to be held against.
    """

    joules: float | None
    seconds: float | None
    origin: Origin = Origin.PRESET
    samples: int = 0
    quality: Quality | None = None
    scope: str | None = None


@dataclass(frozen=True)
class NetworkSize:
    """What is trained, in numbers: its parameters; MACs of a forward pass, outputs of all layers and input values,
    all of one sample; and the samples of a step of training.
    """

    parameters: int
    macs: float
    outputs: int
    inputs: int
    batch: int


@dataclass(frozen=True)
class Assignment:
    """What one device is asked to do in one round.

    `model_sha256` names the payload to start from, already quantised to `bits_down`. `deadline_at_s`
    is Unix time on the coordinator's clock. `residual_round` is the last round in which an update of
    this device was counted: its error-feedback residual is the one to start from. `note` is for people: why
    it is what it is.
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
    note: str = ""


@dataclass(frozen=True)
class Task:
    """An assignment with what of the experiment the device needs to carry it out.

    clip_norm: the update is scaled down to this L2 norm. masking: it is masked before it is sent.
    """

    assignment: Assignment
    workload: str
    options_json: str
    shards: int
    block_size: int
    error_feedback: bool
    codec: str | None = None
    keep: float = 1.0
    entropy: str = "off"
    clip_norm: float | None = None
    masking: Masking | None = None


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
    """What an update is, said before its bytes: `digest` is XXH3-128, `samples` its weight in the mean.

    `update_range` is what it spans (quantizer.span), None where the agent does not say. `attempt` names the keys
    that mask it; empty: it is not masked.
    """

    run: str
    round: int
    device: str
    digest: str
    size_bytes: int
    offset_bytes: int
    samples: int
    loss: float
    protocol_version: int
    update_range: float | None = None
    attempt: str = ""


AgentMessage = (
    Hello
    | Heartbeat
    | Progress
    | PhaseMeasured
    | TaskFailed
    | Calibration
    | CalibrationProgress
    | CalibrationGivenUp
    | GenerationMeasured
    | GenerationProgress
    | GenerationEnded
    | ModelsHeld
    | KeysOffered
    | SharesSealed
    | MasksReady
    | Revealed
)
CoordinatorMessage = (
    Welcome
    | HeartbeatAck
    | Task
    | Cancel
    | MeasurementAck
    | Calibrate
    | CancelCalibration
    | CalibrationAck
    | GenerationTask
    | CancelGeneration
    | KeepModels
    | KeysWanted
    | SharesWanted
    | SharesDelivered
    | RevealWanted
)


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
class Metric:
    """A number about a model, and what it was computed with."""

    name: str
    value: Number
    detail: str = ""


@dataclass(frozen=True)
class PhaseReport:
    """All windows of one phase of one assignment: one reading per (source, component, scope, quality).

    `levers` are what came of each request to set one, the same outcome once.
    """

    phase: Phase
    seconds: float
    windows: int
    readings: tuple[EnergyReading, ...] = ()
    levers: tuple[LeverOutcome, ...] = ()


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
    update_range: float | None = None
    note: str = ""


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
class Equipment:
    """A device of a run, as it last attached."""

    device: str
    capabilities: Capabilities


@dataclass(frozen=True)
class RunReport:
    """The ledger of one run, and the devices that took part in it."""

    run: RunSummary
    experiment_json: str
    rounds: tuple[RoundReport, ...] = ()
    equipment: tuple[Equipment, ...] = ()


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
