"""Histories of real runs must fold to the states that the coordinators had that ran them.

Each .jsonl was written by `wattbed replay RUN --export`: demo (the demo), lossy (an agent and the coordinator
killed in the run, over-commitment), buffered (FedBuff, queued behind another run). states.json has what
`wattbed replay` said then; a new field with a default is fine, anything else that changes these is not.
"""

import json
from pathlib import Path

import pytest

from coordinator.events import from_json, to_json
from coordinator.ledger import RunLedger
from coordinator.machine import RunPhase, apply, fold, todo
from coordinator.machine.folding import Folding
from coordinator.machine.state import Device, State
from coordinator.machine.todo import Record
from fleet.domain import Capabilities, Quality
from fleet.energy import choose, total

FOLDER = Path(__file__).parent
STATES = json.loads((FOLDER / "states.json").read_text())
HISTORIES = sorted(p.stem for p in FOLDER.glob("*.jsonl"))


def events(name):
    lines = [json.loads(line) for line in (FOLDER / f"{name}.jsonl").read_text().splitlines()]
    return [from_json(line["kind"], json.dumps(line["body"])) for line in lines]


def run_of(name):
    (run,) = fold(events(name)).runs.values()
    return run


@pytest.mark.parametrize("name", HISTORIES)
def test_a_history_folds_to_the_state_it_had(name):
    run = run_of(name)
    found = {
        "phase": run.phase.value,
        "round": run.round,
        "model_sha256": run.model_sha256,
        "counted": {device: [a.round, a.digest] for device, a in sorted(run.counted.items())},
    }
    assert found == STATES[name]


@pytest.mark.parametrize("name", HISTORIES)
def test_every_decision_in_a_history_was_due_when_it_was_made(name):
    state = State()
    for event in events(name):
        if type(event).__name__ in ("RoundClosed", "RunEnded"):
            kinds = [type(e.event).__name__ for e in todo(with_devices(state)) if isinstance(e, Record)]
            assert type(event).__name__ in kinds
        state = apply(state, event)
    assert next(iter(state.runs.values())).phase is RunPhase.COMPLETED


def with_devices(state):
    """The devices of a run's history are not in it: all are taken to be away for long."""
    machine = Capabilities("mini-pc-n100", "cpu", 4, 1, "x86_64", "0")
    names = {n for r in state.runs.values() for n in r.shards}
    return State(state.now_s, {n: Device(n, machine, None, None, 0.0) for n in names}, state.runs)


@pytest.mark.parametrize("name", HISTORIES)
def test_the_ledger_has_every_window_of_a_history_once(name):
    ledger, measured = RunLedger(), {}
    for event in events(name):
        ledger.add(event)
        if type(event).__name__ == "EnergyMeasured":
            measured[event.measured.window] = event.measured
    report = ledger.report(run_of(name), {})
    entered = [r for page in report.rounds for d in page.devices for p in d.phases for r in p.readings]
    reported = [r for window in measured.values() for r in window.readings]
    assert joules(entered) == pytest.approx(joules(reported))


def joules(readings):
    windows = [[r] for r in readings]
    return total(windows, choose(windows)[Quality.ESTIMATED]).joules


@pytest.mark.parametrize("name", HISTORIES)
def test_a_history_is_written_back_as_it_was_read(name):
    for event in events(name):
        assert from_json(type(event).__name__, to_json(event)) == event


@pytest.mark.parametrize("name", HISTORIES)
def test_the_fold_of_a_start_gives_the_state_of_every_step(name):
    folding, state = Folding(), State()
    for event in events(name):
        folding.add(event)
        state = apply(state, event)
        assert folding.state() == state
