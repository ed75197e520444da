"""Serves the agents of this host over a Unix socket: one coroutine per connection, one reader of the counters."""

import asyncio
import contextlib
import fcntl
import logging
import os
import socket
import stat
import struct
import time
from collections.abc import Awaitable
from pathlib import Path
from typing import Any

from edge_agent.energy.sampler import SAMPLE_HZ
from edge_agent.meterd import messages
from edge_agent.meterd.session import Daemon, Session, refusal
from fleet.errors import AddressInUse, BadRequest

log = logging.getLogger(__name__)

MOST_CLIENTS = 512
MOST_DESCRIPTORS = 4
SAMPLE_EVERY = 10
"""Ticks between two samples of mean power."""


class Server:
    """Listens at `path` from now on, and answers while it runs. Whoever makes one holds `lock(path)`."""

    def __init__(self, daemon: Daemon, path: Path) -> None:
        self._daemon = daemon
        self._path = path
        self._clients: set[asyncio.Task[None]] = set()
        self._connections = 0
        self._listener = _listen(path)

    async def run(self, stop: asyncio.Event, hz: float = SAMPLE_HZ) -> None:
        """Ticks and serves until `stop`; then every lever is put back."""
        tasks = {asyncio.create_task(c) for c in (self._tick(hz), self._accept(), stop.wait())}
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            tasks |= self._clients
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
            self._listener.close()
            self._path.unlink(missing_ok=True)
            await self._daemon.desk.close()

    async def _tick(self, hz: float) -> None:
        due_s, ticks = time.monotonic(), 0
        while True:
            due_s = max(due_s + 1 / hz, time.monotonic())
            await asyncio.sleep(due_s - time.monotonic())
            ticks += 1
            if ticks % SAMPLE_EVERY:
                self._daemon.host.tick()
            else:
                self._daemon.host.sample()

    async def _accept(self) -> None:
        while True:
            await _readable(self._listener)
            try:
                connection, _ = self._listener.accept()
            except OSError as error:
                log.warning("a connection cannot be accepted: %s", error)
                await asyncio.sleep(0.1)
                continue
            if len(self._clients) >= MOST_CLIENTS:
                log.warning("a connection is refused: %d are open", len(self._clients))
                connection.close()
                continue
            connection.setblocking(False)
            client = asyncio.create_task(self._serve(connection))
            self._clients.add(client)
            client.add_done_callback(self._clients.discard)

    async def _serve(self, connection: socket.socket) -> None:
        self._connections += 1
        session = Session(self._daemon, self._connections, _peer_pid(connection))
        try:
            while (answer := await _slow_answer(connection, session)) is not None:
                connection.send(messages.pack(await answer))
        except BadRequest as error:
            log.warning("%s is cut: %s", session.name, error)
            with contextlib.suppress(OSError):
                connection.send(refusal(error))
        except OSError as error:
            log.info("%s is cut: %s", session.name, error)
        finally:
            connection.close()
            await session.end()


async def _slow_answer(connection: socket.socket, session: Session) -> Awaitable[Any] | None:
    """The next answer that takes time, None at the end of the connection. Until then packets are answered where
    the loop finds them: a mark does not wait for a task to be woken.
    """
    loop = asyncio.get_running_loop()
    found: asyncio.Future[Awaitable[Any] | None] = loop.create_future()

    def read() -> None:
        if found.done():
            return
        try:
            packet, descriptors = _receive(connection)
            if not packet:
                found.set_result(None)
                return
            answer = session.answer(packet, descriptors)
            if isinstance(answer, Awaitable):
                found.set_result(answer)
            else:
                connection.send(messages.pack(answer))
        except Exception as error:  # whoever serves the connection decides
            found.set_exception(error)

    loop.add_reader(connection, read)
    try:
        return await found
    finally:
        loop.remove_reader(connection)


def _receive(connection: socket.socket) -> tuple[bytes, list[int]]:
    """One packet, empty at the end of the connection, and the files that came with it."""
    packet, descriptors, flags, _ = socket.recv_fds(connection, messages.MOST_BYTES, MOST_DESCRIPTORS)
    if flags & (socket.MSG_TRUNC | socket.MSG_CTRUNC):
        for descriptor in descriptors:
            os.close(descriptor)
        raise BadRequest(f"a packet of more than {messages.MOST_BYTES} bytes or {MOST_DESCRIPTORS} files")
    return packet, descriptors


def _peer_pid(connection: socket.socket) -> int:
    credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    return int(struct.unpack("3i", credentials)[0])


def _done(ready: "asyncio.Future[None]") -> None:
    if not ready.done():
        ready.set_result(None)


async def _readable(connection: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    ready: asyncio.Future[None] = loop.create_future()
    loop.add_reader(connection, _done, ready)
    try:
        await ready
    finally:
        loop.remove_reader(connection)


def lock(path: Path) -> int:
    """One meter per socket, AddressInUse for a second; held until the descriptor is closed or the process ends."""
    path.parent.mkdir(parents=True, exist_ok=True)
    held = os.open(path.with_name(path.name + ".lock"), os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(held)
        raise AddressInUse(f"another meter serves {path}") from None
    return held


def _listen(path: Path) -> socket.socket:
    """For the owner and the group of this process: whoever may open it may watch the power of the host."""
    if path.exists() and not stat.S_ISSOCK(path.stat().st_mode):
        raise AddressInUse(f"{path} is there and is no socket")
    path.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    listener.setblocking(False)
    before = os.umask(0o117)
    try:
        listener.bind(os.fspath(path))
    except OSError as error:
        raise AddressInUse(f"cannot listen on {path}: {error.strerror or error}") from None
    finally:
        os.umask(before)
    listener.listen(128)
    return listener
