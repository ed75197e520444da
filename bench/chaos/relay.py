"""A relay on loopback that hurts what passes: partition, delay, loss and resets of TCP connections.

Bytes that TCP has taken cannot be lost by a relay, so loss shows as what a loss does to a stream: it stands still
for a retransmission timeout. A partition lets connections stand: nothing passes and nothing ends, as when a cable
is out.
"""

import asyncio
import random
import socket
import struct
import threading
from collections.abc import Coroutine
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

PIECE_BYTES = 1 << 14
RETRANSMISSION_S = 0.2
_RESET = struct.pack("ii", 1, 0)
"""struct linger that makes closing a reset."""


@dataclass(frozen=True)
class Weather:
    """What a link does to each piece of PIECE_BYTES that passes."""

    delay_s: float = 0.0
    loss: float = 0.0
    parted: bool = False


class Link:
    """One listening port whose connections go on to the coordinator."""

    def __init__(self, target: str, seed: int) -> None:
        self.host, _, port = target.rpartition(":")
        self.port = int(port)
        self.weather = Weather()
        self.resets = 0
        self.passed_bytes = 0
        self._random = random.Random(seed)
        self._writers: set[asyncio.StreamWriter] = set()
        self._changed = asyncio.Event()

    async def listen(self) -> None:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.address = f"127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    async def become(self, weather: Weather) -> None:
        self.weather = weather
        self._changed.set()
        self._changed = asyncio.Event()

    async def reset(self) -> None:
        """Resets every connection there is."""
        for writer in list(self._writers):
            self._break(writer)
        self.resets += 1

    async def close(self) -> None:
        self._server.close()
        await self.reset()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        back = None
        try:
            there, back = await asyncio.open_connection(self.host, self.port)
            self._writers.add(back)
            await asyncio.gather(self._pump(reader, back), self._pump(there, writer))
        except OSError:
            pass
        finally:
            for end in (writer, back):
                if end is not None:
                    self._break(end)
                    self._writers.discard(end)

    async def _pump(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        while piece := await source.read(PIECE_BYTES):
            if self.weather.delay_s:
                await asyncio.sleep(self.weather.delay_s)
            if self._random.random() < self.weather.loss:
                await asyncio.sleep(RETRANSMISSION_S)
            while self.weather.parted:
                await self._changed.wait()
            sink.write(piece)
            self.passed_bytes += len(piece)
            await sink.drain()
        raise ConnectionResetError  # the other direction ends as well

    @staticmethod
    def _break(writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        writer.transport.abort()


class Relay:
    """Links in an event loop of their own, so that whoever hurts them may block."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        threading.Thread(target=self._loop.run_forever, name="relay", daemon=True).start()
        self.links: dict[str, Link] = {}

    def link(self, name: str, target: str, seed: int) -> str:
        """A new link to `target`; the address it is reached at."""
        link = self.links[name] = Link(target, seed)
        self._do(link.listen())
        return link.address

    def become(self, name: str, weather: Weather) -> None:
        self._do(self.links[name].become(weather))

    def reset(self, name: str) -> None:
        self._do(self.links[name].reset())

    def close(self) -> None:
        for link in self.links.values():
            self._do(link.close())
        self._loop.call_soon_threadsafe(self._loop.stop)

    def _do(self, work: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(10)
