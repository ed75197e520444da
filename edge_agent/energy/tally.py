"""What came of one source: joules in all, joules of a window, and everything that went wrong."""

from dataclasses import dataclass
from typing import assert_never

from edge_agent.energy.counter import Delta, Failed, First, Gap, Reset, SourceInfo, Tracker
from fleet.domain import EnergyReading

READ_FAILED = "read_failed"
RESET = "reset"
GAP = "gap"
STALE = "stale"
SHORT_WINDOW = "short_window"


@dataclass(frozen=True)
class Slice:
    """What one source gave since its reading before. `joules` None: nobody can say, for `flag`.

    `anchored`: the next step can be subtracted from this one.
    """

    joules: float | None
    flag: str | None = None
    anchored: bool = True


@dataclass(frozen=True)
class SourceState:
    """One source as it stands: joules since the start (None before two readings), and its troubles.

    `age_s` is how old its last good reading is; `watts` its mean power between the last two samples.
    """

    info: SourceInfo
    joules: float | None
    up: bool
    age_s: float | None
    watts: float | None
    errors: tuple[tuple[str, int], ...] = ()
    wraps: int = 0
    resets: int = 0
    gap_s: float = 0.0


class Tally:
    """One source and what it gave so far. The joules shown never fall: a sensor's offset may be negative."""

    def __init__(self, tracker: Tracker, now_s: float) -> None:
        self._tracker = tracker
        self.info = tracker.info
        self._joules: float | None = None
        self._highest: float | None = None
        self._errors: dict[str, int] = {}
        self._wraps = self._resets = 0
        self._gap_s = 0.0
        self._up = False
        self._good_at_s: float | None = None
        self._power_joules: float | None = 0.0
        self._power_at_s = now_s
        self._watts: float | None = None
        self.advance(now_s)
        self._power_joules = 0.0 if self._up else None

    def advance(self, now_s: float) -> Slice:
        """Reads the source."""
        step = self._tracker.advance()
        self._up = not isinstance(step, Failed)
        if self._up:
            self._good_at_s = now_s
        if not isinstance(step, Delta):
            self._power_joules = None
        match step:
            case Delta(joules=joules, wrapped=wrapped):
                self._wraps += wrapped
                self._joules = (self._joules or 0.0) + joules
                self._highest = max(self._joules, self._highest or 0.0)
                if self._power_joules is not None:
                    self._power_joules += joules
                return Slice(joules)
            case First():
                return Slice(None, READ_FAILED)
            case Reset():
                self._resets += 1
                return Slice(None, RESET)
            case Gap(seconds=seconds):
                self._gap_s += seconds
                return Slice(None, GAP)
            case Failed(reason=reason):
                self._errors[reason] = self._errors.get(reason, 0) + 1
                return Slice(None, STALE if reason == STALE else READ_FAILED, anchored=False)
            case _:
                assert_never(step)

    def sample(self, now_s: float) -> None:
        """Mean power from the sample before until the last reading; None if not all of it is known."""
        elapsed_s = now_s - self._power_at_s
        self._watts = None
        if self._power_joules is not None and elapsed_s > 0:
            self._watts = self._power_joules / elapsed_s
        self._power_joules = 0.0 if self._up else None
        self._power_at_s = now_s

    def state(self, now_s: float) -> SourceState:
        """How the source stands."""
        return SourceState(
            self.info,
            self._highest,
            self._up,
            None if self._good_at_s is None else now_s - self._good_at_s,
            self._watts,
            tuple(sorted(self._errors.items())),
            self._wraps,
            self._resets,
            self._gap_s,
        )


class WindowSum:
    """The joules of one source in one window; None as soon as any part of the window is not known."""

    def __init__(self, info: SourceInfo, edge: Slice) -> None:
        self._info = info
        self._joules = 0.0
        self._flags: set[str] = set() if edge.anchored else {edge.flag or READ_FAILED}

    def add(self, part: Slice, joules: float | None) -> None:
        """`part` is what the source gave; `joules` how much of it is this window's."""
        if part.joules is None or joules is None:
            self._flags.add(part.flag or READ_FAILED)
        else:
            self._joules += joules

    def reading(
        self, seconds: float, info: SourceInfo | None = None, flags: tuple[str, ...] = ()
    ) -> EnergyReading:
        """What the source says about the window of `seconds`; under the name of `info` where it is given."""
        info = info or self._info
        joules = None if self._flags else self._joules
        short = (SHORT_WINDOW,) if seconds < info.min_window_s else ()
        low = high = None
        if joules is not None and info.interval is not None:
            low, high = joules * (1 - info.interval), joules * (1 + info.interval)
        found = (*short, *sorted(self._flags), *flags)
        return EnergyReading(info.id, info.component, info.scope, info.quality, joules, low, high, found)
