"""What devices say and send about batches: windows, progress, images. Translates; decides nothing.

A device that was told to make a batch may send its images until the requests are over, whatever became of the
batch: of two that make the same, the first counts.
"""

import asyncio
import logging
import math
from collections.abc import AsyncIterator, Callable
from hashlib import sha256
from typing import Any, Protocol

from coordinator.blobs import BlobStore, Receiving
from coordinator.events import (
    BatchBytesMoved,
    BatchEnded,
    BatchMeasured,
    Direction,
    ModelsHeldByDevice,
    RequestServed,
)
from coordinator.generation.book import Book
from coordinator.loop import Loop
from coordinator.sessions import Session
from coordinator.shelves import Shelves
from fleet import wire
from fleet.domain import MeasurementAck
from fleet.errors import CorruptUpdate, LateUpdate, StrangerUpdate, WattbedError, WrongOffset
from fleet.generation import (
    Batch,
    GenerationEnded,
    GenerationMeasured,
    GenerationProgress,
    ImagesHeader,
    ModelsHeld,
)
from fleet.images import unpack
from fleet.rpc import FRAME_BYTES

log = logging.getLogger(__name__)

KEPT = "kept"
"""Stands for the batch where a device fetches a model that it was told to keep."""

WINDOWS = 64
"""More windows than this no honest device has of one batch."""

LONGEST_REASON = 500

Message = GenerationMeasured | GenerationProgress | GenerationEnded | ModelsHeld
Watcher = Callable[[GenerationProgress], None]


class ArrivingBytes(Protocol):
    """The bytes of one upload on their way to the disk."""

    wire_bytes: int
    payload_bytes: int

    async def take(self, requests: AsyncIterator[Any]) -> None:
        """Until the stream ends."""

    async def suspend(self) -> None:
        """Keeps what came."""


class Intake:
    """One for all devices."""

    def __init__(self, loop: Loop, shelves: Shelves) -> None:
        self._loop = loop
        self._shelves = shelves
        self._watching: dict[str, set[Watcher]] = {}

    @property
    def _book(self) -> Book:
        return self._loop.book

    def watch(self, request: str, watcher: Watcher) -> Callable[[], None]:
        """Calls `watcher` with the progress of a request's batch, until the returned function is called."""
        self._watching.setdefault(request, set()).add(watcher)

        def end() -> None:
            self._watching[request].discard(watcher)
            if not self._watching[request]:
                del self._watching[request]

        return end

    async def take(self, session: Session, message: Message) -> None:
        """Enters what a device says of a batch. Of batches it was not told to make nothing is entered."""
        match message:
            case ModelsHeld():
                now_s = self._loop.now_s()
                held = (message.sha256[:1000], message.held_bytes, message.storage_bytes)
                await self._loop.submit(ModelsHeldByDevice(now_s, session.device, *held))
                return
            case _:
                batch = self._book.batch_of(message.batch, session.device)
        if batch is None:
            log.warning("%s speaks of batch %s, which it was not asked for", session.device, message.batch[:80])
            if isinstance(message, GenerationMeasured):
                session.send(MeasurementAck(message.window))
            return
        match message:
            case GenerationProgress():
                self._progressed(batch, message)
            case GenerationMeasured():
                if not sound(message):  # a broken meter costs its joules, not the device
                    log.warning(
                        "%s: window %s is not one that a meter can have read", session.device, message.window
                    )
                elif not self._book.knows(message) and len(self._book.batches[batch.batch].windows) < WINDOWS:
                    await self._loop.submit(BatchMeasured(self._loop.now_s(), batch.run, session.device, message))
                session.send(MeasurementAck(message.window))
            case GenerationEnded():
                reason = message.reason[:LONGEST_REASON]
                await self._loop.submit(
                    BatchEnded(self._loop.now_s(), batch.run, batch.batch, session.device, reason)
                )

    def _progressed(self, batch: Batch, progress: GenerationProgress) -> None:
        for portion in batch.portions:
            mine = tuple(p for p in progress.previews if p.request == portion.request)
            shown = GenerationProgress(progress.batch, progress.done, progress.steps, mine)
            for watcher in tuple(self._watching.get(portion.request, ())):
                watcher(shown)

    def stat(self, batch: str, request: str, device: str, digest: str) -> tuple[int, bool]:
        """How much of an upload is here."""
        self._must_be_asked(batch, request, device)
        return self._incoming(batch, device).held(digest)

    def model(self, run: str, sha: str, batch: str, device: str) -> BlobStore:
        """Where the model that `device` needs for `batch` is; StrangerUpdate where it does not."""
        kept = self._loop.state.generations.kept.get(device, ())
        found = self._book.batch_of(batch, device)
        if not ((found is not None and found.model_sha256 == sha) or any(m.sha256 == sha for m in kept)):
            raise StrangerUpdate(f"device {device} was not asked to generate with model {sha[:12]}")
        return self._shelves.serving(run, sha)

    def moved(self, batch: str, device: str, direction: Direction, wire_bytes: int) -> None:
        """Enters bytes of a batch; those of a model that is only kept are of none."""
        if found := self._book.batch_of(batch, device):
            self._loop.post(BatchBytesMoved(self._loop.now_s(), found.run, batch, device, direction, wire_bytes))

    async def put(
        self,
        header: ImagesHeader,
        header_bytes: int,
        requests: AsyncIterator[Any],
        arriving_of: Callable[[Receiving, int], ArrivingBytes],
    ) -> bool:
        """One request's images; durable, checked and in the log when this returns. False: they were before."""
        batch = self._must_be_asked(header.batch, header.request, header.device)
        page = self._book.page(header.request)
        if page.status == "served" and page.digest == header.digest:
            return False
        if header.request not in self._loop.state.generations.requests:
            raise LateUpdate(
                f"request {header.request} is {page.status}; the images of {header.device} are refused"
            )
        incoming = self._incoming(header.batch, header.device)
        receiving = await asyncio.to_thread(
            incoming.receive, header.digest, header.size_bytes, header.offset_bytes
        )
        arriving = arriving_of(receiving, FRAME_BYTES + header_bytes)
        try:
            await arriving.take(requests)
            held = header.offset_bytes + arriving.payload_bytes
            if held < header.size_bytes:  # a cut connection looks like an end: what came is kept
                raise WrongOffset(
                    f"the images of {header.device} ended at byte {held} of {header.size_bytes}; resume from there"
                )
            await asyncio.to_thread(receiving.commit)
        except BaseException:
            await asyncio.shield(arriving.suspend())
            raise
        finally:
            self.moved(header.batch, header.device, "up", arriving.wire_bytes)
        try:
            await asyncio.to_thread(self._keep, incoming, header, batch)
        finally:
            await asyncio.to_thread(incoming.drop, header.digest)
        now_s = self._loop.now_s()
        asked = self._loop.state.generations.requests.get(header.request)
        if asked is None:
            raise LateUpdate(f"request {header.request} is over; the images of {header.device} are refused")
        late = asked.deadline_at_s is not None and now_s > asked.deadline_at_s
        place = (header.request, header.batch, header.device)
        served = RequestServed(now_s, batch.run, *place, header.digest, header.size_bytes, late)
        await self._loop.submit(served)
        return True

    def _keep(self, incoming: BlobStore, header: ImagesHeader, batch: Batch) -> None:
        """Moves sound images to where they are fetched from; CorruptUpdate names what is wrong with others."""
        with incoming.mapped(header.digest) as view:
            payload = bytes(view)
        if sha256(payload).hexdigest() != header.digest:
            raise CorruptUpdate(f"the images of {header.device} are not those of {header.digest[:12]}")
        images = unpack(payload)
        wanted = sum(p.images for p in batch.portions if p.request == header.request)
        if len(images) != wanted:
            raise CorruptUpdate(
                f"{len(images)} images of {header.device} for request {header.request}, not {wanted}"
            )
        with self._shelves.images(batch.run).create() as sink:
            sink.write(payload)
            sink.digest = header.digest

    def _incoming(self, batch: str, device: str) -> BlobStore:
        found = self._book.batch_of(batch, device)
        if found is None:
            raise StrangerUpdate(f"device {device} was not asked to make batch {batch[:80]!r}")
        return self._shelves.updates(found.run, device)

    def _must_be_asked(self, batch: str, request: str, device: str) -> Batch:
        found = self._book.batch_of(batch, device)
        if found is None or not any(p.request == request for p in found.portions):
            raise StrangerUpdate(
                f"device {device} was not asked for request {request[:80]!r} in batch {batch[:80]!r}"
            )
        return found


def sound(window: GenerationMeasured) -> bool:
    """Whether a meter can have read this: the ledger's joules never go backwards."""
    numbers = [window.seconds, *(r.joules for r in window.readings if r.joules is not None)]
    bounds = [b for r in window.readings for b in (r.low_joules, r.high_joules) if b is not None]
    return all(math.isfinite(n) and n >= 0 for n in numbers) and all(map(math.isfinite, bounds))


def images_header(message: Any) -> ImagesHeader:
    """The domain object of an upload's first message."""
    header = wire.from_proto(message)
    if not isinstance(header, ImagesHeader):
        raise WattbedError(f"{type(header).__name__} is no header of images")
    return header
