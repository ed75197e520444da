"""What the events of requests, batches and kept models mean.

What a plan decided may have been overtaken while it was made: a request cancelled, a batch begun. Such parts of it
change nothing; they are no errors.
"""

from dataclasses import replace
from typing import TYPE_CHECKING

from coordinator.events import (
    BatchBytesMoved,
    BatchEnded,
    BatchMeasured,
    BatchWithdrawn,
    CoordinatorStarted,
    DeviceAttached,
    DeviceDetached,
    ModelsHeldByDevice,
    ModelsKept,
    ModelsReviewed,
    QualityMeasured,
    RequestCancelled,
    RequestFailed,
    RequestReceived,
    RequestRefused,
    RequestServed,
    RequestsPlaced,
)
from coordinator.generation.state import PATIENCE_S, Asked, Generations, Placed
from fleet.errors import IllegalMove

if TYPE_CHECKING:
    from coordinator.machine.state import State

RequestOver = RequestServed | RequestRefused | RequestCancelled | RequestFailed
GenerationEvent = (
    RequestReceived
    | RequestsPlaced
    | BatchWithdrawn
    | BatchEnded
    | BatchMeasured
    | BatchBytesMoved
    | RequestOver
    | QualityMeasured
    | ModelsKept
    | ModelsHeldByDevice
    | ModelsReviewed
)


def applied(now: Generations, event: GenerationEvent) -> Generations:
    """The state after `event`; IllegalMove for a request that was asked before."""
    match event:
        case RequestReceived():
            return _received(now, event)
        case RequestsPlaced():
            return replace(_placed(now, event), decided=now.decided + 1)
        case BatchWithdrawn():
            placed = now.batches.get(event.batch)
            if placed is None or placed.began_at_s is not None:
                return now
            return _given_back(now, placed, tries=0, lost=False)
        case BatchEnded():
            placed = now.batches.get(event.batch)
            if placed is None:
                return now  # all of it is delivered, or nobody wants it any more
            return _given_back(now, placed, tries=int(placed.began_at_s is not None), lost=True)
        case RequestServed() | RequestRefused() | RequestCancelled() | RequestFailed():
            decided = now.decided + isinstance(event, RequestRefused)
            return replace(_over(now, event.request), decided=decided)
        case BatchMeasured() | BatchBytesMoved():
            return now  # lines of the ledger
        case QualityMeasured():
            key = (event.model_sha256, event.metric)
            return replace(now, laws={**now.laws, key: event.laws_json})
        case ModelsKept():
            return replace(now, kept={**now.kept, event.device: event.models})
        case ModelsHeldByDevice():
            return replace(now, held={**now.held, event.device: event.sha256})
        case ModelsReviewed():
            return replace(now, reviewed_at_s=event.at_s, rates=dict(event.rates), asked_since={})


def happened(state: "State", event: GenerationEvent) -> "State":
    """The machine's state after `event`."""
    return _begun(replace(state, generations=applied(state.generations, event)))


def came_or_went(state: "State", event: CoordinatorStarted | DeviceAttached | DeviceDetached) -> "State":
    """After a start of the coordinator nobody counts as away for a while; who is here can begin."""
    if isinstance(event, CoordinatorStarted):
        patient = replace(state.generations, patient_until_s=event.at_s + PATIENCE_S)
        return replace(state, generations=patient)
    return _begun(state)


def _begun(state: "State") -> "State":
    """The first batch of each queue has begun once its device is there."""
    now = state.generations
    heads = {
        p.batch.batch: replace(p, began_at_s=state.now_s)
        for p in now.heads()
        if p.began_at_s is None and _is_here(state, p.batch.device)
    }
    return replace(state, generations=replace(now, batches={**now.batches, **heads})) if heads else state


def _is_here(state: "State", device: str) -> bool:
    known = state.devices.get(device)
    return known is not None and known.session is not None


def _received(now: Generations, event: RequestReceived) -> Generations:
    asked = event.request
    if asked.request in now.requests:
        raise IllegalMove(f"request {asked.request} was received before")
    sha256 = event.model.sha256
    return replace(
        now,
        requests={**now.requests, asked.request: Asked(asked, event.model, event.at_s)},
        models={**now.models, sha256: event.model},
        asked_since={**now.asked_since, sha256: now.asked_since.get(sha256, 0) + asked.images},
    )


def _placed(now: Generations, event: RequestsPlaced) -> Generations:
    batch = event.batch
    portions = tuple(p for p in batch.portions if _is_unplaced(now, p.request))
    if not portions or batch.batch in now.batches:
        return now
    left = tuple(p.request for p in portions)
    placed = Placed(replace(batch, portions=portions), event.at_s, event.starts_at_s, event.ends_at_s, left)
    requests = {**now.requests, **{r: replace(now.requests[r], batch=batch.batch) for r in left}}
    return replace(now, requests=requests, batches={**now.batches, batch.batch: placed})


def _is_unplaced(now: Generations, request: str) -> bool:
    asked = now.requests.get(request)
    return asked is not None and asked.batch is None


def _given_back(now: Generations, placed: Placed, tries: int, lost: bool) -> Generations:
    """The batch is no more, and what is left of it waits for a place again."""
    back = {}
    for name in placed.left:
        if (asked := now.requests.get(name)) is not None:
            interrupted = asked.interrupted or lost
            back[name] = replace(asked, batch=None, tries=asked.tries + tries, interrupted=interrupted)
    batches = {b: p for b, p in now.batches.items() if b != placed.batch.batch}
    return replace(now, requests={**now.requests, **back}, batches=batches)


def _over(now: Generations, request: str) -> Generations:
    asked = now.requests.get(request)
    if asked is None:
        return now  # it was over before: cancelled while it was refused, or said twice
    requests = {r: a for r, a in now.requests.items() if r != request}
    placed = now.batches.get(asked.batch or "")
    if placed is None:
        return replace(now, requests=requests)
    left = tuple(r for r in placed.left if r != request)
    batches = {b: p for b, p in now.batches.items() if b != placed.batch.batch or left}
    if left:
        batch = placed.batch
        if placed.began_at_s is None:
            batch = replace(batch, portions=tuple(p for p in batch.portions if p.request in left))
        batches[batch.batch] = replace(placed, batch=batch, left=left)
    return replace(now, requests=requests, batches=batches)
