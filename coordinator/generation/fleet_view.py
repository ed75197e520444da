"""The fleet as the planner sees it: who may serve, what it costs there, and what is in its queue already."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from coordinator.generation.book import Book
from coordinator.generation.state import Placed
from coordinator.machine.state import Device, State
from fleet.errors import BadRequest
from fleet.generation import Expected, GenerationRequest, ModelRef, Recipe
from fleet.kinds import DeviceKind, kind
from optimizer.generation.costs import UNKNOWN_MARGIN, BatchCost
from optimizer.generation.serving import EnergyLaw, Offer, Place, Server

LARGEST_BATCH = 64
LINK_BPS = 100e6
"""[assumed] Rate of a link that nobody emulates."""

LOAD_S = 0.3
"""[assumed] Reading a model from the disk and building its network."""

ANSWER_S, FIRST_ANSWER_S = 0.02, 0.2
"""[assumed] Around a batch: bringing it to the device, and its images here. At least, and before any was made."""

LATE_BATCH_S = 0.1
"""A batch that takes longer than predicted is expected to end in so long."""

EDGE = "edge"


@dataclass(frozen=True)
class Serving:
    """One device that may serve. `waiting` are the batches in its queue that have not begun.

    `held` are the models that are there, or will be: batches in the queue bring theirs. `answer_s` is what a batch
    takes besides loading and denoising. What has begun lasts until `begun_until_s`.
    """

    device: Device
    costs: Mapping[str, BatchCost]
    held: frozenset[str]
    answer_s: float
    begun_until_s: float
    waiting: tuple[Placed, ...]

    @property
    def name(self) -> str:
        """Of the device."""
        return self.device.name

    @property
    def place(self) -> Place:
        """Where it stands."""
        return Place.EDGE if self.device.capabilities.place == EDGE else Place.DEVICE

    def load_s(self, model: ModelRef) -> float:
        """What it takes to have `model` in memory, if it is not."""
        if model.sha256 in self.held:
            return 0.0
        link = self.device.capabilities.link
        rate_bps = link.rate_down_bps if link and link.rate_by != "none" else LINK_BPS
        return LOAD_S + 8 * model.size_bytes / rate_bps

    def seconds(self, model: ModelRef, images: int, recipe: Recipe, *, first: bool, loaded: bool) -> float:
        """From the start of a batch to its images being here, with the margin that a promise needs.

        `first`: the device has nothing else to do. `loaded`: a batch before it brings the model.
        """
        cost = self.costs[model.sha256]
        margin = cost.margin if cost.samples or first else UNKNOWN_MARGIN
        load_s = 0.0 if loaded else self.load_s(model)
        return cost.promised_s(images, recipe.widths) * (1 + margin) + self.answer_s + load_s

    def expected(
        self, model: ModelRef, images: int, recipe: Recipe, quality: float | None, metric: str
    ) -> Expected:
        """What a batch is predicted to take and to be worth."""
        cost = self.costs[model.sha256]
        return Expected(
            joules=cost.joules.of(images, recipe.widths),
            seconds=cost.seconds.of(images, recipe.widths),
            quality=quality,
            metric=metric,
            origin=cost.origin,
            samples=cost.samples,
            energy_law=EnergyLaw.CONSTANT_POWER,
        )

    def server(self, offered: Mapping[str, tuple[ModelRef, tuple[float, ...]]], free_at_s: float) -> Server:
        """The planner's word for it. offered: by the planner's name a model and its widths. Seconds have their
        margin.
        """
        return Server(
            name=self.name,
            place=self.place,
            offers=tuple(self._offer(name, m, w) for name, (m, w) in offered.items() if m.sha256 in self.costs),
            free_at_s=free_at_s,
            max_batch=LARGEST_BATCH,
        )

    def _offer(self, name: str, model: ModelRef, widths: tuple[float, ...]) -> Offer:
        cost, load_s = self.costs[model.sha256], self.load_s(model)
        s, j, longer = cost.seconds, cost.joules, 1 + (cost.margin if cost.samples else UNKNOWN_MARGIN)
        promised = [max(w, cost.least_width) for w in widths]
        watts = j.of(8, (1.0,) * 8) / s.of(8, (1.0,) * 8)
        return Offer(
            model=name,
            widths=widths,
            fixed_s=tuple((s.step + s.each(w) * (cost.least_images - 1)) * longer for w in promised),
            each_s=tuple(max(1e-9, s.each(w) * longer) for w in promised),
            fixed_joules=(j.step,) * len(widths),
            each_joules=tuple(max(1e-9, j.each(w)) for w in widths),
            start_s=s.start * longer + self.answer_s,
            start_joules=j.start,
            load_s=load_s,
            load_joules=load_s * watts,
        )


def serving(
    state: State, book: Book, costs_of: Mapping[str, Mapping[str, BatchCost]], now_s: float
) -> dict[str, Serving]:
    """Who may be given batches now, by name: here, with room for models, not drained, neither training nor being
    calibrated.
    """
    training = {name for run in state.runs.values() for name in run.outstanding}
    found = {}
    for name in sorted(state.devices):
        device = state.devices[name]
        if device.session is None or not device.capabilities.model_storage_bytes:
            continue
        if name in training or name in state.calibrating or name in state.register.drained:
            continue
        queue = state.generations.queue(name)
        begun = [p for p in queue if p.began_at_s is not None]
        ends_s = [max(now_s + LATE_BATCH_S, _ends_s(p)) for p in begun]
        held = {*state.generations.held.get(name, ()), *(p.batch.model_sha256 for p in queue)}
        waiting = tuple(p for p in queue if p.began_at_s is None)
        costs, answer_s = costs_of.get(name, {}), answering_s(book.answers_s.get(name, ()))
        found[name] = Serving(device, costs, frozenset(held), answer_s, max(ends_s, default=now_s), waiting)
    return found


def answering_s(answers_s: Sequence[float]) -> float:
    """What to allow for everything but loading and denoising: what nine in ten batches took at most."""
    if not answers_s:
        return FIRST_ANSWER_S
    return max(ANSWER_S, sorted(answers_s)[int(0.9 * len(answers_s))])


def _ends_s(placed: Placed) -> float:
    return (placed.began_at_s or 0.0) + (placed.ends_at_s - placed.starts_at_s)


def may_serve(request: GenerationRequest, name: str, place: Place) -> bool:
    """Whether what the request says of places allows this one."""
    match request.where:
        case "local":
            return name == request.origin
        case "edge":
            return place is Place.EDGE
        case "device":
            return name == request.device
    return not request.origin or name == request.origin or place is Place.EDGE


def kind_of(device: Device) -> DeviceKind | None:
    """What kind of device it is; None for one that kinds.toml does not have."""
    try:
        return kind(device.capabilities.kind)
    except BadRequest:
        return None


def model_fits(device: Device, model: ModelRef) -> bool:
    """Whether the device has room for the model at all."""
    return model.size_bytes <= (device.capabilities.model_storage_bytes or 0)
