"""The meter of a device: cumulative counters, split by what the agent was doing."""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from edge_agent.energy.counter import EnergyCounter, Raw, ReadFailed, SourceInfo
from fleet.domain import EnergyReading, Phase, PhaseTotal, Power
from fleet.errors import WattbedError

READ_FAILED = "read_failed"
RESET = "reset"
SHORT_WINDOW = "short_window"


class MeterBusy(WattbedError):
    """A phase began while another was open: their joules could not be told apart."""


@dataclass(frozen=True)
class Window:
    """What the meter saw between the begin and the end of one phase. `started_at_s` is Unix time."""

    phase: Phase
    started_at_s: float
    seconds: float
    readings: tuple[EnergyReading, ...]


@dataclass(frozen=True)
class _Mark:
    """A counter at one moment. `raw` None: it could not be read. `resets`: how often it fell so far."""

    raw: Raw | None
    resets: int


class _Tally:
    """One counter, and the joules it gave to each phase."""

    def __init__(self, counter: EnergyCounter) -> None:
        self.counter = counter
        self.info = counter.info
        self.joules: dict[Phase, float] = {}
        self.errors: dict[str, int] = {}
        self.watts: float | None = None
        self._highest: Raw | None = None
        self.last = self.sampled = _Mark(None, 0)
        self.accrue(Phase.IDLE)
        self.sample()

    def accrue(self, phase: Phase) -> _Mark:
        """Reads the counter and gives what it grew by to `phase`; across a failure or a reset nobody gets it."""
        mark = self._read()
        if (grown := _joules(self.last, mark)) is not None:
            self.joules[phase] = self.joules.get(phase, 0.0) + grown
        self.last = mark
        return mark

    def _read(self) -> _Mark:
        resets = self.last.resets
        try:
            raw = self.counter.read()
        except (ReadFailed, OSError) as error:
            reason = type(error).__name__
            self.errors[reason] = self.errors.get(reason, 0) + 1
            return _Mark(None, resets)
        fell = self._highest is not None and raw.joules < self._highest.joules
        self._highest = raw
        return _Mark(raw, resets + fell)

    def sample(self) -> None:
        """Mean power from the sample before to the last reading."""
        before, now = self.sampled, self.last
        joules = _joules(before, now)
        self.watts = None
        if joules is not None and before.raw and now.raw and now.raw.at_s > before.raw.at_s:
            self.watts = joules / (now.raw.at_s - before.raw.at_s)
        self.sampled = now

    def between(self, first: _Mark, last: _Mark, seconds: float) -> EnergyReading:
        """What this counter says about a window of `seconds`."""
        info, joules = self.info, _joules(first, last)
        flags = [SHORT_WINDOW] if seconds < info.min_window_s else []
        if joules is None:
            flags.append(RESET if first.raw and last.raw else READ_FAILED)
        low = high = None
        if joules is not None and info.interval is not None:
            low, high = joules * (1 - info.interval), joules * (1 + info.interval)
        return EnergyReading(info.id, info.component, info.scope, info.quality, joules, low, high, tuple(flags))


def _joules(first: _Mark, last: _Mark) -> float | None:
    if first.raw is None or last.raw is None or first.resets != last.resets:
        return None
    return last.raw.joules - first.raw.joules


class Meter:
    """Counts joules per phase. Everything outside a phase is idle. Safe to use from several threads."""

    def __init__(
        self,
        counters: Sequence[EnergyCounter],
        clock: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self._clock = clock
        self._wall_clock = wall_clock
        self._lock = threading.Lock()
        self._phase = Phase.IDLE
        self._seconds: dict[Phase, float] = {Phase.IDLE: 0.0}
        self._last_s = clock()
        self._tallies = [_Tally(counter) for counter in counters]

    @property
    def sources(self) -> tuple[SourceInfo, ...]:
        """What the counters are."""
        return tuple(tally.info for tally in self._tallies)

    @contextmanager
    def phase(self, phase: Phase, done: Callable[[Window], None]) -> Iterator[None]:
        """Everything inside belongs to `phase`; `done` gets the window, however the inside ends."""
        with self._lock:
            if self._phase is not Phase.IDLE:
                raise MeterBusy(f"phase {phase} begins while {self._phase} is open")
            first = self._accrue()
            self._phase = phase
            began_s, began_at_s = self._last_s, self._wall_clock()
        try:
            yield
        finally:
            with self._lock:
                last = self._accrue()
                self._phase = Phase.IDLE
                seconds = self._last_s - began_s
                edges = zip(self._tallies, first, last, strict=True)
                readings = tuple(tally.between(a, b, seconds) for tally, a, b in edges)
            done(Window(phase, began_at_s, seconds, readings))

    def _accrue(self) -> list[_Mark]:
        now = self._clock()
        self._seconds[self._phase] = self._seconds.get(self._phase, 0.0) + now - self._last_s
        self._last_s = now
        return [tally.accrue(self._phase) for tally in self._tallies]

    def sample(self) -> None:
        """Takes mean power from the sample before until now."""
        with self._lock:
            self._accrue()
            for tally in self._tallies:
                tally.sample()

    def power(self) -> tuple[Power, ...]:
        """The power that the last sample found; a counter that could not say is absent."""
        with self._lock:
            return tuple(
                Power(tally.watts, tally.info.id, tally.info.component, tally.info.quality)
                for tally in self._tallies
                if tally.watts is not None
            )

    def totals(self) -> tuple[PhaseTotal, ...]:
        """Seconds and joules of every phase since the meter was made, one row per phase and counter."""
        with self._lock:
            self._accrue()
            return tuple(
                PhaseTotal(
                    phase,
                    seconds,
                    tally.info.component,
                    tally.info.quality,
                    tally.joules.get(phase),
                    tally.info.id,
                )
                for phase, seconds in self._seconds.items()
                for tally in self._tallies
            )

    def up(self) -> dict[str, bool]:
        """By source: whether its last reading succeeded."""
        with self._lock:
            return {tally.info.id: tally.last.raw is not None for tally in self._tallies}

    def read_errors(self) -> dict[tuple[str, str], int]:
        """By (source, reason): how many readings failed."""
        with self._lock:
            return {
                (tally.info.id, reason): count for tally in self._tallies for reason, count in tally.errors.items()
            }
