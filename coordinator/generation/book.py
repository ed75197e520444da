"""The ledger of requests: what each asked for, where it went, what it took. A view over the log, kept in memory.

A batch that several requests share is one window of the meter. Each gets the joules by its images, and a share of
measured joules is derived, not measured. What a batch cost that came to nothing counts for its requests too.
"""

from collections import Counter, deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import get_args

from coordinator.events import (
    BatchBytesMoved,
    BatchEnded,
    BatchMeasured,
    BatchWithdrawn,
    Event,
    ModelsHeldByDevice,
    RequestCancelled,
    RequestFailed,
    RequestReceived,
    RequestRefused,
    RequestServed,
    RequestsPlaced,
)
from coordinator.generation.apply import GenerationEvent
from coordinator.generation.state import Generations, Placed
from coordinator.generation.tally import RequestTally
from coordinator.ledger import phase_report
from fleet.domain import EnergyReading, Phase, PhaseMeasured, Quality
from fleet.errors import UnknownRequest
from fleet.generation import (
    Batch,
    Feasible,
    GenerationMeasured,
    GenerationRequest,
    ModelRef,
    PhaseJoules,
    Placement,
    RequestReport,
)
from optimizer.generation.costs import RECENT, BatchSample

Shape = tuple[str, str]
"""Workload and options: batches of models of one shape cost the same."""

KEPT = 20_000
"""Requests that are remembered; older ones are in the log only."""

OF_REQUESTS = frozenset(get_args(GenerationEvent))
"""Events that say something of requests: of a long log, few."""

SHARE = "share_of_batch"
"""Flag of a reading that is a part of a batch's by images."""


@dataclass
class BatchPage:
    """One batch, and what its device said of it."""

    batch: Batch
    starts_at_s: float
    ends_at_s: float
    placed_at_s: float = 0.0
    served_at_s: float | None = None
    windows: dict[str, GenerationMeasured] = field(default_factory=dict)
    wire_bytes: dict[str, int] = field(default_factory=lambda: {"up": 0, "down": 0})
    ended: str | None = None

    def phases(self) -> Iterator[PhaseJoules]:
        """The windows, added up by phase."""
        for phase in Phase:
            windows = [w for w in self.windows.values() if w.phase == phase]
            if windows:
                whole = phase_report(phase, [_as_of_a_round(w) for w in windows])
                yield PhaseJoules(phase, whole.seconds, whole.readings)


@dataclass
class RequestPage:
    """One request."""

    run: str
    request: GenerationRequest
    model: ModelRef
    at_s: float
    status: str = "waiting"
    batches: list[str] = field(default_factory=list)
    over_at_s: float | None = None
    late: bool = False
    digest: str = ""
    size_bytes: int = 0
    reason: str = ""
    feasible: Feasible | None = None

    @property
    def deadline_at_s(self) -> float | None:
        """When it was due."""
        return None if self.request.within_s is None else self.at_s + self.request.within_s


class Book:
    """A fold of the log.

    `samples` are the latest batches that were made from end to end, by device and shape of the model, and
    `sampled` how many there ever were. `answers_s` are by device what the latest batches took besides loading and
    denoising, from when the device was free for them until their images were safe.
    """

    def __init__(self) -> None:
        self.requests: dict[str, RequestPage] = {}
        self.batches: dict[str, BatchPage] = {}
        self.models: dict[str, ModelRef] = {}
        self.samples: dict[tuple[str, Shape], deque[BatchSample]] = {}
        self.sampled: Counter[tuple[str, Shape]] = Counter()
        self.tally = RequestTally()
        self.storage: dict[str, tuple[int, int]] = {}
        self.answers_s: dict[str, deque[float]] = {}
        self._free_since_s: dict[str, float] = {}

    def count(self, event: Event, after: Generations) -> None:
        """Enters one event; `after` is what the machine made of it, for plans may be overtaken."""
        if type(event) not in OF_REQUESTS:
            return
        match event:
            case RequestReceived():
                page = RequestPage(event.run, event.request, event.model, event.at_s)
                self.requests[event.request.request] = page
                self.models[event.model.sha256] = event.model
                self._forget_the_oldest()
            case RequestsPlaced():
                if placed := after.batches.get(event.batch.batch):
                    self._place(placed)
            case BatchWithdrawn():
                if event.batch not in after.batches:
                    self._withdraw(event.batch)
            case BatchMeasured():
                if page_ := self.batches.get(event.measured.batch):
                    self.tally.measured(page_.batch, event.measured)
                    page_.windows[event.measured.window] = event.measured
            case BatchBytesMoved():
                if page_ := self.batches.get(event.batch):
                    page_.wire_bytes[event.direction] += event.wire_bytes
            case BatchEnded():
                self._end(event)
            case RequestServed():
                if served := self._of(event.request):
                    served.status, served.late = "served", event.late
                    served.digest, served.size_bytes, served.over_at_s = event.digest, event.size_bytes, event.at_s
                    self.tally.served(event.device, event.at_s - served.at_s, event.late)
                if page_ := self.batches.get(event.batch):
                    page_.served_at_s = event.at_s
            case RequestRefused():
                if refused := self._over(event.request, "refused", event.reason, event.at_s):
                    refused.feasible = event.feasible
            case RequestCancelled():
                self._over(event.request, "cancelled", event.reason, event.at_s)
            case RequestFailed():
                self.tally.misses += event.outcome == "expired" and self._of(event.request) is not None
                self._over(event.request, event.outcome, event.reason, event.at_s)
            case ModelsHeldByDevice():
                self.storage[event.device] = (event.held_bytes, event.storage_bytes)

    def _of(self, request: str) -> RequestPage | None:
        """The page of a request that is not over, as far as this book remembers."""
        page = self.requests.get(request)
        return page if page and page.over_at_s is None else None

    def _over(self, request: str, status: str, reason: str, at_s: float) -> RequestPage | None:
        """Ends a request that is not over, and gives its page."""
        page = self._of(request)
        if page is not None:
            page.status, page.reason, page.over_at_s = status, reason, at_s
            self.tally.outcomes[status] += 1
        return page

    def _place(self, placed: Placed) -> None:
        batch = placed.batch
        self.batches[batch.batch] = BatchPage(batch, placed.starts_at_s, placed.ends_at_s, placed.at_s)
        for portion in batch.portions:
            if request := self._of(portion.request):
                request.status = "placed"
                if batch.batch not in request.batches:
                    request.batches.append(batch.batch)
                    self.tally.retries += len(request.batches) > 1

    def _withdraw(self, batch: str) -> None:
        """A batch that was never begun is forgotten."""
        for portion in self.batches.pop(batch).batch.portions if batch in self.batches else ():
            if request := self._of(portion.request):
                request.batches.remove(batch)
                request.status = "waiting"

    def _end(self, event: BatchEnded) -> None:
        page = self.batches.get(event.batch)
        if page is None:
            return
        page.ended = event.reason
        began_s = max(page.placed_at_s, self._free_since_s.get(event.device, 0.0))
        self._free_since_s[event.device] = page.served_at_s or event.at_s
        for portion in page.batch.portions:
            if (request := self._of(portion.request)) and event.reason:
                request.status, request.reason = "waiting", event.reason
        if not event.reason:
            self._learn(page, event.device)
            if page.served_at_s is not None:
                inside_s = sum(w.seconds for w in page.windows.values() if w.phase is not Phase.UPLOAD)
                rest_s = max(0.0, page.served_at_s - began_s - inside_s)
                self.answers_s.setdefault(event.device, deque(maxlen=RECENT)).append(rest_s)

    def _learn(self, page: BatchPage, device: str) -> None:
        """Keeps a whole batch for the fits: its one window of generation."""
        model = self.models.get(page.batch.model_sha256)
        windows = [w for w in page.windows.values() if w.phase is Phase.GENERATE]
        if model is None or len(windows) != 1:
            return
        key = (device, shape_of(model))
        sample = BatchSample(page.batch.images, page.batch.recipe.widths, windows[0].seconds, windows[0].readings)
        self.tally.made(page.batch, windows[0])
        self.samples.setdefault(key, deque(maxlen=RECENT)).append(sample)
        self.sampled[key] += 1

    def _forget_the_oldest(self) -> None:
        for name in list(self.requests)[: len(self.requests) - KEPT]:
            if self.requests[name].over_at_s is not None:
                for batch in self.requests.pop(name).batches:
                    self.batches.pop(batch, None)

    def page(self, request: str) -> RequestPage:
        """The page of a request; UnknownRequest."""
        try:
            return self.requests[request]
        except KeyError:
            raise UnknownRequest(f"no request {request!r} is known") from None

    def knows(self, measured: GenerationMeasured) -> bool:
        """Whether this window is entered already."""
        page = self.batches.get(measured.batch)
        return page is not None and measured.window in page.windows

    def batch_of(self, batch: str, device: str) -> Batch | None:
        """The batch of this id, if `device` was ever told to make it."""
        page = self.batches.get(batch)
        return page.batch if page and page.batch.device == device else None

    def of_run(self, run: str) -> list[RequestReport]:
        """The requests of a run, the oldest first."""
        return [self.report(name) for name, page in self.requests.items() if page.run == run]

    def report(self, request: str) -> RequestReport:
        """Everything about one request; UnknownRequest."""
        page = self.page(request)
        batches = [self.batches[b] for b in page.batches if b in self.batches]
        last = batches[-1] if batches else None
        shares = [(b, share_of(b.batch, request)) for b in batches]
        served_s = page.over_at_s - page.at_s if page.status == "served" and page.over_at_s else None
        return RequestReport(
            request=page.request,
            status=page.status,
            received_at_s=page.at_s,
            deadline_at_s=page.deadline_at_s,
            model_sha256=page.model.sha256,
            latency_s=served_s,
            late=page.late,
            tries=len(batches),
            placement=None if last is None else placement(last, request),
            phases=tuple(_added(p for b, share in shares for p in _shared(b.phases(), share))),
            digest=page.digest,
            size_bytes=page.size_bytes,
            wire_bytes=sum(round(share * sum(b.wire_bytes.values())) for b, share in shares),
            reason=page.reason,
            feasible=page.feasible,
            complete=page.status == "served" and last is not None and last.ended == "",
        )


def shape_of(model: ModelRef) -> Shape:
    """What decides what a batch of it costs."""
    return model.workload, model.options_json


def share_of(batch: Batch, request: str) -> float:
    """The part of a batch's images that are of `request`; 1 where it has the batch to itself."""
    return sum(p.images for p in batch.portions if p.request == request) / batch.images


def placement(page: BatchPage, request: str) -> Placement:
    """Where a request goes. Joules are predicted for its share, seconds for the batch: all of it takes as long."""
    batch, share = page.batch, share_of(page.batch, request)
    joules = batch.expected.joules
    expected = replace(batch.expected, joules=None if joules is None else joules * share)
    others = len({p.request for p in batch.portions}) - 1
    return Placement(batch.device, batch.batch, batch.recipe, others, page.starts_at_s, page.ends_at_s, expected)


def _shared(phases: Iterable[PhaseJoules], share: float) -> Iterator[PhaseJoules]:
    for phase in phases:
        if share == 1:
            yield phase
        else:
            yield replace(phase, readings=tuple(_part(r, share) for r in phase.readings))


def _part(reading: EnergyReading, share: float) -> EnergyReading:
    def of(joules: float | None) -> float | None:
        return None if joules is None else joules * share

    return replace(
        reading,
        joules=of(reading.joules),
        low_joules=of(reading.low_joules),
        high_joules=of(reading.high_joules),
        quality=Quality.DERIVED if reading.quality is Quality.MEASURED else reading.quality,
        flags=tuple(dict.fromkeys((*reading.flags, SHARE))),
    )


def _added(phases: Iterable[PhaseJoules]) -> Iterator[PhaseJoules]:
    """One row per phase: of several tries what all of them took."""
    by_phase: dict[Phase, list[PhaseJoules]] = {}
    for phase in phases:
        by_phase.setdefault(phase.phase, []).append(phase)
    for name, found in by_phase.items():
        windows = [PhaseMeasured("", "", 0, name, 0.0, p.seconds, p.readings) for p in found]
        whole = phase_report(name, windows)
        yield PhaseJoules(name, whole.seconds, whole.readings)


def _as_of_a_round(window: GenerationMeasured) -> PhaseMeasured:
    return PhaseMeasured(
        window.window, window.batch, 0, window.phase, window.started_at_s, window.seconds, window.readings
    )
