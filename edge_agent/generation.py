"""Makes images on this device: model here and in memory, denoise, send; each inside a window of the meter.

A model and its network stay in memory between batches, so a window of generation holds nothing but denoising. What
is measured of a batch is said before that it has ended.
"""

import asyncio
import hashlib
import json
import logging
import time
import uuid
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

import quantizer
from edge_agent.cache import Incoming
from edge_agent.client import FleetClient
from edge_agent.energy.meter import DeviceMeter, Window
from edge_agent.model_shelf import ModelShelf
from edge_agent.work_thread import WorkThread
from fleet.domain import AgentMessage, Phase
from fleet.errors import DataCorrupt, LateUpdate, StrangerUpdate
from fleet.generation import (
    Batch,
    GenerationEnded,
    GenerationMeasured,
    GenerationProgress,
    GenerationTask,
    ImagesHeader,
    KeepModels,
    ModelRef,
    ModelsHeld,
    Preview,
)
from fleet.images import pack
from fleet.rpc import PROTOCOL_VERSION
from workloads import generating
from workloads.generating import Painter

log = logging.getLogger(__name__)

PROGRESS_INTERVAL_S = 0.25
LOADED = 2
"""Networks that stay in memory."""

LARGEST_PASS = 64
"""Images that are denoised at once; a larger batch takes several passes."""

PREVIEWED = 16
"""Images of a request that a preview shows."""

CORRUPT_DOWNLOADS = 2
KEPT = "kept"


class Generator:
    """One device's. `report` is called, on the event loop, with everything the coordinator should hear."""

    def __init__(
        self,
        client: FleetClient,
        device: str,
        shelf: ModelShelf,
        data: Path | None,
        meter: DeviceMeter,
        thread: WorkThread,
        report: Callable[[AgentMessage], None],
    ) -> None:
        self._client, self._device, self._shelf, self._data = client, device, shelf, data
        self._meter, self._thread, self._report = meter, thread, report
        self._loaded: OrderedDict[tuple[str, int], Painter] = OrderedDict()
        self._kept: tuple[ModelRef, ...] = ()

    def go_by(self, device: str) -> None:
        """The name of this device from now on."""
        self._device = device

    def held(self) -> ModelsHeld:
        """The models that are here."""
        return ModelsHeld(self._shelf.sha256(), self._shelf.held_bytes(), self._shelf.storage_bytes)

    def keep(self, order: KeepModels) -> bool:
        """Takes the order; whether there is something to fetch for it."""
        self._kept = order.models
        self._shelf.kept = frozenset(m.sha256 for m in order.models)
        return any(m.sha256 not in self._shelf.sha256() for m in order.models)

    async def fetch_kept(self) -> None:
        """Fetches what is to be kept and is not here, one after the other."""
        for model in self._kept:
            if model.sha256 not in self._shelf.sha256() and self._shelf.fits_beside_kept(model.size_bytes):
                with self._meter.phase(Phase.DOWNLOAD, lambda window: None):
                    await self._fetch(model.run, model.sha256, model.size_bytes, KEPT)

    async def carry_out(self, task: GenerationTask) -> None:
        """Returns when the images are safe and everything is said. Raises what stopped it; cancelling stops it
        too.
        """
        try:
            await self._make_and_send(task)
        finally:
            self._meter.settle()
        self._report(GenerationEnded(task.batch.batch))

    async def _make_and_send(self, task: GenerationTask) -> None:
        batch = task.batch
        painter = self._loaded.get((batch.model_sha256, batch.recipe.bits))
        if painter is None:
            with self._phase(batch, Phase.DOWNLOAD):
                painter = await self._load(task)
        with self._phase(batch, Phase.GENERATE):
            images = await self._thread.run(self._paint, batch, painter, asyncio.get_running_loop())
        with self._phase(batch, Phase.UPLOAD):
            await self._send_all(batch, images)

    async def _load(self, task: GenerationTask) -> Painter:
        batch = task.batch
        path = await self._thread.run(self._shelf.find, batch.model_sha256)
        if path is None:
            path = await self._fetch(batch.run, batch.model_sha256, batch.model_bytes, batch.batch)
        painter = await self._thread.run(self._build, task, path)
        self._loaded[batch.model_sha256, batch.recipe.bits] = painter
        while len(self._loaded) > LOADED:
            self._loaded.popitem(last=False)
        return painter

    def _build(self, task: GenerationTask, path: Path) -> Painter:
        params = quantizer.decode(path.read_bytes(), verify=False)
        options = json.loads(task.options_json)
        return generating.painter(task.workload, options, params, task.batch.recipe.bits, self._data)

    async def _fetch(self, run: str, sha256: str, size_bytes: int, batch: str) -> Path:
        """The model's file; what had to go for it is gone."""
        self._shelf.make_room(size_bytes)
        for attempt in range(1, CORRUPT_DOWNLOADS + 1):
            with await self._thread.run(self._shelf.receive, sha256) as incoming:
                if incoming.held_bytes < size_bytes:
                    await self._client.download_model(run, sha256, batch, self._device, incoming)
                try:
                    path = self._admitted(incoming)
                except DataCorrupt:
                    if attempt == CORRUPT_DOWNLOADS:
                        raise
                else:
                    self._report(self.held())
                    return path
        raise AssertionError("the last attempt raises")

    def _admitted(self, incoming: Incoming) -> Path:
        return self._shelf.admit(incoming)

    def _paint(self, batch: Batch, painter: Painter, loop: asyncio.AbstractEventLoop) -> np.ndarray:
        """All images of the batch, portion after portion. In the thread."""
        seeds = [s for p in batch.portions for s in generating.noise_seeds(p.seed, p.images)]
        passes = [seeds[at : at + LARGEST_PASS] for at in range(0, len(seeds), LARGEST_PASS)]
        said = _Said(batch, len(passes))
        parts: list[np.ndarray] = []

        def watch(done: int, now: Callable[[], np.ndarray]) -> None:
            self._thread.stop_if_unwanted()
            for message in said.due(len(parts), done, now):
                loop.call_soon_threadsafe(self._report, message)

        for part in passes:
            parts.append(painter.paint(batch.recipe.widths, batch.recipe.sampler, part, watch))
        return np.concatenate(parts)

    async def _send_all(self, batch: Batch, images: np.ndarray) -> None:
        at = 0
        for portion in batch.portions:
            mine = images[at : at + portion.images]
            at += portion.images
            payload = await self._thread.run(pack, mine)
            header = ImagesHeader(
                batch.batch,
                portion.request,
                batch.device,
                hashlib.sha256(payload).hexdigest(),
                len(payload),
                0,
                PROTOCOL_VERSION,
            )
            try:
                await self._client.upload_images(header, payload)
            except (LateUpdate, StrangerUpdate) as error:
                log.info("images of request %s are not wanted: %s", portion.request, error)

    @contextmanager
    def _phase(self, batch: Batch, phase: Phase) -> Iterator[None]:
        def measured(window: Window) -> None:
            place = (uuid.uuid4().hex, batch.batch, window.phase)
            self._report(GenerationMeasured(*place, window.started_at_s, window.seconds, window.readings))

        with self._meter.phase(phase, measured):
            yield


class _Said:
    """What was said of a batch on its way: steps now and then, and as many previews as each request wants."""

    def __init__(self, batch: Batch, passes: int) -> None:
        self._batch, self._steps = batch, batch.recipe.steps * passes
        self._next_s = 0.0
        self._shown = {p.request: 0 for p in batch.portions}

    def due(self, whole_passes: int, done: int, now: Callable[[], np.ndarray]) -> Iterator[GenerationProgress]:
        """The message that is due after `done` steps of the pass after `whole_passes`, if one is."""
        steps = whole_passes * self._batch.recipe.steps + done
        previews = tuple(self._previews(whole_passes, done, now))
        if previews or time.monotonic() >= self._next_s:
            self._next_s = time.monotonic() + PROGRESS_INTERVAL_S
            yield GenerationProgress(self._batch.batch, steps, self._steps, previews)

    def _previews(self, whole_passes: int, done: int, now: Callable[[], np.ndarray]) -> Iterator[Preview]:
        """Evenly over the steps of the first pass, none after the last step: then the images themselves come."""
        steps = self._batch.recipe.steps
        at = 0
        for portion in self._batch.portions:
            first, at = at, at + portion.images
            wanted = portion.previews * done // steps
            if whole_passes or done == steps or first >= LARGEST_PASS or wanted <= self._shown[portion.request]:
                continue
            self._shown[portion.request] = wanted
            shown = now()[first : min(at, LARGEST_PASS)][:PREVIEWED]
            yield Preview(portion.request, generating.sheet_png(shown, columns=4))
