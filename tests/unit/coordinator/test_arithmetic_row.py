from dataclasses import replace

import pytest

from cli.ledger_view import all_devices, choices, energy, readings, totals, without_source
from coordinator.events import (
    BytesMoved,
    EnergyMeasured,
    ModelInitialised,
    RoundOpened,
    UpdateReceived,
    from_json,
    to_json,
)
from coordinator.ledger import RunLedger
from coordinator.machine import Run
from coordinator.machine.state import Device
from fleet.domain import (
    Assignment,
    Capabilities,
    EnergyReading,
    NetworkSize,
    Phase,
    PhaseMeasured,
    Quality,
    RunReport,
)
from fleet.energy import ARITHMETIC
from fleet.experiment import Experiment, parse
from optimizer import recall
from optimizer.fitting import FleetFit
from optimizer.models.arithmetic import step_joules
from optimizer.models.presets import GREEN_CHIP, GREEN_NETWORK
from optimizer.models.training import iteration_energy
from optimizer.policy import Candidate

PUBLISHED = NetworkSize(411_598, 40.5e6, 4990, 784, 32)
EXPERIMENT = parse(
    Experiment,
    {
        "name": "x", "seed": 1, "rounds": 1, "shards": 2,
        "workload": {"name": "noop", "options": {}},
        "policy": {"name": "fixed", "options": {}},
        "round": {"mode": "sync", "min_devices": 1, "devices": 2, "quorum": 1, "deadline_s": 50},
        "server": {"optimizer": "fedavg", "lr": 1.0},
        "quantizer": {"block_size": 64, "error_feedback": True},
        "evaluate": {"every": 1},
    },
    where="x",
)  # fmt: skip
METERS = {
    "model": EnergyReading("model", "board", "board", Quality.ESTIMATED, 7.0),
    "rapl": EnergyReading("rapl:package-0", "cpu", "package", Quality.MEASURED, 7.0),
    "none": EnergyReading("rapl:package-0", "cpu", "package", Quality.MEASURED, None),
}


def report(*precisions: str, meter: str = "model", network: NetworkSize | None = PUBLISHED) -> RunReport:
    """A round of devices a, b, ... that train 5 steps at these precisions."""
    ledger, names = RunLedger(), "abc"[: len(precisions)]
    ledger.add(ModelInitialised(0, "x-1", "m0", 1, network))
    tasks = tuple(
        Assignment("x-1", 1, name, "m0", 1, 0, 8, 32, precision, 1.0, 5, 1, 50.0)
        for name, precision in zip(names, precisions, strict=True)
    )
    ledger.add(RoundOpened(1, "x-1", 1, tasks, 50.0))
    for name in names:
        for phase in (Phase.DOWNLOAD, Phase.TRAIN, Phase.QUANTIZE, Phase.UPLOAD):
            window = PhaseMeasured(f"{name}{phase}", "x-1", 1, phase, 1.0, 2.0, (METERS[meter],))
            ledger.add(EnergyMeasured(2, "x-1", name, window))
        ledger.add(UpdateReceived(3, "x-1", 1, name, "d", 10, 1, 0.5))
        ledger.add(BytesMoved(3, "x-1", 1, name, "up", 20))
        ledger.add(BytesMoved(3, "x-1", 1, name, "down", 40))
    able = Capabilities("raspberry-pi-5", "cpu", 4, 1, "m", "0")
    return ledger.report(Run("x-1", "", EXPERIMENT, 1.0), {n: Device(n, able, None, None, 0.0) for n in names})


def rows(found: RunReport) -> dict[str, float | None]:
    return {d.device: r.joules for d in all_devices(found) for r in readings([d]) if r.component == ARITHMETIC}


def test_simulated_training_has_a_row_with_the_joules_of_the_papers_chip():
    found = rows(report("q8"))

    assert found == {"a": pytest.approx(5 * float(iteration_energy(GREEN_NETWORK, GREEN_CHIP, 8, 32)))}


def test_beside_simulated_training_the_others_have_a_row_too_so_that_they_compare():
    found = rows(report("q8", "bf16", "fp32"))

    assert found["a"] < found["b"] < found["c"]
    assert found["c"] == pytest.approx(5 * float(iteration_energy(GREEN_NETWORK, GREEN_CHIP, 32, 32)))


def test_a_run_at_native_precisions_has_no_such_row():
    assert rows(report("fp32", "bf16")) == {}


def test_a_log_that_does_not_say_how_large_the_network_is_has_no_such_row():
    old = '{"at_s": 0, "run": "x-1", "sha256": "m0", "size_bytes": 1}'

    assert from_json("ModelInitialised", old) == ModelInitialised(0, "x-1", "m0", 1)
    assert rows(report("q8", network=None)) == {}


def test_the_size_of_the_network_survives_the_log():
    event = ModelInitialised(0, "x-1", "m0", 1, PUBLISHED)

    assert from_json("ModelInitialised", to_json(event)) == event


@pytest.mark.parametrize("meter", METERS)
def test_totals_are_what_they_are_without_the_row(meter):
    def found(network: NetworkSize | None):
        ran = report("q8", "q4", meter=meter, network=network)
        return totals(all_devices(ran), choices(ran))

    assert found(PUBLISHED) == found(None)


def test_the_row_is_estimated_and_stands_by_itself_in_the_report():
    found = [s for s in energy(readings(all_devices(report("q8", "q4")))) if s.component == ARITHMETIC]

    assert [(s.quality, s.scope, s.source) for s in found] == [("estimated", ARITHMETIC, "arithmetic")]


def test_a_training_that_nobody_measured_is_not_taken_for_measured():
    assert "round 1, a, train" in without_source(report("q8", meter="none"))


def test_what_is_fitted_to_a_report_does_not_see_the_row():
    def joules(network: NetworkSize | None) -> float | None:
        fits = FleetFit()
        for told in recall.told(report("q8", network=network)):
            fits.add(told)
        able = Capabilities("raspberry-pi-5", "cpu", 4, 1, "m", "0")
        fit = fits.device(Candidate("a", able))
        return fit.cost(fit.samples[0].choice).joules

    assert joules(PUBLISHED) == joules(None) == pytest.approx(28.0)


def test_steps_that_were_lost_on_the_way_are_not_counted():
    ledger = RunLedger()
    ledger.add(ModelInitialised(0, "x-1", "m0", 1, PUBLISHED))
    task = Assignment("x-1", 1, "a", "m0", 1, 0, 8, 32, "q8", 1.0, 5, 1, 50.0)
    ledger.add(RoundOpened(1, "x-1", 1, (task,), 50.0))
    window = PhaseMeasured("w", "x-1", 1, Phase.TRAIN, 1.0, 2.0, (METERS["model"],))
    ledger.add(EnergyMeasured(2, "x-1", "a", window))
    able = Capabilities("raspberry-pi-5", "cpu", 4, 1, "m", "0")
    found = ledger.report(Run("x-1", "", EXPERIMENT, 1.0), {"a": Device("a", able, None, None, 0.0)})

    assert rows(found) == {}


def test_a_narrower_network_takes_less_on_the_chip():
    assert step_joules(PUBLISHED, 8, 0.5) < 0.3 * step_joules(PUBLISHED, 8)
    assert step_joules(replace(PUBLISHED, batch=64), 8) == pytest.approx(2 * step_joules(PUBLISHED, 8))
