"""What is done to the processes and their links, one fault at a time, at instants that a seed decides."""

import asyncio
import random
import socket
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from chaos.relay import Weather

LORIS_CONNECTIONS = 100
STOPS_WITHIN_S = 15.0


@dataclass
class Hurt:
    """What was injected so far, by kind."""

    counts: Counter[str] = field(default_factory=Counter)
    broken: list[str] = field(default_factory=list)
    """What a fault found that must not be."""


@dataclass(frozen=True)
class Hand:
    """What a fault works with."""

    bed: Any
    """What holds the processes or the containers; each fault knows which."""

    dice: random.Random
    hurt: Hurt

    def agent(self) -> str:
        return self.dice.choice(self.bed.names)

    async def hold(self, least_s: float, most_s: float) -> None:
        await asyncio.sleep(self.dice.uniform(least_s, most_s))


Fault = Callable[[Hand], Awaitable[None]]


async def coordinator_killed(hand: Hand) -> None:
    """SIGKILL of the coordinator, and a new one at once or a little later."""
    hand.bed.kill("coordinator")
    await hand.hold(0.0, 0.5)
    hand.bed.start_coordinator()


async def coordinator_killed_while_starting(hand: Hand) -> None:
    """SIGKILL of the coordinator, and of the next one while it starts."""
    hand.bed.kill("coordinator")
    hand.bed.start_coordinator()
    await hand.hold(0.5, 3.0)
    hand.bed.kill("coordinator")
    hand.bed.start_coordinator()


async def coordinator_stopped(hand: Hand) -> None:
    """SIGTERM of the coordinator, which must end with 0 in time, and a new one."""
    code, seconds = await asyncio.to_thread(hand.bed.terminate, "coordinator", STOPS_WITHIN_S)
    if code != 0:
        hand.hurt.broken.append(f"after SIGTERM the coordinator ended with {code} in {seconds:.1f} s")
    hand.bed.start_coordinator()


async def coordinator_frozen(hand: Hand) -> None:
    """SIGSTOP of the coordinator: connections stand and nothing is answered."""
    process = hand.bed.process("coordinator")
    process.suspend()
    await hand.hold(0.5, 8.0)
    process.resume()


async def agent_killed(hand: Hand) -> None:
    """SIGKILL of an agent, and a new one."""
    name = hand.agent()
    hand.bed.kill(name)
    await hand.hold(0.0, 0.5)
    hand.bed.start_agent(name)


async def all_killed(hand: Hand) -> None:
    """SIGKILL of everything, as of a host that loses power."""
    for name in ("coordinator", *hand.bed.names):
        hand.bed.kill(name)
    hand.bed.start_all()


async def agent_frozen(hand: Hand) -> None:
    """SIGSTOP of an agent: it stops reading, and its socket stays open."""
    process = hand.bed.process(hand.agent())
    process.suspend()
    await hand.hold(0.5, 7.0)
    process.resume()


async def partition(hand: Hand) -> None:
    """Nothing passes between an agent and the coordinator, and no connection ends."""
    await _weather(hand, Weather(parted=True), 0.5, 9.0)


async def delay(hand: Hand) -> None:
    """Each piece takes 20 to 150 ms longer."""
    await _weather(hand, Weather(delay_s=hand.dice.uniform(0.02, 0.15)), 0.5, 2.0)


async def loss(hand: Hand) -> None:
    """A piece in five is lost and sent again."""
    await _weather(hand, Weather(loss=0.2), 0.5, 2.0)


async def reset(hand: Hand) -> None:
    """Every connection of an agent is reset."""
    hand.bed.relay.reset(hand.agent())


async def coordinator_disk_full(hand: Hand) -> None:
    """No file of the coordinator can grow: each write fails, while the process lives."""
    hand.bed.limit_files("coordinator", 1)
    await hand.hold(0.3, 3.0)
    hand.bed.limit_files("coordinator", None)


async def slow_loris(hand: Hand) -> None:
    """Many connections that say a byte now and then."""
    sockets = [_connected(hand.bed.address if i % 2 else hand.bed.http) for i in range(LORIS_CONNECTIONS)]
    for _ in range(10):
        for s in sockets:
            with suppress(OSError):
                s.send(b"G")
        await asyncio.sleep(0.1)
    for s in sockets:
        s.close()


ANYWHERE: dict[str, Fault] = {
    "coordinator: SIGKILL": coordinator_killed,
    "coordinator: SIGKILL, again while it starts": coordinator_killed_while_starting,
    "coordinator: SIGTERM": coordinator_stopped,
    "coordinator: SIGSTOP for up to 8 s": coordinator_frozen,
    "agent: SIGKILL": agent_killed,
    "everything: SIGKILL": all_killed,
    "agent: SIGSTOP for up to 7 s": agent_frozen,
    "link: partition for up to 9 s": partition,
    "link: delay": delay,
    "link: loss": loss,
    "link: reset": reset,
    "coordinator: no file can grow": coordinator_disk_full,
    "slow loris": slow_loris,
}
"""Faults that need no rights beyond one's own processes."""


async def _weather(hand: Hand, weather: Weather, least_s: float, most_s: float) -> None:
    name = hand.agent()
    hand.bed.relay.become(name, weather)
    await hand.hold(least_s, most_s)
    hand.bed.relay.become(name, Weather())


def _connected(address: str) -> socket.socket:
    host, _, port = address.rpartition(":")
    s = socket.socket()
    s.settimeout(1.0)
    with suppress(OSError):
        s.connect((host, int(port)))
    s.setblocking(False)
    return s
