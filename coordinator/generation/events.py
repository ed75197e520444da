"""What can have happened to requests for images, batches, and the models they are made with.

They are events of the one log (coordinator.events), and as frozen as all of them.
"""

from dataclasses import dataclass
from typing import Literal

from fleet.generation import Batch, Feasible, GenerationMeasured, GenerationRequest, ModelRef


@dataclass(frozen=True)
class RequestReceived:
    """Somebody asked for images of `model`. From now on a crash does not lose it."""

    at_s: float
    run: str
    request: GenerationRequest
    model: ModelRef


@dataclass(frozen=True)
class RequestRefused:
    """A request was not admitted, and what would be."""

    at_s: float
    run: str
    request: str
    reason: str
    feasible: Feasible | None = None


@dataclass(frozen=True)
class RequestsPlaced:
    """A batch was put into its device's queue; what it is predicted to take is in the batch."""

    at_s: float
    run: str
    batch: Batch
    starts_at_s: float
    ends_at_s: float


@dataclass(frozen=True)
class BatchWithdrawn:
    """A batch that had not begun was taken back, to be planned anew."""

    at_s: float
    run: str
    batch: str


@dataclass(frozen=True)
class BatchEnded:
    """A device is done with a batch and has said all it measured; with a `reason` it came to nothing."""

    at_s: float
    run: str
    batch: str
    device: str
    reason: str = ""


@dataclass(frozen=True)
class BatchMeasured:
    """A device's window of one phase of a batch."""

    at_s: float
    run: str
    device: str
    measured: GenerationMeasured


@dataclass(frozen=True)
class BatchBytesMoved:
    """Bytes of a model on its way to a batch's device, or of images back, as counted on the wire."""

    at_s: float
    run: str
    batch: str
    device: str
    direction: Literal["up", "down"]
    wire_bytes: int


@dataclass(frozen=True)
class RequestServed:
    """The images of a request are stored and sound. `digest` is the sha256 of their .npz."""

    at_s: float
    run: str
    request: str
    batch: str
    device: str
    digest: str
    size_bytes: int
    late: bool = False


@dataclass(frozen=True)
class RequestCancelled:
    """Nobody wants these images any more."""

    at_s: float
    run: str
    request: str
    reason: str


@dataclass(frozen=True)
class RequestFailed:
    """An admitted request came to nothing: "expired" in a queue, or "failed" on too many devices."""

    at_s: float
    run: str
    request: str
    outcome: str
    reason: str


@dataclass(frozen=True)
class QualityMeasured:
    """What a run's model is worth by width, steps and bits: laws of optimizer.generation.quality, as JSON."""

    at_s: float
    run: str
    model_sha256: str
    metric: str
    laws_json: str


@dataclass(frozen=True)
class ModelsKept:
    """It was decided which models a device keeps."""

    at_s: float
    device: str
    models: tuple[ModelRef, ...]


@dataclass(frozen=True)
class ModelsHeldByDevice:
    """A device said which models are on its disk now, in `held_bytes` of `storage_bytes`."""

    at_s: float
    device: str
    sha256: tuple[str, ...]
    held_bytes: int
    storage_bytes: int


@dataclass(frozen=True)
class ModelsReviewed:
    """It was thought over which device keeps which models, at these images per second by model."""

    at_s: float
    rates: tuple[tuple[str, float], ...]
