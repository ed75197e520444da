"""What one connection may say, and what ends with it."""

import logging
import os
import time
from collections.abc import Awaitable
from dataclasses import dataclass
from typing import Any

from edge_agent.energy import cpu_usage
from edge_agent.energy.meter import MeterBusy
from edge_agent.meterd import messages
from edge_agent.meterd.desk import LeverDesk
from edge_agent.meterd.host import HostMeter
from fleet.errors import BadRequest, WattbedError

log = logging.getLogger(__name__)

REQUESTS_PER_S = 1000
"""A connection that asks for more is cut: each mark reads every counter."""


@dataclass(frozen=True)
class Daemon:
    """What all connections share. `devices` are the cgroup hierarchies of this host."""

    host: HostMeter
    desk: LeverDesk
    serves_metrics: bool
    devices: frozenset[int]


class Session:
    """One connection, of process `pid` (0: it is in another container). `name` is for the log."""

    def __init__(self, daemon: Daemon, number: int, pid: int) -> None:
        self._daemon = daemon
        self._pid = pid
        self._number = number
        self.name = f"connection {number}"
        self._agent: str | None = None
        self._usage: cpu_usage.UsageFile | None = None
        self._holder: str | None = None
        self._asked, self._since_s = 0, time.monotonic()

    def answer(self, packet: bytes, descriptors: list[int]) -> Any | Awaitable[Any]:
        """The answer to a packet, to be awaited if a lever is moved for it. BadRequest ends the connection; what
        is merely refused does not.

        The descriptors are closed, or kept until `end`.
        """
        try:
            self._count()
            message = messages.request(packet)
            if isinstance(message, messages.Hello):
                return self._hello(message, descriptors)
        finally:
            for descriptor in descriptors:
                os.close(descriptor)
        if isinstance(message, messages.Levers):
            return self._levers(message)
        if self._holder is not None:
            return self._lever_answer(self._holder, message)
        if self._agent is not None:
            return self._meter_answer(self._agent, message)
        raise BadRequest(f"{message.op} before hello or levers")

    async def end(self) -> None:
        """The connection is gone, and with it its window and its levers."""
        if self._agent is not None:
            self._daemon.host.leave(self._agent)
            log.info("%s left", self._agent)
        if self._usage is not None:
            self._usage.close()
        if self._holder is not None:
            await self._daemon.desk.release(self._holder)

    def _count(self) -> None:
        if time.monotonic() - self._since_s > 1:
            self._asked, self._since_s = 0, time.monotonic()
        self._asked += 1
        if self._asked > REQUESTS_PER_S:
            raise BadRequest(f"more than {REQUESTS_PER_S} requests in a second")

    def _hello(self, hello: messages.Hello, descriptors: list[int]) -> messages.Joined:
        self._begins(hello.version)
        if len(descriptors) != 1:
            raise BadRequest(f"{len(descriptors)} files came with hello, not the one of the agent's CPU time")
        usage = cpu_usage.accept(descriptors[0], self._pid, self._daemon.devices)
        host = self._daemon.host
        host.join(hello.agent, usage, hello.gpus, hello.phase)
        descriptors.clear()
        self.name = self._agent = hello.agent
        self._usage = usage
        log.info("%s joined, its CPU time by %s", hello.agent, usage.name)
        return messages.Joined(host.sources, host.rejected, self._daemon.serves_metrics)

    def _levers(self, levers: messages.Levers) -> messages.Offered:
        self._begins(levers.version)
        self._holder = f"{levers.agent}#{self._number}"
        self.name = f"levers of {levers.agent}"
        return messages.Offered(self._daemon.desk.infos)

    def _begins(self, version: int) -> None:
        if self._agent is not None or self._holder is not None:
            raise BadRequest(f"{self.name} has begun already")
        if version != messages.VERSION:
            raise BadRequest(f"version {version} is spoken there, {messages.VERSION} here")

    async def _lever_answer(self, holder: str, message: Any) -> Any:
        match message:
            case messages.SetLever(lever=lever, value=value):
                return messages.Outcomes((await self._daemon.desk.set(holder, lever, value),))
            case messages.Release():
                await self._daemon.desk.release(holder)
                return messages.Outcomes(())
        raise BadRequest(f"{message.op} on a connection for levers")

    def _meter_answer(self, agent: str, message: Any) -> Any:
        host = self._daemon.host
        try:
            match message:
                case messages.Begin(phase=phase):
                    host.begin(agent, phase)
                    return messages.Begun()
                case messages.End():
                    return messages.Ended(*host.end(agent))
                case messages.Status():
                    return messages.Standing(host.totals(agent), host.states())
        except (MeterBusy, BadRequest) as error:
            return messages.Refused(str(error))
        raise BadRequest(f"{message.op} on a connection for the meter")


def refusal(error: WattbedError) -> bytes:
    """The packet that says why a connection is cut."""
    return messages.pack(messages.Refused(str(error)[:1000]))
