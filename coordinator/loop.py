"""The single writer: append first, then tell; start what is due, also after a crash.

Events that arrive together are written in one transaction, in a thread: the disk never holds the
loop up. An effect runs while it is due: it is started once when it becomes due and cancelled when it no
longer is, and what it finds out comes back as events.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Sequence

from coordinator.events import CoordinatorStarted, Event, RoundFailed, RunEnded, TimePassed, from_json, run_of
from coordinator.machine import State, apply, fold, todo
from coordinator.machine.todo import Aggregate, Effect, Evaluate, Initialise, Plan, Record, Wake
from coordinator.store import Store
from coordinator.totals import Totals
from fleet.domain import LoggedEvent
from fleet.errors import WattbedError

log = logging.getLogger(__name__)

Execute = Callable[[Effect], Awaitable[Sequence[Event]]]
Watcher = Callable[[LoggedEvent], None]


class Loop:
    """State, log and effects of one coordinator. Everything here runs on one event loop."""

    def __init__(
        self, store: Store, execute: Execute, version: str, clock: Callable[[], float] = time.time
    ) -> None:
        """`execute(effect)` carries one effect out and gives the events it led to."""
        self._store = store
        self._execute = execute
        self._clock = clock
        self._inbox: list[tuple[tuple[Event, ...], asyncio.Future[None] | None]] = []
        self._writing: asyncio.Task[None] | None = None
        self._started: dict[Effect, asyncio.Task[None]] = {}
        self._watchers: dict[str, set[Watcher]] = {}
        self.state = State()
        self.totals = Totals()
        for logged in store.read():
            self._advance(from_json(logged.kind, logged.json))
        self.post(CoordinatorStarted(self.now_s(), version))

    def now_s(self) -> float:
        """The time on the coordinator's clock, never before the latest event's."""
        return max(self._clock(), self.state.now_s)

    async def submit(self, *events: Event) -> None:
        """Returns when `events` are durable; raises, with nothing changed, when one cannot be."""
        future = asyncio.get_running_loop().create_future()
        self._enqueue(events, future)
        await future

    def post(self, *events: Event) -> None:
        """Like submit, for who has nobody to tell: what cannot be is logged and left."""
        self._enqueue(events, None)

    def watch(self, run: str, watcher: Watcher) -> Callable[[], None]:
        """Calls `watcher` with each further event of `run`, until the returned function is called."""
        self._watchers.setdefault(run, set()).add(watcher)
        return lambda: self._watchers[run].discard(watcher)

    async def stop(self) -> None:
        """Ends all effects, and writes what was said until now. What was due is due again at the next start."""
        tasks = list(self._started.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        while self._writing is not None:
            await self._writing

    def _enqueue(self, events: tuple[Event, ...], future: asyncio.Future[None] | None) -> None:
        self._inbox.append((events, future))
        if self._writing is None:
            self._writing = asyncio.create_task(self._write_all())

    async def _write_all(self) -> None:
        """Writes until the inbox is empty. One at a time; what comes meanwhile shares the next transaction."""
        try:
            while self._inbox:
                await asyncio.sleep(0)  # what happens at once is written at once
                await self._write_batch()
        finally:
            self._writing = None

    async def _write_batch(self) -> None:
        inbox, self._inbox = self._inbox, []
        state, accepted = self.state, list[Event]()
        done: list[tuple[asyncio.Future[None] | None, Exception | None]] = []
        for events, future in inbox:
            try:
                after = fold(events, state)
            except Exception as error:  # one that cannot be must not hold the others up
                done.append((future, error))
            else:
                state, accepted = after, [*accepted, *events]
                done.append((future, None))
        try:
            while decided := [e.event for e in todo(state) if isinstance(e, Record)][:1]:
                state = fold(decided, state)
                accepted.extend(decided)
            logged = await asyncio.to_thread(self._store.append, accepted) if accepted else []
        except Exception as error:  # nothing was written: who asked is told, and nothing has changed
            log.exception("the log refused %d events", len(accepted))
            done = [(future, problem or error) for future, problem in done]
            logged, accepted = [], []
        for event in accepted:
            self._advance(event)
        for future, problem in done:
            _tell(future, problem)
        self._publish(accepted, logged)
        self._start_what_is_due()

    def _advance(self, event: Event) -> None:
        self.state = apply(self.state, event)
        self.totals.count(event)

    def _publish(self, events: Sequence[Event], logged: Sequence[LoggedEvent]) -> None:
        for event, line in zip(events, logged, strict=True):
            for watcher in tuple(self._watchers.get(run_of(event) or "", ())):
                watcher(line)

    def _start_what_is_due(self) -> None:
        due = dict.fromkeys(todo(self.state))
        for effect in [e for e in self._started if e not in due]:
            self._started.pop(effect).cancel()
        for effect in due:
            if effect not in self._started:
                self._started[effect] = asyncio.get_running_loop().create_task(self._carry_out(effect))

    async def _carry_out(self, effect: Effect) -> None:
        try:
            if isinstance(effect, Wake):
                await asyncio.sleep(max(0.0, effect.at_s - self._clock()))
                self.post(TimePassed(max(self.now_s(), effect.at_s)))
            else:
                self.post(*await self._execute(effect))
        except Exception as error:
            log.exception("%s failed", effect)
            self.post(*self._failure(effect, error))

    def _failure(self, effect: Effect, error: Exception) -> tuple[Event, ...]:
        reason = str(error) if isinstance(error, WattbedError) else f"{type(error).__name__}: {error}"
        match effect:
            case Plan():
                return (RoundFailed(self.now_s(), effect.run, effect.round, f"planning: {reason}"),)
            case Initialise() | Aggregate() | Evaluate():
                what = type(effect).__name__.lower()
                return (RunEnded(self.now_s(), effect.run, "failed", f"{what}: {reason}"),)
        return ()


def _tell(future: asyncio.Future[None] | None, problem: Exception | None) -> None:
    if future is None:
        if problem is not None:
            log.warning("dropped: %s: %s", type(problem).__name__, problem)
    elif not future.done():
        if problem is None:
            future.set_result(None)
        else:
            future.set_exception(problem)
