"""The ledger of a run: joules, seconds and bytes by round, device and phase, as a view over the log."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from coordinator.arithmetic import with_arithmetic
from coordinator.events import (
    AssignmentExpired,
    AssignmentFailed,
    BytesMoved,
    DevicesAssigned,
    EnergyMeasured,
    Event,
    ModelAggregated,
    ModelEvaluated,
    ModelInitialised,
    RoundClosed,
    RoundFailed,
    RoundOpened,
    UpdateReceived,
    UpdateRefused,
)
from coordinator.machine.state import Device, Run
from coordinator.radio import with_radio
from fleet.domain import (
    Assignment,
    DeviceReport,
    EnergyReading,
    Equipment,
    Metric,
    NetworkSize,
    Phase,
    PhaseMeasured,
    PhaseReport,
    RoundReport,
    RunReport,
    RunSummary,
)
from fleet.experiment import SIMULATED_PRECISIONS
from optimizer.policy import Told


@dataclass
class Line:
    """One assignment's line."""

    assignment: Assignment
    status: str = "assigned"
    samples: int = 0
    loss: float | None = None
    update_bytes: int = 0
    wire_up_bytes: int = 0
    wire_down_bytes: int = 0
    windows: dict[str, PhaseMeasured] = field(default_factory=dict)
    reason: str | None = None
    update_range: float | None = None

    def phases(self) -> tuple[PhaseReport, ...]:
        """The windows, added up by phase."""
        return tuple(
            phase_report(phase, [w for w in self.windows.values() if w.phase == phase])
            for phase in Phase
            if any(w.phase == phase for w in self.windows.values())
        )


@dataclass
class Page:
    """One round's page."""

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
    spent: tuple[Metric, ...] = ()
    lines: dict[str, Line] = field(default_factory=dict)


class RunLedger:
    """A fold of one run's events."""

    def __init__(self) -> None:
        self.pages: dict[int, Page] = {}
        self.network: NetworkSize | None = None

    def add(self, event: Event) -> None:
        """Enters one event."""
        match event:
            case ModelInitialised():
                page = Page(0, "initial", event.at_s, model_sha256=event.sha256, model_bytes=event.size_bytes)
                self.pages[0] = page
                self.network = event.network
            case RoundOpened() | DevicesAssigned():
                page = self.pages.setdefault(event.round, Page(event.round, "open", event.at_s))
                for assignment in event.assignments:
                    earlier = page.lines.get(assignment.device)
                    page.lines[assignment.device] = (
                        replace(earlier, assignment=assignment, status="assigned", reason=None)
                        if earlier
                        else Line(assignment)
                    )
            case RoundClosed():
                page = self.pages[event.round]
                page.status, page.closed_at_s, page.reason = "closed", event.at_s, event.reason
                for device in event.lost:
                    self._mark(event.round, device, "lost", "did not deliver before the round closed")
            case RoundFailed():
                page = self.pages.setdefault(event.round, Page(event.round, "failed", event.at_s))
                page.status, page.closed_at_s, page.reason = "failed", event.at_s, event.reason
                page.seconds = event.at_s - page.opened_at_s
                for line in page.lines.values():
                    if line.status == "assigned":
                        line.status, line.reason = "lost", "did not deliver before the round failed"
            case ModelAggregated():
                page = self.pages[event.round]
                page.seconds = event.at_s - page.opened_at_s
                page.model_sha256, page.model_bytes = event.sha256, event.size_bytes
                page.spent = page.metrics = event.metrics
            case ModelEvaluated():
                page = self.pages[event.round]
                page.metrics = (*page.spent, *event.metrics)
                page.grid_sha256 = event.grid_sha256
            case AssignmentFailed():
                self._mark(event.round, event.device, "failed", event.reason)
            case AssignmentExpired():
                self._mark(event.round, event.device, "lost", "did not deliver by its deadline")
            case UpdateRefused():
                self._mark(event.round, event.device, "late", event.reason)
            case UpdateReceived():
                line = self.pages[event.round].lines[event.device]
                line.status, line.reason = "arrived", None
                line.samples, line.loss, line.update_bytes = event.samples, event.loss, event.size_bytes
                line.update_range = event.update_range
            case BytesMoved(direction="up"):
                self.pages[event.round].lines[event.device].wire_up_bytes += event.wire_bytes
            case BytesMoved(direction="down"):
                self.pages[event.round].lines[event.device].wire_down_bytes += event.wire_bytes
            case EnergyMeasured():
                line = self.pages[event.measured.round].lines[event.device]
                line.windows[event.measured.window] = event.measured

    def told(self, round: int) -> tuple[Told, ...]:
        """What each assignment of `round` came to, in device order."""
        lines = sorted(self.pages[round].lines.items()) if round in self.pages else []
        metrics = self.pages[round].metrics if lines else ()
        return tuple(
            Told(x.assignment, x.phases(), x.wire_up_bytes, x.wire_down_bytes, x.update_range, metrics)
            for _, x in lines
        )

    def has(self, round: int, device: str) -> bool:
        """Whether `device` has a line on the page of `round`."""
        return round in self.pages and device in self.pages[round].lines

    def knows(self, measured: PhaseMeasured, device: str) -> bool:
        """Whether this window of `device` is entered already."""
        return measured.window in self.pages[measured.round].lines[device].windows

    def windows(self, round: int, device: str) -> int:
        """How many windows of `device` are entered on the page of `round`."""
        return len(self.pages[round].lines[device].windows)

    def _mark(self, round: int, device: str, status: str, reason: str) -> None:
        line = self.pages[round].lines[device]
        if line.status != "arrived":
            line.status, line.reason = status, reason

    @property
    def _simulates(self) -> bool:
        """Whether any device was asked to train at a precision that is simulated."""
        lines = (line for page in self.pages.values() for line in page.lines.values())
        return any(line.assignment.precision in SIMULATED_PRECISIONS for line in lines)

    def report(self, run: Run, devices: Mapping[str, Device]) -> RunReport:
        """The whole ledger of `run`."""
        network = self.network if self._simulates else None
        rounds = tuple(_round_report(page, devices, network) for _, page in sorted(self.pages.items()))
        names = sorted({name for page in self.pages.values() for name in page.lines} & devices.keys())
        equipment = tuple(Equipment(name, devices[name].capabilities) for name in names)
        return RunReport(summary(run), run.experiment.model_dump_json(), rounds, equipment)


def summary(run: Run) -> RunSummary:
    """One line about a run."""
    return RunSummary(
        run=run.run,
        experiment=run.experiment.name,
        phase=run.phase,
        round=run.round,
        rounds=run.experiment.rounds,
        started_at_s=run.started_at_s,
        devices=len(run.shards),
        ended_at_s=run.ended_at_s,
        reason=run.reason,
    )


def phase_report(phase: Phase, windows: Iterable[PhaseMeasured]) -> PhaseReport:
    """The windows of one phase as one: seconds add up, and joules within (source, component, scope, quality).

    A reading with no joules in any window has none in the sum: a partial sum would look whole.
    """
    windows = list(windows)
    sums: dict[tuple[str, ...], EnergyReading] = {}
    for reading in (r for w in windows for r in w.readings):
        key = (reading.source, reading.component, reading.scope, reading.quality)
        sums[key] = _plus(sums[key], reading) if key in sums else reading
    levers = tuple(dict.fromkeys(outcome for w in windows for outcome in w.levers))
    return PhaseReport(phase, sum(w.seconds for w in windows), len(windows), tuple(sums.values()), levers)


def _plus(a: EnergyReading, b: EnergyReading) -> EnergyReading:
    def add(x: float | None, y: float | None) -> float | None:
        return None if x is None or y is None else x + y

    return replace(
        a,
        joules=add(a.joules, b.joules),
        low_joules=add(a.low_joules, b.low_joules),
        high_joules=add(a.high_joules, b.high_joules),
        flags=tuple(dict.fromkeys((*a.flags, *b.flags))),
    )


def _with_arithmetic(line: Line, network: NetworkSize | None) -> tuple[PhaseReport, ...]:
    whole = line.status in ("arrived", "late")  # of any other nobody knows how many steps it did
    return with_arithmetic(line.phases(), network if whole else None, line.assignment)


def _round_report(page: Page, devices: Mapping[str, Device], network: NetworkSize | None) -> RoundReport:
    return RoundReport(
        round=page.round,
        status=page.status,
        opened_at_s=page.opened_at_s,
        closed_at_s=page.closed_at_s,
        seconds=page.seconds,
        reason=page.reason,
        model_sha256=page.model_sha256,
        model_bytes=page.model_bytes,
        grid_sha256=page.grid_sha256,
        metrics=page.metrics,
        devices=tuple(
            DeviceReport(
                device=name,
                kind=devices[name].capabilities.kind if name in devices else "",
                status=line.status,
                bits_up=line.assignment.bits_up,
                bits_down=line.assignment.bits_down,
                precision=line.assignment.precision,
                width=line.assignment.width,
                train_steps=line.assignment.train_steps,
                samples=line.samples,
                update_bytes=line.update_bytes,
                wire_up_bytes=line.wire_up_bytes,
                wire_down_bytes=line.wire_down_bytes,
                predicted=line.assignment.predicted,
                loss=line.loss,
                phases=with_radio(
                    _with_arithmetic(line, network),
                    devices[name].capabilities.link if name in devices else None,
                    line.wire_up_bytes,
                    line.wire_down_bytes,
                ),
                reason=line.reason,
                update_range=line.update_range,
                note=line.assignment.note,
            )
            for name, line in sorted(page.lines.items())
        ),
    )
