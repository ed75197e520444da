"""The service that agents call. It translates; it decides nothing and catches nothing."""

import asyncio
import logging
import os
import secrets
import time
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import replace
from typing import Any

import grpc

from coordinator.aggregate import check_update, shapes
from coordinator.blobs import Receiving
from coordinator.effects import Effects
from coordinator.events import (
    AssignmentFailed,
    BytesMoved,
    CalibrationFailed,
    DeviceAttached,
    DeviceCalibrated,
    DeviceDetached,
    Direction,
    EnergyMeasured,
    UpdateReceived,
    UpdateRefused,
)
from coordinator.loop import Loop
from coordinator.machine import Admission, admit
from coordinator.machine.calibration import is_known_as, is_pending
from coordinator.sessions import AGENT_LEFT, HEARTBEAT_INTERVAL_S, Session, Sessions
from coordinator.shelves import Shelves, checked_name
from fleet import wire
from fleet.bulk import message_bytes, pack_put
from fleet.calibration import Calibration, CalibrationAck, CalibrationGivenUp, CalibrationProgress
from fleet.domain import (
    AgentMessage,
    Heartbeat,
    HeartbeatAck,
    Hello,
    MeasurementAck,
    PhaseMeasured,
    Progress,
    TaskFailed,
    UpdateHeader,
    Welcome,
)
from fleet.errors import BadRequest, ProtocolMismatch, StrangerUpdate, UnknownDevice, WattbedError, WrongOffset
from fleet.rpc import CHUNK_BYTES, FRAME_BYTES, PROTOCOL_VERSION
from fleet.v1 import fleet_pb2, fleet_pb2_grpc

log = logging.getLogger(__name__)

CUT_SHOWS_S = 0.05
"""The requests of a stream that is cut end like those of one that is closed; gRPC cancels its call right after."""

Context = grpc.aio.ServicerContext[Any, Any]

LONGEST_FILLER_BYTES = 1 << 30


class FleetService(fleet_pb2_grpc.FleetServicer):
    """Attach, StatBlob, GetBlob, PutBlob, GetFiller, PutFiller."""

    def __init__(self, loop: Loop, effects: Effects, sessions: Sessions, shelves: Shelves) -> None:
        self._loop = loop
        self._effects = effects
        self._sessions = sessions
        self._shelves = shelves

    async def Attach(  # noqa: N802
        self, requests: AsyncIterator[Any], context: Context
    ) -> AsyncIterator[Any]:
        """One device's control stream, from its hello to its end."""
        hello = wire.unwrap(await _first(requests))
        if not isinstance(hello, Hello):
            raise BadRequest(f"a stream starts with Hello, not {type(hello).__name__}")
        _check_protocol(hello.protocol_version)
        session = Session(secrets.token_hex(8), checked_name("device", hello.device))
        self._sessions.open(session)
        try:
            await self._loop.submit(
                DeviceAttached(
                    self._loop.now_s(), hello.device, session.name, hello.capabilities, hello.metrics_address
                )
            )
            yield wire.envelope(Welcome(PROTOCOL_VERSION, HEARTBEAT_INTERVAL_S, self._loop.now_s()))
            reader = asyncio.create_task(self._hear(session, requests))
            while message := await session.outgoing.get():
                yield wire.envelope(message)
            await _finish(reader)
        finally:
            self._sessions.close(session)
            reason = session.ended or "the stream was cut"
            self._loop.post(DeviceDetached(self._loop.now_s(), hello.device, session.name, reason))

    async def _hear(self, session: Session, requests: AsyncIterator[Any]) -> None:
        try:
            async for request in requests:
                session.heard_s = time.monotonic()
                await self._take(session, wire.unwrap(request))
            await asyncio.sleep(CUT_SHOWS_S)
            session.end(AGENT_LEFT)
        except asyncio.CancelledError:
            session.end("the stream was cut")
            raise
        except WattbedError as error:
            session.end(str(error))
            raise

    async def _take(self, session: Session, message: AgentMessage) -> None:
        match message:
            case Heartbeat():
                session.heartbeat = message
                session.send(HeartbeatAck(message.sequence))
            case Progress():
                self._sessions.progressed(session, message)
            case PhaseMeasured() | TaskFailed() if not self._is_assigned(
                message.run, message.round, session.device
            ):
                # Of a run this log does not have. Ending the stream would only have it said again.
                log.warning("%s speaks of %s round %d, which it was not asked for", *_place(session, message))
                if isinstance(message, PhaseMeasured):
                    session.send(MeasurementAck(message.window))
            case PhaseMeasured():
                if not self._effects.ledger(message.run).knows(message, session.device):
                    measured = EnergyMeasured(self._loop.now_s(), message.run, session.device, message)
                    await self._loop.submit(measured)
                session.send(MeasurementAck(message.window))
            case TaskFailed():
                await self._loop.submit(
                    AssignmentFailed(
                        self._loop.now_s(), message.run, message.round, session.device, message.reason
                    )
                )
            case CalibrationProgress():
                self._sessions.calibrated_further(message)
            case Calibration() | CalibrationGivenUp():
                await self._take_outcome(session, message)
            case _:
                raise BadRequest(f"{type(message).__name__} comes once, at the start of a stream")

    async def _take_outcome(self, session: Session, outcome: Calibration | CalibrationGivenUp) -> None:
        """Enters the outcome of a calibration that is under way; any other is acknowledged and left."""
        state, device, at_s = self._loop.state, session.device, self._loop.now_s()
        if not is_pending(state, device, outcome.calibration):
            if not is_known_as(state, device, outcome.calibration):
                log.warning("%s has the outcome of calibration %s, unasked", device, outcome.calibration)
        elif isinstance(outcome, Calibration):
            await self._loop.submit(DeviceCalibrated(at_s, device, replace(outcome, device=device)))
        else:
            await self._loop.submit(CalibrationFailed(at_s, device, outcome.calibration, outcome.reason))
        session.send(CalibrationAck(outcome.calibration))

    async def StatBlob(self, request: Any, context: Context) -> Any:  # noqa: N802
        """How much of a device's upload is here."""
        self._must_be_assigned(request.run, request.round, request.device)
        held, complete = self._shelves.updates(request.run, request.device).held(request.digest)
        return fleet_pb2.StatBlobResponse(held_bytes=held, complete=complete)

    async def GetBlob(self, request: Any, context: Context) -> AsyncIterator[Any]:  # noqa: N802
        """A model payload from an offset on; what was sent is counted, also when the stream is cut."""
        self._must_be_assigned(request.run, request.round, request.device)
        models = self._shelves.models(request.run)
        chunks = models.read(request.sha256, request.offset_bytes, CHUNK_BYTES)
        sent = FRAME_BYTES + request.ByteSize()
        try:
            while chunk := await asyncio.to_thread(next, chunks, b""):
                yield chunk
                sent += FRAME_BYTES + message_bytes(chunk)
        finally:
            self._moved(request, "down", sent)

    async def PutBlob(self, requests: AsyncIterator[Any], context: Context) -> Any:  # noqa: N802
        """One update; durable, checked and in the log when the answer goes out."""
        first = await _first(requests)
        if not isinstance(first, fleet_pb2.UpdateHeader):
            raise BadRequest("an upload starts with its header")
        header: UpdateHeader = wire.from_proto(first)
        _check_protocol(header.protocol_version)
        if header.samples < 1:
            raise BadRequest(f"the update of {header.device} was trained on {header.samples} samples")
        try:
            fresh = await self._receive(header, first, requests)
        except WattbedError as error:
            if self._is_assigned(header.run, header.round, header.device):
                self._loop.post(
                    UpdateRefused(self._loop.now_s(), header.run, header.round, header.device, str(error))
                )
            raise
        return fleet_pb2.PutBlobResponse(fresh=fresh)

    async def GetFiller(self, request: Any, context: Context) -> AsyncIterator[Any]:  # noqa: N802
        """Bytes without meaning, that no link can compress."""
        self._must_be_calibrating(request.device, request.calibration)
        left = request.size_bytes
        if left > LONGEST_FILLER_BYTES:
            raise BadRequest(f"{left} bytes of filler; at most {LONGEST_FILLER_BYTES} are sent")
        chunk = os.urandom(min(CHUNK_BYTES, left))
        while left > 0:
            yield memoryview(chunk)[: min(left, len(chunk))]
            left -= len(chunk)

    async def PutFiller(self, requests: AsyncIterator[Any], context: Context) -> Any:  # noqa: N802
        """Counts what comes and throws it away."""
        first = await _first(requests)
        self._must_be_calibrating(first.device, first.calibration)
        received = len(first.data)
        async for request in requests:
            received += len(request.data)
        return fleet_pb2.PutFillerResponse(received_bytes=received)

    def _must_be_calibrating(self, device: str, calibration: str) -> None:
        if not is_pending(self._loop.state, device, calibration):
            raise StrangerUpdate(f"calibration {calibration!r} of device {device!r} is not under way")

    async def _receive(self, header: UpdateHeader, first: Any, requests: AsyncIterator[Any]) -> bool:
        run = self._loop.state.run(header.run)
        if admit(run, header.round, header.device, header.digest) is Admission.DUPLICATE:
            return False
        blobs = self._shelves.updates(header.run, header.device)
        receiving = await asyncio.to_thread(blobs.receive, header.digest, header.size_bytes, header.offset_bytes)
        arriving = Arriving(receiving, FRAME_BYTES + len(pack_put(first)))
        try:
            await arriving.take(requests)
            held = header.offset_bytes + arriving.payload_bytes
            if held < header.size_bytes:  # a cut connection looks like an end: what came is kept
                raise WrongOffset(
                    f"the upload of {header.device} ended at byte {held} of {header.size_bytes}; resume from there"
                )
            await asyncio.to_thread(receiving.commit)
        except BaseException:
            await asyncio.shield(arriving.suspend())
            raise
        finally:
            self._moved(header, "up", arriving.wire_bytes)
        try:
            expected = await asyncio.to_thread(shapes, self._shelves.models(run.run), run.model_sha256)
            await asyncio.to_thread(check_update, blobs, header.digest, expected)
            await self._loop.submit(
                UpdateReceived(
                    at_s=self._loop.now_s(),
                    run=header.run,
                    round=header.round,
                    device=header.device,
                    digest=header.digest,
                    size_bytes=header.size_bytes,
                    samples=header.samples,
                    loss=header.loss,
                )
            )
        except WattbedError:
            blobs.drop(header.digest)
            raise
        return True

    def _moved(self, who: Any, direction: Direction, wire_bytes: int) -> None:
        self._loop.post(BytesMoved(self._loop.now_s(), who.run, who.round, who.device, direction, wire_bytes))

    def _is_assigned(self, run: str, round: int, device: str) -> bool:
        return run in self._loop.state.runs and self._effects.ledger(run).has(round, device)

    def _must_be_assigned(self, run: str, round: int, device: str) -> None:
        if device not in self._loop.state.devices:
            raise UnknownDevice(f"no device {device!r} has attached")
        self._loop.state.run(run)
        if not self._is_assigned(run, round, device):
            raise StrangerUpdate(f"device {device} was not asked to train in round {round} of run {run}")


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


def _place(session: Session, message: PhaseMeasured | TaskFailed) -> tuple[str, str, int]:
    return session.device, message.run, message.round


async def _first(requests: AsyncIterator[Any]) -> Any:
    async for request in requests:
        return request
    raise BadRequest("the stream ended before its first message")


async def _finish(reader: asyncio.Task[None]) -> None:
    """Ends the reader; raises what it could not take."""
    reader.cancel()
    with suppress(asyncio.CancelledError):
        await reader


def _check_protocol(theirs: int) -> None:
    if theirs != PROTOCOL_VERSION:
        raise ProtocolMismatch(f"the agent speaks protocol version {theirs}, this coordinator {PROTOCOL_VERSION}")
