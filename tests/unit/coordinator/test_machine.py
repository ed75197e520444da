from itertools import permutations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coordinator.events import (
    CoordinatorStarted,
    DeviceAttached,
    DeviceDetached,
    ModelAggregated,
    ModelEvaluated,
    ModelInitialised,
    RoundOpened,
    RunEnded,
    RunStarted,
    TimePassed,
    UpdateReceived,
    from_json,
    to_json,
)
from coordinator.machine import RunPhase, State, apply, fold, todo
from coordinator.machine.todo import Record
from fleet.domain import Assignment, Capabilities
from fleet.errors import WattbedError
from fleet.experiment import Experiment, parse

CAPABILITIES = Capabilities("mini-pc-n100", "cpu", 4, 1, "x86_64", "0")
DEVICES = ("a", "b", "c")


def experiment(**settings):
    return parse(
        Experiment,
        {
            "name": "x", "seed": 1, "rounds": 3, "shards": 3,
            "workload": {"name": "noop", "options": {}},
            "policy": {"name": "fixed", "options": {}},
            "round": {"mode": "sync", "min_devices": 2, "devices": 3, "quorum": 2, "deadline_s": 50, **settings},
            "server": {"optimizer": "fedavg", "lr": 1.0},
            "quantizer": {"block_size": 64, "error_feedback": True},
            "evaluate": {"every": 1},
        },
        where="x",
    )  # fmt: skip


def assignment(device, round):
    return Assignment("x-1", round, device, f"m{round - 1}", 1, 0, 8, 32, "fp32", 1.0, 1, 1, 50.0 * round)


def opened(at_s, round):
    return RoundOpened(at_s, "x-1", round, tuple(assignment(d, round) for d in DEVICES), at_s + 50)


def update(at_s, device, round=1, sha256=None):
    return UpdateReceived(at_s, "x-1", round, device, sha256 or f"{device}{round}", 5, 8, 0.5)


def decide(state):
    while decided := [e.event for e in todo(state) if isinstance(e, Record)][:1]:
        state = apply(state, decided[0])
    return state


def training():
    return fold(
        [
            *(DeviceAttached(1, d, f"{d}@1", CAPABILITIES, None) for d in DEVICES),
            RunStarted(1, "x-1", "", experiment()),
            ModelInitialised(1, "x-1", "m0", 1),
            ModelEvaluated(1, "x-1", 0, (), None, 0.0),
            opened(1, 1),
        ]
    )


def test_the_order_of_arrival_leaves_no_trace():
    ends = set()
    for order in permutations(DEVICES):
        state = training()
        for device in order:
            state = decide(apply(state, update(5, device)))
        run = state.runs["x-1"]
        ends.add((run.phase, tuple(sorted(run.closing.items(), key=lambda kv: kv[0])).__repr__()))
    assert len(ends) == 1


events = st.one_of(
    st.builds(TimePassed, st.floats(0, 200)),
    st.builds(CoordinatorStarted, st.floats(0, 200), st.just("0")),
    st.builds(DeviceDetached, st.floats(0, 200), st.sampled_from(DEVICES), st.sampled_from(["a@1", "b@1"]), st.just("cut")),
    st.builds(
        DeviceAttached, st.floats(0, 200), st.sampled_from(DEVICES), st.text("xyz", max_size=3), st.just(CAPABILITIES), st.none()
    ),
    st.builds(update, st.floats(0, 200), st.sampled_from([*DEVICES, "stranger"]), st.integers(0, 4), st.sampled_from([None, "s"])),
    st.builds(opened, st.floats(0, 200), st.integers(1, 4)),
    st.builds(ModelAggregated, st.floats(0, 200), st.just("x-1"), st.integers(0, 4), st.just("m"), st.just(1), st.none(), st.just(0.1)),
    st.builds(ModelEvaluated, st.floats(0, 200), st.just("x-1"), st.integers(0, 4), st.just(()), st.none(), st.just(0.1)),
    st.builds(RunEnded, st.floats(0, 200), st.just("x-1"), st.sampled_from(["stopped", "failed"]), st.none()),
)  # fmt: skip


@settings(max_examples=120, deadline=None)
@given(st.lists(events, max_size=30))
def test_whatever_comes_in_whatever_order_no_update_is_lost_or_counted_twice(sequence):
    state, taken = training(), []
    for event in sequence:
        before = state
        try:
            state = apply(state, event)
        except WattbedError:
            assert state is before
            continue
        if isinstance(event, UpdateReceived):
            taken.append((event.device, event.round))
        state = decide(state)
    run = state.runs["x-1"]
    held = [(d, a.round) for kept in (run.arrived, run.closing) for d, a in kept.items()]
    assert len(held) == len(set(held))
    assert set(held) <= set(taken)


@settings(max_examples=80, deadline=None)
@given(st.lists(events, max_size=20))
def test_a_log_read_back_gives_the_same_state(sequence):
    state, log = State(), []
    for event in [RunStarted(1, "x-1", "", experiment()), *sequence]:
        try:
            state = apply(state, event)
        except (WattbedError, KeyError):
            continue
        log.append((type(event).__name__, to_json(event)))
    assert fold(from_json(kind, body) for kind, body in log) == state


def test_an_end_is_an_end():
    state = apply(training(), RunEnded(2, "x-1", "stopped", None))
    assert state.runs["x-1"].phase is RunPhase.STOPPED
    with pytest.raises(WattbedError, match="RunEnded for run x-1 while it is stopped"):
        apply(state, RunEnded(3, "x-1", "failed", None))


def test_the_clock_never_runs_backwards():
    assert apply(apply(State(), TimePassed(10)), TimePassed(5)).now_s == 10
