"""One direction of one connection: what one socket gives is written to the other when its line lets it go."""

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from edge_agent.link.line import Line


@dataclass
class Tally:
    """What has passed one direction, of one connection or of all of a kind."""

    payload_bytes: int = 0
    stalls: int = 0
    stall_s: float = 0.0

    def add(self, other: "Tally") -> None:
        """Counts what another has counted too."""
        self.payload_bytes += other.payload_bytes
        self.stalls += other.stalls
        self.stall_s += other.stall_s


@dataclass
class Flow:
    """One direction of one connection. `tally` counts what has left it; `at_end` is called when its end has.

    It holds no more than Line.room_bytes and one read of the source.
    """

    line: Line
    now: Callable[[], float]
    call_at: Callable[[float, Callable[[], None]], None]
    at_end: Callable[[], None]
    tally: Tally = field(default_factory=Tally)
    source: asyncio.Transport | None = None
    sink: asyncio.Transport | None = None
    ended: bool = False
    held_bytes: int = 0
    _held: "deque[tuple[float, memoryview | None]]" = field(default_factory=deque)
    _sink_full: bool = False
    _reading: bool = True
    _armed_s: float | None = None

    def feed(self, data: bytes) -> None:
        """Takes in what has arrived from the source."""
        now_s, view = self.now(), memoryview(data)
        size = self.line.piece_bytes(now_s)
        for start in range(0, len(view), size):
            piece = view[start : start + size]
            passage = self.line.enter(len(piece), now_s, behind_bytes=len(view) - start - len(piece))
            if passage.stall_s:
                self.tally.stalls += 1
                self.tally.stall_s += passage.stall_s
            self._held.append((passage.at_s, piece))
        self.held_bytes += len(view)
        if self._reading and self.held_bytes > self.line.room_bytes(now_s) and self.source is not None:
            self.source.pause_reading()
            self._reading = False
        self._arm()

    def feed_eof(self) -> None:
        """The source sends nothing more; that passes the line as well."""
        self._held.append((self.line.enter(0, self.now()).at_s, None))
        self._arm()

    def sink_full(self, full: bool) -> None:
        """The far end does not take more for now, or does again."""
        self._sink_full = full
        if not full:
            self._release()

    def drop(self) -> None:
        """Forgets what it holds; nothing is written any more."""
        self._held.clear()
        self.held_bytes = 0
        self.source = self.sink = None

    def _arm(self) -> None:
        if self._held and not self._sink_full:
            at_s = self._held[0][0]
            if self._armed_s is None or at_s < self._armed_s:
                self._armed_s = at_s
                self.call_at(at_s, self._wake)

    def _wake(self) -> None:
        self._armed_s = None
        self._release()

    def _release(self) -> None:
        now_s = self.now()
        while self._held and self._held[0][0] <= now_s and not self._sink_full and self.sink is not None:
            _, piece = self._held.popleft()
            if piece is None:
                self.ended = True
                self.sink.write_eof()
                self.at_end()
            else:
                self.held_bytes -= len(piece)
                self.tally.payload_bytes += len(piece)
                self.sink.write(piece)
        if not self._reading and self.source is not None and self.held_bytes <= self.line.room_bytes(now_s) // 2:
            self.source.resume_reading()
            self._reading = True
        self._arm()
