"""The agent's end of a connection to the meter of its host. Made anew whenever it is needed, without waiting.

A question is posted, and whoever wants its answer reads it later: answers come in the order of the questions.
"""

import os
import select
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edge_agent.meterd import messages
from fleet.errors import BadRequest, WattbedError


class MeterLost(WattbedError):
    """The meter of the host does not answer, or refuses to talk to this agent."""


@dataclass(eq=False)
class Question:
    """A message that is on its way or was answered; `lost` says why it has no answer."""

    connection: "Connection"
    until_s: float
    answer: Any = None
    lost: MeterLost | None = None

    @property
    def open(self) -> bool:
        """Whether nobody has read the answer yet."""
        return self.answer is None and self.lost is None


class Connection:
    """A socket and the questions that are open on it. Safe to use from several threads: to send waits for no
    reader. Nothing takes longer than `timeout_s`."""

    def __init__(self, path: Path, timeout_s: float) -> None:
        self._path = path
        self._timeout_s = timeout_s
        self._sending, self._receiving = threading.Lock(), threading.Lock()
        self._open: deque[Question] = deque()
        self._why = ""
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._socket.settimeout(timeout_s)
        try:
            self._socket.connect(os.fspath(path))
        except OSError as error:
            self._socket.close()
            raise MeterLost(f"the meter at {path} cannot be reached: {error.strerror or error}") from None
        self._socket.setblocking(False)

    @property
    def ended(self) -> bool:
        """Whether it is of no use any more."""
        return self._why != ""

    def post(self, message: Any, descriptors: Sequence[int] = ()) -> Question:
        """Sends `message`; MeterLost when it cannot be sent."""
        packet = messages.pack(message)
        with self._sending:
            question = Question(self, time.monotonic() + self._timeout_s)
            self._open.append(question)
            try:
                if self.ended:
                    raise OSError(self._why)
                self._send(packet, descriptors, question.until_s)
            except OSError as error:
                self._end(str(error))
                raise self._loss() from None
            return question

    def read(self, question: Question, wait: bool) -> None:
        """Reads what has arrived until `question` is answered. With `wait` also what arrives in its time: after
        that it is lost, and so is the connection, because a late answer would be taken for that of another.
        """
        if not self._receiving.acquire(blocking=wait):
            return  # somebody else reads, and keeps what comes for whoever asked
        try:
            while question.open:
                if self._take():
                    continue
                until_s = self._open[0].until_s  # answers come in order: one that is late holds up the rest
                if wait and self._ready(select.POLLIN, until_s):
                    continue
                if time.monotonic() >= until_s:
                    self._give_up("timed out")
                elif not wait:
                    return
        finally:
            self._receiving.release()

    def close(self) -> None:
        """Ends it. Answers that have arrived are read first."""
        self._end("it was closed")
        with self._receiving, self._sending:
            while self._open and self._take():
                continue
            self._give_up("it was closed")
            self._socket.close()

    def _send(self, packet: bytes, descriptors: Sequence[int], until_s: float) -> None:
        while True:
            try:
                if descriptors:
                    socket.send_fds(self._socket, [packet], descriptors)
                else:
                    self._socket.send(packet)
                return
            except BlockingIOError:
                if not self._ready(select.POLLOUT, until_s):
                    raise TimeoutError("timed out") from None

    def _ready(self, what: int, until_s: float) -> bool:
        poll = select.poll()
        poll.register(self._socket, what)
        return bool(poll.poll(max(0.0, until_s - time.monotonic()) * 1000))

    def _take(self) -> bool:
        """Reads an answer, or finds that none will come; False when none has come yet."""
        try:
            packet = self._socket.recv(messages.MOST_BYTES)
            if not packet:
                raise OSError("it hung up")
            answer = messages.answer(packet)
            question = self._open.popleft()
        except BlockingIOError:
            return False
        except (OSError, BadRequest, IndexError) as error:
            self._give_up(str(error))
            return True
        if isinstance(answer, messages.Refused):
            question.lost = MeterLost(f"the meter at {self._path} refuses: {answer.reason}")
        else:
            question.answer = answer
        return True

    def _give_up(self, why: str) -> None:
        self._end(why)
        while self._open:
            self._open.popleft().lost = self._loss()

    def _end(self, why: str) -> None:
        self._why = self._why or why
        try:
            self._socket.shutdown(socket.SHUT_RDWR)  # wakes whoever reads or sends
        except OSError:
            return  # there is nobody at the other end

    def _loss(self) -> MeterLost:
        return MeterLost(f"the meter at {self._path} does not answer: {self._why}")


class Link:
    """The present connection. `introduce` gives its first message and the files that go with it (closed after).

    `generation` counts the connections that were made: what the meter knew of one is not known to the next.
    Safe to use from several threads.
    """

    def __init__(self, path: Path, introduce: Callable[[], tuple[Any, list[int]]], timeout_s: float) -> None:
        self._path = path
        self._introduce = introduce
        self._timeout_s = timeout_s
        self._lock = threading.Lock()
        self._connection: Connection | None = None
        self.generation = 0
        self.welcome: Any = None

    def connect(self) -> Any:
        """The meter's answer to the introduction of the present connection; MeterLost."""
        with self._lock:
            self._connected()
            return self.welcome

    def post(self, message: Any, after: Question | None = None) -> Question:
        """Sends `message` without waiting for its answer; MeterLost. With `after` only where that went."""
        if after is not None:
            return after.connection.post(message)
        with self._lock:
            connection = self._connected()
        return connection.post(message)

    def arrived(self, question: Question) -> bool:
        """Whether there is an answer, or none will come. Does not wait."""
        if question.open:
            question.connection.read(question, wait=False)
        return not question.open

    def answer(self, question: Question) -> Any:
        """The answer; MeterLost when there is none in time or it is a refusal."""
        if question.open:
            question.connection.read(question, wait=True)
        if question.lost is not None:
            raise question.lost
        return question.answer

    def ask(self, message: Any) -> Any:
        """The answer to `message`; MeterLost when there is none in time or it is a refusal."""
        return self.answer(self.post(message))

    def is_on(self, question: Question) -> bool:
        """Whether `question` went to the present connection, or none was made since."""
        return self._connection is None or self._connection is question.connection

    def close(self) -> None:
        """Ends the connection, and with it what the meter keeps for it. Answers that have arrived are read."""
        with self._lock:
            self._drop()

    def _connected(self) -> Connection:
        if self._connection is not None and self._connection.ended:
            self._drop()
        if self._connection is None:
            connection = Connection(self._path, self._timeout_s)
            message, descriptors = self._introduce()
            try:
                self.welcome = self.answer(connection.post(message, descriptors))
            except MeterLost:
                connection.close()
                raise
            finally:
                for descriptor in descriptors:
                    os.close(descriptor)
            self._connection = connection
            self.generation += 1
        return self._connection

    def _drop(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None
