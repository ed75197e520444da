"""What each run came to so far, for Prometheus: a fold of the log that remembers two rounds of few runs.

The ledger knows every round of a run but is read from the disk; this one is in memory, bounded, and read
by the thread that serves /metrics.
"""

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from coordinator.events import (
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
    RunEnded,
    RunStarted,
    UpdateReceived,
    run_of,
)
from fleet.domain import Assignment, EnergyReading, Metric, PhaseMeasured
from fleet.energy import technique

KEPT_RUNS = 8
"""Ended runs that are remembered."""


class Read(NamedTuple):
    """What a reading covers, and by which technique."""

    component: str
    scope: str
    quality: str
    technique: str


def read(reading: EnergyReading) -> Read:
    """What `reading` covers."""
    return Read(reading.component, reading.scope, reading.quality.value, technique(reading.source))


@dataclass
class RoundTally:
    """One round. `joules` is by (device, phase) and what was read, None where a window could not say."""

    round: int
    opened_at_s: float = 0.0
    seconds: float | None = None
    assignments: dict[str, Assignment] = field(default_factory=dict)
    joules: dict[tuple[str, str, Read], float | None] = field(default_factory=dict)
    phase_seconds: defaultdict[tuple[str, str], float] = field(default_factory=lambda: defaultdict(float))
    wire_bytes: Counter[tuple[str, str]] = field(default_factory=Counter)
    losses: dict[str, float] = field(default_factory=dict)

    def measured(self, device: str, measured: PhaseMeasured) -> None:
        """Enters one window. A partial sum would look whole, so one unknown window makes the sum unknown."""
        phase = measured.phase.value
        self.phase_seconds[device, phase] += measured.seconds
        for r in measured.readings:
            key = (device, phase, read(r))
            sum_ = self.joules.get(key, 0.0)
            self.joules[key] = None if r.joules is None or sum_ is None else sum_ + r.joules


@dataclass
class RunTally:
    """One run: its sums, the round that is open or was last, and the one that closed last."""

    asynchronous: bool
    moved_at_s: float
    present: RoundTally = field(default_factory=lambda: RoundTally(0))
    closed: RoundTally | None = None
    evaluation: tuple[Metric, ...] = ()
    epsilon: float | None = None
    joules: defaultdict[tuple[str, Read], float] = field(default_factory=lambda: defaultdict(float))
    wire_bytes: Counter[str] = field(default_factory=Counter)

    def count(self, event: Event) -> None:
        """Enters one event of this run. What belongs to a round long closed is in the run's sums only."""
        match event:
            case EnergyMeasured(device=device, measured=measured):
                for r in measured.readings:
                    if r.joules is not None:
                        self.joules[device, read(r)] += r.joules
                for round_ in self._rounds(measured.round):
                    round_.measured(device, measured)
            case BytesMoved(device=device, direction=direction):
                self.wire_bytes[direction] += event.wire_bytes
                for round_ in self._rounds(event.round):
                    round_.wire_bytes[device, direction] += event.wire_bytes
            case _:
                self._move(event)

    def _move(self, event: Event) -> None:
        match event:
            case RoundOpened():
                # In an asynchronous run the devices that are not asked anew go on with what they have.
                kept = self.present.assignments if self.asynchronous else {}
                given = {a.device: a for a in event.assignments}
                self.present = RoundTally(event.round, event.at_s, assignments={**kept, **given})
            case DevicesAssigned():
                self.present.assignments |= {a.device: a for a in event.assignments}
            case UpdateReceived():
                for round_ in self._rounds(event.round):
                    round_.losses[event.device] = event.loss
            case RoundClosed():
                self.present.seconds = event.at_s - self.present.opened_at_s
                self.closed = self.present
            case ModelEvaluated():
                self.evaluation = event.metrics
            case ModelAggregated():
                self.epsilon = next((m.value for m in event.metrics if m.name == "epsilon"), None)
            case ModelInitialised() | RoundFailed() | RunEnded():
                pass
            case _:
                return
        self.moved_at_s = event.at_s

    def _rounds(self, round: int) -> tuple[RoundTally, ...]:
        if round == self.present.round:
            return (self.present,)
        return (self.closed,) if self.closed and self.closed.round == round else ()


class Tallies:
    """The tallies of all runs that have not ended, and of the last few that have."""

    def __init__(self, ended: Sequence[str] = ()) -> None:
        """`ended` are runs that will end, in that order, as is known of a log that is read anew: those that are
        forgotten when it is read are not begun.
        """
        self.runs: dict[str, RunTally] = {}
        self._ended: list[str] = []
        self._passing = frozenset(ended[:-KEPT_RUNS])

    def count(self, event: Event) -> None:
        """Enters one event."""
        if isinstance(event, RunStarted) and event.run not in self._passing:
            self.runs[event.run] = RunTally(event.experiment.round.mode == "async", event.at_s)
        elif tally := self.runs.get(run_of(event) or ""):
            tally.count(event)
        if isinstance(event, RunEnded):
            self._ended.append(event.run)
            for run in self._ended[:-KEPT_RUNS]:
                self.runs.pop(run, None)
            del self._ended[:-KEPT_RUNS]
