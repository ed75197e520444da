"""What the machine makes of secure rounds: keys first, then updates, and a failed unmasking is a failed round."""

from dataclasses import replace

import pytest

from coordinator.events import (
    DeviceAttached,
    KeysAgreed,
    MaskingKey,
    ModelEvaluated,
    ModelInitialised,
    RoundClosed,
    RoundFailed,
    RoundOpened,
    RunStarted,
    UpdateReceived,
    from_json,
    to_json,
)
from coordinator.machine import RunPhase, State, apply, fold, todo
from coordinator.machine.todo import Aggregate, AgreeKeys, ConfirmKeys, Push, Record
from fleet.domain import Assignment, Capabilities
from fleet.errors import BadExperiment, IllegalMove
from fleet.experiment import Experiment, parse

SECURE = {"threshold": 2, "clip_range": 1.0, "phase_s": 5.0}
EXPERIMENT = {
    "name": "x", "seed": 1, "rounds": 2, "shards": 3,
    "workload": {"name": "noop", "options": {}}, "policy": {"name": "fixed", "options": {}},
    "round": {"mode": "sync", "min_devices": 3, "devices": 3, "quorum": 2, "deadline_s": 60},
    "server": {"optimizer": "fedavg", "lr": 1.0},
    "quantizer": {"block_size": 64, "error_feedback": False, "codec": "fixed"},
    "evaluate": {"every": 1}, "privacy": {"secure_aggregation": SECURE},
}  # fmt: skip
NAMES = ("a", "b", "c")
MACHINE = Capabilities("mini-pc-n100", "cpu", 4, 1, "x86_64", "0")
KEYS = KeysAgreed(3.0, "x-1", 1, "attempt", tuple(MaskingKey(n, "00" * 32) for n in NAMES), NAMES, NAMES)


def arrived(name):
    return UpdateReceived(4.0, "x-1", 1, name, f"{NAMES.index(name):032}", 100, 1, 0.5)


@pytest.fixture
def opened():
    assignments = tuple(
        Assignment("x-1", 1, n, "m" * 64, 100, k, 8, 32, "fp32", 1.0, 1, 1, 60.0) for k, n in enumerate(NAMES)
    )
    return fold(
        (
            *(DeviceAttached(0.0, n, f"{n}@0", MACHINE, None) for n in NAMES),
            RunStarted(1.0, "x-1", "key", parse(Experiment, EXPERIMENT, "x")),
            ModelInitialised(1.0, "x-1", "m" * 64, 100),
            ModelEvaluated(1.0, "x-1", 0, (), None, 0.1),
            RoundOpened(2.0, "x-1", 1, assignments, 60.0),
        ),
        State(),
    )


def due(state, kind):
    return [e for e in todo(state) if isinstance(e, kind)]


def test_keys_are_agreed_on_while_the_devices_train(opened):
    assert due(opened, AgreeKeys) == [AgreeKeys("x-1", 1)]
    assert len(due(opened, Push)) == 3


def test_once_agreed_each_device_is_told_over_its_session(opened):
    state = apply(opened, KEYS)
    assert not due(state, AgreeKeys)
    assert [e.device for e in due(state, ConfirmKeys)] == ["a", "b", "c"]
    again = apply(state, DeviceAttached(5.0, "b", "b@5", MACHINE, None))
    assert ConfirmKeys("b", "b@5", "x-1", 1) in due(again, ConfirmKeys)


def test_the_next_round_has_keys_of_its_own(opened):
    state = apply(apply(opened, KEYS), RoundFailed(6.0, "x-1", 1, "why"))
    assignments = (Assignment("x-1", 2, "a", "m" * 64, 100, 0, 8, 32, "fp32", 1.0, 1, 1, 90.0),)
    assert apply(state, RoundOpened(7.0, "x-1", 2, assignments, 90.0)).runs["x-1"].keys is None


def test_a_sum_that_cannot_be_unmasked_fails_the_round_and_its_updates_may_go(opened):
    state = fold((KEYS, arrived("a"), arrived("b"), arrived("c")), opened)
    closing = next(e.event for e in due(state, Record) if isinstance(e.event, RoundClosed))
    state = apply(state, closing)
    assert due(state, Aggregate)
    run = apply(state, RoundFailed(6.0, "x-1", 1, "shares of 1 devices; 2 are needed")).runs["x-1"]
    assert (run.phase, run.failures) == (RunPhase.PLANNING, 1)
    assert sorted(run.unused) == [f"updates/{n}/{k:032}" for k, n in enumerate(NAMES)]


def test_without_secure_aggregation_there_are_no_keys(opened):
    open_run = replace(opened.runs["x-1"], experiment=parse(Experiment, EXPERIMENT | {"privacy": None}, "x"))
    state = replace(opened, runs={"x-1": open_run})
    assert not due(state, AgreeKeys)
    with pytest.raises(IllegalMove):
        apply(state, KEYS)


def test_the_event_comes_back_from_the_log():
    assert from_json("KeysAgreed", to_json(KEYS)) == KEYS


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"quantizer": {"block_size": 64, "error_feedback": True, "codec": "fixed"}}, "error_feedback = false"),
        ({"quantizer": {"block_size": 64, "error_feedback": False}}, 'needs quantizer.codec = "fixed"'),
        ({"aggregation": {"rule": "median"}}, "no other aggregation.rule"),
        ({"aggregation": {"rule": "mean", "max_norm": 1.0}}, "nobody sees an update"),
        ({"privacy": {"secure_aggregation": SECURE | {"threshold": 3}}}, "quorum 2 is less than the threshold 3"),
        ({"aggregation": {"rule": "trimmed-mean"}, "privacy": None}, 'trim belongs to rule "trimmed-mean"'),
    ],
)
def test_options_that_exclude_each_other_are_refused(changes, message):
    with pytest.raises(BadExperiment, match=message):
        parse(Experiment, EXPERIMENT | changes, "x.toml")
