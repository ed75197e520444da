"""The meter of an agent whose host has a meter of its own: phases are marked there, shares come back.

Nobody waits at the edge of a phase. A mark is sent, the meter of the host reads its counters when the mark
arrives, and the joules are fetched later. So a window is shifted by the way of its marks, well under a millisecond
as a rule and a few where every processor is busy; the sums of the host are exact all the same.
"""

import logging
import threading
import time
from collections import deque
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
from edge_agent.meterd.link import Link, MeterLost, Question
from fleet.domain import EnergyReading, Phase, PhaseTotal, Power

log = logging.getLogger(__name__)

METER_LOST = "meter_lost"
TIMEOUT_S = 0.5
"""The meter answers in a millisecond; nobody is ever held up for longer than this."""

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


@dataclass(frozen=True)
class _Ended:
    """A window whose joules may be on their way: what is known of it, and the questions that its marks are.

    `window` has the readings of the model; `shares` are the sources of which the meter is to say something.
    """

    window: Window
    shares: tuple[SourceInfo, ...]
    begin: Question | None
    end: Question | None
    done: Callable[[Window], None]


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
        clock: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self._agent = agent
        self._gpus = gpus
        self._open_usage = open_usage
        self._clock = clock
        self._wall_clock = wall_clock
        self._phase = Phase.IDLE
        self._ended: deque[_Ended] = deque()
        self._handing_over = threading.RLock()
        self._link = Link(path, self._introduce, TIMEOUT_S)
        self._lost: str | None = None
        self._joined: messages.Joined | None = None
        self._shares: tuple[SourceInfo, ...] = ()
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
        return (*self._shares, *self._local.sources)

    @property
    def rejected(self) -> tuple[Rejected, ...]:
        """What the host's meter cannot read, and that meter itself while it is lost."""
        found = self._joined.rejected if self._joined else ()
        lost = () if self._lost is None else (Rejected("meter", self._lost, "python -m edge_agent.meterd"),)
        return (*lost, *found, *self._local.rejected)

    @contextmanager
    def phase(self, phase: Phase, done: Callable[[Window], None]) -> Iterator[None]:
        """Everything inside belongs to `phase`; `done` gets the window once its joules are here, `settle` at the
        latest. Waits only for a connection that has to be made, and for a meter that takes no more marks.
        """
        if self._phase is not Phase.IDLE:
            raise MeterBusy(f"phase {phase} begins while {self._phase} is open")
        wait_for_gpu()
        windows: list[Window] = []
        begin = self._mark(messages.Begin(phase))
        self._phase = phase
        began_s, began_at_s = self._clock(), self._wall_clock()
        try:
            with self._local.phase(phase, windows.append):
                self._hand_over()
                yield
        finally:
            self._phase = Phase.IDLE
            end = None if begin is None else self._mark(messages.End(), begin)
            window = Window(phase, began_at_s, self._clock() - began_s, windows[0].readings)
            self._ended.append(_Ended(window, self._shares, begin, end, done))
            if end is None:
                self._link.close()  # what the meter may hold open for this agent ends with the connection
                self._hand_over()

    def settle(self) -> None:
        """Returns when `done` has had every window that has ended. Waits TIMEOUT_S after the last mark at most."""
        with self._handing_over:
            while self._ended:
                self._hand_over_first()

    def _mark(self, message: object, after: Question | None = None) -> Question | None:
        try:
            return self._post(message, after)
        except MeterLost:
            return None

    def _hand_over(self) -> None:
        """Passes on the windows whose joules are here, in order."""
        with self._handing_over:
            while self._ended and ((end := self._ended[0].end) is None or self._link.arrived(end)):
                self._hand_over_first()

    def _hand_over_first(self) -> None:
        ended = self._ended.popleft()
        readings = self._readings(ended)
        if readings is None:
            readings = tuple(
                EnergyReading(info.id, info.component, info.scope, info.quality, None, flags=(METER_LOST,))
                for info in ended.shares
            )
        ended.done(replace(ended.window, readings=(*readings, *ended.window.readings)))

    def _readings(self, ended: _Ended) -> tuple[EnergyReading, ...] | None:
        """What the meter of the host says about a window; None when that is not to be had."""
        if ended.begin is None or ended.end is None:
            return None
        try:
            self._answer(ended.begin)
            answer = self._answer(ended.end)
            if not isinstance(answer, messages.Ended):
                raise MeterLost(f"the meter answered the end of a phase with {type(answer).__name__}")
        except MeterLost:
            ended.end.connection.close()  # what the meter may hold open for this agent ends with the connection
            return None
        if abs(answer.seconds - ended.window.seconds) > TIMEOUT_S:
            log.warning(
                "a mark came late: %s lasted %.3f s, for the meter %.3f s",
                ended.window.phase,
                ended.window.seconds,
                answer.seconds,
            )
            return None
        return answer.readings

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
            for info in self._shares
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
        up = {info.id: False for info in self._shares}
        up |= {s.info.id: s.up for s in (standing.states if standing else ()) if s.info.component != RAIL}
        return up | self._local.up()

    def read_errors(self) -> dict[tuple[str, str], int]:
        """By (source, reason): how many readings failed, as the host's meter counts."""
        standing = self._stand()
        found = {(s.info.id, reason): n for s in (standing.states if standing else ()) for reason, n in s.errors}
        return found | self._local.read_errors()

    def self_checks(self) -> dict[str, float]:
        """None here: the host's meter checks its own sources."""
        return self._local.self_checks()

    def cpu_seconds(self) -> float:
        """CPU time that this process spends on sampling."""
        return self._local.cpu_seconds()

    def close(self) -> None:
        """Settles, and ends the connection."""
        self.settle()
        self._link.close()
        self._local.close()

    def _host_sources(self) -> tuple[SourceInfo, ...]:
        return self._joined.sources if self._joined else ()

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
        return self._answer(self._post(message))

    def _post(self, message: object, after: Question | None = None) -> Question:
        if time.monotonic() < self._retry_at_s:
            raise MeterLost(self._lost or "")
        try:
            question = self._link.post(message, after)
        except MeterLost as error:
            self._lose(error, after)
            raise
        self._note(self._link.welcome)
        return question

    def _note(self, joined: object) -> None:
        if isinstance(joined, messages.Joined) and joined is not self._joined:
            self._joined = joined
            self._shares = tuple(share_info(info) for info in joined.sources if info.component != RAIL)

    def _answer(self, question: Question) -> object:
        try:
            answer: object = self._link.answer(question)
        except MeterLost as error:
            self._lose(error, question)
            raise
        if self._lost is not None and not question.connection.ended:
            log.info("the meter of this host is back")
            self._lost = None
        return answer

    def _lose(self, error: MeterLost, where: Question | None) -> None:
        if where is not None and not self._link.is_on(where):
            return  # the meter was found again since
        if self._lost is None:
            log.warning("%s", error)
        self._lost = str(error)
        self._retry_at_s = time.monotonic() + RETRY_S
