from dataclasses import replace

import pytest

from fleet.calibration import Calibration, CalibrationRow, UnitJoules, Work
from fleet.calibration_plans import plan
from fleet.domain import Assignment, Capabilities, EnergyReading, Origin, Phase, PhaseReport, Quality
from optimizer.forecast import Forecast
from optimizer.policy import Candidate, Told
from optimizer.prior import predict

MODEL = ("model", "cpu", "board", Quality.ESTIMATED)
RAPL = ("rapl:package-0", "cpu", "package", Quality.MEASURED)
MACHINE = Capabilities("mini-pc-n100", "cpu", 4, 1, "x86_64", "0")


def row(work, seconds, model, rapl=None, **setting):
    joules = (UnitJoules(*MODEL, model), UnitJoules(*RAPL, rapl))
    return CalibrationRow(work, 5, 10.0, seconds, joules=joules, **setting)


ROWS = (
    row(Work.IDLE_BEFORE, 1.0, 4.0),
    row(Work.TRAIN, 0.5, 3.0, 2.0, width=1.0, precision="fp32"),
    row(Work.TRAIN, 0.25, 1.5, 1.0, width=0.5, precision="fp32"),
    row(Work.ENCODE, 0.1, 1.0, 0.5, bits=4),
    row(Work.ENCODE, 0.3, 3.0, 1.5, bits=8),
    row(Work.SEND, 2.0, 8.0, 4.0),
    row(Work.RECEIVE, 1.0, 4.0, 2.0),
)
CALIBRATION = Calibration("c1", "a", plan(), 0.0, 1.0, 2_000_000, ROWS)


def test_seconds_are_those_of_the_steps_and_of_the_megabytes_of_the_model():
    found = predict(CALIBRATION, bits_up=8, bits_down=32, width=1.0, precision="fp32", train_steps=10)
    assert found.seconds == pytest.approx(0.5 * 10 + 0.3 * 2 + 2.0 * 2 * 8 / 32 + 1.0 * 2)


def test_joules_are_of_the_best_quality_that_every_row_has():
    found = predict(CALIBRATION, 8, 32, 1.0, "fp32", 10)
    assert (found.quality, found.scope, found.origin, found.samples) == ("measured", "package", Origin.FITTED, 5)
    assert found.joules == pytest.approx(2.0 * 10 + 1.5 * 2 + 4.0 * 2 * 8 / 32 + 2.0 * 2)


def test_one_row_that_a_meter_failed_in_leaves_the_estimate():
    without = replace(CALIBRATION, rows=(*ROWS[:-1], row(Work.RECEIVE, 1.0, 4.0, None)))
    found = predict(without, 8, 32, 1.0, "fp32", 10)
    assert (found.quality, found.joules) == (
        "estimated",
        pytest.approx(3.0 * 10 + 3.0 * 2 + 8.0 * 2 * 8 / 32 + 4.0 * 2),
    )


def test_encoding_at_bits_between_lies_on_the_line():
    four, six, eight = (predict(CALIBRATION, bits, 32, 1.0, "fp32", 10) for bits in (4, 6, 8))
    assert six.seconds == pytest.approx((four.seconds + eight.seconds) / 2)
    assert six.joules == pytest.approx((four.joules + eight.joules) / 2)


@pytest.mark.parametrize("setting", [(0.75, "fp32"), (1.0, "bf16")])
def test_what_was_not_calibrated_gets_no_number(setting):
    assert predict(CALIBRATION, 8, 32, *setting, 10) is None


def test_a_setting_that_could_not_be_trained_gets_no_number():
    failed = CalibrationRow(Work.TRAIN, 0, width=1.0, precision="fp32", reason="out of memory")
    without = replace(CALIBRATION, rows=(failed, *ROWS[3:]))
    assert predict(without, 8, 32, 1.0, "fp32", 10) is None


def told(*joules):
    assignment = Assignment("r", 1, "a", "m", 1, 0, 4, 32, "fp32", 1.0, 10, 1, 0.0)
    readings = tuple(EnergyReading(*of, j) for of, j in zip((MODEL, RAPL), joules, strict=True))
    return Told(assignment, (PhaseReport(Phase.TRAIN, 5.0, 1, readings),), 1, 1)


def test_what_rounds_came_to_takes_the_place_of_the_calibration():
    forecast, candidate = Forecast(), Candidate("a", MACHINE, CALIBRATION)
    first = forecast.predict(candidate, 8, 32, 1.0, "fp32", 10)
    forecast.add(told(60.0, 70.0))
    then = forecast.predict(candidate, 8, 32, 1.0, "fp32", 10)
    assert (first.joules, then.joules) == (pytest.approx(29.0), 70.0)


def test_joules_of_two_qualities_are_never_added_in_a_forecast():
    forecast, candidate = Forecast(), Candidate("a", MACHINE)
    forecast.add(told(60.0, 70.0))
    forecast.add(told(50.0, None))
    found = forecast.predict(candidate, 8, 32, 1.0, "fp32", 10)
    assert (found.joules, found.quality, found.scope) == (50.0, Quality.ESTIMATED, "board")
