"""How the effects of generation are carried out: plans, batches pushed to devices, models kept."""

import asyncio
import json
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

from coordinator.events import Event, RequestRefused
from coordinator.generation import keeping
from coordinator.generation.book import Book
from coordinator.generation.costing import Costs
from coordinator.generation.due import GenerationEffect, PlaceRequests, PushBatch, PushKept, ReviewModels
from coordinator.generation.fleet_view import Serving, serving
from coordinator.generation.placing import Known, Placing
from coordinator.loop import Loop
from coordinator.machine import State
from coordinator.sessions import Sessions
from fleet.errors import WattbedError
from fleet.generation import CancelGeneration, GenerationTask, KeepModels, ModelRef, Recipe
from optimizer.generation.quality import QualityLaws, from_numbers

log = logging.getLogger(__name__)

T = TypeVar("T")

FALLBACK = Recipe((1.0,) * 20, "ddim")
"""How images are made where neither the request nor the workload says."""


class GenerationEffects:
    """Carries out what is due of requests. `loop` is asked for when it is there."""

    def __init__(
        self, loop: Callable[[], Loop], sessions: Sessions, macs_of: Callable[[ModelRef], float | None]
    ) -> None:
        self._loop = loop
        self._sessions = sessions
        self.costs = Costs(macs_of)
        self._laws: dict[str, QualityLaws] = {}

    async def execute(self, effect: GenerationEffect) -> Sequence[Event]:
        """The events that `effect` led to."""
        match effect:
            case PlaceRequests():
                return await self._place(effect.decided)
            case PushBatch():
                await self._push(effect)
            case PushKept():
                if session := self._sessions.find(effect.device, effect.session):
                    session.send(KeepModels(effect.models))
            case ReviewModels():
                loop = self._loop()
                return keeping.review(loop.state, loop.now_s(), effect.since_s)
        return ()

    async def _place(self, number: int) -> Sequence[Event]:
        """A decision on every request that has no place; one that cannot be planned is refused, not forgotten."""
        loop = self._loop()
        book, waiting = loop.book, loop.state.generations.requests.values()
        unplaced = [a for a in waiting if a.batch is None]
        try:
            await asyncio.to_thread(self.costs.know, [a.model for a in waiting])
            state, now_s = loop.state, loop.now_s()
            unplaced = [a for a in state.generations.requests.values() if a.batch is None]
            fleet = self.fleet(state, book, now_s)
            models = {a.model.sha256: a.model for a in state.generations.requests.values()}
            known = {sha: self._known(state, model) for sha, model in models.items()}
            lost = {a.request.request: _lost_on(book, a.request.request) for a in unplaced if a.interrupted}
            placing = Placing(fleet, known, state.generations.requests, lost, now_s, number)
            return await asyncio.to_thread(placing.events, unplaced)
        except Exception as error:
            log.exception("no plan for %d requests", len(unplaced))
            reason = str(error) if isinstance(error, WattbedError) else f"{type(error).__name__}: {error}"
            now_s = loop.now_s()
            return [
                RequestRefused(now_s, a.request.run, a.request.request, f"planning: {reason}") for a in unplaced
            ]

    def fleet(self, state: State, book: Book, now_s: float) -> dict[str, Serving]:
        """Who may serve, and what the models that are asked for cost there."""
        models = {a.model.sha256: a.model for a in state.generations.requests.values()}
        costs = {name: self.costs.of(state, book, name, models.values()) for name in state.devices}
        return serving(state, book, costs, now_s)

    def _known(self, state: State, model: ModelRef) -> Known:
        laws = {m: self._read(text) for (sha, m), text in state.generations.laws.items() if sha == model.sha256}
        return Known(laws, as_evaluated(model))

    def _read(self, text: str) -> QualityLaws:
        if text not in self._laws:
            self._laws[text] = from_numbers(json.loads(text))
        return self._laws[text]

    async def _push(self, push: PushBatch) -> None:
        """Has the batch with the device until it is no longer due, and withdraws what was not delivered."""
        session = self._sessions.find(push.device, push.session)
        placed = self._loop().state.generations.batches.get(push.batch)
        if session is None or placed is None:
            return
        model = self._loop().state.generations.models[placed.batch.model_sha256]
        session.send(GenerationTask(placed.batch, model.workload, model.options_json))
        try:
            await asyncio.Event().wait()
        finally:
            page = self._loop().book.batches[push.batch]
            pages = self._loop().book.requests
            requests = [p.request for p in placed.batch.portions]
            if page.ended is None and not all(pages[r].status == "served" for r in requests if r in pages):
                session.send(CancelGeneration(push.batch, "nobody waits for it any more"))


def as_evaluated(model: ModelRef) -> Recipe:
    """At full width, with the sampler and the steps that the run's evaluation used."""
    options: Mapping[str, object] = json.loads(model.options_json or "{}")
    judging = options.get("evaluation")
    if not isinstance(judging, Mapping) or "denoise_steps" not in judging:
        return FALLBACK
    return Recipe((1.0,) * int(judging["denoise_steps"]), str(judging.get("sampler", FALLBACK.sampler)))


def _lost_on(book: Book, request: str) -> frozenset[str]:
    batches = [book.batches[b] for b in book.page(request).batches if b in book.batches]
    return frozenset(b.batch.device for b in batches)
