"""What can have happened. The log is a sequence of these, and the present is their fold.

Events are frozen, in the past tense, and carry their time and their units. Reading a log that an older
version wrote must go on working: add fields with defaults, never rename one.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Annotated, Any, Literal, get_args

from pydantic import AliasChoices, Field, TypeAdapter

from coordinator.enrolment.events import EnrolmentEvent
from coordinator.generation.events import BatchBytesMoved as BatchBytesMoved
from coordinator.generation.events import BatchEnded as BatchEnded
from coordinator.generation.events import BatchMeasured as BatchMeasured
from coordinator.generation.events import BatchWithdrawn as BatchWithdrawn
from coordinator.generation.events import ModelsHeldByDevice as ModelsHeldByDevice
from coordinator.generation.events import ModelsKept as ModelsKept
from coordinator.generation.events import ModelsReviewed as ModelsReviewed
from coordinator.generation.events import QualityMeasured as QualityMeasured
from coordinator.generation.events import RequestCancelled as RequestCancelled
from coordinator.generation.events import RequestFailed as RequestFailed
from coordinator.generation.events import RequestReceived as RequestReceived
from coordinator.generation.events import RequestRefused as RequestRefused
from coordinator.generation.events import RequestServed as RequestServed
from coordinator.generation.events import RequestsPlaced as RequestsPlaced
from fleet.calibration import Calibration, CalibrationPlan
from fleet.domain import Assignment, Capabilities, Metric, NetworkSize, PhaseMeasured
from fleet.experiment import Experiment
from fleet.number import Number

Outcome = Literal["completed", "stopped", "failed"]
Direction = Literal["up", "down"]


@dataclass(frozen=True)
class CoordinatorStarted:
    """A coordinator took over the log. Nobody is attached to it yet."""

    at_s: float
    version: str


@dataclass(frozen=True)
class TimePassed:
    """The clock reached a moment the machine had asked to be woken at."""

    at_s: float


@dataclass(frozen=True)
class DeviceAttached:
    """A device opened its stream; `session` tells this stream from the device's earlier ones."""

    at_s: float
    device: str
    session: str
    capabilities: Capabilities
    metrics_address: str | None


@dataclass(frozen=True)
class DeviceDetached:
    """The stream `session` of a device ended."""

    at_s: float
    device: str
    session: str
    reason: str


@dataclass(frozen=True)
class CalibrationRequested:
    """An operator asked for a device to be calibrated. `calibration` is unique."""

    at_s: float
    device: str
    calibration: str
    plan: CalibrationPlan


@dataclass(frozen=True)
class DeviceCalibrated:
    """A calibration is over, and this is what it found."""

    at_s: float
    device: str
    calibration: Calibration


@dataclass(frozen=True)
class CalibrationFailed:
    """A calibration came to nothing."""

    at_s: float
    device: str
    calibration: str
    reason: str


@dataclass(frozen=True)
class RunStarted:
    """An operator asked for an experiment. `key` makes asking twice harmless."""

    at_s: float
    run: str
    key: str
    experiment: Experiment


@dataclass(frozen=True)
class ModelInitialised:
    """The untrained model is stored. `network`: how large it is, where the workload can say so."""

    at_s: float
    run: str
    sha256: str
    size_bytes: int
    network: NetworkSize | None = None


@dataclass(frozen=True)
class RoundOpened:
    """A plan was made: who does what, with the predicted joules and seconds of each assignment.

    `population`: the devices they were drawn from, where that is for privacy; else 0.
    """

    at_s: float
    run: str
    round: int
    assignments: tuple[Assignment, ...]
    deadline_at_s: float
    population: int = 0


@dataclass(frozen=True)
class DevicesAssigned:
    """Free devices joined an open asynchronous round."""

    at_s: float
    run: str
    round: int
    assignments: tuple[Assignment, ...]


@dataclass(frozen=True)
class AssignmentFailed:
    """A device gave its assignment up."""

    at_s: float
    run: str
    round: int
    device: str
    reason: str


@dataclass(frozen=True)
class AssignmentExpired:
    """An asynchronous assignment was not delivered by its deadline."""

    at_s: float
    run: str
    round: int
    device: str


@dataclass(frozen=True)
class MaskingKey:
    """A device's public key of one round, in hex: what its masks can be undone with, given shares of the other."""

    device: str
    key: str


@dataclass(frozen=True)
class KeysAgreed:
    """The devices of a round agreed on masks. `members` hold numbered shares of the secrets of those in `sharing`,
    who mask for each other; `ready` of them will deliver.
    """

    at_s: float
    run: str
    round: int
    attempt: str
    members: tuple[MaskingKey, ...]
    ready: tuple[str, ...]
    sharing: tuple[str, ...]


@dataclass(frozen=True)
class UpdateReceived:
    """A device's update is stored and sound. `samples` is its weight in the mean; `norm` its L2 norm, if needed.

    Logs of before version 0.2 name it by its sha256, in a field of that name.
    """

    at_s: float
    run: str
    round: int
    device: str
    digest: Annotated[str, Field(validation_alias=AliasChoices("digest", "sha256"))]
    size_bytes: int
    samples: int
    loss: Number
    norm: float | None = None
    update_range: float | None = None


@dataclass(frozen=True)
class UpdateRefused:
    """An assigned device sent something that could not be counted."""

    at_s: float
    run: str
    round: int
    device: str
    reason: str


@dataclass(frozen=True)
class BytesMoved:
    """Bytes of one transfer as counted on the wire: payload, message and frame headers, also of cut streams."""

    at_s: float
    run: str
    round: int
    device: str
    direction: Direction
    wire_bytes: int


@dataclass(frozen=True)
class EnergyMeasured:
    """A device's window of one phase."""

    at_s: float
    run: str
    device: str
    measured: PhaseMeasured


@dataclass(frozen=True)
class RoundClosed:
    """No more updates are taken; `devices` delivered, `lost` did not."""

    at_s: float
    run: str
    round: int
    devices: tuple[str, ...]
    lost: tuple[str, ...]
    reason: str


@dataclass(frozen=True)
class RoundFailed:
    """The round made no model; the next one starts from the same."""

    at_s: float
    run: str
    round: int
    reason: str


@dataclass(frozen=True)
class ModelAggregated:
    """The closed round's updates made a new model, in device order; `metrics` are what it cost in privacy."""

    at_s: float
    run: str
    round: int
    sha256: str
    size_bytes: int
    optimizer_state: str | None
    seconds: float
    metrics: tuple[Metric, ...] = ()


@dataclass(frozen=True)
class ModelEvaluated:
    """What was found out about the model of `round` (0: the untrained one)."""

    at_s: float
    run: str
    round: int
    metrics: tuple[Metric, ...]
    grid_sha256: str | None
    seconds: float


@dataclass(frozen=True)
class BlobsDropped:
    """Blobs nothing refers to any more were deleted."""

    at_s: float
    run: str
    blobs: tuple[str, ...]


@dataclass(frozen=True)
class RunEnded:
    """The run is over."""

    at_s: float
    run: str
    outcome: Outcome
    reason: str | None


Event = (
    CoordinatorStarted
    | TimePassed
    | DeviceAttached
    | DeviceDetached
    | CalibrationRequested
    | DeviceCalibrated
    | CalibrationFailed
    | RunStarted
    | ModelInitialised
    | RoundOpened
    | DevicesAssigned
    | AssignmentFailed
    | AssignmentExpired
    | KeysAgreed
    | UpdateReceived
    | UpdateRefused
    | BytesMoved
    | EnergyMeasured
    | RoundClosed
    | RoundFailed
    | ModelAggregated
    | ModelEvaluated
    | BlobsDropped
    | RunEnded
    | EnrolmentEvent
    | RequestReceived
    | RequestRefused
    | RequestsPlaced
    | BatchWithdrawn
    | BatchEnded
    | BatchMeasured
    | BatchBytesMoved
    | RequestServed
    | RequestCancelled
    | RequestFailed
    | QualityMeasured
    | ModelsKept
    | ModelsHeldByDevice
    | ModelsReviewed
)

KINDS: dict[str, type[Event]] = {c.__name__: c for c in get_args(Event)}


@cache
def _adapter(kind: str) -> TypeAdapter[Any]:
    return TypeAdapter(KINDS[kind])


@cache
def _decoder(kind: str) -> Callable[[str], Any]:
    """Without the adapter around it, which would cost a start from a long log a tenth of its time."""
    return _adapter(kind).validator.validate_json


def to_json(event: Event) -> str:
    """The body of an event as it stands in the log."""
    return _adapter(type(event).__name__).dump_json(event).decode()


def from_json(kind: str, body: str) -> Event:
    """The event of class `kind` with this body; KeyError or pydantic.ValidationError if it is none."""
    event: Event = _decoder(kind)(body)
    return event


def run_of(event: Event) -> str | None:
    """The run an event belongs to; None for those of devices and of the coordinator."""
    return getattr(event, "run", None)
