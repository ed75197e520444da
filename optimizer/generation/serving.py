"""Many requests on many devices: the words, and `plan`.

A request is images of some quality by some time. A server, be it a device or an edge server, runs batches one
after the other in the order of their deadlines; a step of n images at width w takes fixed + each n seconds and
joules, which were measured. A batch has one model, one number of bits and one width per step; requests share it
where that saves joules within everybody's deadline and quality. [R] of FlexGen's service, MODELS.md 3, with
measured costs.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from math import inf

from fleet.errors import BadRequest
from optimizer.generation.quality import QualityLaws
from optimizer.models.checks import not_negative, positive


class Place(StrEnum):
    """Where a server stands."""

    DEVICE = "device"
    EDGE = "edge"


class EnergyLaw(StrEnum):
    """How joules go with the clock f for the same work; named beside every joule that was planned.

    CONSTANT_POWER: (P_idle + P_dyn) t at the clock as it is, which is what was measured. KAPPA: kappa f^2 per
    cycle, so a batch that has time is slowed down, to `slowest` of the clock at the least.
    """

    CONSTANT_POWER = "constant power"
    KAPPA = "kappa f^2"


@dataclass(frozen=True)
class Request:
    """Images of `model` whose quality is `quality` or better (less is better), complete by `deadline_at_s`.

    Higher `priority` is admitted first, then who arrived first. Times are of one clock. `not_on`: servers that
    must not take it, such as one that just failed it.
    """

    name: str
    model: str
    images: int
    quality: float
    deadline_at_s: float
    arrived_at_s: float = 0.0
    priority: int = 0
    not_on: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        positive(self, "images")


@dataclass(frozen=True)
class Offer:
    """What one denoising step of a batch costs on a server, for one model at some bits, by width (W,).

    n images take `fixed_s` + `each_s` n seconds and `fixed_joules` + `each_joules` n joules, at the full clock.
    `start_*` is paid once per batch, `load_*` once if the model is not at hand.
    """

    model: str
    widths: tuple[float, ...]
    fixed_s: tuple[float, ...]
    each_s: tuple[float, ...]
    fixed_joules: tuple[float, ...]
    each_joules: tuple[float, ...]
    bits: int = 32
    start_s: float = 0.0
    start_joules: float = 0.0
    load_s: float = 0.0
    load_joules: float = 0.0

    def __post_init__(self) -> None:
        positive(self, "widths", "each_s", "each_joules")
        not_negative(self, "fixed_s", "fixed_joules", "start_s", "start_joules", "load_s", "load_joules")
        columns = (self.fixed_s, self.each_s, self.fixed_joules, self.each_joules)
        if any(len(column) != len(self.widths) for column in columns):
            raise BadRequest(f"offer of {self.model}: {len(self.widths)} widths need as many costs of each kind")
        if any(low >= high for low, high in zip(self.widths, self.widths[1:], strict=False)):
            raise BadRequest(f"offer of {self.model}: widths must rise")


@dataclass(frozen=True)
class Server:
    """A device or edge server: what it offers, and from when on it is free.

    `send_s` and `send_joules` bring one image to the client, while the next batch computes. `energy_joules` is
    what it may still spend. `quality_bits` need no entry: an offer has its bits.
    """

    name: str
    place: Place
    offers: tuple[Offer, ...]
    free_at_s: float
    energy_law: EnergyLaw = EnergyLaw.CONSTANT_POWER
    max_batch: int = 64
    send_s: float = 0.0
    send_joules: float = 0.0
    energy_joules: float = inf
    slowest: float = 1.0

    def __post_init__(self) -> None:
        positive(self, "max_batch", "slowest")
        not_negative(self, "send_s", "send_joules")


@dataclass(frozen=True)
class Batch:
    """What a server runs in one go. `widths` has one entry per step, the noisiest first.

    `seconds` and `joules` are of computing (start and steps), without loading and sending. `quality` is what
    may be promised. `clock` is the part of the full clock; below 1 only with EnergyLaw.KAPPA.
    """

    server: str
    model: str
    bits: int
    widths: tuple[float, ...]
    requests: tuple[Request, ...]
    start_at_s: float
    seconds: float
    joules: float
    quality: float
    clock: float = 1.0

    @property
    def images(self) -> int:
        """Of all its requests."""
        return sum(r.images for r in self.requests)


@dataclass(frozen=True)
class Placement:
    """One request in the plan. `joules` is its share of the batch by images, and of loading and sending.

    `batch` is the index in Plan.batches. `ready_at_s`: all images are with the client. `seconds`: from the start
    of its batch until then.
    """

    request: str
    server: str
    place: Place
    batch: int
    bits: int
    steps: int
    widths: tuple[float, ...]
    start_at_s: float
    ready_at_s: float
    seconds: float
    joules: float
    quality: float
    energy_law: EnergyLaw


@dataclass(frozen=True)
class Refusal:
    """A request that cannot be met, which constraint says so, and what could be met instead.

    constraint: "model" (no server offers it), "quality" (out of reach however long it takes), "deadline",
    "energy". best_quality: the best that is possible by its deadline. soonest_at_s: the soonest that its quality
    is ready. None: not at all.
    """

    request: str
    constraint: str
    reason: str
    best_quality: float | None
    soonest_at_s: float | None


@dataclass(frozen=True)
class Plan:
    """Every request is in `placements` or in `refusals`. Batches come by server, in the order they run."""

    placements: tuple[Placement, ...]
    refusals: tuple[Refusal, ...]
    batches: tuple[Batch, ...]

    @property
    def joules(self) -> float:
        """Of all placements."""
        return sum(p.joules for p in self.placements)


def plan(
    requests: Sequence[Request],
    servers: Sequence[Server],
    laws: Mapping[str, QualityLaws],
    *,
    now_s: float,
    steps: Sequence[int],
    queued: Sequence[Batch] = (),
    batching: bool = True,
) -> Plan:
    """Where, when and how each request is served for the fewest joules; who cannot be served is refused.

    laws: by model. steps: the numbers of denoising steps that may be chosen. queued: batches of an earlier plan
    that have not begun; their requests are kept, on the same servers, and still by their deadlines; a new request
    may go before them or join them, which may make them better but not worse. Placements are of their requests
    too. One request after the other is placed where it adds the fewest joules and nobody is late: a heuristic,
    whose choice for a single request on an empty fleet is the best of the menu (see `schedule.menu`).
    BadRequest: no laws for a model that is asked for, no servers, or the same name twice.
    """
    from optimizer.generation.queueing import place_all

    return place_all(requests, servers, laws, now_s, tuple(steps), queued, batching)
