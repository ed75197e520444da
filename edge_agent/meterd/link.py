"""The agent's end of a connection to the meter of its host. Made anew whenever it is needed, without waiting."""

import os
import socket
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from edge_agent.meterd import messages
from fleet.errors import BadRequest, WattbedError


class MeterLost(WattbedError):
    """The meter of the host does not answer, or refuses to talk to this agent."""


class Link:
    """One connection. `introduce` gives the first message and the files that go with it (closed after).

    `generation` counts the connections that were made: what the meter knew of one is not known to the next.
    Safe to use from several threads.
    """

    def __init__(self, path: Path, introduce: Callable[[], tuple[Any, list[int]]], timeout_s: float) -> None:
        self._path = path
        self._introduce = introduce
        self._timeout_s = timeout_s
        self._lock = threading.Lock()
        self._socket: socket.socket | None = None
        self.generation = 0
        self.welcome: Any = None

    def connect(self) -> Any:
        """The meter's answer to the introduction of the present connection; MeterLost."""
        with self._lock:
            self._connected()
            return self.welcome

    def ask(self, message: Any) -> Any:
        """The answer to `message`; MeterLost when there is none in time or it is a refusal."""
        with self._lock:
            return self._exchange(self._connected(), message, [])

    def close(self) -> None:
        """Ends the connection, and with it what the meter keeps for it."""
        with self._lock:
            self._drop()

    def _connected(self) -> socket.socket:
        if self._socket is None:
            connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            connection.settimeout(self._timeout_s)
            try:
                connection.connect(os.fspath(self._path))
            except OSError as error:
                connection.close()
                raise MeterLost(
                    f"the meter at {self._path} cannot be reached: {error.strerror or error}"
                ) from None
            self._socket = connection
            message, descriptors = self._introduce()
            try:
                self.welcome = self._exchange(connection, message, descriptors)
            except MeterLost:
                self._drop()
                raise
            finally:
                for descriptor in descriptors:
                    os.close(descriptor)
            self.generation += 1
        return self._socket

    def _exchange(self, connection: socket.socket, message: Any, descriptors: list[int]) -> Any:
        try:
            socket.send_fds(connection, [messages.pack(message)], descriptors)
            packet = connection.recv(messages.MOST_BYTES)
            if not packet:
                raise OSError("it hung up")
            answer = messages.answer(packet)
        except (OSError, BadRequest) as error:
            self._drop()  # a late answer would be taken for that of the next question
            raise MeterLost(f"the meter at {self._path} does not answer: {error}") from None
        if isinstance(answer, messages.Refused):
            raise MeterLost(f"the meter at {self._path} refuses: {answer.reason}")
        return answer

    def _drop(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None
