"""Calibrations: what their events mean, and what is due of them.

A device is calibrated alone. One that takes part in a run that has not ended is refused; while a device is
calibrated no plan counts on it, and a task it is given all the same waits until the calibration is over.
"""

from collections.abc import Iterator
from dataclasses import replace

from coordinator.events import CalibrationFailed, CalibrationRequested, DeviceCalibrated
from coordinator.machine.state import Calibrating, State
from fleet.calibration import Calibration
from fleet.errors import IllegalMove

CalibrationEvent = CalibrationRequested | DeviceCalibrated | CalibrationFailed


def applied(state: State, event: CalibrationEvent) -> State:
    """The state after `event`. UnknownDevice or IllegalMove: it cannot happen now, and nothing has."""
    match event:
        case CalibrationRequested():
            _must_be_free(state, event.device)
            begun = Calibrating(event.calibration, event.plan, event.at_s)
            return replace(state, calibrating={**state.calibrating, event.device: begun})
        case DeviceCalibrated():
            if is_known_as(state, event.device, event.calibration.calibration):
                return state  # the agent said it again; we have it already
            _must_be_pending(state, event.device, event.calibration.calibration)
            of_others = tuple(
                c for c in state.calibrated.get(event.device, ()) if not same_workload(c, event.calibration)
            )
            calibrated = {**state.calibrated, event.device: (*of_others, event.calibration)}
            return replace(_ended(state, event.device), calibrated=calibrated)
        case CalibrationFailed():
            _must_be_pending(state, event.device, event.calibration)
            return _ended(state, event.device)


def _ended(state: State, device: str) -> State:
    return replace(state, calibrating={d: c for d, c in state.calibrating.items() if d != device})


def _must_be_free(state: State, name: str) -> None:
    device = state.device(name)
    if (pending := state.calibrating.get(name)) is not None:
        raise IllegalMove(f"device {name} is being calibrated, for {state.now_s - pending.at_s:.0f} s already")
    if device.session is None:
        away_s = state.now_s - device.changed_at_s
        raise IllegalMove(f"device {name} has been away for {away_s:.0f} s; only an attached one is calibrated")
    for run in state.runs.values():
        if name in run.shards and not run.phase.ended:
            raise IllegalMove(
                f"device {name} takes part in run {run.run} (round {run.round}, {run.phase}); "
                "calibrate it when the run has ended, or stop the run"
            )


def _must_be_pending(state: State, device: str, calibration: str) -> None:
    if not is_pending(state, device, calibration):
        raise IllegalMove(f"calibration {calibration} of device {device} is not under way")


def is_pending(state: State, device: str, calibration: str) -> bool:
    """Whether this calibration of `device` is under way."""
    pending = state.calibrating.get(device)
    return pending is not None and pending.calibration == calibration


def is_known_as(state: State, device: str, calibration: str) -> bool:
    """Whether this calibration of `device` is kept."""
    return any(c.calibration == calibration for c in state.calibrated.get(device, ()))


def same_workload(a: Calibration, b: Calibration) -> bool:
    """Whether two calibrations trained the same."""
    return (a.plan.workload, a.plan.options_json) == (b.plan.workload, b.plan.options_json)


def failures(state: State) -> Iterator[CalibrationFailed]:
    """Calibrations that can no longer come to anything, and why."""
    for name, pending in state.calibrating.items():
        device, plan = state.devices[name], pending.plan
        if state.now_s >= pending.at_s + plan.deadline_s:
            reason = f"not done after {plan.deadline_s:g} s"
        elif device.session is None and state.now_s >= device.changed_at_s + plan.lost_after_s:
            reason = f"the device has been away for {plan.lost_after_s:g} s"
        else:
            continue
        yield CalibrationFailed(state.now_s, name, pending.calibration, reason)


def moments(state: State) -> Iterator[float]:
    """When a calibration may fail by time alone."""
    for name, pending in state.calibrating.items():
        device = state.devices[name]
        yield pending.at_s + pending.plan.deadline_s
        if device.session is None:
            yield device.changed_at_s + pending.plan.lost_after_s
