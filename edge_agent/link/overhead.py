"""How long the relay itself takes over a byte, measured at its start and taken off every delay it makes.

A byte is sent through a relay of known delay on loopback, and straight, by turns; the sender and the receiver are
threads that block, as other processes would, with pauses, as a link between heartbeats has: a processor at rest
wakes slower. Of the differences the lower quartile counts: what a busy machine adds is no property of the relay.
"""

import asyncio
import socket
import struct
import threading
import time
from contextlib import suppress

from edge_agent.link.relay import Port, Relay
from fleet.kinds import Link

KNOWN_S = 0.002
TURNS = 25
PAUSE_S = 0.01
WITHIN_S = 5.0

_STAMP = struct.Struct("=q")


async def overhead_s() -> float:
    """Seconds that the relay adds to a delay, one way; 0.0 where they are lost in the noise."""
    link = Link(rate_up_bps=1e9, rate_down_bps=1e9, delay_s=KNOWN_S, jitter_s=0, loss=0, source="[assumed] a test")
    with socket.create_server(("127.0.0.1", 0)) as far:
        far.settimeout(WITHIN_S)
        straight = far.getsockname()[:2]
        relay = Relay(straight, [Port("overhead", "127.0.0.1", 0, link)], quiet=True)
        (number,) = await relay.start()
        stamping = threading.Thread(target=_stamp, args=(far,), daemon=True)
        stamping.start()
        try:
            return await asyncio.to_thread(_compare, straight, ("127.0.0.1", number))
        finally:
            relay.stop()


def _compare(straight: tuple[str, int], relayed: tuple[str, int]) -> float:
    with (
        socket.create_connection(straight, WITHIN_S) as direct,
        socket.create_connection(relayed, WITHIN_S) as through,
    ):
        added = sorted(_one_way_s(through) - KNOWN_S - _one_way_s(direct) for _ in range(TURNS))
    return max(added[TURNS // 4], 0.0)


def _one_way_s(connection: socket.socket) -> float:
    time.sleep(PAUSE_S)
    began_ns = time.monotonic_ns()
    connection.sendall(b"?")
    (arrived_ns,) = _STAMP.unpack(connection.recv(_STAMP.size))
    return float(arrived_ns - began_ns) / 1e9


def _stamp(far: socket.socket) -> None:
    """Answers each byte of two connections with the moment it came."""
    with suppress(OSError):
        answering = [threading.Thread(target=_answer, args=(far.accept()[0],), daemon=True) for _ in range(2)]
        for thread in answering:
            thread.start()


def _answer(connection: socket.socket) -> None:
    with suppress(OSError), connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        while connection.recv(1):
            connection.sendall(_STAMP.pack(time.monotonic_ns()))
