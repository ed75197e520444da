from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordinator.events import (
    CalibrationFailed,
    CalibrationRequested,
    CoordinatorStarted,
    DeviceAttached,
    DeviceCalibrated,
    DeviceDetached,
    ModelEvaluated,
    ModelInitialised,
    RoundOpened,
    RunStarted,
    TimePassed,
    from_json,
    to_json,
)
from coordinator.machine import State, apply, fold, todo
from coordinator.machine.todo import Push, PushCalibration, Record
from fleet.calibration import Calibration, CalibrationRow, UnitJoules, Work
from fleet.calibration_plans import plan
from fleet.domain import Assignment, Capabilities, Quality
from fleet.errors import WattbedError
from fleet.experiment import Experiment, parse

CAPABILITIES = Capabilities("mini-pc-n100", "cpu", 4, 1, "x86_64", "0")
PLAN = replace(plan(), lost_after_s=10.0, deadline_s=100.0)
JOULES = UnitJoules("rapl:package-0", "cpu", "package", Quality.MEASURED, 2.0, 0.1, 1.5, -0.01)
ROW = CalibrationRow(Work.TRAIN, 5, 40.0, 0.5, 0.01, 0.02, 1.0, "fp32", None, (JOULES,))


def calibration(name="c1", device="a", workload="diffusion"):
    return Calibration(name, device, replace(PLAN, workload=workload), 1.0, 2.0, 100, (ROW,))


def attached(*names):
    return fold([DeviceAttached(1, n, f"{n}@1", CAPABILITIES, None) for n in names])


def requested(state, device="a", name="c1", at_s=2):
    return apply(state, CalibrationRequested(at_s, device, name, PLAN))


def experiment():
    return parse(
        Experiment,
        {
            "name": "x", "seed": 1, "rounds": 3, "shards": 3,
            "workload": {"name": "noop", "options": {}},
            "policy": {"name": "fixed", "options": {}},
            "round": {"mode": "sync", "min_devices": 1, "devices": 2, "quorum": 1, "deadline_s": 50},
            "server": {"optimizer": "fedavg", "lr": 1.0},
            "quantizer": {"block_size": 64, "error_feedback": True},
            "evaluate": {"every": 1},
        },
        where="x",
    )  # fmt: skip


def test_a_calibration_comes_back_from_the_log_as_it_was():
    event = DeviceCalibrated(3.0, "a", calibration())
    assert from_json("DeviceCalibrated", to_json(event)) == event


def test_of_each_workload_the_latest_calibration_is_kept():
    state = attached("a")
    for name, workload in (("c1", "diffusion"), ("c2", "noop"), ("c3", "diffusion")):
        state = requested(state, name=name)
        state = apply(state, DeviceCalibrated(3, "a", calibration(name, workload=workload)))
    assert [c.calibration for c in state.calibrated["a"]] == ["c2", "c3"]


def test_a_task_planned_while_the_device_was_asked_to_calibrate_waits_for_the_calibration():
    state = fold(
        [
            RunStarted(1, "x-1", "", experiment()),
            ModelInitialised(1, "x-1", "m0", 1),
            ModelEvaluated(1, "x-1", 0, (), None, 0.0),
        ],
        attached("a"),
    )
    task = Assignment("x-1", 1, "a", "m0", 1, 0, 8, 32, "fp32", 1.0, 1, 1, 50.0)
    state = apply(requested(state), RoundOpened(2, "x-1", 1, (task,), 50.0))
    meanwhile = {type(e) for e in todo(state)}
    state = apply(state, DeviceCalibrated(3, "a", calibration()))
    assert (Push in meanwhile, PushCalibration in meanwhile) == (False, True)
    assert Push("a", "a@1", "x-1", 1) in todo(state)


steps = st.lists(
    st.tuples(
        st.sampled_from(["attach", "detach", "request", "result", "failed", "restart", "tick"]),
        st.sampled_from(["a", "b"]),
        st.sampled_from(["c1", "c2"]),
        st.floats(0, 60),
    ),
    max_size=30,
)


def event(kind, device, name, at_s):
    match kind:
        case "attach":
            return DeviceAttached(at_s, device, f"{device}@{at_s}", CAPABILITIES, None)
        case "detach":
            return DeviceDetached(at_s, device, f"{device}@{at_s}", "cut")
        case "request":
            return CalibrationRequested(at_s, device, name, PLAN)
        case "result":
            return DeviceCalibrated(at_s, device, calibration(name, device))
        case "failed":
            return CalibrationFailed(at_s, device, name, "no")
        case "restart":
            return CoordinatorStarted(at_s, "0")
    return TimePassed(at_s)


def told(story):
    """The events that were taken, with what the machine decided itself, and the state after them."""
    state, taken, now_s = State(), [], 0.0
    for kind, device, name, later_s in story:
        now_s += later_s
        try:
            next_event = event(kind, device, name, now_s)
            if kind == "detach" and device in state.devices:
                next_event = replace(next_event, session=state.devices[device].session or "gone")
            state = apply(state, next_event)
        except WattbedError:
            continue
        taken.append(next_event)
        while decided := [e.event for e in todo(state) if isinstance(e, Record)][:1]:
            state = apply(state, decided[0])
            taken.extend(decided)
    return state, taken


@given(steps)
def test_whatever_happens_a_calibration_is_with_an_attached_device_or_runs_out(story):
    state, _ = told(story)
    for device, pending in state.calibrating.items():
        here = PushCalibration(device, state.devices[device].session or "", pending.calibration) in todo(state)
        away = state.devices[device].session is None
        assert here != away
    for _ in range(4):
        state = apply(state, TimePassed(state.now_s + PLAN.deadline_s))
        while decided := [e.event for e in todo(state) if isinstance(e, Record)][:1]:
            state = apply(state, decided[0])
    assert state.calibrating == {}


@given(steps)
def test_the_log_of_whatever_happens_folds_to_the_same_state(story):
    state, taken = told(story)
    assert fold(from_json(type(e).__name__, to_json(e)) for e in taken) == state


def test_a_device_that_never_was_here_cannot_be_calibrated():
    with pytest.raises(WattbedError, match="no device 'b' has attached; known are: a"):
        requested(attached("a"), "b")
