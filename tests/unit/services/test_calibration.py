"""Calibrating over real gRPC, with a device that answers what a test says."""

import asyncio
from dataclasses import replace

import grpc
import pytest

from fleet import wire
from fleet.calibration import (
    Calibrate,
    Calibration,
    CalibrationAck,
    CalibrationGivenUp,
    CalibrationProgress,
    CalibrationRow,
    CancelCalibration,
    UnitJoules,
    Work,
)
from fleet.calibration_plans import plan
from fleet.domain import Quality
from fleet.errors import BadExperiment, BadRequest, IllegalMove, StrangerUpdate, UnknownDevice, WattbedError
from fleet.rpc import wattbed_error
from fleet.v1 import fleet_pb2, operator_pb2

PLAN = replace(
    plan(quick=True),
    workload="noop",
    options_json='{"model_bytes": 4000, "tensors": 2}',
)


def row(work, seconds, **setting):
    joules = UnitJoules("model", "cpu", "board", Quality.ESTIMATED, 10 * seconds)
    return CalibrationRow(work, 2, 10.0, seconds, 0.0, 0.0, joules=(joules,), **setting)


def result(name, device, plan=PLAN):
    rows = (
        row(Work.TRAIN, 0.5, width=1.0, precision="fp32"),
        row(Work.ENCODE, 0.0, bits=8),
        row(Work.ENCODE, 0.0, bits=32),
        row(Work.SEND, 0.0),
        row(Work.RECEIVE, 0.0),
    )
    return Calibration(name, device, plan, 1.0, 2.0, 4000, rows)


class Asking:
    """One Calibrate call of an operator."""

    def __init__(self, coordinator, device, name="c1", plan=PLAN):
        request = operator_pb2.CalibrateRequest(device=device, calibration=name, plan=wire.to_proto(plan))
        self.call = coordinator.operator.Calibrate(request)

    async def answers(self):
        """All that it said; the error that it ended with."""
        said = []
        try:
            async for message in self.call:
                said.append(wire.from_proto(getattr(message, message.WhichOneof("message"))))
        except grpc.aio.AioRpcError as error:
            raise wattbed_error(error) from None
        return said


async def heard(device, cls):
    while not isinstance(message := await device.hear(), cls):
        pass
    return message


async def calibrations(coordinator, device):
    answer = await coordinator.ask(
        coordinator.operator.GetCalibrations(operator_pb2.GetCalibrationsRequest(device=device))
    )
    return [wire.from_proto(c) for c in answer.calibrations]


async def pending(coordinator):
    answer = await coordinator.ask(coordinator.operator.ListDevices(operator_pb2.ListDevicesRequest()))
    return [d.device for d in answer.devices if d.calibrating]


async def test_the_operator_sees_how_far_it_is_and_then_what_was_found(coordinator, pair):
    asking = asyncio.create_task(Asking(coordinator, "a").answers())
    order = await heard(pair[0], Calibrate)
    progress = CalibrationProgress("c1", 3, 17, "train width 1 fp32")
    await pair[0].send(progress)
    await pair[0].send(result("c1", "a"))
    assert (order, await asking) == (Calibrate("c1", PLAN), [progress, result("c1", "a")])
    assert await heard(pair[0], CalibrationAck) == CalibrationAck("c1")
    assert await calibrations(coordinator, "a") == [result("c1", "a")]


async def test_the_same_result_again_is_acknowledged_and_kept_once(coordinator, pair):
    asking = asyncio.create_task(Asking(coordinator, "a").answers())
    await heard(pair[0], Calibrate)
    await pair[0].send(result("c1", "a"))
    await asking
    await pair[0].send(result("c1", "a"))
    assert [await heard(pair[0], CalibrationAck) for _ in range(2)] == 2 * [CalibrationAck("c1")]
    assert len(await calibrations(coordinator, "a")) == 1


async def test_a_result_that_nobody_asked_for_is_acknowledged_and_left(coordinator, pair):
    await pair[0].send(result("c9", "a"))
    assert await heard(pair[0], CalibrationAck) == CalibrationAck("c9")
    assert await calibrations(coordinator, "a") == []


async def test_what_a_device_cannot_do_is_told_to_the_operator(coordinator, pair):
    asking = asyncio.create_task(Asking(coordinator, "a").answers())
    await heard(pair[0], Calibrate)
    await pair[0].send(CalibrationGivenUp("c1", "digits is not here"))
    with pytest.raises(WattbedError, match="device a could not be calibrated: digits is not here"):
        await asking
    assert await pending(coordinator) == []


async def test_a_device_that_goes_away_fails_the_calibration_and_leaves_nothing_behind(coordinator, pair):
    lost = replace(PLAN, lost_after_s=0.2)
    asking = asyncio.create_task(Asking(coordinator, "a", plan=lost).answers())
    await heard(pair[0], Calibrate)
    pair[0].call.cancel()
    with pytest.raises(
        WattbedError, match=r"device a could not be calibrated: the device has been away for 0.2 s"
    ):
        await asking
    assert await pending(coordinator) == []


async def test_a_device_that_comes_back_gets_the_calibration_again(coordinator, device_of, pair):
    asking = asyncio.create_task(Asking(coordinator, "a").answers())
    await heard(pair[0], Calibrate)
    back = await device_of("a").attach()
    order = await heard(back, Calibrate)
    await back.send(result("c1", "a"))
    assert (order.calibration, (await asking)[-1]) == ("c1", result("c1", "a"))


async def test_an_operator_that_asks_again_with_the_same_id_joins(coordinator, pair):
    first = Asking(coordinator, "a")
    asking = asyncio.create_task(first.answers())
    await heard(pair[0], Calibrate)
    first.call.cancel()
    await asyncio.wait([asking])
    again = asyncio.create_task(Asking(coordinator, "a").answers())
    await asyncio.sleep(0)
    await pair[0].send(result("c1", "a"))
    late = await Asking(coordinator, "a").answers()
    assert ((await again)[-1], late) == (result("c1", "a"), [result("c1", "a")])


async def test_a_device_of_a_run_is_refused_and_the_run_goes_on(coordinator, pair):
    run = await coordinator.start()
    await pair[0].task()
    with pytest.raises(IllegalMove, match=rf"device a takes part in run {run} \(round 1, training\)"):
        await Asking(coordinator, "a").answers()
    assert await pending(coordinator) == []


async def test_a_run_that_needs_the_device_waits_until_it_is_calibrated(coordinator, pair):
    asking = asyncio.create_task(Asking(coordinator, "a").answers())
    await heard(pair[0], Calibrate)
    run = await coordinator.start()
    rounds_meanwhile = (await coordinator.report(run)).rounds[1:]
    await pair[0].send(result("c1", "a"))
    await asking
    assert ((await pair[0].task()).assignment.run, rounds_meanwhile) == (run, ())


async def test_the_first_round_is_predicted_from_the_calibration_of_the_same_workload(coordinator, pair):
    asking = asyncio.create_task(Asking(coordinator, "a").answers())
    await heard(pair[0], Calibrate)
    await pair[0].send(result("c1", "a"))
    await asking
    await coordinator.start()
    predicted = (await pair[0].task()).assignment.predicted
    assert (predicted.seconds, predicted.joules, predicted.samples) == (0.5, 5.0, 2)
    assert (predicted.quality, predicted.scope, predicted.origin) == ("estimated", "board", "fitted")
    assert (await pair[1].task()).assignment.predicted.seconds is None


async def test_a_calibration_that_ran_out_is_withdrawn_from_the_device(coordinator, pair):
    hasty = replace(PLAN, deadline_s=0.2)
    asking = asyncio.create_task(Asking(coordinator, "a", plan=hasty).answers())
    withdrawn = await heard(pair[0], CancelCalibration)
    with pytest.raises(WattbedError, match=r"not done after 0.2 s"):
        await asking
    assert withdrawn.calibration == "c1"


async def test_filler_goes_only_to_a_device_that_is_being_calibrated(coordinator, pair):
    def get(calibration):
        request = fleet_pb2.GetFillerRequest(device="a", calibration=calibration, size_bytes=3_000_000)
        return coordinator.fleet.GetFiller(request)

    async def put(calibration):
        parts = [
            fleet_pb2.PutFillerRequest(device="a", calibration=calibration, data=bytes(700)) for _ in range(3)
        ]
        return await coordinator.ask(coordinator.fleet.PutFiller(iter(parts)))

    with pytest.raises(StrangerUpdate, match="calibration 'c1' of device 'a' is not under way"):
        await put("c1")
    asking = asyncio.create_task(Asking(coordinator, "a").answers())
    await heard(pair[0], Calibrate)
    assert sum([len(chunk.data) async for chunk in get("c1")]) == 3_000_000
    assert (await put("c1")).received_bytes == 2100
    asking.cancel()


@pytest.mark.parametrize(
    ("device", "changes", "error", "message"),
    [
        ("nobody", {}, UnknownDevice, "no device 'nobody' has attached; known are: a, b"),
        ("a", {"bits": (0,), "widths": (2.0,)}, BadRequest, r"bits 0; there are 1 to 16 and 32; width 2.0"),
        (
            "a",
            {"repeats": 0, "window_s": float("nan")},
            BadRequest,
            "0 repeats; at least 1 is needed; window_s nan",
        ),
        ("a", {"precisions": ("fp3",)}, BadRequest, "precision 'fp3'; known are fp32"),
        ("a", {"workload": "nothing"}, BadExperiment, "known are classifier, diffusion"),
        ("a", {"options_json": "{"}, BadExperiment, "not JSON"),
    ],
)
async def test_a_plan_that_cannot_be_carried_out_is_refused(coordinator, pair, device, changes, error, message):
    with pytest.raises(error, match=message):
        await Asking(coordinator, device, plan=replace(PLAN, **changes)).answers()
    assert await pending(coordinator) == []
