"""The streams that are open now, and what came over them that is not worth an event. Gone with the process."""

import asyncio
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from fleet.calibration import CalibrationProgress
from fleet.domain import CoordinatorMessage, Heartbeat, Progress

AGENT_LEFT = "the agent ended the stream"
"""Why a stream ended that its agent closed, as one does that is stopped: it is away, and not missing."""
HEARTBEAT_INTERVAL_S = 2.0
SKEWS = 16
"""Heartbeats that the skew of a device's clock is taken from."""

SILENCE_S = 4.5
"""A device that was silent for so long is detached: two heartbeats and a little."""
LOOK_EVERY_S = 0.25
ABSENT_S = 1.0


@dataclass(eq=False)
class Session:
    """One stream of one device. `ended` is why it must end, once it must."""

    name: str
    device: str
    outgoing: asyncio.Queue[CoordinatorMessage | None] = field(default_factory=asyncio.Queue)
    heard_s: float = field(default_factory=time.monotonic)
    heartbeat: Heartbeat | None = None
    progress: Progress | None = None
    ended: str | None = None
    skews_s: deque[float] = field(default_factory=lambda: deque(maxlen=SKEWS))
    unread_messages: int = 2000

    def send(self, message: CoordinatorMessage) -> None:
        """Queues a message for the device. The stream of one that reads none of `unread_messages` ends."""
        if self.outgoing.qsize() < self.unread_messages:
            self.outgoing.put_nowait(message)
        elif self.ended is None:
            self.end(f"{self.unread_messages} messages wait to be read")

    def beat(self, heartbeat: Heartbeat, now_s: float) -> None:
        """A heartbeat came, at `now_s` on the coordinator's clock."""
        self.heartbeat = heartbeat
        self.skews_s.append(heartbeat.agent_time_s - now_s)

    @property
    def clock_skew_s(self) -> float | None:
        """The device's clock minus the coordinator's, by the heartbeat that was under way for least."""
        return max(self.skews_s, default=None)

    def end(self, reason: str) -> None:
        """Has the stream end; the first reason counts."""
        self.ended = self.ended or reason
        self.outgoing.put_nowait(None)


class Sessions:
    """The newest stream of each device."""

    def __init__(self, on_progress: Callable[[str, Progress], None]) -> None:
        self._by_device: dict[str, Session] = {}
        self._on_progress = on_progress
        self._watching: dict[str, set[Callable[[CalibrationProgress], None]]] = {}

    def open(self, session: Session) -> None:
        """Makes `session` the one of its device; the device's older stream ends."""
        if older := self._by_device.get(session.device):
            older.end("the device opened a newer stream")
        self._by_device[session.device] = session

    def close(self, session: Session) -> None:
        """Forgets `session`, if it is still the one of its device."""
        if self._by_device.get(session.device) is session:
            del self._by_device[session.device]

    def find(self, device: str, name: str | None = None) -> Session | None:
        """The device's session, if there is one (and it is the one called `name`)."""
        session = self._by_device.get(device)
        return session if session and name in (None, session.name) else None

    def end_all(self, reason: str) -> None:
        """Has every stream end."""
        for session in list(self._by_device.values()):
            session.end(reason)

    def progressed(self, session: Session, progress: Progress) -> None:
        """Keeps the latest progress and passes it on."""
        session.progress = progress
        self._on_progress(session.device, progress)

    def watch_calibration(self, name: str, watcher: Callable[[CalibrationProgress], None]) -> Callable[[], None]:
        """Calls `watcher` with the progress of a calibration, until the returned function is called."""
        self._watching.setdefault(name, set()).add(watcher)

        def end() -> None:
            self._watching[name].discard(watcher)
            if not self._watching[name]:
                del self._watching[name]

        return end

    def calibrated_further(self, progress: CalibrationProgress) -> None:
        """Passes it on."""
        for watcher in tuple(self._watching.get(progress.calibration, ())):
            watcher(progress)

    async def end_the_silent(self) -> None:
        """Never returns: ends each stream that has been silent for SILENCE_S."""
        while True:
            began_s = time.monotonic()
            await asyncio.sleep(LOOK_EVERY_S)
            absent_s = time.monotonic() - began_s - LOOK_EVERY_S
            if absent_s > ABSENT_S:  # it was us who heard nobody: suspended, or busy
                for session in self._by_device.values():
                    session.heard_s += absent_s
            oldest = time.monotonic() - SILENCE_S
            for session in list(self._by_device.values()):
                if session.heard_s < oldest and session.ended is None:
                    session.end(f"silent for {SILENCE_S} s")
