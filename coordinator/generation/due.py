"""What is due of requests, batches and kept models. Derived from the state alone, as everything that is due."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from coordinator.events import BatchEnded, RequestFailed
from coordinator.generation.state import AWAY_S, MOST_TRIES, Asked, Placed
from fleet.generation import ModelRef

if TYPE_CHECKING:
    from coordinator.machine.state import State

REVIEW_S = 30.0
"""How often, at most, it is thought over which device keeps which models."""


@dataclass(frozen=True)
class PlaceRequests:
    """Ask the planner where the requests without a place go. `decided` tells this plan from the one before."""

    decided: int


@dataclass(frozen=True)
class PushBatch:
    """Have the batch with the device, over this session."""

    device: str
    session: str
    batch: str


@dataclass(frozen=True)
class ReviewModels:
    """Decide which device keeps which models."""

    since_s: float


@dataclass(frozen=True)
class PushKept:
    """Have the device know, over this session, which models to keep."""

    device: str
    session: str
    models: tuple[ModelRef, ...]


GenerationEffect = PlaceRequests | PushBatch | ReviewModels | PushKept


def decided(state: "State") -> Iterator[BatchEnded | RequestFailed]:
    """What follows from the state: batches that are lost, and requests that nothing can come of."""
    for placed in state.generations.batches.values():
        if reason := _lost(state, placed):
            b = placed.batch
            yield BatchEnded(state.now_s, b.run, b.batch, b.device, reason)
    for asked in state.generations.requests.values():
        if failure := _hopeless(state, asked):
            outcome, reason = failure
            request = asked.request
            yield RequestFailed(state.now_s, request.run, request.request, outcome, reason)


def effects(state: "State") -> Iterator[GenerationEffect]:
    """What is to be carried out."""
    now = state.generations
    if _wants_a_plan(state):
        yield PlaceRequests(now.decided)
    for head in now.heads():
        device = state.devices.get(head.batch.device)
        if device and device.session and device.name not in state.calibrating:
            yield PushBatch(device.name, device.session, head.batch.batch)
    for name, models in now.kept.items():
        device = state.devices.get(name)
        if device and device.session and name not in state.register.drained:
            yield PushKept(name, device.session, models)
    if now.asked_since and state.now_s >= now.reviewed_at_s + REVIEW_S:
        yield ReviewModels(now.reviewed_at_s)


def moments(state: "State") -> Iterator[float]:
    """When something may become due by time alone."""
    now = state.generations
    for placed in now.batches.values():
        yield placed.stuck_at_s
        device = state.devices.get(placed.batch.device)
        if device is not None and device.session is None:
            yield max(device.changed_at_s + AWAY_S, now.patient_until_s)
    for asked in now.requests.values():
        if asked.last_at_s is not None and not _is_begun(state, asked):
            yield asked.last_at_s
    if now.requests:
        yield now.patient_until_s
    if now.asked_since:
        yield now.reviewed_at_s + REVIEW_S


def _wants_a_plan(state: "State") -> bool:
    """Whether one without a place can be decided on: a fresh one always, an interrupted one given a device."""
    unplaced = [a for a in state.generations.requests.values() if a.batch is None]
    if not unplaced:
        return False
    if state.now_s < state.generations.patient_until_s or all(a.interrupted for a in unplaced):
        return _is_anybody_here(state)
    return True


def _is_anybody_here(state: "State") -> bool:
    drained = state.register.drained
    return any(
        d.session and d.capabilities.model_storage_bytes and d.name not in drained for d in state.devices.values()
    )


def _is_begun(state: "State", asked: Asked) -> bool:
    placed = state.generations.batches.get(asked.batch or "")
    return placed is not None and placed.began_at_s is not None


def _lost(state: "State", placed: Placed) -> str | None:
    if state.now_s >= placed.stuck_at_s:
        return f"not done {state.now_s - (placed.began_at_s or 0.0):.0f} s after it began"
    device = state.devices.get(placed.batch.device)
    if device is None or device.session is not None or state.now_s < state.generations.patient_until_s:
        return None
    if state.now_s < device.changed_at_s + AWAY_S:
        return None
    return f"device {device.name} has been away for {state.now_s - device.changed_at_s:.1f} s"


def _hopeless(state: "State", asked: Asked) -> tuple[str, str] | None:
    """Outcome and reason of a request that is given up, None while it is not."""
    if asked.tries >= MOST_TRIES:
        return "failed", f"{asked.tries} devices were lost or failed while they served it"
    last = asked.last_at_s
    if last is None or state.now_s < last or _is_begun(state, asked):
        return None
    waited = f"it waited {state.now_s - asked.at_s:.1f} s and was not begun"
    return "expired", f"its deadline passed: {waited}"
