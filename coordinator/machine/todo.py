"""`todo(state) -> effects`: what is due now. Derived from the state alone, so a restart resumes it.

An effect is started when it becomes due and ended when it no longer is. Those that decide something
are events already (Record): they are written in the same transaction as what made them due.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from coordinator.events import AssignmentExpired, Event, RoundClosed, RoundFailed, RunEnded
from coordinator.generation import due as generation
from coordinator.machine import calibration
from coordinator.machine.state import Run, RunPhase, State


@dataclass(frozen=True)
class Record:
    """An event that follows from the state."""

    event: Event


@dataclass(frozen=True)
class Wake:
    """Say that time has passed, at this moment."""

    at_s: float


@dataclass(frozen=True)
class Initialise:
    """Make and store the untrained model."""

    run: str


@dataclass(frozen=True)
class Plan:
    """Ask the policy what `devices` should do, and open `round` or join it."""

    run: str
    round: int
    devices: tuple[str, ...]
    opens: bool


@dataclass(frozen=True)
class Push:
    """Have the task of (run, round) with the device, over this session."""

    device: str
    session: str
    run: str
    round: int


@dataclass(frozen=True)
class AgreeKeys:
    """Have the devices of the round agree on the keys that mask their updates."""

    run: str
    round: int


@dataclass(frozen=True)
class ConfirmKeys:
    """Have the device know, over this session, that its masked update is taken."""

    device: str
    session: str
    run: str
    round: int


@dataclass(frozen=True)
class PushCalibration:
    """Have the calibration with the device, over this session."""

    device: str
    session: str
    calibration: str


@dataclass(frozen=True)
class Aggregate:
    """Make a model of the closed round's updates."""

    run: str
    round: int


@dataclass(frozen=True)
class Evaluate:
    """Find out about the model of `round`."""

    run: str
    round: int


@dataclass(frozen=True)
class Drop:
    """Delete blobs nothing refers to."""

    run: str
    blobs: tuple[str, ...]


Effect = (
    Record
    | Wake
    | Initialise
    | Plan
    | Push
    | AgreeKeys
    | ConfirmKeys
    | PushCalibration
    | Aggregate
    | Evaluate
    | Drop
    | generation.GenerationEffect
)


def todo(state: State) -> tuple[Effect, ...]:
    """Everything that is due, in a fixed order."""
    effects: list[Effect] = []
    wakes = list(calibration.moments(state))
    effects.extend(Record(failed) for failed in calibration.failures(state))
    effects.extend(Record(decided) for decided in generation.decided(state))
    effects.extend(generation.effects(state))
    wakes.extend(generation.moments(state))
    for run in state.runs.values():
        if run.unused:
            effects.append(Drop(run.run, run.unused))
        if run.phase.ended:
            continue
        effects.extend(_due(state, run))
        wakes.extend(_moments(state, run))
    effects.extend(_pushes(state))
    later = [at_s for at_s in wakes if at_s > state.now_s]
    if later:
        effects.append(Wake(min(later)))
    return tuple(effects)


def _due(state: State, run: Run) -> Iterator[Effect]:
    match run.phase:
        case RunPhase.INITIALISING:
            yield Initialise(run.run)
        case RunPhase.EVALUATING:
            yield Evaluate(run.run, run.round)
        case RunPhase.AGGREGATING:
            yield Aggregate(run.run, run.round)
        case RunPhase.PLANNING:
            yield from _next_round(state, run)
        case RunPhase.TRAINING if run.asynchronous:
            yield from _async_round(state, run)
        case RunPhase.TRAINING:
            yield from _sync_round(state, run)


def _next_round(state: State, run: Run) -> Iterator[Effect]:
    settings = run.experiment.round
    if run.failures >= settings.max_failures:
        reason = f"{run.failures} rounds failed in a row; the last: {run.reason}"
        yield Record(RunEnded(state.now_s, run.run, "failed", reason))
    elif run.round >= run.experiment.rounds:
        yield Record(RunEnded(state.now_s, run.run, "completed", None))
    elif len(_attached(state)) >= settings.min_devices or run.outstanding:
        yield Plan(run.run, run.round + 1, _free(state, run), opens=True)


def _sync_round(state: State, run: Run) -> Iterator[Effect]:
    quorum = run.experiment.round.quorum
    arrived = len(run.arrived)
    asked = arrived + len(run.outstanding) + len(run.given_up)
    late = state.now_s >= run.deadline_at_s
    if arrived >= run.target:
        yield _close(state, run, "all updates are in")
    elif arrived >= quorum and late:
        yield _close(state, run, "deadline")
    elif arrived >= quorum and not any(_may_deliver(state, run, d) for d in run.outstanding):
        yield _close(state, run, "quorum; the others are lost or failed")
    elif late or not run.outstanding:
        why = "by the deadline" if late else "and none to come"
        failed = "".join(f"; {device} gave up: {reason}" for device, reason in run.given_up.items())
        reason = f"{arrived} of {asked} updates {why}, quorum is {quorum}{failed}"
        yield Record(RoundFailed(state.now_s, run.run, run.round, reason))
    elif run.experiment.secure:
        yield from _keys(state, run)


def _keys(state: State, run: Run) -> Iterator[AgreeKeys | ConfirmKeys]:
    if run.keys is None:
        yield AgreeKeys(run.run, run.round)
        return
    for name in run.outstanding:
        if session := state.devices[name].session:
            yield ConfirmKeys(name, session, run.run, run.round)


def _async_round(state: State, run: Run) -> Iterator[Effect]:
    for device, waiting in run.outstanding.items():
        if state.now_s >= waiting.assignment.deadline_at_s:
            yield Record(AssignmentExpired(state.now_s, run.run, waiting.assignment.round, device))
    free = _free(state, run)
    if len(run.arrived) >= run.target:
        yield _close(state, run, "the buffer is full")
    elif free:
        yield Plan(run.run, run.round, free, opens=False)
    elif not run.outstanding and run.given_up:
        failed = "; ".join(f"{device}: {reason}" for device, reason in run.given_up.items())
        yield Record(RoundFailed(state.now_s, run.run, run.round, f"every device gave up: {failed}"))


def _close(state: State, run: Run, reason: str) -> Record:
    devices = tuple(sorted(run.arrived))
    lost = tuple(sorted({*run.outstanding, *run.given_up} - set(devices))) if not run.asynchronous else ()
    return Record(RoundClosed(state.now_s, run.run, run.round, devices, lost, reason))


def _moments(state: State, run: Run) -> Iterator[float]:
    """When something may become due by time alone."""
    if run.phase != RunPhase.TRAINING:
        return
    if not run.asynchronous:
        yield run.deadline_at_s
    for name, waiting in run.outstanding.items():
        yield waiting.assignment.deadline_at_s
        device = state.devices[name]
        if device.session is None:
            yield device.changed_at_s + run.experiment.round.lost_after_s


def _pushes(state: State) -> Iterator[Push | PushCalibration]:
    """Each attached device's calibration, else its oldest outstanding assignment: runs queue for a device."""
    for name, pending in state.calibrating.items():
        if session := state.devices[name].session:
            yield PushCalibration(name, session, pending.calibration)
    first: dict[str, tuple[float, Run]] = {}
    for run in state.runs.values():
        for name, waiting in run.outstanding.items():
            if name not in first or waiting.at_s < first[name][0]:
                first[name] = (waiting.at_s, run)
    for name, (_, run) in first.items():
        session = state.devices[name].session
        if session and name not in state.calibrating:
            yield Push(name, session, run.run, run.outstanding[name].assignment.round)


def _attached(state: State) -> tuple[str, ...]:
    """The devices that a plan may count on: here, not drained, and not being calibrated."""
    here = (name for name, device in state.devices.items() if device.session)
    return tuple(sorted(n for n in here if n not in state.calibrating and n not in state.register.drained))


def _free(state: State, run: Run) -> tuple[str, ...]:
    busy = (run.outstanding, run.arrived, run.given_up if run.phase == RunPhase.TRAINING else ())
    return tuple(name for name in _attached(state) if not any(name in b for b in busy))


def _may_deliver(state: State, run: Run, name: str) -> bool:
    device = state.devices[name]
    if state.register.is_revoked(name):
        return False
    return bool(device.session) or state.now_s < device.changed_at_s + run.experiment.round.lost_after_s
