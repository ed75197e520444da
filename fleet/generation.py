"""Images on demand: request > batch > portion. What is asked for, what a device is told to make, what came of it.

A request asks for images of one run's last model, of a quality and by a time. A batch is what one device makes in
one pass of the sampler: portions of one or more requests of one model, by one recipe. Less of a quality's metric
is better (fid, error).
"""

from dataclasses import dataclass, field

from fleet.energy import EnergyReading
from fleet.origin import Origin
from fleet.phase import Phase


@dataclass(frozen=True)
class Demand:
    """The quality that is asked for: `metric` at most `at_most`."""

    metric: str
    at_most: float


@dataclass(frozen=True)
class Recipe:
    """How images are made: the width of each denoising step, the noisiest first; sampler; bits of the weights."""

    widths: tuple[float, ...]
    sampler: str
    bits: int = 32

    @property
    def steps(self) -> int:
        """Calls of the network per image."""
        return len(self.widths)

    @property
    def mean_square_width(self) -> float:
        """The share of the full network's multiplications that a step does on average, w^2."""
        return sum(w * w for w in self.widths) / len(self.widths) if self.widths else 0.0


@dataclass(frozen=True)
class GenerationRequest:
    """What somebody asks for. `request` is chosen by who asks and unique; asking again changes nothing.

    `within_s` counts from the moment the coordinator has it; None: whenever. A greater `priority` goes first.
    `origin` is the device it comes from, if any; `where` "local" keeps it there, "edge" sends it to another,
    "device" names in `device` the only one that may serve it, "any" leaves it open. `recipe` fixes how the images
    are made; it is chosen where None. they are shown `previews` times on the way.
    """

    request: str
    run: str
    images: int
    seed: int
    within_s: float | None = None
    quality: Demand | None = None
    priority: int = 0
    origin: str = ""
    where: str = "any"
    device: str = ""
    recipe: Recipe | None = None
    previews: int = 0


@dataclass(frozen=True)
class Portion:
    """The images of one request in a batch: `images` of the noise of `seed`, shown `previews` times on the way."""

    request: str
    images: int
    seed: int
    previews: int = 0


@dataclass(frozen=True)
class Expected:
    """What a batch, or one request's share of it, is predicted to take and to be worth; None: nothing is known.

    `joules` and `seconds` are those of making the images, `samples` the batches they were fitted to (0: presets).
    """

    joules: float | None = None
    seconds: float | None = None
    quality: float | None = None
    metric: str = ""
    origin: Origin = Origin.PRESET
    samples: int = 0
    energy_law: str = ""


@dataclass(frozen=True)
class Batch:
    """What one device is to make in one pass. `model_sha256` names the payload of the model, `model_bytes` its
    size.
    """

    batch: str
    run: str
    device: str
    model_sha256: str
    model_bytes: int
    recipe: Recipe
    portions: tuple[Portion, ...]
    expected: Expected = Expected()

    @property
    def images(self) -> int:
        """Images of all portions."""
        return sum(p.images for p in self.portions)


@dataclass(frozen=True)
class GenerationTask:
    """A batch with what of the run's experiment the device needs to make it."""

    batch: Batch
    workload: str
    options_json: str


@dataclass(frozen=True)
class CancelGeneration:
    """The coordinator no longer wants this batch."""

    batch: str
    reason: str


@dataclass(frozen=True)
class ModelRef:
    """A model that devices generate with."""

    run: str
    sha256: str
    size_bytes: int
    workload: str = ""
    options_json: str = ""


@dataclass(frozen=True)
class KeepModels:
    """The models a device should keep and fetch when it has nothing else to do; others go first when room is
    short.
    """

    models: tuple[ModelRef, ...]


@dataclass(frozen=True)
class Preview:
    """What one request's images look like on the way: a grid, as PNG."""

    request: str
    png: bytes = field(repr=False)


@dataclass(frozen=True)
class GenerationProgress:
    """`done` of `steps` denoising steps of a batch. Not in the log."""

    batch: str
    done: int
    steps: int
    previews: tuple[Preview, ...] = ()


@dataclass(frozen=True)
class GenerationMeasured:
    """One window of one phase (download, generate or upload) of a batch. `window` makes a repeat harmless."""

    window: str
    batch: str
    phase: Phase
    started_at_s: float
    seconds: float
    readings: tuple[EnergyReading, ...] = ()


@dataclass(frozen=True)
class GenerationEnded:
    """The device is done with a batch and has said all it measured; with a `reason` it gives it up."""

    batch: str
    reason: str = ""


@dataclass(frozen=True)
class ModelsHeld:
    """The models on a device's disk, and the bytes it may use for them."""

    sha256: tuple[str, ...]
    held_bytes: int
    storage_bytes: int


@dataclass(frozen=True)
class ImagesHeader:
    """What an upload of images is, said before its bytes: one request's share of one batch.

    The bytes are a .npz of fleet.images; `digest` is their sha256.
    """

    batch: str
    request: str
    device: str
    digest: str
    size_bytes: int
    offset_bytes: int
    protocol_version: int


@dataclass(frozen=True)
class PhaseJoules:
    """One request's share of one phase: of a batch it shared, by images, and then never called measured."""

    phase: Phase
    seconds: float
    readings: tuple[EnergyReading, ...] = ()


@dataclass(frozen=True)
class Placement:
    """Where a request is to be served, by what recipe, and what was predicted of its share."""

    device: str
    batch: str
    recipe: Recipe
    shared_with: int
    starts_at_s: float
    ends_at_s: float
    expected: Expected


@dataclass(frozen=True)
class Feasible:
    """What could be had instead of what was refused; None: nothing."""

    within_s: float | None = None
    at_most: float | None = None
    images: int | None = None


@dataclass(frozen=True)
class RequestReport:
    """One request in the ledger: predicted beside measured.

    status: "waiting", "placed", "served", "refused", "cancelled", "failed" or "expired". `latency_s` goes from its
    reception to its images being safe here; `late` says that its deadline had passed by then. `digest` names the
    images. `complete`: the device has said all it measured.
    """

    request: GenerationRequest
    status: str
    received_at_s: float
    deadline_at_s: float | None = None
    model_sha256: str = ""
    latency_s: float | None = None
    late: bool = False
    tries: int = 0
    placement: Placement | None = None
    phases: tuple[PhaseJoules, ...] = ()
    digest: str = ""
    size_bytes: int = 0
    wire_bytes: int = 0
    reason: str = ""
    feasible: Feasible | None = None
    complete: bool = False
