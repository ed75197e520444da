"""What comes from an agent: in time, not too long, and on its way to the disk."""

import asyncio
from collections.abc import AsyncIterator, Awaitable
from typing import Any, TypeVar

from coordinator.blobs import Receiving
from fleet.bulk import message_bytes
from fleet.errors import BadRequest, ProtocolMismatch, TooMuch, TooSlow
from fleet.rpc import FRAME_BYTES, PROTOCOL_VERSION

T = TypeVar("T")


class Arriving:
    """The bytes of one upload on their way to the disk: a thread writes a chunk while the next one comes."""

    def __init__(self, receiving: Receiving, wire_bytes: int) -> None:
        self.wire_bytes = wire_bytes
        self.payload_bytes = 0
        self._receiving = receiving
        self._writing: asyncio.Task[None] | None = None

    async def take(self, requests: AsyncIterator[Any]) -> None:
        """Until the stream ends."""
        async for part in requests:
            self.wire_bytes += FRAME_BYTES + message_bytes(part)
            self.payload_bytes += len(part)
            if self._writing is not None:
                await self._writing
            self._writing = asyncio.create_task(asyncio.to_thread(self._receiving.write, part))
        if self._writing is not None:
            await self._writing

    async def suspend(self) -> None:
        """Keeps what came."""
        if self._writing is not None:
            await asyncio.wait([self._writing])
        await asyncio.to_thread(self._receiving.suspend)


async def within(seconds: float, awaited: Awaitable[T]) -> T:
    """What `awaited` gives; TooSlow where that takes longer."""
    try:
        async with asyncio.timeout(seconds):
            return await awaited
    except TimeoutError:
        raise TooSlow(f"nothing came for {seconds:g} s") from None


async def each_within(seconds: float, requests: AsyncIterator[Any]) -> AsyncIterator[Any]:
    """`requests`; TooSlow where one does not come for so long."""
    while True:
        try:
            request = await within(seconds, anext(requests))
        except StopAsyncIteration:
            return
        yield request


def small(message: Any, most_bytes: int) -> Any:
    """`message`; TooMuch where it is longer."""
    if message.ByteSize() > most_bytes:
        raise TooMuch(f"a message of {message.ByteSize():,} bytes; at most {most_bytes:,} are taken")
    return message


async def first_of(requests: AsyncIterator[Any]) -> Any:
    """The first of `requests`; BadRequest where there is none."""
    async for request in requests:
        return request
    raise BadRequest("the stream ended before its first message")


def check_protocol(theirs: int) -> None:
    """ProtocolMismatch unless `theirs` is the version spoken here."""
    if theirs != PROTOCOL_VERSION:
        raise ProtocolMismatch(f"the agent speaks protocol version {theirs}, this coordinator {PROTOCOL_VERSION}")
