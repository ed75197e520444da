"""The relay: passes TCP connections on to the coordinator as slowly as the emulated links would.

Each kind of device has a port. A connection to it is two Flows; a Line says when each piece of them leaves at the
far end, and a timer writes it then. What a flow may hold is bounded: beyond that it stops reading, and TCP stops
the sender.
"""

import asyncio
import logging
import random
import socket
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import cast

from edge_agent.link.clock import Clock
from edge_agent.link.flow import Flow, Tally
from edge_agent.link.line import Line
from edge_agent.link.trace import Trace, parse
from fleet.errors import AddressInUse
from fleet.kinds import Link

log = logging.getLogger(__name__)

CONNECT_S = 5.0
SOCKET_BYTES = 1 << 18
"""Receive buffer of each socket: what the kernel takes from a sender while its flow is full."""

_RESET = struct.pack("ii", 1, 0)
"""struct linger that makes closing a reset."""


@dataclass(frozen=True)
class Port:
    """Connections to `host`:`port` get the link of `kind`, over time as `trace` says (edge_agent.link.trace)."""

    kind: str
    host: str
    port: int
    link: Link
    trace: str = "constant"


@dataclass
class KindTally:
    """What all connections of one kind have seen since the relay began."""

    up: Tally
    down: Tally
    connections: int = 0
    resets: int = 0
    unreachable: int = 0


class Side(asyncio.Protocol):
    """One end of a connection; `near` is the agent's."""

    def __init__(self, pair: "Pair", near: bool) -> None:
        self._pair = pair
        self._near = near

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Reads nothing before both ends are there."""
        transport = cast(asyncio.Transport, transport)
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SOCKET_BYTES)
        transport.pause_reading()
        if self._near:
            self._pair.accepted(transport)
        else:
            self._pair.connected(transport)

    def data_received(self, data: bytes) -> None:
        """Into the flow away from here."""
        self._pair.flow(self._near).feed(data)

    def eof_received(self) -> bool:
        """Into the flow as well; this end can still be written to."""
        self._pair.flow(self._near).feed_eof()
        return True

    def pause_writing(self) -> None:
        """This end's socket is full."""
        self._pair.flow(not self._near).sink_full(True)

    def resume_writing(self) -> None:
        """It takes more."""
        self._pair.flow(not self._near).sink_full(False)

    def connection_lost(self, exc: Exception | None) -> None:
        """This end is gone."""
        self._pair.lost(self._near, broken=exc is not None)


class Pair:
    """One connection through the relay: two ends and the flows between them."""

    def __init__(self, relay: "Relay", port: Port) -> None:
        self.port = port
        self.peer = "?"
        self.trace: Trace
        self.up: Flow
        self.down: Flow
        self._relay = relay
        self._ends: dict[bool, asyncio.Transport] = {}
        self._connecting: asyncio.Task[None] | None = None
        self._finishing = False
        self._ended = False

    def flow(self, from_near: bool) -> Flow:
        """The flow that begins at one end."""
        return self.up if from_near else self.down

    def accepted(self, transport: asyncio.Transport) -> None:
        """An agent has connected: connect to the coordinator for it."""
        self.peer = str(transport.get_extra_info("peername")[0])
        self.trace = self._relay.trace(self.port, self.peer)
        clock, number = self._relay.clock, self._relay.open(self)
        self.up, self.down = (
            Flow(
                Line(
                    self.trace,
                    way == "up",
                    random.Random(f"{self.port.kind}/{number}/{way}"),
                    self._relay.taken_s,
                ),
                clock.now,
                clock.call_at,
                self._finish,
            )
            for way in ("up", "down")
        )
        self._ends[True] = self.up.source = self.down.sink = transport
        self._connecting = asyncio.get_running_loop().create_task(self._connect())

    def connected(self, transport: asyncio.Transport) -> None:
        """Both ends are there."""
        self._ends[False] = self.down.source = self.up.sink = transport
        for end in self._ends.values():
            end.resume_reading()
        if self._relay.reset_every_s:
            after_s = random.expovariate(1 / self._relay.reset_every_s)
            self._relay.clock.call_at(self._relay.clock.now() + after_s, self._reset)

    def lost(self, near: bool, broken: bool) -> None:
        """One end gone is both gone, unless each has had all there was. What broke here breaks there."""
        self._ends.pop(near, None)
        if not (self._finishing and self._ends):
            self.end(reset=broken)

    def end(self, reset: bool = False) -> None:
        """Closes both ends; what the flows hold is lost, as on a link that is gone."""
        if self._ended:
            return
        self._ended = True
        if self._connecting is not None:
            self._connecting.cancel()
        for flow in (self.up, self.down):
            flow.drop()
        for end in self._ends.values():
            if reset:
                end.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            end.abort()
        self._relay.close(self)

    async def _connect(self) -> None:
        host, port = self._relay.upstream
        try:
            async with asyncio.timeout(CONNECT_S):
                await asyncio.get_running_loop().create_connection(lambda: Side(self, False), host, port)
        except (OSError, TimeoutError) as error:
            self._connecting = None
            self._relay.unreachable(self.port.kind, str(error) or f"no answer within {CONNECT_S:g} s")
            self.end(reset=True)
        else:
            self._connecting = None
            self._relay.reachable()

    def _finish(self) -> None:
        if self.up.ended and self.down.ended:
            self._finishing = True
            for end in list(self._ends.values()):
                end.close()

    def _reset(self) -> None:
        if not self._ended:
            self._relay.tallies[self.port.kind].resets += 1
            self.end(reset=True)


class Relay:
    """Listens on `ports`, passes on to `upstream`.

    `reset_every_s` is the mean time until a connection is reset; None: none is. `taken_s` is what the relay itself
    adds to a delay, and is taken off again. `quiet`: connections are not logged.
    """

    def __init__(
        self,
        upstream: tuple[str, int],
        ports: Sequence[Port],
        reset_every_s: float | None = None,
        taken_s: float = 0.0,
        quiet: bool = False,
    ) -> None:
        for port in ports:
            parse(port.trace, port.link, port.kind)
        self.upstream = upstream
        self.reset_every_s = reset_every_s
        self.taken_s = taken_s
        self._quiet = quiet
        self.tallies = {port.kind: KindTally(Tally(), Tally()) for port in ports}
        self.pairs: set[Pair] = set()
        self.clock: Clock
        self._ports = ports
        self._servers: list[asyncio.Server] = []
        self._traces: dict[tuple[str, str], Trace] = {}
        self._number = 0
        self._said = ""

    async def start(self) -> list[int]:
        """Listens from now on; the port numbers. AddressInUse when one is taken."""
        self.clock = Clock()
        loop = asyncio.get_running_loop()
        numbers = []
        try:
            for port in self._ports:
                listening = _listening(port)
                numbers.append(int(listening.getsockname()[1]))
                self._servers.append(await loop.create_server(partial(self._side, port), sock=listening))
        except AddressInUse:
            self.stop()
            raise
        return numbers

    def _side(self, port: Port) -> Side:
        return Side(Pair(self, port), near=True)

    def stop(self) -> None:
        """Takes no more connections and ends those there are."""
        for server in self._servers:
            server.close()
        for pair in list(self.pairs):
            pair.end()
        self.clock.close()

    def trace(self, port: Port, peer: str) -> Trace:
        """The trace of the links from `peer`: of one host always the same, of the next host another."""
        if (port.kind, peer) not in self._traces:
            number = sum(kind == port.kind for kind, _ in self._traces)
            self._traces[port.kind, peer] = parse(port.trace, port.link, f"{port.kind}/{number}")
        return self._traces[port.kind, peer]

    def open(self, pair: Pair) -> int:
        """Counts a connection in; its number."""
        self.pairs.add(pair)
        self.tallies[pair.port.kind].connections += 1
        self._number += 1
        return self._number

    def close(self, pair: Pair) -> None:
        """Counts a connection out, and says what it carried."""
        self.pairs.discard(pair)
        tally = self.tallies[pair.port.kind]
        tally.up.add(pair.up.tally)
        tally.down.add(pair.down.tally)
        log.log(
            logging.DEBUG if self._quiet else logging.INFO,
            "%s from %s ended: %d bytes up, %d down, stalled %.1f s in %d losses",
            pair.port.kind,
            pair.peer,
            pair.up.tally.payload_bytes,
            pair.down.tally.payload_bytes,
            pair.up.tally.stall_s + pair.down.tally.stall_s,
            pair.up.tally.stalls + pair.down.tally.stalls,
        )

    def unreachable(self, kind: str, why: str) -> None:
        """Counts an attempt in vain, and says so once until there is another reason or a success."""
        self.tallies[kind].unreachable += 1
        if why != self._said:
            log.warning("coordinator %s:%d cannot be reached: %s", *self.upstream, why)
        self._said = why

    def reachable(self) -> None:
        """The coordinator was reached."""
        self._said = ""


def _listening(port: Port) -> socket.socket:
    family = socket.AF_INET6 if ":" in port.host else socket.AF_INET
    try:
        return socket.create_server((port.host, port.port), family=family)
    except OSError as error:
        raise AddressInUse(
            f"cannot listen on {port.host}:{port.port} for {port.kind}: {error.strerror or error}"
        ) from None
