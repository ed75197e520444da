import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fleet.errors import IllegalMove

Wattbed = Callable[..., Any]
DEMO = str(Path(__file__).parents[3] / "experiments" / "demo.toml")


def test_devices_are_calibrated_one_after_the_other(wattbed: Wattbed, operator: Any) -> None:
    wattbed("calibrate", "b", "a", "b", "--quick")
    assert [(c.device, c.plan.quick) for c in operator.calibrated] == [("b", True), ("a", True)]


def test_all_means_those_that_are_attached(wattbed: Wattbed, operator: Any) -> None:
    wattbed("calibrate", "--all")
    assert [c.device for c in operator.calibrated] == ["agent-1"]


def test_the_workload_is_that_of_the_experiment_that_is_named(
    wattbed: Wattbed, operator: Any, tmp_path: Path
) -> None:
    other = tmp_path / "other.toml"
    other.write_text(Path(DEMO).read_text(encoding="utf-8").replace("channels = 32", "channels = 16"))
    wattbed("calibrate", "a", "--experiment", str(other))
    assert json.loads(operator.calibrated[0].plan.options_json)["model"]["channels"] == 16


def test_joules_stand_with_source_scope_and_quality_and_what_failed_with_its_reason(wattbed: Wattbed) -> None:
    out = wattbed("calibrate", "a", "--quick").out
    line = next(line.split() for line in out.splitlines() if "rapl" in line)
    assert line == [
        *("train", "width", "1", "fp32", "step", "rapl:package-0", "cpu", "package", "measured"),
        *("2.5", "J", "0.1", "J", "1.5", "J", "+1", "%", "gap"),
    ]
    assert "no bf16 here" in out
    assert "quick: too few repeats to trust the spread" in out


def test_machines_get_every_row_and_null_for_what_was_not_measured(wattbed: Wattbed) -> None:
    (found,) = json.loads(wattbed("calibrate", "a", "--json").out)
    train, refused = found["rows"]
    assert (train["seconds"], train["unit"], train["joules"][0]["quality"]) == (0.125, "step", "measured")
    assert (refused["seconds"], refused["repeats"], refused["reason"]) == (None, 0, "no bf16 here")
    assert found["plan"]["options"]["dataset"] == "digits"


def test_a_coordinator_that_restarts_is_asked_again_for_the_same_calibration(
    wattbed: Wattbed, operator: Any
) -> None:
    operator.cut_calibration = True
    said = wattbed("calibrate", "a")
    assert said.code == 0
    assert len({c.calibration for c in operator.calibrated}) == 1
    assert len(operator.calibrated) == 2


def test_a_busy_device_is_refused_with_the_coordinators_words(wattbed: Wattbed, operator: Any) -> None:
    operator.error = IllegalMove("device a takes part in run demo-1 (round 2, training)")
    said = wattbed("calibrate", "a")
    assert (said.code, said.err) == (1, "wattbed: device a takes part in run demo-1 (round 2, training)\n")


def test_nobody_is_calibrated_by_chance(wattbed: Wattbed, operator: Any) -> None:
    said = [wattbed("calibrate"), wattbed("calibrate", "a", "--all")]
    assert ({s.code for s in said}, operator.calibrated) == ({2}, [])


def test_one_that_is_refused_does_not_keep_the_others_from_it(wattbed: Wattbed, operator: Any) -> None:
    operator.refused = {"b": IllegalMove("device b takes part in run demo-1 (round 2, training)")}
    said = wattbed("calibrate", "b", "a", "--json")
    refused, found = json.loads(said.out)
    assert (said.code, refused["device"], refused["error"], found["device"]) == (1, "b", "IllegalMove", "a")
