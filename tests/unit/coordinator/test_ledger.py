from coordinator.events import EnergyMeasured, RoundOpened
from coordinator.ledger import RunLedger
from coordinator.machine import Run
from coordinator.machine.state import Device
from fleet.domain import (
    Assignment,
    Capabilities,
    EnergyReading,
    LeverOutcome,
    LinkInfo,
    Phase,
    PhaseMeasured,
    Quality,
)
from fleet.experiment import Experiment, parse

LINK = LinkInfo(5e6, 20e6, 0.03, 0.005, 0.01, "tbf", "relay", "netfilter")
TASK = Assignment("x-1", 1, "a", "m0", 1, 0, 8, 32, "fp32", 1.0, 1, 1, 50.0)
EXPERIMENT = parse(
    Experiment,
    {
        "name": "x", "seed": 1, "rounds": 1, "shards": 1,
        "workload": {"name": "noop", "options": {}},
        "policy": {"name": "fixed", "options": {}},
        "round": {"mode": "sync", "min_devices": 1, "devices": 1, "quorum": 1, "deadline_s": 50},
        "server": {"optimizer": "fedavg", "lr": 1.0},
        "quantizer": {"block_size": 64, "error_feedback": True},
        "evaluate": {"every": 1},
    },
    where="x",
)  # fmt: skip


def window(name, joules, *levers):
    readings = tuple(
        EnergyReading(source, component, scope, Quality.MEASURED, joules)
        for source, component, scope in (("rapl:package-0", "cpu", "package"), ("plug:a", "wall", "wall"))
    )
    return EnergyMeasured(2, "x-1", "a", PhaseMeasured(name, "x-1", 1, Phase.TRAIN, 1.0, 2.0, readings, levers))


def report(*events):
    ledger = RunLedger()
    for event in (RoundOpened(1, "x-1", 1, (TASK,), 50.0), *events):
        ledger.add(event)
    able = Capabilities("raspberry-pi-5", "cpu", 4, 1, "m", "0", link=LINK)
    devices = {name: Device(name, able, None, None, 0.0) for name in ("a", "b")}
    return ledger.report(Run("x-1", "", EXPERIMENT, 1.0), devices)


def test_what_came_of_a_lever_is_kept_once_however_many_windows_say_it():
    refused = LeverOutcome("gpu_power_watts", 5.0, None, "the least is 10 W")
    set_to = LeverOutcome("cpu_max_hz", 1e9, 1e9)
    found = report(window("w1", 1.0, refused, set_to), window("w2", 1.0, refused))
    assert found.rounds[0].devices[0].phases[0].levers == (refused, set_to)


def test_the_devices_of_a_run_stand_in_its_report_with_their_links():
    assert [(e.device, e.capabilities.link) for e in report(window("w1", 1.0)).equipment] == [("a", LINK)]


def test_every_source_keeps_a_row_of_its_own_by_phase_scope_and_quality():
    (phase,) = report(window("w1", 1.5), window("w2", 2.0)).rounds[0].devices[0].phases
    rows = [(r.source, r.scope, r.quality, r.joules) for r in phase.readings]
    assert rows == [("rapl:package-0", "package", "measured", 3.5), ("plug:a", "wall", "measured", 3.5)]
