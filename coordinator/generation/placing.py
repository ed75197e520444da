"""Where requests go: the planner's answer as events. Pure: the same state, laws and costs give the same events.

A request that says how its images are to be made goes to the end of the queue where it costs least and is not
late; the others are planned together by optimizer.generation, which may put them before or into batches that have
not begun. One that cannot be met is refused at once, with what could be. A request that a device was lost with is
served in any case, as soon as it can be.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import inf

from coordinator.events import BatchWithdrawn, Event, RequestRefused, RequestsPlaced
from coordinator.generation.fleet_view import LARGEST_BATCH, Serving, may_serve, model_fits
from coordinator.generation.state import Asked, Placed
from fleet.generation import Batch, Feasible, GenerationRequest, ModelRef, Portion, Recipe
from optimizer.generation import serving as planner
from optimizer.generation.quality import QualityLaws

NO_DEADLINE_S = 3600.0
"""What a request without a deadline is planned with."""

WIDTHS = (0.25, 0.5, 0.75, 1.0)
"""Widths to choose from where the laws do not say which were measured."""

MOST_STEP_CHOICES = 20
"""A millisecond each per device. Laws from 1 to 20 steps leave out no number that somebody could fix by hand."""


@dataclass(frozen=True)
class Known:
    """What is known of a model: its quality laws by metric, and how it was evaluated."""

    laws: Mapping[str, QualityLaws]
    as_evaluated: Recipe


@dataclass(frozen=True)
class _Offer:
    """A place for a request: when, for how many joules more, and by when the batch it joins must be done."""

    serving: Serving
    start_at_s: float
    ends_at_s: float
    joules: float
    due_at_s: float = inf
    joined: Placed | None = None


class Placing:
    """One plan. `known` is by model, `lost_on` by request the devices that it failed on."""

    def __init__(
        self,
        fleet: Mapping[str, Serving],
        known: Mapping[str, Known],
        requests: Mapping[str, Asked],
        lost_on: Mapping[str, frozenset[str]],
        now_s: float,
        number: int,
    ) -> None:
        self._fleet, self._known, self._requests = fleet, known, requests
        self._lost_on, self._now_s, self._number = lost_on, now_s, number
        self._queues: dict[str, list[Placed]] = {name: list(s.waiting) for name, s in fleet.items()}
        self._before = {name: tuple(s.waiting) for name, s in fleet.items()}
        self._refused: list[RequestRefused] = []
        self._made = 0

    def events(self, unplaced: Sequence[Asked]) -> list[Event]:
        """Each of `unplaced` placed or refused."""
        order = sorted(unplaced, key=lambda a: (-a.request.priority, a.at_s, a.request.request))
        free = [a for a in order if self._recipe_for(a) is None]
        for asked in order:
            if (recipe := self._recipe_for(asked)) is not None:
                self._append(asked, recipe, None, "")
        if free:
            self._plan(free)
        return [*self._refused, *self._changes()]

    def _recipe_for(self, asked: Asked) -> Recipe | None:
        """How the images are to be made where that is not ours to choose."""
        request = asked.request
        if request.recipe is not None:
            return request.recipe
        return self._known[asked.model.sha256].as_evaluated if request.quality is None else None

    def _able(self, asked: Asked) -> list[Serving]:
        """Who may serve; one that it failed on only where there is no other."""
        able = [
            s
            for s in self._fleet.values()
            if may_serve(asked.request, s.name, s.place)
            and asked.model.sha256 in s.costs
            and model_fits(s.device, asked.model)
        ]
        lost = self._lost_on.get(asked.request.request, frozenset())
        return [s for s in able if s.name not in lost] or able

    # At the end of a queue

    def _append(self, asked: Asked, recipe: Recipe, quality: float | None, metric: str) -> None:
        able = self._able(asked)
        if not able:
            self._refuse(asked, self._nobody(asked), None)
            return
        due_s = self._now_s + NO_DEADLINE_S if asked.deadline_at_s is None else asked.deadline_at_s
        offers = [offer for s in able for offer in self._offers(asked, recipe, s)]
        in_time = [o for o in offers if o.ends_at_s <= o.due_at_s and o.ends_at_s <= due_s]
        alone = [o for o in offers if o.joined is None]
        soonest = min(alone, key=lambda o: (o.ends_at_s, o.serving.name))
        if not in_time and not asked.interrupted:
            soonest_s = soonest.ends_at_s - asked.at_s
            where = f"not before {soonest_s:.2f} s after it was asked for, on {soonest.serving.name}"
            self._refuse(asked, f"{where}; {due_s - asked.at_s:.2f} s were given", Feasible(within_s=soonest_s))
            return
        best = min(in_time, key=lambda o: (o.joules, o.ends_at_s, o.serving.name)) if in_time else soonest
        self._put(asked, recipe, best, quality, metric)

    def _offers(self, asked: Asked, recipe: Recipe, serving: Serving) -> Iterator["_Offer"]:
        """At the end of a queue as a batch of its own, or in the last batch there."""
        model, images = asked.model, asked.request.images
        cost = serving.costs[model.sha256].joules
        start_s = self._tail_s(serving)
        queue = self._queues[serving.name]
        idle = not queue and serving.begun_until_s <= self._now_s
        loaded = any(p.batch.model_sha256 == model.sha256 for p in queue)
        ends_s = start_s + serving.seconds(model, images, recipe, first=idle, loaded=loaded)
        yield _Offer(serving, start_s, ends_s, cost.of(images, recipe.widths))
        last = queue[-1] if queue else None
        if last is None or last.batch.recipe != recipe or last.batch.model_sha256 != model.sha256:
            return
        together = last.batch.images + images
        if together > LARGEST_BATCH:
            return
        start_s -= self._lasts_s(serving, last)
        dues = [self._requests[r].deadline_at_s for r in last.left if r in self._requests]
        due_s = min([d for d in dues if d is not None], default=inf)
        more = cost.of(together, recipe.widths) - cost.of(last.batch.images, recipe.widths)
        ends_s = start_s + serving.seconds(model, together, recipe, first=False, loaded=loaded)
        yield _Offer(serving, start_s, ends_s, more, due_s, last)

    def _put(self, asked: Asked, recipe: Recipe, offer: "_Offer", quality: float | None, metric: str) -> None:
        portions: tuple[Portion, ...] = (portion(asked.request),)
        left: tuple[str, ...] = (asked.request.request,)
        queue = self._queues[offer.serving.name]
        if offer.joined is not None:
            queue.remove(offer.joined)
            portions, left = (*offer.joined.batch.portions, *portions), (*offer.joined.left, *left)
        images = sum(p.images for p in portions)
        batch = Batch(
            self._name(),
            asked.request.run,
            offer.serving.name,
            asked.model.sha256,
            asked.model.size_bytes,
            recipe,
            portions,
            offer.serving.expected(asked.model, images, recipe, quality, metric),
        )
        queue.append(Placed(batch, self._now_s, offer.start_at_s, offer.ends_at_s, left))

    def _tail_s(self, serving: Serving) -> float:
        """When the last batch in a queue will be done, by what is known now."""
        queue = self._queues[serving.name]
        return max(self._now_s, serving.begun_until_s) + sum(self._lasts_s(serving, p) for p in queue)

    def _lasts_s(self, serving: Serving, placed: Placed) -> float:
        model = next((self._requests[r].model for r in placed.left if r in self._requests), None)
        before_s = placed.ends_at_s - placed.starts_at_s
        if model is None or model.sha256 not in serving.costs:
            return before_s
        now_s = serving.seconds(model, placed.batch.images, placed.batch.recipe, first=False, loaded=False)
        return now_s if serving.costs[model.sha256].samples else before_s

    # By the planner

    def _plan(self, free: Sequence[Asked]) -> None:
        wanted: list[planner.Request] = []
        for asked in free:
            if refusal := self._not_plannable(asked):
                self._refuse(asked, refusal, None)
            elif asked.interrupted and not self._in_reach(asked):
                self._rather_late(asked)
            else:
                wanted.append(self._request(asked))
        if not wanted:
            return
        models = self._models(wanted)
        laws = {name: self._laws(name) for name in models}
        offered = {name: (m, _widths(laws[name])) for name, m in models.items()}
        fixed = {name for name, queue in self._queues.items() if any(self._is_fixed(p) for p in queue)}
        servers = [
            s.server(offered, self._tail_s(s) if s.name in fixed else max(self._now_s, s.begun_until_s))
            for s in self._fleet.values()
        ]
        queued = {
            p.batch.batch: self._queued(p)
            for name, queue in self._queues.items()
            if name not in fixed
            for p in queue
        }
        plan = planner.plan(
            wanted,
            servers,
            laws,
            now_s=self._now_s,
            steps=sorted({s for law in laws.values() for s in step_choices(law)}),
            queued=list(queued.values()),
        )
        self._take(plan, {name for name in self._queues if name not in fixed})

    def _not_plannable(self, asked: Asked) -> str | None:
        demand, laws = asked.request.quality, self._known[asked.model.sha256].laws
        if not self._able(asked):
            return self._nobody(asked)
        if demand is not None and demand.metric not in laws:
            known = f"its {', '.join(laws)}, not its" if laws else "nothing, nor its"
            return (
                f"what is known of the quality of the model of {asked.request.run} is {known} {demand.metric}: "
                "measure it, or say how the images are to be made"
            )
        return None

    def _in_reach(self, asked: Asked) -> bool:
        return asked.deadline_at_s is None or asked.deadline_at_s > self._now_s

    def _rather_late(self, asked: Asked) -> None:
        """A device was lost with it and its deadline has passed: made at full width, as soon as can be."""
        known = self._known[asked.model.sha256]
        self._append(asked, known.as_evaluated, None, "")

    def _request(self, asked: Asked) -> planner.Request:
        request, due_s = asked.request, asked.deadline_at_s
        able = {s.name for s in self._able(asked)}
        return planner.Request(
            name=request.request,
            model=_named(asked),
            images=request.images,
            quality=request.quality.at_most if request.quality else float("inf"),
            deadline_at_s=self._now_s + NO_DEADLINE_S if due_s is None else due_s,
            arrived_at_s=asked.at_s,
            priority=request.priority,
            not_on=frozenset(self._fleet.keys() - able),
        )

    def _models(self, wanted: Sequence[planner.Request]) -> dict[str, ModelRef]:
        """Of the requests and of the queued batches that the planner may change, by the planner's name."""
        names = [r.name for r in wanted]
        names += [r for queue in self._queues.values() for p in queue if not self._is_fixed(p) for r in p.left]
        asked = [self._requests[n] for n in names if n in self._requests]
        return {_named(a): a.model for a in asked}

    def _laws(self, name: str) -> QualityLaws:
        sha256, _, metric = name.partition(":")
        return self._known[sha256].laws[metric]

    def _is_fixed(self, placed: Placed) -> bool:
        """A batch whose recipe is not ours to change."""
        asked = [self._requests[r] for r in placed.left if r in self._requests]
        return any(self._recipe_for(a) is not None or self._not_plannable(a) for a in asked)

    def _queued(self, placed: Placed) -> planner.Batch:
        batch, expected = placed.batch, placed.batch.expected
        requests = tuple(self._request(self._requests[r]) for r in placed.left)
        predicted = expected.quality if expected.quality is not None else inf
        return planner.Batch(
            server=batch.device,
            model=requests[0].model,
            bits=batch.recipe.bits,
            widths=batch.recipe.widths,
            requests=requests,
            start_at_s=placed.starts_at_s,
            seconds=placed.ends_at_s - placed.starts_at_s,
            joules=expected.joules or 0.0,
            quality=float(self._laws(requests[0].model).promised(predicted)),
        )

    def _take(self, plan: planner.Plan, changeable: set[str]) -> None:
        for refusal in plan.refusals:
            self._refuse_planned(refusal)
        ready_s: dict[int, float] = {}
        for placement in plan.placements:
            ready_s[placement.batch] = max(ready_s.get(placement.batch, 0.0), placement.ready_at_s)
        queues: dict[str, list[Placed]] = {name: [] for name in changeable}
        for at, batch in enumerate(plan.batches):
            made = self._placed(batch, ready_s.get(at, batch.start_at_s + batch.seconds))
            queues.setdefault(batch.server, list(self._queues[batch.server])).append(made)
        self._queues.update(queues)

    def _placed(self, planned: planner.Batch, ready_s: float) -> Placed:
        asked = [self._requests[r.name] for r in planned.requests]
        model, serving = asked[0].model, self._fleet[planned.server]
        laws = self._laws(planned.model)
        recipe = Recipe(planned.widths, laws.sampler, planned.bits)
        batch = Batch(
            self._name(),
            asked[0].request.run,
            planned.server,
            model.sha256,
            model.size_bytes,
            recipe,
            tuple(portion(a.request) for a in asked),
            serving.expected(
                model, planned.images, recipe, laws.quality_of(recipe.widths, recipe.bits), laws.metric
            ),
        )
        left = tuple(r.name for r in planned.requests)
        return Placed(batch, self._now_s, planned.start_at_s, ready_s, left)

    def _refuse_planned(self, refusal: planner.Refusal) -> None:
        asked = self._requests[refusal.request]
        if asked.interrupted:
            self._rather_late(asked)
            return
        soonest_s = None if refusal.soonest_at_s is None else refusal.soonest_at_s - asked.at_s
        feasible = Feasible(within_s=soonest_s, at_most=refusal.best_quality)
        self._refuse(asked, f"{refusal.constraint}: {refusal.reason}", feasible)

    # What came of it

    def _nobody(self, asked: Asked) -> str:
        request = asked.request
        where = {
            "local": f"its device {request.origin}",
            "edge": "an edge server",
            "device": f"device {request.device}",
        }
        named = where.get(request.where, "a device that generates")
        return (
            f"{named} is not here, trains, is being calibrated, is drained, or has no room for "
            f"{asked.model.size_bytes} bytes"
        )

    def _refuse(self, asked: Asked, reason: str, feasible: Feasible | None) -> None:
        request = asked.request
        self._refused.append(RequestRefused(self._now_s, request.run, request.request, reason, feasible))

    def _name(self) -> str:
        self._made += 1
        return f"b{self._number}.{self._made}"

    def _changes(self) -> list[Event]:
        """What differs from the queues as they were: behind what is kept, batches are placed anew."""
        events: list[Event] = []
        for name, queue in self._queues.items():
            before = self._before[name]
            kept = 0
            while kept < min(len(before), len(queue)) and _same(before[kept], queue[kept]):
                kept += 1
            for old in before[kept:]:
                events.append(BatchWithdrawn(self._now_s, old.batch.run, old.batch.batch))
            last_s = before[kept - 1].starts_at_s if kept else 0.0
            for new in queue[kept:]:
                last_s = max(new.starts_at_s, last_s + 1e-6)
                ends_s = max(new.ends_at_s, last_s)
                events.append(RequestsPlaced(self._now_s, new.batch.run, new.batch, last_s, ends_s))
        withdrawn = [e for e in events if isinstance(e, BatchWithdrawn)]
        return [*withdrawn, *(e for e in events if not isinstance(e, BatchWithdrawn))]


def _named(asked: Asked) -> str:
    """The planner's name of a model, which has one measure of quality for it."""
    metric = asked.request.quality.metric if asked.request.quality else ""
    return f"{asked.model.sha256}:{metric}"


def _widths(laws: QualityLaws) -> tuple[float, ...]:
    return laws.by_step.widths if laws.by_step else WIDTHS


def _same(a: Placed, b: Placed) -> bool:
    return a.left == b.left and a.batch.recipe == b.batch.recipe


def portion(request: GenerationRequest) -> Portion:
    """The images of one request."""
    return Portion(request.request, request.images, request.seed, request.previews)


def step_choices(laws: QualityLaws) -> list[int]:
    """Numbers of steps to choose from: those that were measured, and between them while there are few."""
    known = sorted({round(s) for s in laws.steps.steps})
    while len(known) < MOST_STEP_CHOICES:
        between = {round((a * b) ** 0.5) for a, b in pairwise(known)} - set(known)
        if not between:
            break
        known = sorted({*known, *sorted(between)[: MOST_STEP_CHOICES - len(known)]})
    return known


def fits(request: GenerationRequest) -> str | None:
    """Why no device could ever make these images, None where one could."""
    if not 1 <= request.images <= LARGEST_BATCH:
        return f"{request.images} images; one request has 1 to {LARGEST_BATCH}"
    if request.where not in ("any", "local", "edge", "device"):
        return f"where = {request.where!r}; known are any, local, edge and device"
    if request.where == "local" and not request.origin:
        return "where = 'local' needs an origin"
    return None
