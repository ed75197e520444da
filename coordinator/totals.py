"""Counters over the whole log, for Prometheus: they only go up, also over restarts of the coordinator."""

from collections import Counter, defaultdict
from collections.abc import Sequence

from coordinator.events import (
    BytesMoved,
    DeviceAttached,
    DeviceDetached,
    DevicesAssigned,
    EnergyMeasured,
    Event,
    ModelAggregated,
    RoundFailed,
    RoundOpened,
    RunEnded,
    UpdateReceived,
    UpdateRefused,
)
from coordinator.sessions import AGENT_LEFT
from coordinator.tallies import Tallies


class Totals:
    """A fold of the log into label sets. Device and phase are bounded; no run id is a label.

    `joules` is by (device, phase, component, source, scope, quality): scopes contain each other, so nothing is
    added up over them. `left` are devices whose agent said goodbye and has not come back.
    """

    def __init__(self, ended: Sequence[str] = ()) -> None:
        """`ended` are runs of which it is known that they will end, in that order: most are not worth a tally."""
        self.joules: defaultdict[tuple[str, str, str, str, str, str], float] = defaultdict(float)
        self.seconds: defaultdict[tuple[str, str], float] = defaultdict(float)
        self.windows: Counter[tuple[str, str]] = Counter()
        self.unmeasured_windows: Counter[tuple[str, str]] = Counter()
        self.wire_bytes: Counter[tuple[str, str]] = Counter()
        self.update_bytes: Counter[str] = Counter()
        self.updates: Counter[tuple[str, str]] = Counter()
        self.predicted_joules: defaultdict[str, float] = defaultdict(float)
        self.predicted_seconds: defaultdict[str, float] = defaultdict(float)
        self.rounds: Counter[str] = Counter()
        self.runs_ended: Counter[str] = Counter()
        self.aggregate_seconds = 0.0
        self.events = 0
        self.tallies = Tallies(ended)
        self.left: set[str] = set()
        self._sessions: dict[str, str] = {}

    def count(self, event: Event) -> None:
        """Enters one event."""
        self.events += 1
        self.tallies.count(event)
        match event:
            case EnergyMeasured(device=device, measured=measured):
                phase, known = str(measured.phase), False
                self.seconds[device, phase] += measured.seconds
                self.windows[device, phase] += 1
                for r in measured.readings:
                    if r.joules is not None:
                        known = True
                        key = (device, phase, r.component, r.source, r.scope, str(r.quality))
                        self.joules[key] += r.joules
                if not known:
                    self.unmeasured_windows[device, phase] += 1
            case BytesMoved():
                self.wire_bytes[event.device, event.direction] += event.wire_bytes
            case DeviceAttached():
                self._sessions[event.device] = event.session
                self.left.discard(event.device)
            case DeviceDetached(session=session) if self._sessions.get(event.device) == session:
                if event.reason == AGENT_LEFT:
                    self.left.add(event.device)
            case UpdateReceived():
                self.update_bytes[event.device] += event.size_bytes
                self.updates[event.device, "received"] += 1
            case UpdateRefused():
                self.updates[event.device, "refused"] += 1
            case RoundOpened() | DevicesAssigned():
                for a in event.assignments:
                    if a.predicted.joules is not None:
                        self.predicted_joules[a.device] += a.predicted.joules
                    if a.predicted.seconds is not None:
                        self.predicted_seconds[a.device] += a.predicted.seconds
            case ModelAggregated():
                self.rounds["aggregated"] += 1
                self.aggregate_seconds += event.seconds
            case RoundFailed():
                self.rounds["failed"] += 1
            case RunEnded():
                self.runs_ended[event.outcome] += 1
