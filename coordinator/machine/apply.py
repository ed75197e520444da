"""`apply(state, event) -> state`: what each event means. Raises IllegalMove for one that cannot be."""

from collections.abc import Iterable, Mapping
from statistics import median
from typing import TypeVar

from coordinator.enrolment.events import EnrolmentEvent
from coordinator.events import (
    AssignmentExpired,
    AssignmentFailed,
    BlobsDropped,
    BytesMoved,
    CalibrationFailed,
    CalibrationRequested,
    CoordinatorStarted,
    DeviceAttached,
    DeviceCalibrated,
    DeviceDetached,
    DevicesAssigned,
    EnergyMeasured,
    Event,
    KeysAgreed,
    ModelAggregated,
    ModelEvaluated,
    ModelInitialised,
    RoundClosed,
    RoundFailed,
    RoundOpened,
    RunEnded,
    RunStarted,
    TimePassed,
    UpdateReceived,
    UpdateRefused,
    run_of,
)
from coordinator.generation import apply as generation
from coordinator.machine import calibration, enrolment
from coordinator.machine.admission import Admission, admit
from coordinator.machine.replacing import replace
from coordinator.machine.state import Arrival, Device, Outstanding, Run, RunPhase, State
from fleet.domain import Assignment
from fleet.errors import IllegalMove

V = TypeVar("V")

NORM_ROUNDS = 8
"""Rounds whose norms an update is compared with."""


def fold(events: Iterable[Event], state: State | None = None) -> State:
    """The state after `events`."""
    state = state or State()
    for event in events:
        state = apply(state, event)
    return state


def apply(state: State, event: Event) -> State:
    """The state after `event`. IllegalMove or UnknownRun: it cannot happen now, and nothing has."""
    state = replace(state, now_s=max(state.now_s, event.at_s))
    match event:
        case TimePassed():
            return state
        case BytesMoved() | EnergyMeasured() | UpdateRefused():
            state.run(event.run)
            return state  # lines of the ledger: they may come late, and change nothing here
        case RunStarted():
            if event.run in state.runs:
                raise IllegalMove(f"run {event.run} has started already")
            run = Run(event.run, event.key, event.experiment, event.at_s)
            return replace(state, runs={**state.runs, run.run: run})
        case CoordinatorStarted() | DeviceAttached() | DeviceDetached():
            return generation.came_or_went(replace(state, devices=_devices(state.devices, event)), event)
        case CalibrationRequested() | DeviceCalibrated() | CalibrationFailed():
            return calibration.applied(state, event)
    if isinstance(event, generation.GenerationEvent):
        return generation.happened(state, event)
    if isinstance(event, EnrolmentEvent):
        return enrolment.applied(state, event)
    run = state.run(run_of(event) or "")
    return replace(state, runs={**state.runs, run.run: apply_to_run(run, event)})


def _devices(
    devices: Mapping[str, Device], event: CoordinatorStarted | DeviceAttached | DeviceDetached
) -> Mapping[str, Device]:
    match event:
        case CoordinatorStarted():
            away = {n: replace(d, session=None, changed_at_s=event.at_s) for n, d in devices.items() if d.session}
            return {**devices, **away}
        case DeviceAttached():
            device = Device(event.device, event.capabilities, event.metrics_address, event.session, event.at_s)
            return {**devices, event.device: device}
        case DeviceDetached():
            known = devices.get(event.device)
            if known is None or known.session != event.session:
                return devices  # an older stream of a device that is back already, or one that never was
            return {**devices, event.device: replace(known, session=None, changed_at_s=event.at_s)}


def apply_to_run(run: Run, event: Event) -> Run:
    """The run after an event that is about it; IllegalMove."""
    match run.phase, event:
        case _, BlobsDropped():
            return replace(run, unused=tuple(u for u in run.unused if u not in event.blobs))

        case RunPhase.INITIALISING, ModelInitialised():
            return replace(run, phase=RunPhase.EVALUATING, model_sha256=event.sha256, model_bytes=event.size_bytes)

        case RunPhase.PLANNING, RoundOpened() if event.round == run.round + 1:
            opened = replace(
                run,
                phase=RunPhase.TRAINING,
                round=event.round,
                opened_at_s=event.at_s,
                deadline_at_s=event.deadline_at_s,
                target=run.experiment.round.buffer or min(run.experiment.round.devices, len(event.assignments)),
                given_up={},
                asked=len(event.assignments),
                population=event.population,
                keys=None,
            )
            return _assign(opened, event.assignments, event.at_s)

        case RunPhase.TRAINING, KeysAgreed(round=run.round) if run.experiment.secure:
            return replace(run, keys=event)

        case RunPhase.TRAINING, DevicesAssigned(round=run.round) if run.asynchronous:
            return _assign(run, event.assignments, event.at_s)

        case phase, AssignmentFailed() if not phase.ended:
            if not _is_outstanding(run, event.device, event.round):
                return run  # it was withdrawn meanwhile
            return replace(
                run,
                outstanding=_without(run.outstanding, event.device),
                given_up={**run.given_up, event.device: event.reason},
            )

        case phase, AssignmentExpired() if run.asynchronous and not phase.ended:
            return replace(run, outstanding=_without(run.outstanding, event.device))

        case _, UpdateReceived():
            if admit(run, event.round, event.device, event.digest) is Admission.DUPLICATE:
                return run  # the agent retried; we have it already
            width = run.outstanding[event.device].assignment.width
            arrival = Arrival(event.round, event.digest, event.size_bytes, event.samples, event.norm, width)
            return replace(
                run,
                outstanding=_without(run.outstanding, event.device),
                arrived={**run.arrived, event.device: arrival},
            )

        case RunPhase.TRAINING, RoundClosed(round=run.round):
            closed = replace(
                run,
                phase=RunPhase.AGGREGATING,
                closing={d: run.arrived[d] for d in event.devices},
                arrived=_without(run.arrived, *event.devices),
            )
            return closed if run.asynchronous else _withdraw(closed)

        case ((RunPhase.PLANNING | RunPhase.TRAINING), RoundFailed()):
            failed = replace(
                run,
                phase=RunPhase.PLANNING,
                round=event.round,
                failures=run.failures + 1,
                reason=event.reason,
            )
            return failed if run.asynchronous else _withdraw(failed)

        case RunPhase.AGGREGATING, RoundFailed(round=run.round) if run.experiment.secure:
            unused = (*run.unused, *_paths(run.closing))  # masks that nobody can undo any more
            again = replace(run, closing={}, unused=unused, failures=run.failures + 1, reason=event.reason)
            return _withdraw(replace(again, phase=RunPhase.PLANNING))

        case RunPhase.AGGREGATING, ModelAggregated(round=run.round):
            return _aggregated(run, event)

        case RunPhase.EVALUATING, ModelEvaluated(round=run.round):
            return replace(run, phase=RunPhase.PLANNING)

        case phase, RunEnded() if not phase.ended:
            ended = replace(
                run, phase=RunPhase(event.outcome), ended_at_s=event.at_s, reason=event.reason, closing={}
            )
            rest = {*run.models, run.optimizer_state or run.model_sha256} - {run.model_sha256}
            dropped = (*_paths(run.closing), *(f"models/{m}" for m in sorted(rest)))
            return replace(_withdraw(ended), models=(), unused=(*ended.unused, *_paths(run.arrived), *dropped))

    raise IllegalMove(f"{type(event).__name__} for run {run.run} while it is {run.phase} in round {run.round}")


def _assign(run: Run, assignments: tuple[Assignment, ...], at_s: float) -> Run:
    models = dict.fromkeys((*run.models, *(a.model_sha256 for a in assignments)))
    return replace(
        run,
        outstanding={**run.outstanding, **{a.device: Outstanding(a, at_s) for a in assignments}},
        shards={**run.shards, **{a.device: a.shard for a in assignments}},
        models=tuple(models),
    )


def _withdraw(run: Run) -> Run:
    """Forgets what is with the devices; arrivals that will not be used may be deleted."""
    return replace(run, outstanding={}, arrived={}, unused=(*run.unused, *_paths(run.arrived)))


def _aggregated(run: Run, event: ModelAggregated) -> Run:
    needed = {o.assignment.model_sha256 for o in run.outstanding.values()} | {event.sha256}
    old = dict.fromkeys((run.model_sha256, *run.models))
    dropped = [f"models/{m}" for m in old if m not in needed]
    if run.optimizer_state and run.optimizer_state != event.optimizer_state:
        dropped.append(f"models/{run.optimizer_state}")
    evaluation = run.experiment.evaluate
    evaluate = event.round % evaluation.every == 0 or event.round == run.experiment.rounds
    return replace(
        run,
        phase=RunPhase.EVALUATING if evaluate else RunPhase.PLANNING,
        model_sha256=event.sha256,
        model_bytes=event.size_bytes,
        optimizer_state=event.optimizer_state,
        closing={},
        counted={**run.counted, **run.closing},
        models=tuple(m for m in old if m in needed),
        unused=(*run.unused, *(p for p in _paths(run.closing) if p not in _paths(run.arrived)), *dropped),
        norms=_norms(run),
        failures=0,
        reason=None,
    )


def _norms(run: Run) -> tuple[float, ...]:
    """Those of the last rounds, with the one that is being closed."""
    known = [a.norm for a in run.closing.values() if a.norm is not None]
    return (*run.norms, median(known))[-NORM_ROUNDS:] if known else run.norms


def _paths(arrivals: Mapping[str, Arrival]) -> tuple[str, ...]:
    return tuple(f"updates/{device}/{a.digest}" for device, a in arrivals.items())


def _is_outstanding(run: Run, device: str, round: int) -> bool:
    waiting = run.outstanding.get(device)
    return waiting is not None and waiting.assignment.round == round


def _without(mapping: Mapping[str, V], *keys: str) -> dict[str, V]:
    return {k: v for k, v in mapping.items() if k not in keys}
