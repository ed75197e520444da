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

from coordinator import screen
from coordinator.arriving import Arriving, check_protocol, each_within, first_of, small, within
from coordinator.blobs import BlobStore
from coordinator.effects import Effects
from coordinator.enrolment.benchmark import first_benchmark
from coordinator.enrolment.gate import Gate
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
from coordinator.generation.intake import Intake, images_header
from coordinator.limits import MEASUREMENT, Bucket, Refusals, Stalls, Use, Uses
from coordinator.loop import Loop
from coordinator.machine import Admission, Run, admit
from coordinator.machine.calibration import is_known_as, is_pending
from coordinator.sessions import AGENT_LEFT, HEARTBEAT_INTERVAL_S, Session, Sessions
from coordinator.shelves import Shelves, checked_name
from fleet import logs, wire
from fleet.bulk import message_bytes, pack_put
from fleet.calibration import Calibration, CalibrationAck, CalibrationGivenUp, CalibrationProgress
from fleet.domain import (
    AgentMessage,
    GenerationEnded,
    GenerationMeasured,
    GenerationProgress,
    Heartbeat,
    HeartbeatAck,
    Hello,
    KeysOffered,
    MasksReady,
    MeasurementAck,
    ModelsHeld,
    PhaseMeasured,
    Progress,
    Revealed,
    SharesSealed,
    TaskFailed,
    UpdateHeader,
    Welcome,
)
from fleet.errors import (
    BadRequest,
    StrangerUpdate,
    TooMany,
    TooMuch,
    UnknownDevice,
    WattbedError,
    WrongOffset,
)
from fleet.rpc import CHUNK_BYTES, FRAME_BYTES, PROTOCOL_VERSION
from fleet.v1 import fleet_pb2, fleet_pb2_grpc

log = logging.getLogger(__name__)

CUT_SHOWS_S = 0.05
"""The requests of a stream that is cut end like those of one that is closed; gRPC cancels its call right after."""

Context = grpc.aio.ServicerContext[Any, Any]


class FleetService(fleet_pb2_grpc.FleetServicer):
    """Attach, StatBlob, GetBlob, PutBlob, GetFiller, PutFiller."""

    def __init__(
        self,
        loop: Loop,
        effects: Effects,
        sessions: Sessions,
        shelves: Shelves,
        uses: Uses | None = None,
        refusals: Refusals | None = None,
        intake: Intake | None = None,
        gate: Gate | None = None,
    ) -> None:
        self._loop = loop
        self._effects = effects
        self._sessions = sessions
        self._shelves = shelves
        self._intake = intake or Intake(loop, shelves)
        self._uses = uses or Uses()
        self._refusals = refusals or Refusals()
        self._gate = gate or Gate(loop, None)
        self.stalls = Stalls(self._uses.limits.stall_s, self._refusals)

    async def Attach(  # noqa: N802
        self, requests: AsyncIterator[Any], context: Context
    ) -> AsyncIterator[Any]:
        """One device's control stream, from its hello to its end."""
        limits = self._uses.limits
        hello = wire.unwrap(small(await within(limits.hello_s, first_of(requests)), limits.message_bytes))
        if not isinstance(hello, Hello):
            raise BadRequest(f"a stream starts with Hello, not {type(hello).__name__}")
        check_protocol(hello.protocol_version)
        screen.message(hello)
        name = self._gate.attaching(context, hello)
        session = Session(secrets.token_hex(8), checked_name("device", name))
        session.unread_messages = limits.unread_messages
        known = self._loop.state.devices
        if name not in known and len(known) >= limits.devices:
            raise TooMany(f"{len(known):,} devices are known, and no more are taken")
        self._use(name).call()
        self._sessions.open(session)
        try:
            await self._loop.submit(
                DeviceAttached(self._loop.now_s(), name, session.name, hello.capabilities, hello.metrics_address)
            )
            if benchmark := first_benchmark(self._loop.state, name):
                self._loop.post(benchmark)
            now_s, renamed = self._loop.now_s(), name if name != hello.device else None
            yield wire.envelope(Welcome(PROTOCOL_VERSION, HEARTBEAT_INTERVAL_S, now_s, renamed))
            with logs.fields(device=session.device):
                reader = asyncio.create_task(self._hear(session, requests))
            while message := await session.outgoing.get():
                with self.stalls.giving():
                    yield wire.envelope(message)
            await _finish(reader)
        finally:
            self._sessions.close(session)
            reason = session.ended or "the stream was cut"
            self._loop.post(DeviceDetached(self._loop.now_s(), name, session.name, reason))

    async def _hear(self, session: Session, requests: AsyncIterator[Any]) -> None:
        limits = self._uses.limits
        messages = Bucket(limits.messages_per_s, limits.messages_burst)
        try:
            async for request in requests:
                session.heard_s = time.monotonic()
                if not messages.take():
                    raise TooMany(f"{session.device} sends more than {limits.messages_per_s:g} messages a second")
                message = wire.unwrap(small(request, limits.message_bytes))
                if not isinstance(message, PhaseMeasured | GenerationMeasured):
                    screen.message(message)
                await self._take(session, message)
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
                session.beat(message, time.time())
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
                ledger = self._effects.ledger(message.run)
                if not ledger.knows(message, session.device):
                    try:
                        screen.measured(message, ledger.windows(message.round, session.device))
                    except BadRequest as error:  # a broken meter costs its joules, not the device
                        log.warning("%s: %s", session.device, error)
                        self._refusals.count(MEASUREMENT)
                    else:
                        measured = EnergyMeasured(self._loop.now_s(), message.run, session.device, message)
                        await self._loop.submit(measured)
                session.send(MeasurementAck(message.window))
            case TaskFailed():
                reason = screen.reason(message.reason)
                await self._loop.submit(
                    AssignmentFailed(self._loop.now_s(), message.run, message.round, session.device, reason)
                )
            case KeysOffered() | SharesSealed() | MasksReady() | Revealed():
                if self._is_assigned(message.run, message.round, session.device):
                    self._effects.secure.take(session.device, message)
            case CalibrationProgress():
                self._sessions.calibrated_further(message)
            case Calibration() | CalibrationGivenUp():
                await self._take_outcome(session, message)
            case GenerationMeasured() | GenerationProgress() | GenerationEnded() | ModelsHeld():
                await self._intake.take(session, message)
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
            reason = screen.reason(outcome.reason)
            await self._loop.submit(CalibrationFailed(at_s, device, outcome.calibration, reason))
        session.send(CalibrationAck(outcome.calibration))

    async def StatBlob(self, request: Any, context: Context) -> Any:  # noqa: N802
        """How much of a device's upload is here."""
        self._use(self._gate.device(context, request.device)).call()
        if request.batch:
            held, complete = self._intake.stat(request.batch, request.request, request.device, request.digest)
            return fleet_pb2.StatBlobResponse(held_bytes=held, complete=complete)
        self._must_be_assigned(request.run, request.round, request.device)
        held, complete = self._shelves.updates(request.run, request.device).held(request.digest)
        return fleet_pb2.StatBlobResponse(held_bytes=held, complete=complete)

    async def GetBlob(self, request: Any, context: Context) -> AsyncIterator[Any]:  # noqa: N802
        """A model payload from an offset on; what was sent is counted, also when the stream is cut."""
        use = self._use(self._gate.device(context, request.device))
        use.call()
        models = self._models_for(request)
        chunks = models.read(request.sha256, request.offset_bytes, CHUNK_BYTES)
        sent = FRAME_BYTES + request.ByteSize()
        with use.transfer("downloads", self._uses.limits.downloads):
            try:
                while chunk := await asyncio.to_thread(next, chunks, b""):
                    with self.stalls.giving():
                        yield chunk
                    sent += FRAME_BYTES + message_bytes(chunk)
            finally:
                if request.batch:
                    self._intake.moved(request.batch, request.device, "down", sent)
                else:
                    self._moved(request, "down", sent)

    def _models_for(self, request: Any) -> BlobStore:
        """Where the model is that a device asks for, once it is sure that it was told to have it."""
        if request.batch:
            return self._intake.model(request.run, request.sha256, request.batch, request.device)
        self._must_be_assigned(request.run, request.round, request.device)
        return self._shelves.models(request.run)

    async def PutBlob(self, requests: AsyncIterator[Any], context: Context) -> Any:  # noqa: N802
        """One update; durable, checked and in the log when the answer goes out."""
        first = await within(self._uses.limits.hello_s, first_of(requests))
        if isinstance(first, fleet_pb2.ImagesHeader):
            self._gate.device(context, first.device)
            return fleet_pb2.PutBlobResponse(fresh=await self._put_images(first, requests))
        if not isinstance(first, fleet_pb2.UpdateHeader):
            raise BadRequest("an upload starts with its header")
        header: UpdateHeader = wire.from_proto(first)
        check_protocol(header.protocol_version)
        self._use(self._gate.device(context, header.device)).call()
        try:
            with logs.fields(run=header.run, round=header.round, device=header.device):
                fresh = await self._receive(header, first, requests)
        except WattbedError as error:
            logged = self._use(header.device).may_log(header.run, header.round)
            if logged and self._is_assigned(header.run, header.round, header.device):
                self._loop.post(
                    UpdateRefused(self._loop.now_s(), header.run, header.round, header.device, str(error))
                )
            raise
        return fleet_pb2.PutBlobResponse(fresh=fresh)

    async def _put_images(self, first: Any, requests: AsyncIterator[Any]) -> bool:
        header = images_header(first)
        check_protocol(header.protocol_version)
        use, limits = self._use(header.device), self._uses.limits
        use.call()
        with use.transfer("uploads", limits.uploads):
            arriving = each_within(limits.stall_s, requests)
            return await self._intake.put(header, len(pack_put(first)), arriving, Arriving)

    async def GetFiller(self, request: Any, context: Context) -> AsyncIterator[Any]:  # noqa: N802
        """Bytes without meaning, that no link can compress."""
        use = self._use(self._gate.device(context, request.device))
        use.call()
        self._must_be_calibrating(request.device, request.calibration)
        left, most = request.size_bytes, self._uses.limits.filler_bytes
        if left > most:
            raise TooMuch(f"{left} bytes of filler; at most {most} are sent")
        chunk = os.urandom(min(CHUNK_BYTES, left))
        with use.transfer("downloads", self._uses.limits.downloads):
            while left > 0:
                with self.stalls.giving():
                    yield memoryview(chunk)[: min(left, len(chunk))]
                left -= len(chunk)

    async def PutFiller(self, requests: AsyncIterator[Any], context: Context) -> Any:  # noqa: N802
        """Counts what comes and throws it away."""
        limits = self._uses.limits
        first = await within(limits.hello_s, first_of(requests))
        use = self._use(self._gate.device(context, first.device))
        use.call()
        self._must_be_calibrating(first.device, first.calibration)
        received = len(first.data)
        with use.transfer("uploads", limits.uploads):
            async for request in each_within(limits.stall_s, requests):
                received += len(request.data)
                if received > limits.filler_bytes:
                    raise TooMuch(f"more than {limits.filler_bytes} bytes of filler")
        return fleet_pb2.PutFillerResponse(received_bytes=received)

    def _must_be_calibrating(self, device: str, calibration: str) -> None:
        if not is_pending(self._loop.state, device, calibration):
            raise StrangerUpdate(f"calibration {calibration!r} of device {device!r} is not under way")

    async def _receive(self, header: UpdateHeader, first: Any, requests: AsyncIterator[Any]) -> bool:
        run = self._loop.state.run(header.run)
        if admit(run, header.round, header.device, header.digest) is Admission.DUPLICATE:
            return False
        screen.header(run, header)
        blobs = self._shelves.updates(header.run, header.device)
        largest_bytes = screen.largest_update_bytes(run.model_bytes)
        with self._use(header.device).upload(blobs, header.digest, header.size_bytes, largest_bytes):
            return await self._store(run, blobs, header, first, requests)

    async def _store(
        self, run: Run, blobs: BlobStore, header: UpdateHeader, first: Any, requests: AsyncIterator[Any]
    ) -> bool:
        receiving = await asyncio.to_thread(blobs.receive, header.digest, header.size_bytes, header.offset_bytes)
        arriving = Arriving(receiving, FRAME_BYTES + len(pack_put(first)))
        try:
            await arriving.take(each_within(self._uses.limits.stall_s, requests))
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
            assignment = run.outstanding[header.device].assignment
            expected = await self._effects.update_shapes(run, assignment)
            due = screen.due(run, assignment, expected)
            norm = await asyncio.to_thread(screen.screen, blobs, header.digest, due)
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
                    update_range=header.update_range,
                    norm=norm,
                )
            )
        except WattbedError:
            blobs.drop(header.digest)
            raise
        return True

    def _moved(self, who: Any, direction: Direction, wire_bytes: int) -> None:
        self._loop.post(BytesMoved(self._loop.now_s(), who.run, who.round, who.device, direction, wire_bytes))

    def _use(self, device: str) -> Use:
        return self._uses.of(device, device in self._loop.state.devices)

    def _is_assigned(self, run: str, round: int, device: str) -> bool:
        return run in self._loop.state.runs and self._effects.ledger(run).has(round, device)

    def _must_be_assigned(self, run: str, round: int, device: str) -> None:
        if device not in self._loop.state.devices:
            raise UnknownDevice(f"no device {device!r} has attached")
        self._loop.state.run(run)
        if not self._is_assigned(run, round, device):
            raise StrangerUpdate(f"device {device} was not asked to train in round {round} of run {run}")


def _place(session: Session, message: PhaseMeasured | TaskFailed) -> tuple[str, str, int]:
    return session.device, message.run, message.round


async def _finish(reader: asyncio.Task[None]) -> None:
    """Ends the reader; raises what it could not take."""
    reader.cancel()
    with suppress(asyncio.CancelledError):
        await reader
