"""What operators ask of generation: images, an end to it, the ledger of requests, what a model is worth.

A request outlives the call that made it: the same id joins it again, also after a restart. One that nobody has
listened to for CLIENT_AWAY_S is cancelled.
"""

import asyncio
import json
import time
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

from coordinator.events import QualityMeasured, RequestCancelled, RequestReceived
from coordinator.generation.intake import Intake
from coordinator.generation.placing import fits
from coordinator.loop import Loop
from coordinator.shelves import Shelves, checked_name
from fleet import wire
from fleet.calibration_plans import options_json
from fleet.domain import LoggedEvent
from fleet.errors import BadRequest, IllegalMove
from fleet.generation import GenerationProgress, GenerationRequest, ModelRef, Recipe, RequestReport
from fleet.v1 import operator_pb2
from optimizer.generation.quality import from_numbers

CLIENT_AWAY_S = 5.0
"""A request that nobody has listened to for so long is cancelled; a client that was cut off comes back sooner."""

WINDOWS_S = 5.0
"""How long the last message waits for what the device measured, once the images are here."""

OVER = frozenset({"served", "refused", "cancelled", "failed", "expired"})
SAMPLERS = ("ddpm", "ddim", "dpm++")
MOST_STEPS = 4000


class GenerationService:
    """The calls of the Operator service that are about images."""

    def __init__(self, loop: Loop, shelves: Shelves, intake: Intake) -> None:
        self._loop = loop
        self._shelves = shelves
        self._intake = intake
        self._listening: Counter[str] = Counter()
        self._alone_since_s: dict[str, float] = {}

    async def generate(self, message: Any) -> AsyncIterator[Any]:
        """Places, progress, images, and at the end the request's report."""
        request: GenerationRequest = wire.from_proto(message.request)
        checked(request)
        name = request.request
        news: asyncio.Queue[LoggedEvent | GenerationProgress] = asyncio.Queue()
        endings = (
            self._loop.watch(request.run, news.put_nowait),
            self._intake.watch(name, news.put_nowait),
        )
        self._listening[name] += 1
        try:
            if name not in self._loop.book.requests:
                await self._receive(request)
            async for answer in self._follow(name, news):
                yield answer
        finally:
            for end in endings:
                end()
            self._listening[name] -= 1
            if not self._listening[name]:
                del self._listening[name]

    async def _receive(self, request: GenerationRequest) -> None:
        run = self._loop.state.run(request.run)
        if not run.model_sha256:
            raise IllegalMove(f"run {run.run} is {run.phase} and has no model yet")
        if not run.phase.ended:
            needed = frozenset(a.model.sha256 for a in self._loop.state.generations.requests.values())
            copy = self._shelves.copy_to_serve
            await asyncio.to_thread(copy, run.run, run.model_sha256, needed)
        workload = run.experiment.workload
        size_bytes = self._shelves.serving(run.run, run.model_sha256).size(run.model_sha256)
        model = ModelRef(run.run, run.model_sha256, size_bytes, workload.name, options_json(workload))
        await self._loop.submit(RequestReceived(self._loop.now_s(), request.run, request, model))

    async def _follow(
        self, name: str, news: "asyncio.Queue[LoggedEvent | GenerationProgress]"
    ) -> AsyncIterator[Any]:
        """What is new about a request until it is over and its device has said all."""
        told_batch, told_images = "", False
        until_s: float | None = None
        while True:
            report = self._loop.book.report(name)
            if report.placement is not None and report.placement.batch != told_batch:
                told_batch = report.placement.batch
                yield operator_pb2.GenerateResponse(placed=wire.to_proto(report.placement))
            if report.status == "served" and not told_images:
                told_images, until_s = True, time.monotonic() + WINDOWS_S
                yield operator_pb2.GenerateResponse(images=wire.to_proto(report))
            if report.status in OVER and (report.status != "served" or report.complete):
                break
            left_s = None if until_s is None else until_s - time.monotonic()
            if left_s is not None and left_s <= 0:
                break
            try:
                message = await asyncio.wait_for(news.get(), left_s)
            except TimeoutError:
                break
            if isinstance(message, GenerationProgress):
                yield operator_pb2.GenerateResponse(progress=wire.to_proto(message))
        yield operator_pb2.GenerateResponse(done=wire.to_proto(self._loop.book.report(name)))

    async def cancel(self, message: Any) -> Any:
        """Cancels a request; what is over stays as it is."""
        report = self._loop.book.report(message.request)
        if report.status not in OVER:
            await self._cancel(report, message.reason or "cancelled by its operator")
        return operator_pb2.CancelRequestResponse(report=wire.to_proto(self._loop.book.report(message.request)))

    async def _cancel(self, report: RequestReport, reason: str) -> None:
        request = report.request
        await self._loop.submit(RequestCancelled(self._loop.now_s(), request.run, request.request, reason))

    async def cancel_the_deserted(self) -> None:
        """Never returns: cancels each request that nobody has listened to for CLIENT_AWAY_S."""
        while True:
            await asyncio.sleep(CLIENT_AWAY_S / 10)
            now_s, active = time.monotonic(), self._loop.state.generations.requests
            alone = [name for name in active if name not in self._listening]
            self._alone_since_s = {name: self._alone_since_s.get(name, now_s) for name in alone}
            for name, since_s in self._alone_since_s.items():
                if now_s - since_s >= CLIENT_AWAY_S:
                    reason = f"nobody has listened for {CLIENT_AWAY_S:g} s"
                    self._loop.post(RequestCancelled(self._loop.now_s(), active[name].request.run, name, reason))

    def reports(self, message: Any) -> list[RequestReport]:
        """The requests of a run, the oldest first; UnknownRun."""
        self._loop.state.run(message.run)
        return self._loop.book.of_run(message.run)

    async def keep_quality(self, message: Any) -> Any:
        """Enters what a run's last model is worth; BadRequest where the laws do not read."""
        run = self._loop.state.run(message.run)
        try:
            numbers = json.loads(message.laws_json)
        except json.JSONDecodeError as error:
            raise BadRequest(f"the quality laws are not JSON: {error}") from error
        if not isinstance(numbers, dict):
            raise BadRequest("the quality laws are not a table of numbers")
        laws = from_numbers(numbers)
        now_s = self._loop.now_s()
        measured = QualityMeasured(now_s, run.run, run.model_sha256, laws.metric, json.dumps(numbers))
        await self._loop.submit(measured)
        return operator_pb2.KeepQualityResponse(model_sha256=run.model_sha256)

    def quality(self, message: Any) -> Any:
        """What is known of a run's last model."""
        run = self._loop.state.run(message.run)
        known = self._loop.state.generations.laws
        mine = [laws for (sha256, _), laws in known.items() if sha256 == run.model_sha256]
        return operator_pb2.GetQualityResponse(model_sha256=run.model_sha256, laws_json=mine)


def checked(request: GenerationRequest) -> None:
    """BadRequest where no device could ever make these images, whatever it is and however long it took."""
    checked_name("request", request.request)
    if problem := fits(request):
        raise BadRequest(f"request {request.request}: {problem}")
    if request.within_s is not None and not 0 < request.within_s < 1e9:
        raise BadRequest(f"request {request.request}: within {request.within_s:g} s")
    if request.seed >= 1 << 63:
        raise BadRequest(f"request {request.request}: seed {request.seed} is not below 2^63")
    if request.recipe is not None:
        _check_recipe(request.request, request.recipe)


def _check_recipe(name: str, recipe: Recipe) -> None:
    if not 1 <= recipe.steps <= MOST_STEPS or not all(0 < w <= 1 for w in recipe.widths):
        raise BadRequest(f"request {name}: 1 to {MOST_STEPS} steps with widths in (0, 1], not {recipe.widths[:8]}")
    if recipe.sampler not in SAMPLERS:
        raise BadRequest(f"request {name}: sampler {recipe.sampler!r}; known are {', '.join(SAMPLERS)}")
    if not (1 <= recipe.bits <= 16 or recipe.bits == 32):
        raise BadRequest(f"request {name}: weights of {recipe.bits} bits; known are 1 to 16 and 32")
