import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fleet import wire
from fleet.calibration import Calibration, CalibrationRow, UnitJoules, Work
from fleet.calibration_plans import plan as calibration_plan
from fleet.domain import Quality, RunReport
from fleet.experiment import read
from fleet.v1 import operator_pb2

pytestmark = pytest.mark.slow

Wattbed = Callable[..., Any]
GREEDY = """
name = "x"
seed = 1
rounds = 4
shards = 2
[workload]
name = "noop"
options = {}
[policy]
name = "greedy"
[policy.options]
bits_down = 32
bits_floor = 4
deadline_s = 100.0
late = "leave out"
menu = { bits_up = [4, 16], precisions = ["fp32"], widths = [1.0, 0.5], train_steps = [60] }
[round]
mode = "sync"
min_devices = 1
devices = 1
quorum = 1
deadline_s = 200.0
[server]
optimizer = "fedavg"
lr = 1.0
[quantizer]
block_size = 64
error_feedback = true
[evaluate]
every = 1
"""


@pytest.fixture
def file(tmp_path: Path) -> str:
    path = tmp_path / "x.toml"
    path.write_text(GREEDY.replace("options = {}", "options = { model_bytes = 400000, tensors = 4 }"))
    return str(path)


@pytest.fixture
def calibration(file: str) -> Calibration:
    def row(work: Work, seconds: float, **setting: Any) -> CalibrationRow:
        joules = UnitJoules("model", "cpu", "board", Quality.ESTIMATED, 5.0 * seconds)
        return CalibrationRow(work, 5, 10.0, seconds, joules=(joules,), **setting)

    rows = (
        *(row(work, 1.0) for work in (Work.IDLE_BEFORE, Work.IDLE_AFTER)),
        row(Work.TRAIN, 0.1, width=1.0, precision="fp32"),
        row(Work.ENCODE, 0.5, bits=8),
        row(Work.SEND, 1.0),
        row(Work.RECEIVE, 0.5),
    )
    return Calibration("c", "agent-1", calibration_plan(read(Path(file))), 0.0, 1.0, 400_000, rows)


@pytest.fixture(autouse=True)
def two_runs(operator: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The older run's report is that of the later one, under its own name."""

    def answer(request: Any, context: Any) -> Any:
        return wire.to_proto(replace(operator.report, run=replace(operator.report.run, run=request.run)))

    monkeypatch.setattr(operator, "GetReport", answer)


@pytest.fixture
def calibrated(operator: Any, calibration: Calibration, monkeypatch: pytest.MonkeyPatch) -> None:
    answer = operator_pb2.GetCalibrationsResponse(calibrations=[wire.to_proto(calibration)])
    monkeypatch.setattr(operator, "GetCalibrations", lambda request, context: answer, raising=False)


@pytest.fixture
def uncalibrated(operator: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    answer = operator_pb2.GetCalibrationsResponse()
    monkeypatch.setattr(operator, "GetCalibrations", lambda request, context: answer, raising=False)


def planned(wattbed: Wattbed, *arguments: str) -> Any:
    return json.loads(wattbed("plan", *arguments, "--json").out)


@pytest.mark.usefixtures("calibrated")
def test_a_calibrated_device_is_priced_by_phase_from_its_calibration(wattbed: Wattbed, file: str) -> None:
    (device,) = planned(wattbed, file)["devices"]
    assert (device["chosen"]["bits_up"], device["chosen"]["width"]) == (4, 0.5)
    phases = {p["phase"]: p for p in device["predicted"]["phases"]}
    assert {p["known"] for p in phases.values()} == {"calibration"}
    assert phases["train"]["seconds"] == pytest.approx(60 * 0.1 * 0.25)
    assert phases["upload"]["joules"] == pytest.approx(5.0 * 0.05)
    assert device["predicted"]["joules"] == pytest.approx(5.0 * device["predicted"]["seconds"])


@pytest.mark.usefixtures("calibrated")
def test_the_usual_is_priced_beside_it_at_full_width_and_as_many_steps(wattbed: Wattbed, file: str) -> None:
    found = planned(wattbed, file)
    joules = {name: price["totals"][0]["joules"] for name, price in found["baselines"].items()}
    assert list(joules) == ["fp32", "fixed 16", "fixed 8", "fixed 6", "fixed 4"]
    assert list(joules.values()) == sorted(joules.values(), reverse=True)
    assert joules["fp32"] == pytest.approx(5.0 * (60 * 0.1 + 0.4 * 0.5 + 0.4 * 1.0 + 0.4 * 0.5))
    assert found["price"]["totals"][0]["joules"] < joules["fixed 4"]


@pytest.mark.usefixtures("calibrated")
def test_radio_joules_stand_apart_and_are_in_no_total(wattbed: Wattbed, file: str) -> None:
    price = planned(wattbed, file)["price"]
    assert price["radio_joules"] == pytest.approx(0.1 * 0.05)
    assert price["totals"][0]["joules"] == pytest.approx(5.0 * (60 * 0.025 + 0.2 + 0.05 + 0.2))


@pytest.mark.usefixtures("uncalibrated")
def test_what_earlier_runs_of_the_workload_came_to_is_fitted(
    wattbed: Wattbed, operator: Any, report: RunReport, file: str
) -> None:
    experiment = read(Path(file)).model_dump_json()
    operator.report = replace(report, experiment_json=experiment)
    found = planned(wattbed, file)
    (device,) = found["devices"]
    train = device["predicted"]["phases"][1]
    assert (train["phase"], train["known"], train["samples"]) == ("train", "preset", 0)
    at_full_width = device["baselines"]["fixed 4"]["phases"][1]
    assert (at_full_width["known"], at_full_width["samples"]) == ("fitted", 2)
    assert at_full_width["seconds"] == pytest.approx(1.5)
    assert found["runs"] == ["older-1", "demo-1"]


@pytest.mark.usefixtures("uncalibrated")
def test_runs_of_another_workload_teach_nothing(
    wattbed: Wattbed, operator: Any, report: RunReport, file: str
) -> None:
    other = read(Path(file)).model_dump()
    other["workload"]["options"]["model_bytes"] = 800_000
    operator.report = replace(report, experiment_json=json.dumps(other))
    assert planned(wattbed, file)["runs"] == []


@pytest.mark.usefixtures("uncalibrated")
def test_a_step_that_nobody_measured_is_said_not_to_be_known(
    wattbed: Wattbed, operator: Any, report: RunReport, file: str
) -> None:
    other = read(Path(file)).model_dump()
    other["workload"]["options"]["model_bytes"] = 800_000
    operator.report = replace(report, experiment_json=json.dumps(other))
    (device,) = planned(wattbed, file)["devices"]
    train = device["predicted"]["phases"][1]
    assert (train["seconds"], train["joules"], train["known"]) == (None, None, "preset")
    assert device["predicted"]["phases"][3]["seconds"] == pytest.approx(50_000 * 8 / 20e6)
    out = wattbed("plan", file).out
    assert "1 not known" in out


def test_without_a_coordinator_the_plan_is_for_one_device_of_each_emulated_kind(
    wattbed: Wattbed, free_address: str, file: str
) -> None:
    found = planned(wattbed, file, "--coordinator", free_address)
    assert found["source"] == f"an assumed fleet: no coordinator answers at {free_address}"
    kinds = [d["kind"] for d in found["devices"]]
    assert kinds == ["gpu-workstation", "jetson-orin-nano", "mini-pc-n100", "raspberry-pi-5"]


def test_an_assumed_fleet_is_as_large_as_it_is_asked_for(wattbed: Wattbed, operator: Any, file: str) -> None:
    found = planned(wattbed, file, "--agents", "raspberry-pi-5=2", "--agents", "xeon-e5-2620v3=1")
    assert [d["device"] for d in found["devices"]] == ["raspberry-pi-5-1", "raspberry-pi-5-2", "xeon-e5-2620v3-1"]


def test_a_diffusion_step_is_counted_where_nothing_was_measured(wattbed: Wattbed) -> None:
    demo = Path(__file__).parents[3] / "experiments" / "demo.toml"
    found = planned(wattbed, str(demo), "--agents", "raspberry-pi-5=1")
    (device,) = found["devices"]
    assert "651,041 values, 1,468 million MACs a step, counted" in found["note"]
    # 4e9 MAC/s a core, and 0.3 of a core
    assert device["predicted"]["phases"][1]["seconds"] == pytest.approx(110 * 1.468e9 / (4e9 * 0.3), rel=1e-3)


def test_joules_of_different_scope_are_not_added(wattbed: Wattbed, file: str) -> None:
    found = planned(wattbed, file, "--agents", "raspberry-pi-5=1", "--agents", "jetson-orin-nano=1")
    assert [(t["quality"], t["scope"], t["devices"]) for t in found["price"]["totals"]] == [
        ("estimated", "board", 1),
        ("estimated", "wall", 1),
    ]


@pytest.mark.usefixtures("calibrated")
def test_the_tables_say_what_is_known_from_where(wattbed: Wattbed, file: str) -> None:
    out = wattbed("plan", file).out
    line = next(line.split() for line in out.splitlines() if "step at fp32" in line)
    assert line == ["agent-1", "step", "at", "fp32,", "width", "0.5", "s", "calibration", "0.025", "—", "—"]
    assert "x: round 1 by policy 'greedy'; nothing is run" in out


@pytest.mark.parametrize(
    ("change", "code", "message"),
    [
        (("deadline_s = 100.0", "deadline_s = 1e-9"), 2, "its deadline is 1e-09 s"),
        (("deadline_s = 100.0", "deadline_s = 0.0"), 2, "deadline_s = 0.0"),
        (('late = "leave out"', ""), 2, "missing key late"),
        (
            ('name = "greedy"', 'name = "greed"'),
            2,
            "known are exhaustive, fixed, greedy, learned, on-demand, precision, random",
        ),
    ],
)
@pytest.mark.usefixtures("calibrated")
def test_bad_input_is_named(wattbed: Wattbed, file: str, change: tuple[str, str], code: int, message: str) -> None:
    Path(file).write_text(Path(file).read_text().replace(*change))
    said = wattbed("plan", file)
    assert said.code == code
    assert message in said.err


def test_a_fleet_of_nobody_is_refused(wattbed: Wattbed, file: str) -> None:
    said = wattbed("plan", file, "--agents", "raspberry-pi-5=0")
    assert (said.code, "asks for no agent at all" in said.err) == (2, True)
