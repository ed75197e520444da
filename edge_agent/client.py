"""The agent's side of the Fleet service: errors as wattbed's own, transfers that resume where they were cut."""

import asyncio
import contextlib
import logging
import os
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc

from edge_agent.cache import Incoming
from fleet import rpc, wire
from fleet.bulk import FleetStub
from fleet.domain import AgentMessage, Assignment, CoordinatorMessage, ImagesHeader, UpdateHeader
from fleet.errors import StorageFull, TooMany, TooSlow, Unreachable, WattbedError, WrongOffset
from fleet.tls import Credentials
from fleet.v1 import fleet_pb2

log = logging.getLogger(__name__)

FIRST_DELAY_S = 0.2
LONGEST_DELAY_S = 2.0
PASSING = (Unreachable, StorageFull, TooMany, TooSlow, WrongOffset)


def delays(first_s: float = FIRST_DELAY_S, longest_s: float = LONGEST_DELAY_S) -> Iterator[float]:
    """Seconds to wait before each further attempt: doubling, up to `longest_s`, half of it left to chance."""
    ceiling = first_s
    while True:
        yield random.uniform(ceiling / 2, ceiling)
        ceiling = min(2 * ceiling, longest_s)


def passes(error: WattbedError) -> bool:
    """Whether the same call may succeed later. An error without a name of ours came from the connection."""
    return isinstance(error, PASSING) or type(error) is WattbedError


@contextmanager
def translated() -> Iterator[None]:
    """Raises what the other side raised; a call that the other side cancelled is Unreachable."""
    try:
        yield
    except grpc.aio.AioRpcError as error:
        raise rpc.wattbed_error(error) from None
    except asyncio.CancelledError:
        # grpc.aio raises this for the status CANCELLED too, which says nothing about our own task.
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            raise
        raise Unreachable("the coordinator cancelled the call") from None


class Stream:
    """One Attach stream."""

    def __init__(self, call: Any) -> None:
        self._call = call

    async def send(self, message: AgentMessage) -> None:
        """Sends one message; the error that ended the stream if it has ended."""
        with translated():
            try:
                await self._call.write(wire.envelope(message))
            except asyncio.InvalidStateError:
                await self.receive()

    async def receive(self) -> CoordinatorMessage:
        """The next message; Unreachable when the coordinator ended the stream."""
        with translated():
            message = await self._call.read()
        if message is grpc.aio.EOF:
            raise Unreachable("the coordinator ended the stream")
        received: CoordinatorMessage = wire.unwrap(message)
        return received

    async def end(self) -> None:
        """Says that nothing more is coming."""
        with translated():
            await self._call.done_writing()

    def close(self) -> None:
        """Drops the stream."""
        self._call.cancel()


class FleetClient:
    """Calls to the coordinator at `address` (host:port); without credentials in plain text."""

    def __init__(self, address: str, credentials: Credentials | None = None) -> None:
        self._aim(address, credentials)

    def _aim(self, address: str, credentials: Credentials | None) -> None:
        self._target = address, credentials
        self._channel = rpc.channel(address, credentials)
        self._stub: Any = FleetStub(self._channel)

    async def go_by(self, address: str, credentials: Credentials | None = None) -> None:
        """Makes further calls to `address`; calls to another one so far are cut, and transfers resume here.

        So it is with other credentials: a connection keeps those that it was made with.
        """
        if (address, credentials) != self._target:
            before = self._channel
            self._aim(address, credentials)
            await before.close()

    async def close(self) -> None:
        """Drops the connection."""
        await self._channel.close()

    def attach(self) -> Stream:
        """A new control stream."""
        return Stream(self._stub.Attach())

    async def download(self, assignment: Assignment, incoming: Incoming, progress: Callable[[int], None]) -> None:
        """Fetches what `incoming` lacks of the assignment's model, over as many streams as it takes."""
        for delay in delays():
            request = fleet_pb2.GetBlobRequest(
                sha256=assignment.model_sha256,
                offset_bytes=incoming.held_bytes,
                device=assignment.device,
                run=assignment.run,
                round=assignment.round,
            )
            try:
                with translated():
                    async for chunk in self._stub.GetBlob(request):
                        incoming.append(chunk)
                        progress(incoming.held_bytes)
                return
            except WattbedError as error:
                if not passes(error):
                    raise
                log.warning("download stopped at byte %d, going on: %s", incoming.held_bytes, error)
            await asyncio.sleep(delay)

    async def upload(self, header: UpdateHeader, path: Path, progress: Callable[[int], None]) -> bool:
        """Sends the file at `path` from where the coordinator already is, over as many streams as it takes.

        False: this very update had been counted before. Raises what the coordinator refuses it with.
        """
        for delay in delays():
            try:
                with translated():
                    held = await self._stub.StatBlob(
                        fleet_pb2.StatBlobRequest(
                            digest=header.digest, run=header.run, round=header.round, device=header.device
                        )
                    )
                return await self._put(replace(header, offset_bytes=held.held_bytes), path, progress)
            except WattbedError as error:
                if not passes(error):
                    raise
                log.warning("upload of %s stopped, going on: %s", header.digest[:12], error)
            await asyncio.sleep(delay)
        raise AssertionError("delays end never")

    async def _put(self, header: UpdateHeader, path: Path, progress: Callable[[int], None]) -> bool:
        call = self._stub.PutBlob()
        try:
            with translated(), path.open("rb") as file:
                try:
                    await call.write(wire.to_proto(header))
                    file.seek(header.offset_bytes)
                    while chunk := file.read(rpc.CHUNK_BYTES):
                        await call.write(chunk)
                        progress(file.tell())
                    await call.done_writing()
                except (asyncio.InvalidStateError, grpc.aio.AioRpcError):
                    # The coordinator answered before it had everything. Awaiting the call gives its answer;
                    # now and then grpc.aio gives INTERNAL, for the failed write, and we ask again.
                    pass
                return bool((await call).fresh)
        finally:
            call.cancel()

    async def download_model(self, run: str, sha256: str, batch: str, device: str, incoming: Incoming) -> None:
        """Fetches what `incoming` lacks of a model to generate with, over as many streams as it takes."""
        for delay in delays():
            request = fleet_pb2.GetBlobRequest(
                sha256=sha256, offset_bytes=incoming.held_bytes, device=device, run=run, batch=batch
            )
            try:
                with translated():
                    async for chunk in self._stub.GetBlob(request):
                        incoming.append(chunk)
                return
            except WattbedError as error:
                if not passes(error):
                    raise
                log.warning("model stopped at byte %d, going on: %s", incoming.held_bytes, error)
            await asyncio.sleep(delay)

    async def upload_images(self, header: ImagesHeader, payload: bytes) -> bool:
        """Sends one request's images, from where the coordinator already is if a stream was cut.

        False: these very images had been taken before. Raises what the coordinator refuses them with.
        """
        held_bytes = 0
        for delay in delays():
            try:
                return await self._put_images(replace(header, offset_bytes=held_bytes), payload)
            except WattbedError as error:
                if not passes(error):
                    raise
                log.warning("images of %s stopped, going on: %s", header.request, error)
            await asyncio.sleep(delay)
            with contextlib.suppress(Unreachable), translated():
                held = await self._stub.StatBlob(
                    fleet_pb2.StatBlobRequest(
                        digest=header.digest, batch=header.batch, request=header.request, device=header.device
                    )
                )
                held_bytes = held.held_bytes
        raise AssertionError("delays end never")

    async def _put_images(self, header: ImagesHeader, payload: bytes) -> bool:
        call = self._stub.PutBlob()
        try:
            with translated():
                try:
                    await call.write(wire.to_proto(header))
                    for start in range(header.offset_bytes, len(payload), rpc.CHUNK_BYTES):
                        await call.write(payload[start : start + rpc.CHUNK_BYTES])
                    await call.done_writing()
                except (asyncio.InvalidStateError, grpc.aio.AioRpcError):
                    pass  # awaiting the call gives the coordinator's answer
                return bool((await call).fresh)
        finally:
            call.cancel()

    async def send_filler(self, device: str, calibration: str, size_bytes: int) -> int:
        """Sends `size_bytes` bytes without meaning; how many arrived."""
        filler = memoryview(os.urandom(min(size_bytes, rpc.CHUNK_BYTES)))
        call = self._stub.PutFiller()
        try:
            with translated():
                try:
                    for start in range(0, size_bytes, rpc.CHUNK_BYTES):
                        data = bytes(filler[: min(size_bytes - start, rpc.CHUNK_BYTES)])
                        part = fleet_pb2.PutFillerRequest(device=device, calibration=calibration, data=data)
                        await call.write(part)
                    await call.done_writing()
                except (asyncio.InvalidStateError, grpc.aio.AioRpcError):
                    pass  # awaiting the call gives the coordinator's answer
                return int((await call).received_bytes)
        finally:
            call.cancel()

    async def receive_filler(self, device: str, calibration: str, size_bytes: int) -> int:
        """Fetches `size_bytes` bytes without meaning; how many came."""
        request = fleet_pb2.GetFillerRequest(device=device, calibration=calibration, size_bytes=size_bytes)
        received = 0
        with translated():
            async for chunk in self._stub.GetFiller(request):
                received += len(chunk)
        return received
