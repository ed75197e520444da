"""The meter of an agent whose host has a meter of its own: phases are marked there, shares come back."""

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from edge_agent.energy import cpu_usage
from edge_agent.energy.counter import RAIL, Rejected, SourceInfo
from edge_agent.energy.edges import wait_for_gpu
from edge_agent.energy.meter import Meter, MeterBusy, Window
from edge_agent.energy.tally import SourceState
from edge_agent.meterd import messages
from edge_agent.meterd.host import share_info
from edge_agent.meterd.link import Link, MeterLost
from fleet.domain import EnergyReading, Phase, PhaseTotal, Power

log = logging.getLogger(__name__)

METER_LOST = "meter_lost"
TIMEOUT_S = 0.5
"""The meter answers in a fraction of a millisecond; training is never held up for longer than this."""

RETRY_S = 1.0
"""After a failure the meter is left alone for so long."""

FRESH_S = 0.5
"""What the meter said is good for so long: totals, states and power of one scrape are one question."""


@dataclass(frozen=True)
class _Sample:
    """This agent's joules of one source, and what its troubles so far amount to."""

    at_s: float
    joules: float
    trouble: object

    def follows(self, before: "_Sample") -> bool:
        """Whether all joules since `before` are known."""
        return self.trouble == before.trouble and self.at_s > before.at_s


class RemoteMeter:
    """Asks the meter of this host, and runs `local` (the model, or nothing) beside it under its own name.

    While the host's meter is lost its sources read None with the flag meter_lost, and every call tries to
    reach it again. `wait_s` is how long the first attempt may take: what is there then decides what
    `sources` says until the next connection.
    """

    def __init__(
        self,
        path: Path,
        agent: str,
        gpus: tuple[str, ...],
        local: Callable[[tuple[SourceInfo, ...]], Meter],
        wait_s: float = 3.0,
        open_usage: Callable[[], int] = cpu_usage.open_own,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self._agent = agent
        self._gpus = gpus
        self._open_usage = open_usage
        self._wall_clock = wall_clock
        self._phase = Phase.IDLE
        self._link = Link(path, self._introduce, TIMEOUT_S)
        self._lost: str | None = None
        self._joined: messages.Joined | None = None
        self._standing: messages.Standing | None = None
        self._asked_s = self._retry_at_s = float("-inf")
        self._lock = threading.Lock()
        self._sampled: dict[str, _Sample] = {}
        self._power: tuple[Power, ...] = ()
        self._reach(wait_s)
        self._local = local(self._host_sources())

    @property
    def sources(self) -> tuple[SourceInfo, ...]:
        """Shares of the host's sources, and the model where it is used."""
        return (*self._shares(), *self._local.sources)

    @property
    def rejected(self) -> tuple[Rejected, ...]:
        """What the host's meter cannot read, and that meter itself while it is lost."""
        found = self._joined.rejected if self._joined else ()
        lost = () if self._lost is None else (Rejected("meter", self._lost, "python -m edge_agent.meterd"),)
        return (*lost, *found, *self._local.rejected)

    @contextmanager
    def phase(self, phase: Phase, done: Callable[[Window], None]) -> Iterator[None]:
        """Everything inside belongs to `phase`; `done` gets the window, however the inside ends."""
        if self._phase is not Phase.IDLE:
            raise MeterBusy(f"phase {phase} begins while {self._phase} is open")
        wait_for_gpu()
        windows: list[Window] = []
        generation = self._begin(phase)
        began_s, began_at_s = time.monotonic(), self._wall_clock()
        try:
            with self._local.phase(phase, windows.append):
                yield
        finally:
            readings = self._end(generation)
            seconds = time.monotonic() - began_s
            done(Window(phase, began_at_s, seconds, (*readings, *windows[0].readings)))

    def _begin(self, phase: Phase) -> int | None:
        try:
            self._ask(messages.Begin(phase))
            return self._link.generation
        except MeterLost:
            return None
        finally:
            self._phase = phase

    def _end(self, generation: int | None) -> tuple[EnergyReading, ...]:
        self._phase = Phase.IDLE
        try:
            if generation is not None and generation == self._link.generation:
                ended = self._ask(messages.End())
                if generation == self._link.generation and isinstance(ended, messages.Ended):
                    return ended.readings
        except MeterLost:
            pass
        self._link.close()  # what it may still hold open for this agent ends with the connection
        return tuple(
            EnergyReading(info.id, info.component, info.scope, info.quality, None, flags=(METER_LOST,))
            for info in self._shares()
        )

    def sample(self) -> None:
        """Takes mean power from the sample before until now."""
        self._local.sample()
        standing, now_s = self._stand(fresh=True), time.monotonic()
        found: dict[str, _Sample] = {}
        for state in standing.states if standing else ():
            parts = [t.joules or 0.0 for t in standing.totals if t.source == state.info.id] if standing else []
            trouble = state.errors, state.resets, state.gap_s, self._link.generation
            found[state.info.id] = _Sample(now_s, sum(parts), trouble)
        before, self._sampled = self._sampled, found
        self._power = tuple(
            Power((now.joules - then.joules) / (now.at_s - then.at_s), info.id, info.component, info.quality)
            for info in self._shares()
            if (now := found.get(info.id)) and (then := before.get(info.id)) and now.follows(then)
        )

    def power(self) -> tuple[Power, ...]:
        """This agent's share of the host's power as of the last sample, and the model's."""
        return (*self._power, *self._local.power())

    def totals(self) -> tuple[PhaseTotal, ...]:
        """Seconds and joules by phase and source since the host's meter started; the model's since this agent did.

        Where the host's meter serves metrics, the joules of its sources are left to it and are None here.
        """
        standing = self._stand()
        leave = self._joined is not None and self._joined.serves_metrics
        shares = tuple(replace(t, joules=None) if leave else t for t in (standing.totals if standing else ()))
        return (*shares, *self._local.totals())

    def states(self) -> tuple[SourceState, ...]:
        """The model: the host's sources are the host meter's to show."""
        return self._local.states()

    def up(self) -> dict[str, bool]:
        """By source: whether its last reading succeeded; none of the host's does while its meter is lost."""
        standing = self._stand()
        up = {info.id: False for info in self._shares()}
        up |= {s.info.id: s.up for s in (standing.states if standing else ()) if s.info.component != RAIL}
        return up | self._local.up()

    def read_errors(self) -> dict[tuple[str, str], int]:
        """By (source, reason): how many readings failed, as the host's meter counts."""
        standing = self._stand()
        found = {(s.info.id, reason): n for s in (standing.states if standing else ()) for reason, n in s.errors}
        return found | self._local.read_errors()

    def cpu_seconds(self) -> float:
        """CPU time that this process spends on sampling."""
        return self._local.cpu_seconds()

    def close(self) -> None:
        """Ends the connection."""
        self._link.close()
        self._local.close()

    def _host_sources(self) -> tuple[SourceInfo, ...]:
        return self._joined.sources if self._joined else ()

    def _shares(self) -> tuple[SourceInfo, ...]:
        return tuple(share_info(info) for info in self._host_sources() if info.component != RAIL)

    def _introduce(self) -> tuple[messages.Hello, list[int]]:
        return messages.Hello(self._agent, self._gpus, self._phase), [self._open_usage()]

    def _reach(self, wait_s: float) -> None:
        until_s = time.monotonic() + wait_s
        while True:
            self._retry_at_s = float("-inf")
            try:
                self._ask(messages.Status())
                return
            except MeterLost:
                if time.monotonic() >= until_s:
                    return
                time.sleep(0.1)

    def _stand(self, fresh: bool = False) -> messages.Standing | None:
        with self._lock:
            if fresh or time.monotonic() - self._asked_s > FRESH_S:
                try:
                    answer = self._ask(messages.Status())
                    self._standing = answer if isinstance(answer, messages.Standing) else None
                except MeterLost:
                    self._standing = None
                self._asked_s = time.monotonic()
            return self._standing

    def _ask(self, message: object) -> object:
        if time.monotonic() < self._retry_at_s:
            raise MeterLost(self._lost or "")
        try:
            joined = self._link.connect()
            if isinstance(joined, messages.Joined):
                self._joined = joined
            answer: object = self._link.ask(message)
        except MeterLost as error:
            if self._lost is None:
                log.warning("%s", error)
            self._lost = str(error)
            self._retry_at_s = time.monotonic() + RETRY_S
            raise
        if self._lost is not None:
            log.info("the meter of this host is back")
        self._lost = None
        return answer
