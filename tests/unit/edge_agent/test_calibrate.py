from dataclasses import replace
from types import SimpleNamespace

import pytest

from edge_agent import calibrate
from edge_agent.calibrate import Job, _filling
from edge_agent.calibration_rows import Measured, off, spread, summed_up, without_idle
from edge_agent.energy.meter import Window
from fleet.calibration import (
    Calibrate,
    Calibration,
    CalibrationAck,
    CalibrationGivenUp,
    CalibrationProgress,
    CalibrationRow,
    CancelCalibration,
    Work,
)
from fleet.calibration_plans import plan
from fleet.domain import EnergyReading, Phase, PhaseMeasured, Quality
from fleet.errors import DataMissing, StrangerUpdate, TooMany, Unreachable, WattbedError

pytestmark = pytest.mark.slow

PLAN = replace(
    plan(), workload="recorded", options_json="{}", widths=(1.0,), precisions=("fp32",), bits=(8,),
    repeats=1, window_s=0.01, warm_up_s=0.0, idle_s=0.02, cool_down_s=0.0,
)  # fmt: skip
ORDER = Calibrate("c1", PLAN)
WIDER = replace(PLAN, widths=(0.5, 1.0), bits=(8, 32), repeats=2)


def row_of(calibration, work, **setting):
    (found,) = [
        r for r in calibration.rows if r.work is work and all(getattr(r, k) == v for k, v in setting.items())
    ]
    return found


async def outcome(fleet, cls=Calibration):
    await fleet.until(lambda: fleet.said(cls))
    return fleet.said(cls)[0]


@pytest.fixture
def ordered(fleet, monkeypatch):
    """The coordinator wants a calibration of every agent that attaches. Its work takes no time."""
    monkeypatch.setattr(calibrate, "MOST_UNITS", 100.0)
    fleet.tasks = [ORDER]
    return fleet


async def test_a_calibration_has_a_row_for_everything_that_was_asked(ordered, workload, attach):
    ordered.tasks = [Calibrate("c1", WIDER)]
    await attach()
    found = await outcome(ordered)
    assert [(r.work, r.width, r.bits) for r in found.rows] == [
        ("idle_before", None, None), ("train", 0.5, None), ("train", 1.0, None), ("encode", None, 8),
        ("encode", None, 32), ("send", None, None), ("receive", None, None), ("idle_after", None, None),
    ]  # fmt: skip
    assert all(r.repeats == 2 and r.seconds > 0 and r.joules[0].joules is not None for r in found.rows)
    assert (found.calibration, found.device, found.plan, found.model_bytes) == ("c1", "d1", WIDER, 4000)


async def test_under_a_budget_one_of_each_kind_of_work_comes_first(ordered, workload, attach):
    ordered.tasks = [Calibrate("c1", replace(WIDER, budget_s=60.0))]
    await attach()
    found = await outcome(ordered)
    assert [(r.work, r.width, r.bits) for r in found.rows[1:-1]] == [
        ("train", 0.5, None), ("encode", None, 8), ("send", None, None), ("receive", None, None),
        ("train", 1.0, None), ("encode", None, 32),
    ]  # fmt: skip
    assert not any(r.left_out for r in found.rows)


async def test_what_does_not_fit_into_the_budget_is_ended_left_out_and_said(
    ordered, workload, attach, monkeypatch
):
    trains = workload.train

    def endless_but_the_first(*args):
        workload.hold = bool(workload.trained)
        return trains(*args)

    monkeypatch.setattr(workload, "train", endless_but_the_first)
    ordered.tasks = [Calibrate("c1", replace(WIDER, budget_s=0.05))]
    await attach()
    found = await outcome(ordered)
    assert [r.left_out for r in found.rows] == [False, *[True] * 6, False]
    assert {r.reason for r in found.rows if r.left_out} == {
        "not measured: the 0.05 s that the plan gives were over"
    }
    assert (workload.stopped_by, {r.repeats for r in found.rows}) == ("Cancelled", {0, 2})


async def test_every_joule_stands_beside_what_is_left_without_idle_power(ordered, workload, attach):
    await attach()
    found = await outcome(ordered)
    idle = [row_of(found, work).joules[0].joules for work in (Work.IDLE_BEFORE, Work.IDLE_AFTER)]
    row = row_of(found, Work.ENCODE, bits=8)
    expected = row.joules[0].joules - sum(idle) / 2 * row.seconds
    assert row.joules[0].dynamic_joules == pytest.approx(expected)


async def test_what_was_sent_and_received_is_what_the_coordinator_counted(ordered, workload, attach):
    await attach()
    found = await outcome(ordered)
    windows = sum(row_of(found, w).units for w in (Work.SEND, Work.RECEIVE)) * 1e6
    assert windows <= sum(ordered.filler_bytes.values())


async def test_the_operator_hears_how_far_it_is(ordered, workload, attach):
    await attach()
    await outcome(ordered)
    said = [(p.done, p.total, p.what) for p in ordered.said(CalibrationProgress)]
    assert (said[0], said[1], said[-1]) == (
        (0, 6, "idle_before"), (1, 6, "train width 1 fp32"), (6, 6, "done"),
    )  # fmt: skip


async def test_the_outcome_is_said_again_until_it_is_acknowledged(ordered, workload, attach):
    await attach()
    first = await outcome(ordered)
    await ordered.crash()
    ordered.messages.clear()
    await ordered.start()
    assert await outcome(ordered) == first
    trained = len(workload.trained)
    ordered.push(CalibrationAck("c1"))
    ordered.push(ORDER)  # as a new coordinator would that lost the result
    await ordered.until(lambda: len(workload.trained) > trained)


async def test_a_calibration_pushed_again_goes_on_as_it_is(ordered, workload, attach):
    workload.hold = True
    await attach()
    await ordered.until(lambda: workload.trained)
    ordered.push(ORDER)
    await ordered.crash()
    await ordered.start()
    await ordered.until(lambda: len(ordered.hellos) == 2)
    workload.hold = False
    await outcome(ordered)
    first = [p for p in ordered.said(CalibrationProgress) if p.what == Work.IDLE_BEFORE]
    assert len(first) <= 1


async def test_a_calibration_that_is_withdrawn_stops_and_the_device_works_on(
    ordered, workload, attach, make_task, params
):
    workload.hold = True
    await attach()
    await ordered.until(lambda: workload.trained)
    ordered.push(CancelCalibration("c1", "the operator has left"))
    await ordered.until(lambda: workload.stopped_by)
    workload.hold = False
    ordered.push(make_task(params))
    await ordered.until(lambda: ordered.counted)
    assert (workload.stopped_by, ordered.said(Calibration), ordered.said(CalibrationGivenUp)) == (
        "Cancelled",
        [],
        [],
    )


async def test_a_task_that_comes_meanwhile_waits(ordered, workload, attach, make_task, params):
    workload.hold = True
    await attach()
    await ordered.until(lambda: workload.trained)
    ordered.push(make_task(params))
    workload.hold = False
    await ordered.until(lambda: ordered.counted)
    kinds = [type(m) for m in ordered.messages if isinstance(m, (Calibration, PhaseMeasured))]
    assert (kinds[0], kinds.count(Calibration)) == (Calibration, 1)


async def test_a_device_that_lacks_the_data_says_so(ordered, workload, attach):
    workload.error = DataMissing("digits is not here")
    await attach()
    assert await outcome(ordered, CalibrationGivenUp) == CalibrationGivenUp("c1", "digits is not here")


async def test_a_setting_that_cannot_be_trained_is_a_row_with_the_reason(ordered, workload, attach, monkeypatch):
    trains = workload.train

    def half_only(params, shard, assignment, progress):
        if assignment.width == 1.0:
            raise MemoryError("width 1 does not fit")
        return trains(params, shard, assignment, progress)

    monkeypatch.setattr(workload, "train", half_only)
    ordered.tasks = [Calibrate("c1", WIDER)]
    await attach()
    found = await outcome(ordered)
    wide, narrow = (row_of(found, Work.TRAIN, width=w) for w in (1.0, 0.5))
    assert (wide.repeats, wide.seconds, wide.reason) == (0, None, "MemoryError: width 1 does not fit")
    assert narrow.repeats == 2


async def test_a_transfer_that_was_cut_is_measured_anew_and_one_that_is_refused_is_not(ordered, workload, attach):
    passing = [Unreachable("cut"), WattbedError("INTERNAL: Received RST_STREAM"), TooMany("wait")]
    ordered.refused_fillers = [*passing, StrangerUpdate("not under way")]
    await attach()
    row = row_of(await outcome(ordered), Work.SEND)
    assert (row.repeats, row.reason, ordered.refused_fillers) == (0, "not under way", [])


async def test_work_is_chosen_so_that_it_fills_the_window(monkeypatch):
    now_s = [0.0]
    monkeypatch.setattr(calibrate, "time", SimpleNamespace(monotonic=lambda: now_s[0]))

    async def do(units):
        now_s[0] += 0.004 * units + (10.0 if now_s[0] == 0.0 else 0.0)  # the first one compiles
        return units

    units = await _filling(Job(CalibrationRow(Work.TRAIN, 0), Phase.TRAIN, 1, do), 2.0)
    assert units == pytest.approx(500)


async def test_work_that_does_no_more_at_once_is_repeated_until_the_window_is_full(monkeypatch):
    now_s = [0.0]
    monkeypatch.setattr(calibrate, "time", SimpleNamespace(monotonic=lambda: now_s[0]))

    async def do(megabytes):
        now_s[0] += min(megabytes, 500) / 2000
        return min(megabytes, 500)

    units = await _filling(Job(CalibrationRow(Work.RECEIVE, 0), Phase.DOWNLOAD, 0.125, do), 2.0)
    assert units == pytest.approx(4000)


async def test_work_that_takes_no_time_ends_all_the_same():
    async def do(units):
        return units

    assert await _filling(Job(CalibrationRow(Work.TRAIN, 0), Phase.TRAIN, 1, do), 1.0) == 1e5


def window(seconds, joules, units, **flags):
    reading = EnergyReading("rapl:package-0", "cpu", "package", Quality.MEASURED, joules, **flags)
    return Measured(units, Window(Phase.TRAIN, 0.0, seconds, (reading,)))


def test_a_row_is_the_median_per_unit_and_the_check_says_how_far_off_it_is():
    windows = [window(1.0, 10.0, 5), window(2.0, 30.0, 5), window(1.5, 15.0, 5)]
    row = summed_up(CalibrationRow(Work.TRAIN, 0), windows, window(3.3, 27.0, 10))
    (joules,) = row.joules
    assert (row.repeats, row.units, row.seconds, joules.joules) == (3, 5, 0.3, 3.0)
    assert (row.iqr_seconds, joules.iqr_joules) == pytest.approx((0.1, 2.0))
    assert (row.residual, joules.residual) == pytest.approx((0.1, -0.1))


def test_a_source_that_failed_in_one_window_says_nothing_and_why():
    windows = [window(1.0, 10.0, 5), window(1.0, None, 5, flags=("read_failed",))]
    (joules,) = summed_up(CalibrationRow(Work.TRAIN, 0), windows, None).joules
    assert (joules.joules, joules.iqr_joules, joules.flags) == (None, None, ("read_failed",))


def test_the_drift_of_idle_power_is_told_and_its_mean_taken_off():
    def row(work, seconds, joules):
        return summed_up(CalibrationRow(work, 0), [window(seconds, joules, 1)], None)

    rows = without_idle(
        [row(Work.IDLE_BEFORE, 1.0, 2.0), row(Work.TRAIN, 3.0, 20.0), row(Work.IDLE_AFTER, 1.0, 4.0)]
    )
    assert [r.joules[0].dynamic_joules for r in rows] == [None, 11.0, None]
    assert rows[2].joules[0].residual == 1.0


def test_without_an_idle_baseline_there_are_no_dynamic_joules():
    rows = [
        summed_up(CalibrationRow(Work.IDLE_BEFORE, 0), [window(1.0, None, 1)], None),
        summed_up(CalibrationRow(Work.TRAIN, 0), [window(3.0, 20.0, 1)], None),
        summed_up(CalibrationRow(Work.IDLE_AFTER, 0), [window(1.0, 2.0, 1)], None),
    ]
    assert without_idle(rows)[1].joules[0].dynamic_joules is None


def test_one_value_has_no_spread_and_nothing_expected_has_no_error():
    assert (spread([3.0]), off(1.0, 0.0)) == (0.0, None)
