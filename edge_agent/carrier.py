"""Carries out one task after the other: download, train, quantize, upload, each inside a window of the meter."""

import asyncio
import contextlib
import logging
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np

from edge_agent.cache import ModelCache
from edge_agent.client import FleetClient
from edge_agent.energy.meter import DeviceMeter, Window
from edge_agent.levers.request import DeviceLevers
from edge_agent.privacy import clipped
from edge_agent.secrecy import Secrecy
from edge_agent.work_thread import WorkThread
from edge_agent.worker import Encoded, Worker
from fleet.domain import AgentMessage, Assignment, LeverOutcome, Phase, PhaseMeasured, Progress, Task, UpdateHeader
from fleet.errors import DataCorrupt
from fleet.rpc import PROTOCOL_VERSION

log = logging.getLogger(__name__)

PROGRESS_INTERVAL_S = 0.25
CORRUPT_DOWNLOADS = 2
"""Downloads of one model that may come in corrupt before the task is given up."""


@dataclass(frozen=True)
class _Ready:
    """The last update made, kept until the next task: the coordinator may ask for it again."""

    header: UpdateHeader
    encoded: Encoded


class Carrier:
    """`report` is called, on the event loop, with everything the coordinator should hear."""

    def __init__(
        self,
        client: FleetClient,
        cache: ModelCache,
        worker: Worker,
        meter: DeviceMeter,
        report: Callable[[AgentMessage], None],
        levers: DeviceLevers | None = None,
        secrecy: Secrecy | None = None,
    ) -> None:
        self.secrecy = secrecy or Secrecy("", report)
        self._client = client
        self._cache = cache
        self._worker = worker
        self._meter = meter
        self._levers = levers or DeviceLevers()
        self._report = report
        self.thread = WorkThread()
        self._ready: _Ready | None = None

    def close(self) -> None:
        """Lets the thread go."""
        self.thread.close()

    async def carry_out(self, task: Task) -> None:
        """Returns when the update is counted and everything is said. Raises what stopped it; cancelling it stops
        its training too.
        """
        try:
            await self._make_and_send(task)
        finally:
            self._meter.settle()

    async def _make_and_send(self, task: Task) -> None:
        a = task.assignment
        ready = self._ready
        if ready is None or (ready.header.run, ready.header.round) != (a.run, a.round):
            ready = self._ready = await self._make(task)
        self._meter.settle()  # the last update ends a round: what its training took is known by then
        with self._phase(a, Phase.UPLOAD):
            fresh = await self._client.upload(
                ready.header, ready.encoded.path, self._progress(a, Phase.UPLOAD, ready.encoded.size_bytes)
            )
        log.info(
            "%s round %d: %d bytes up%s", a.run, a.round, ready.encoded.size_bytes, "" if fresh else ", again"
        )

    async def _make(self, task: Task) -> _Ready:
        a = task.assignment
        with self._phase(a, Phase.DOWNLOAD):
            params = await self._download(a)
        try:
            set_ = await self.thread.run(self._levers.apply, a)
            with self._phase(a, Phase.TRAIN, set_):
                outcome = await self.thread.run(self._worker.train, task, params, self._training_progress(a))
        finally:
            await self.thread.run(self._levers.release)
        del params
        self._ready = None
        update = outcome.update
        if task.clip_norm is not None:
            with self._phase(a, Phase.CLIP):
                update = await self.thread.run(clipped, update, task.clip_norm)
        with self._phase(a, Phase.QUANTIZE):
            encoded = await self.thread.run(self._worker.encode, task, update)
        del update
        attempt = ""
        if task.masking is not None:
            keys = await self.secrecy.agreed(a.run, a.round)
            attempt = keys.attempt
            with self._phase(a, Phase.MASK):
                encoded = await self.thread.run(self._worker.mask, encoded, task.masking, keys)
        header = UpdateHeader(
            a.run,
            a.round,
            a.device,
            encoded.digest,
            encoded.size_bytes,
            0,
            outcome.samples,
            outcome.loss,
            PROTOCOL_VERSION,
            encoded.update_range,
            attempt,
        )
        return _Ready(header, encoded)

    async def _download(self, a: Assignment) -> dict[str, np.ndarray]:
        path = await self.thread.run(self._cache.find, a.model_sha256)
        attempt = 1
        while path is None:
            with await self.thread.run(self._cache.receive, a.model_sha256) as incoming:
                if incoming.held_bytes < a.model_bytes:
                    await self._client.download(a, incoming, self._progress(a, Phase.DOWNLOAD, a.model_bytes))
                try:
                    path = self._cache.admit(incoming)
                except DataCorrupt:
                    if attempt == CORRUPT_DOWNLOADS:
                        raise
            attempt += 1
        return await self.thread.run(self._worker.decode, path)

    @contextlib.contextmanager
    def _phase(self, a: Assignment, phase: Phase, levers: tuple[LeverOutcome, ...] = ()) -> Iterator[None]:
        with self._meter.phase(phase, partial(self._measured, a, levers)):
            yield

    def _measured(self, a: Assignment, levers: tuple[LeverOutcome, ...], window: Window) -> None:
        self._report(
            PhaseMeasured(
                uuid.uuid4().hex,
                a.run,
                a.round,
                window.phase,
                window.started_at_s,
                window.seconds,
                window.readings,
                levers,
            )
        )

    def _training_progress(self, a: Assignment) -> Callable[[int, float | None], None]:
        loop = asyncio.get_running_loop()
        throttle = _Throttle()

        def progress(done: int, loss: float | None) -> None:
            self._rest()
            if throttle.due() or done == a.train_steps:
                message = Progress(a.run, a.round, Phase.TRAIN, done, a.train_steps, loss)
                loop.call_soon_threadsafe(self._report, message)

        return progress

    def _rest(self) -> None:
        """Between two steps: stops a training nobody wants, and rests where the device is to be slower."""
        due_s = 1.0
        while due_s > 0:
            self.thread.stop_if_unwanted()
            due_s = self._levers.rest()

    def _progress(self, a: Assignment, phase: Phase, total: int) -> Callable[[int], None]:
        throttle = _Throttle()

        def progress(done: int) -> None:
            if throttle.due():
                self._report(Progress(a.run, a.round, phase, done, total))

        return progress


class _Throttle:
    """Lets one through every PROGRESS_INTERVAL_S."""

    def __init__(self) -> None:
        self._next_s = 0.0

    def due(self) -> bool:
        now = time.monotonic()
        if now < self._next_s:
            return False
        self._next_s = now + PROGRESS_INTERVAL_S
        return True
