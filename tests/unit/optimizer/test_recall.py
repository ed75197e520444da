from dataclasses import replace
from pathlib import Path

from fleet.domain import (
    DeviceReport,
    LeverOutcome,
    Metric,
    Phase,
    PhaseReport,
    Prediction,
    RoundReport,
    RunReport,
    RunSummary,
)
from fleet.experiment import read
from optimizer import recall

DEMO = read(Path(__file__).parents[3] / "experiments" / "demo.toml")
OTHER = DEMO.model_copy(update={"workload": DEMO.workload.model_copy(update={"name": "noop"})})
SLOWER = DEMO.model_copy(update={"name": "slower", "seed": 9, "rounds": 3})


def test_the_last_runs_of_the_same_workload_are_recalled_whatever_else_differs():
    earlier = [("a", DEMO), ("b", SLOWER), ("c", OTHER), ("d", DEMO), ("e", SLOWER)]
    assert recall.recalled(DEMO, earlier) == ("b", "d", "e")


def report(rounds):
    levers = (LeverOutcome("cpufreq", 1e9, 1e9), LeverOutcome("nvml_power:GPU-1", 90.0, None, "not allowed"))
    train = PhaseReport(Phase.TRAIN, 2.0, 1, levers=levers)
    device = DeviceReport(
        *("a", "mini-pc-n100", "arrived", 4, 32, "fp32", 0.5, 20, 10, 100, 110, 220, Prediction(None, None)),
        phases=(train,),
    )
    pages = tuple(
        RoundReport(n, "closed", 0.0, metrics=(Metric("fid", 50.0),), devices=(device,))
        for n in range(1, rounds + 1)
    )
    return RunReport(RunSummary("r", "demo", "completed", rounds, rounds, 0.0, 1), DEMO.model_dump_json(), pages)


def test_a_report_is_told_as_the_coordinator_told_it():
    (told,) = recall.told(report(1))
    a = told.assignment
    assert (a.run, a.round, a.device, a.bits_up, a.width, a.train_steps) == ("r", 1, "a", 4, 0.5, 20)
    assert (a.frequency_hz, a.power_limit_watts) == (1e9, 90.0)
    assert (told.wire_up_bytes, told.wire_down_bytes, told.metrics[0].value) == (110, 220, 50.0)


def test_of_a_long_run_only_the_end_is_told():
    rounds = [t.assignment.round for t in recall.told(report(recall.ROUNDS + 5))]
    assert (len(rounds), rounds[0]) == (recall.ROUNDS, 6)


def test_a_run_without_levers_asked_for_none():
    bare = report(1)
    device = replace(bare.rounds[0].devices[0], phases=())
    page = replace(bare.rounds[0], devices=(device,))
    (told,) = recall.told(replace(bare, rounds=(page,)))
    assert (told.assignment.frequency_hz, told.assignment.power_limit_watts) == (None, None)
