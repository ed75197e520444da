"""The single writer: append first, then tell; start what is due, also after a crash.

Events that arrive together are written in one transaction, in a thread: the disk never holds the
loop up. An effect runs while it is due: it is started once when it becomes due and cancelled when it no
longer is, and what it finds out comes back as events.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import replace

from coordinator.clock import SteadyClock
from coordinator.disk import in_trouble
from coordinator.events import CoordinatorStarted, Event, RoundFailed, RunEnded, TimePassed, run_of
from coordinator.generation.book import Book
from coordinator.machine import State, apply, fold, todo
from coordinator.machine.folding import Folding
from coordinator.machine.todo import Aggregate, Effect, Evaluate, Initialise, Plan, Record, Wake
from coordinator.store import Store
from coordinator.totals import Totals
from coordinator.tracing import Tracer
from fleet import logs
from fleet.domain import LoggedEvent
from fleet.errors import StorageFull, WattbedError

log = logging.getLogger(__name__)

Execute = Callable[[Effect], Awaitable[Sequence[Event]]]
Watcher = Callable[[LoggedEvent], None]


STORAGE_RETRY_S = 1.0
"""How often what the disk did not take is offered to it again."""
KEPT_EVENTS = 100_000
"""Events that wait for a disk that takes nothing; what comes after them is dropped."""


class Loop:
    """State, log and effects of one coordinator. Everything here runs on one event loop."""

    def __init__(
        self,
        store: Store,
        execute: Execute,
        version: str,
        clock: SteadyClock | None = None,
        tracer: Tracer | None = None,
    ) -> None:
        """`execute(effect)` carries one effect out and gives the events it led to."""
        self._tracer = tracer
        self._store = store
        self._execute = execute
        self._clock = clock or SteadyClock()
        self._stopping = asyncio.Event()
        self.refused_s: float | None = None
        self._inbox: list[tuple[tuple[Event, ...], asyncio.Future[None] | None]] = []
        self._writing: asyncio.Task[None] | None = None
        self._started: dict[Effect, asyncio.Task[None]] = {}
        self._watchers: dict[str, set[Watcher]] = {}
        self.state = State()
        self.totals = Totals(store.ended())
        self.book = Book()
        folding = Folding()
        for event in store.events():
            folding.add(event)
            self.totals.count(event)
            self.book.count(event, folding.last.generations)
            if tracer is not None:
                tracer.remember(event)
        self.state = folding.state()
        self._clock.not_before(self.state.now_s)
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
        """Like submit, for who has nobody to tell: what cannot be is logged and left.

        What the disk does not take now is offered to it again.
        """
        self._enqueue(events, None)

    def watch(self, run: str, watcher: Watcher) -> Callable[[], None]:
        """Calls `watcher` with each further event of `run`, until the returned function is called."""
        watchers = self._watchers.setdefault(run, set())
        watchers.add(watcher)

        def end() -> None:
            watchers.discard(watcher)
            if not watchers and self._watchers.get(run) is watchers:
                del self._watchers[run]

        return end

    @property
    def waiting(self) -> int:
        """How many submissions wait to be written."""
        return len(self._inbox)

    def begin_nothing(self) -> None:
        """From now on events are taken, and nothing that becomes due is started."""
        self._stopping.set()

    async def stop(self) -> None:
        """Ends all effects, and writes what was said until now. What was due is due again at the next start."""
        self.begin_nothing()
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
                if not await self._write_batch():
                    await self._wait_for_the_disk()
        finally:
            self._writing = None

    async def _wait_for_the_disk(self) -> None:
        if self._stopping.is_set():
            log.error("%d events were never written", len(self._inbox))
            self._inbox = []
        with suppress(TimeoutError):
            async with asyncio.timeout(STORAGE_RETRY_S):
                await self._stopping.wait()

    async def _write_batch(self) -> bool:
        """False: the disk took nothing, and what nobody waits for is in the inbox again."""
        inbox, self._inbox = self._inbox, []
        state, accepted = self.state, list[Event]()
        done: list[tuple[asyncio.Future[None] | None, Exception | None]] = []
        for submitted, future in inbox:
            events = _not_before(state.now_s, submitted)
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
        except StorageFull as error:  # nothing was written: who asked is told, and nothing has changed
            if self.refused_s is None:
                log.error("nothing is decided until the disk takes it: %s", error)
            self.refused_s = self.refused_s or self.now_s()
            for (_, future), (_, problem) in zip(inbox, done, strict=True):
                if future is not None:
                    _tell(future, problem or error)
            kept = [
                entry for entry, (_, problem) in zip(inbox, done, strict=True) if entry[1] is None and not problem
            ]
            self._inbox = [*kept[:KEPT_EVENTS], *self._inbox]
            return False
        except Exception as error:
            log.exception("the log refused %d events", len(accepted))
            done = [(future, problem or error) for future, problem in done]
            logged, accepted = [], []
        else:
            self.refused_s = None
        for event in accepted:
            self._advance(event)
        for future, problem in done:
            _tell(future, problem)
        self._publish(accepted, logged)
        self._start_what_is_due()
        return True

    def _advance(self, event: Event) -> None:
        self.state = apply(self.state, event)
        self.totals.count(event)
        self.book.count(event, self.state.generations)

    def _publish(self, events: Sequence[Event], logged: Sequence[LoggedEvent]) -> None:
        for event, line in zip(events, logged, strict=True):
            for watcher in tuple(self._watchers.get(run_of(event) or "", ())):
                watcher(line)
            if self._tracer is not None:
                self._tracer.tell(event)

    def _start_what_is_due(self) -> None:
        due = dict.fromkeys(todo(self.state))
        if not any(isinstance(effect, Wake) for effect in due):
            self._clock.follow(self.state.now_s)
        for effect in [e for e in self._started if e not in due]:
            self._started.pop(effect).cancel()
        for effect in due:
            if effect not in self._started and not self._stopping.is_set():
                self._started[effect] = asyncio.get_running_loop().create_task(self._carry_out(effect))

    async def _carry_out(self, effect: Effect) -> None:
        about = {name: getattr(effect, name, None) for name in ("run", "round", "device")}
        with logs.fields(**about):
            await self._carried_out(effect)

    async def _carried_out(self, effect: Effect) -> None:
        try:
            if isinstance(effect, Wake):
                await asyncio.sleep(max(0.0, effect.at_s - self._clock()))
                self.post(TimePassed(max(self.now_s(), effect.at_s)))
            else:
                self.post(*await self._executed(effect))
        except Exception as error:
            log.exception("%s failed", effect)
            self.post(*self._failure(effect, error))

    async def _executed(self, effect: Effect) -> Sequence[Event]:
        """What `effect` led to. One that the disk stands in the way of is repeated until it does not."""
        said = False
        while True:
            try:
                return await self._execute(effect)
            except (StorageFull, OSError) as error:
                if not (isinstance(error, StorageFull) or in_trouble(error)):
                    raise
                if not said:
                    log.error("%s waits for the disk: %s", type(effect).__name__, error)
                said = True
                await asyncio.sleep(STORAGE_RETRY_S)

    def _failure(self, effect: Effect, error: Exception) -> tuple[Event, ...]:
        reason = str(error) if isinstance(error, WattbedError) else f"{type(error).__name__}: {error}"
        match effect:
            case Plan():
                return (RoundFailed(self.now_s(), effect.run, effect.round, f"planning: {reason}"),)
            case Initialise() | Aggregate() | Evaluate():
                what = type(effect).__name__.lower()
                return (RunEnded(self.now_s(), effect.run, "failed", f"{what}: {reason}"),)
        return ()


def _not_before(at_s: float, events: tuple[Event, ...]) -> tuple[Event, ...]:
    """`events` at `at_s` or later and in order: one that was overtaken on its way here happens when it comes."""
    ordered: list[Event] = []
    for event in events:
        at_s = max(at_s, event.at_s)
        ordered.append(event if event.at_s == at_s else replace(event, at_s=at_s))
    return tuple(ordered)


def _tell(future: asyncio.Future[None] | None, problem: Exception | None) -> None:
    if future is None:
        if problem is not None:
            log.warning("dropped: %s: %s", type(problem).__name__, problem)
    elif not future.done():
        if problem is None:
            future.set_result(None)
        else:
            future.set_exception(problem)
