"""The meter of a device: joules of every source, split by what the agent was doing."""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Protocol

from edge_agent.energy.counter import RAIL, Rejected, SourceInfo, Tracker
from edge_agent.energy.edges import wait_for_gpu
from edge_agent.energy.sampler import SAMPLE_HZ, Sampler
from edge_agent.energy.self_check import SelfChecks
from edge_agent.energy.tally import Slice, SourceState, Tally, WindowSum
from fleet.domain import EnergyReading, Phase, PhaseTotal, Power
from fleet.errors import WattbedError

MODEL = "model"


class MeterBusy(WattbedError):
    """A phase began while another was open: their joules could not be told apart."""


@dataclass(frozen=True)
class Window:
    """What the meter saw between the begin and the end of one phase. `started_at_s` is Unix time."""

    phase: Phase
    started_at_s: float
    seconds: float
    readings: tuple[EnergyReading, ...]


class DeviceMeter(Protocol):
    """What the agent asks of a meter, be it its own or the one of its host. Safe to use from several threads."""

    @property
    def sources(self) -> tuple[SourceInfo, ...]:
        """What is read."""

    @property
    def rejected(self) -> tuple[Rejected, ...]:
        """What was looked for and cannot be read, and why."""

    def phase(self, phase: Phase, done: Callable[[Window], None]) -> AbstractContextManager[None]:
        """Everything inside belongs to `phase`; `done` gets the window, however the inside ends.

        That is at the end or later: when a phase begins after it, `settle` at the latest. Windows keep their
        order, and `done` is called by whoever marks or settles. MeterBusy when another phase is open.
        """

    def settle(self) -> None:
        """Returns when `done` has had every window that has ended. May wait for a fraction of a second."""

    def sample(self) -> None:
        """Takes mean power from the sample before until now."""

    def power(self) -> tuple[Power, ...]:
        """The power that the last sample found; a source that could not say is absent."""

    def totals(self) -> tuple[PhaseTotal, ...]:
        """Seconds and joules of every phase since the meter was made, one row per phase and source.

        Rails are not in it: they overlap. `joules` None: the source gave nothing to this phase.
        """

    def states(self) -> tuple[SourceState, ...]:
        """Every source that this process owns, rails too."""

    def up(self) -> dict[str, bool]:
        """By source: whether its last reading succeeded."""

    def read_errors(self) -> dict[tuple[str, str], int]:
        """By (source, reason): how many readings failed."""

    def self_checks(self) -> dict[str, float]:
        """By source: its joules over those of what should agree with it, where both were compared."""

    def cpu_seconds(self) -> float:
        """CPU time spent on sampling."""

    def close(self) -> None:
        """Ends the sampling."""


class Meter:
    """Counts joules per phase in this process, which owns the sources. Everything outside a phase is idle.

    Nothing is sampled between windows before `start`.
    """

    def __init__(
        self,
        trackers: Sequence[Tracker],
        rejected: Sequence[Rejected] = (),
        clock: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], float] = time.time,
        before_edge: Callable[[], None] = wait_for_gpu,
        checks: SelfChecks | None = None,
    ) -> None:
        self._clock = clock
        self._wall_clock = wall_clock
        self._before_edge = before_edge
        self._rejected = tuple(rejected)
        self._checks = checks
        self._lock = threading.Lock()
        self._phase = Phase.IDLE
        self._seconds: dict[Phase, float] = {Phase.IDLE: 0.0}
        self._joules: dict[tuple[Phase, str], float] = {}
        self._open: list[WindowSum] | None = None
        self._sampler: Sampler | None = None
        self._last_s = clock()
        self._tallies = [Tally(tracker, self._last_s) for tracker in trackers]

    def start(self, hz: float = SAMPLE_HZ) -> None:
        """Samples `hz` times a second from now on. The model wraps nowhere and needs no samples."""
        if self._sampler is None and any(tally.info.kind != MODEL for tally in self._tallies):
            self._sampler = Sampler(self.tick, hz)

    def close(self) -> None:
        """Ends the sampling."""
        if self._sampler is not None:
            self._sampler.close()
            self._sampler = None

    @property
    def sources(self) -> tuple[SourceInfo, ...]:
        """What is read."""
        return tuple(tally.info for tally in self._tallies)

    @property
    def rejected(self) -> tuple[Rejected, ...]:
        """What was looked for and cannot be read, and why."""
        return self._rejected

    @contextmanager
    def phase(self, phase: Phase, done: Callable[[Window], None]) -> Iterator[None]:
        """Everything inside belongs to `phase`; `done` gets the window, however the inside ends."""
        self._before_edge()
        with self._lock:
            if self._phase is not Phase.IDLE:
                raise MeterBusy(f"phase {phase} begins while {self._phase} is open")
            edges = self._advance()
            self._phase = phase
            sums = self._open = [WindowSum(t.info, edge) for t, edge in zip(self._tallies, edges, strict=True)]
            began_s, began_at_s = self._last_s, self._wall_clock()
        try:
            yield
        finally:
            self._before_edge()
            with self._lock:
                self._advance()
                self._phase, self._open = Phase.IDLE, None
                seconds = self._last_s - began_s
            done(Window(phase, began_at_s, seconds, tuple(s.reading(seconds) for s in sums)))

    def settle(self) -> None:
        """Nothing to do: a window is known when it ends."""

    def tick(self) -> None:
        """Reads every source once."""
        with self._lock:
            self._advance()

    def _advance(self) -> list[Slice]:
        now = self._clock()
        self._seconds[self._phase] = self._seconds.get(self._phase, 0.0) + now - self._last_s
        self._last_s = now
        slices = [tally.advance(now) for tally in self._tallies]
        for tally, part in zip(self._tallies, slices, strict=True):
            if part.joules is not None:
                key = self._phase, tally.info.id
                self._joules[key] = self._joules.get(key, 0.0) + part.joules
        for window, part in zip(self._open or (), slices, strict=False):
            window.add(part, part.joules)
        return slices

    def sample(self) -> None:
        """Takes mean power from the sample before until now."""
        with self._lock:
            self._advance()
            for tally in self._tallies:
                tally.sample(self._last_s)

    def power(self) -> tuple[Power, ...]:
        """The power that the last sample found; a source that could not say is absent, and so are rails."""
        return tuple(
            Power(state.watts, state.info.id, state.info.component, state.info.quality)
            for state in self.states()
            if state.watts is not None and state.info.component != RAIL
        )

    def totals(self) -> tuple[PhaseTotal, ...]:
        """Seconds and joules of every phase since the meter was made, one row per phase and source."""
        with self._lock:
            self._advance()
            return tuple(
                PhaseTotal(
                    phase,
                    seconds,
                    info.component,
                    info.quality,
                    self._joules.get((phase, info.id)),
                    info.id,
                    info.scope,
                )
                for phase, seconds in self._seconds.items()
                for info in self.sources
                if info.component != RAIL
            )

    def states(self) -> tuple[SourceState, ...]:
        """Every source as it stands."""
        with self._lock:
            now = self._clock()
            return tuple(tally.state(now) for tally in self._tallies)

    def up(self) -> dict[str, bool]:
        """By source: whether its last reading succeeded."""
        return {state.info.id: state.up for state in self.states()}

    def read_errors(self) -> dict[tuple[str, str], int]:
        """By (source, reason): how many readings failed."""
        return {(state.info.id, reason): count for state in self.states() for reason, count in state.errors}

    def self_checks(self) -> dict[str, float]:
        """By source: its joules over those of what should agree with it; those compared so far."""
        return {} if self._checks is None else self._checks.ratios()

    def cpu_seconds(self) -> float:
        """CPU time spent on sampling."""
        return 0.0 if self._sampler is None else self._sampler.cpu_seconds
