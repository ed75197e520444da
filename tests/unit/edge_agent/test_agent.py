"""Stories of an agent and a coordinator over real gRPC."""

import asyncio

import numpy as np
import pytest

from edge_agent.client import FleetClient
from fleet.domain import Cancel, Heartbeat, Phase, PhaseMeasured, Progress, Quality, TaskFailed, UpdateHeader
from fleet.errors import DataMissing, LateUpdate, ProtocolMismatch, StorageFull

LARGE = {"w": np.arange(3 << 20, dtype=np.float32)}
"""12 MiB, so that a transfer has a middle."""


async def test_a_task_becomes_an_update_of_the_model_it_names(fleet, workload, attach, make_task, params):
    fleet.tasks = [make_task(params, round=4)]
    await attach()
    await fleet.until(lambda: fleet.counted)
    np.testing.assert_array_equal(fleet.update()["w"], params["w"] + 4)


async def test_the_header_carries_weight_and_loss(fleet, workload, attach, make_task, params):
    fleet.tasks = [make_task(params)]
    await attach()
    await fleet.until(lambda: fleet.counted)
    assert (fleet.headers[0].samples, fleet.headers[0].loss) == (7, 0.5)


async def test_every_phase_is_measured_once_with_an_estimate_between_its_bounds(
    fleet, workload, attach, make_task, params
):
    fleet.tasks = [make_task(params)]
    await attach()
    await fleet.until(lambda: len(fleet.said(PhaseMeasured)) == 4)
    windows = fleet.said(PhaseMeasured)
    readings = [w.readings[0] for w in windows]
    assert [w.phase for w in windows] == [Phase.DOWNLOAD, Phase.TRAIN, Phase.QUANTIZE, Phase.UPLOAD]
    assert all(r.quality is Quality.ESTIMATED and 0 < r.low_joules < r.joules < r.high_joules for r in readings)


async def test_a_cut_download_resumes_where_it_was(fleet, workload, attach, make_task):
    fleet.cut_downloads = [500_000, 300_000]
    fleet.tasks = [make_task(LARGE)]
    await attach()
    await fleet.until(lambda: fleet.counted)
    assert fleet.download_offsets == [0, 500_000, 800_000]


async def test_a_cut_upload_resumes_where_it_was_and_is_counted_once(fleet, workload, attach, make_task):
    fleet.cut_uploads = [5 << 20]
    fleet.tasks = [make_task(LARGE)]
    await attach()
    await fleet.until(lambda: fleet.counted)
    assert [h.offset_bytes for h in fleet.headers] == [0, 5 << 20]


async def test_a_model_already_here_is_not_fetched_again(fleet, workload, attach, make_task, params):
    fleet.tasks = [make_task(params, round=1)]
    await attach()
    await fleet.until(lambda: fleet.counted)
    fleet.push(make_task(params, round=2))
    await fleet.until(lambda: len(fleet.counted) == 2)
    assert len(fleet.download_offsets) == 1


async def test_a_model_that_comes_damaged_fails_the_task(fleet, workload, attach, make_task, params):
    task = make_task(params)
    fleet.blobs[task.assignment.model_sha256] = bytes(task.assignment.model_bytes)
    fleet.tasks = [task]
    await attach()
    await fleet.until(lambda: fleet.said(TaskFailed))
    assert "bytes received, not a payload" in fleet.said(TaskFailed)[0].reason


async def test_a_coordinator_that_restarts_in_training_gets_the_update_of_the_same_training(
    fleet, workload, attach, make_task, params
):
    workload.hold = True
    fleet.tasks = [make_task(params)]
    await attach()
    await fleet.until(lambda: workload.trained)
    await fleet.crash()
    await fleet.start()
    await fleet.until(lambda: len(fleet.hellos) == 2)
    workload.hold = False
    await fleet.until(lambda: fleet.counted)
    assert (workload.trained, len(fleet.counted)) == ([("r1", 1)], 1)


async def test_a_coordinator_that_is_down_when_training_ends_gets_the_update_later(
    fleet, workload, attach, make_task, params
):
    workload.hold = True
    fleet.tasks = [make_task(params)]
    await attach()
    await fleet.until(lambda: workload.trained)
    await fleet.crash()
    workload.hold = False
    await fleet.start()
    await fleet.until(lambda: fleet.counted)
    assert workload.trained == [("r1", 1)]


async def test_a_task_pushed_twice_is_worked_on_once(fleet, workload, attach, make_task, params):
    workload.hold = True
    task = make_task(params)
    fleet.tasks = [task, task]
    await attach()
    await fleet.until(lambda: workload.trained)
    fleet.push(task)
    workload.hold = False
    await fleet.until(lambda: fleet.counted)
    assert workload.trained == [("r1", 1)]


async def test_a_task_pushed_again_when_it_is_done_is_answered_with_the_same_update(
    fleet, workload, attach, make_task, params
):
    task = make_task(params)
    fleet.tasks = [task]
    await attach()
    await fleet.until(lambda: fleet.counted)
    while len(fleet.counted) < 2:  # one that comes before the agent has heard that it was counted says nothing new
        fleet.push(task)
        await asyncio.sleep(0.05)
    assert (len(workload.trained), len(set(fleet.counted))) == (1, 1)


async def test_a_later_round_of_the_run_takes_the_place_of_an_earlier_one(
    fleet, workload, attach, make_task, params
):
    workload.hold = True
    fleet.tasks = [make_task(params, round=1)]
    await attach()
    await fleet.until(lambda: workload.trained)
    fleet.push(make_task(params, round=2))
    await fleet.until(lambda: len(workload.trained) == 2)
    workload.hold = False
    await fleet.until(lambda: fleet.counted)
    assert [h.round for h in fleet.headers] == [2]


async def test_a_task_of_another_run_waits_its_turn(fleet, workload, attach, make_task, params):
    fleet.tasks = [make_task(params, run="a", round=5), make_task(params, run="b", round=1)]
    await attach()
    await fleet.until(lambda: len(fleet.counted) == 2)
    assert [h.run for h in fleet.headers] == ["a", "b"]


async def test_a_cancelled_training_stops_and_leaves_no_update(fleet, workload, attach, make_task, params):
    workload.hold = True
    fleet.tasks = [make_task(params, run="a")]
    await attach()
    await fleet.until(lambda: workload.trained)
    fleet.push(Cancel("a", 1, "the round is closed"))
    await fleet.until(lambda: workload.stopped_by)
    workload.hold = False
    fleet.push(make_task(params, run="b"))
    await fleet.until(lambda: fleet.counted)
    assert (workload.stopped_by, [h.run for h in fleet.headers]) == ("Cancelled", ["b"])


async def test_the_joules_of_a_cancelled_training_are_reported(fleet, workload, attach, make_task, params):
    workload.hold = True
    fleet.tasks = [make_task(params)]
    await attach()
    await fleet.until(lambda: workload.trained)
    fleet.push(Cancel("r1", 1, "the round is closed"))
    await fleet.until(lambda: len(fleet.said(PhaseMeasured)) == 2)
    assert [(w.phase, w.readings[0].joules > 0) for w in fleet.said(PhaseMeasured)][1] == (Phase.TRAIN, True)


async def test_windows_are_said_again_until_they_are_acknowledged(fleet, workload, attach, make_task, params):
    fleet.acks = False
    fleet.tasks = [make_task(params)]
    await attach()
    await fleet.until(lambda: len(fleet.said(PhaseMeasured)) == 4)
    first = {w.window for w in fleet.said(PhaseMeasured)}
    fleet.tasks, fleet.acks = [], True
    await fleet.crash()
    fleet.messages.clear()
    await fleet.start()
    await fleet.until(lambda: len(fleet.said(PhaseMeasured)) == 4)
    assert {w.window for w in fleet.said(PhaseMeasured)} == first


async def test_acknowledged_windows_are_not_said_again(fleet, workload, attach, make_task, params):
    fleet.tasks = [make_task(params)]
    await attach()
    await fleet.until(lambda: len(fleet.said(PhaseMeasured)) == 4)
    await fleet.until(fleet.outbox.empty)
    beats = len(fleet.said(Heartbeat))
    await fleet.until(lambda: len(fleet.said(Heartbeat)) > beats + 1)
    fleet.tasks = []
    await fleet.crash()
    fleet.messages.clear()
    await fleet.start()
    await fleet.until(lambda: fleet.said(Heartbeat))
    assert fleet.said(PhaseMeasured) == []


async def test_an_update_that_is_refused_is_given_up_without_a_failure(fleet, workload, attach, make_task):
    fleet.closed_runs = {"a"}
    fleet.tasks = [make_task(LARGE, run="a"), make_task(LARGE, run="b")]
    await attach()
    await fleet.until(lambda: fleet.counted)
    assert (fleet.headers[-1].run, len(fleet.held), fleet.said(TaskFailed)) == ("b", 1, [])


async def test_a_refused_header_stops_the_upload_long_before_its_end(fleet, tmp_path):
    fleet.closed_runs = {"a"}
    path = tmp_path / "update"
    path.write_bytes(bytes(64 << 20))
    sent = [0]
    client = FleetClient(f"127.0.0.1:{fleet.port}")
    with pytest.raises(LateUpdate, match="round 1 is closed"):
        await client.upload(UpdateHeader("a", 1, "d1", "0" * 64, 64 << 20, 0, 1, 0.0, 1), path, sent.append)
    await client.close()
    assert max(sent) < 32 << 20


async def test_a_full_disk_on_the_other_side_is_waited_for(fleet, workload, attach, make_task, params):
    fleet.refusals = [StorageFull("0 bytes free"), StorageFull("0 bytes free")]
    fleet.tasks = [make_task(params)]
    await attach()
    await fleet.until(lambda: fleet.counted)
    assert len(fleet.headers) == 3


async def test_another_protocol_ends_the_agent_at_once_with_what_the_coordinator_said(fleet, attach):
    fleet.hello_error = ProtocolMismatch("the agent speaks protocol 1, this coordinator 2")
    run, _ = await attach()
    with pytest.raises(ProtocolMismatch, match="speaks protocol 1, this coordinator 2"):
        await run
    assert len(fleet.hellos) == 1


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (DataMissing("cifar10 is not in /data: wattbed data get cifar10"), "cifar10 is not in /data: wattbed"),
        (ZeroDivisionError("float division by zero"), "ZeroDivisionError: float division by zero"),
    ],
)
async def test_a_failing_workload_fails_the_task_with_its_message(
    fleet, workload, attach, make_task, params, error, reason
):
    workload.error = error
    fleet.tasks = [make_task(params)]
    await attach()
    await fleet.until(lambda: fleet.said(TaskFailed))
    assert fleet.said(TaskFailed)[0].reason.startswith(reason)


async def test_the_agent_goes_on_after_a_failed_task(fleet, workload, attach, make_task, params):
    workload.error = ValueError("no")
    fleet.tasks = [make_task(params, run="a")]
    await attach()
    await fleet.until(lambda: fleet.said(TaskFailed))
    workload.error = None
    fleet.push(make_task(params, run="b"))
    await fleet.until(lambda: fleet.counted)
    assert fleet.headers[0].run == "b"


async def test_heartbeats_go_on_in_training_with_power_and_totals_by_phase(
    fleet, workload, attach, make_task, params
):
    workload.hold = True
    fleet.tasks = [make_task(params)]
    await attach()
    await fleet.until(lambda: workload.trained)
    fleet.messages.clear()
    await fleet.until(lambda: len(fleet.said(Heartbeat)) >= 3)
    beat = fleet.said(Heartbeat)[-1]
    assert (beat.power[0].watts > 0, Phase.TRAIN in {t.phase for t in beat.totals}) == (True, True)


async def test_progress_is_throttled(fleet, workload, attach, make_task, params):
    workload.hold = True
    fleet.tasks = [make_task(params)]
    await attach()
    await fleet.until(lambda: len(fleet.said(Heartbeat)) >= 6)
    training = [p for p in fleet.said(Progress) if p.phase is Phase.TRAIN and p.done < p.total]
    assert 0 < len(training) <= 2


async def test_a_coordinator_that_says_nothing_is_left(fleet, attach, monkeypatch):
    monkeypatch.setattr("edge_agent.agent.SILENCE_S", 0.2)
    fleet.answers_heartbeats = False
    await attach()
    await fleet.until(lambda: len(fleet.hellos) >= 2)
    assert fleet.hellos[0] == fleet.hellos[1]


async def test_stopping_ends_the_stream_and_reports_the_joules_of_the_unfinished_training(
    fleet, workload, attach, make_task, params
):
    workload.hold = True
    fleet.tasks = [make_task(params)]
    run, stop = await attach()
    await fleet.until(lambda: workload.trained)
    stop.set()
    await run
    assert (fleet.ended, fleet.said(PhaseMeasured)[-1].phase) == (1, Phase.TRAIN)


async def test_a_round_repeated_after_a_crash_with_error_feedback_gives_the_same_bytes(
    fleet, workload, attach, make_task, params
):
    def task(round, residual_round):
        return make_task(params, round=round, bits_up=4, error_feedback=True, residual_round=residual_round)

    fleet.tasks = [task(1, None)]
    run, stop = await attach()
    await fleet.until(lambda: len(fleet.counted) == 1)
    fleet.push(task(2, 1))
    await fleet.until(lambda: len(fleet.counted) == 2)
    stop.set()
    await run
    fleet.tasks = [task(2, 1)]
    await attach()
    await fleet.until(lambda: len(fleet.counted) == 3)
    assert fleet.counted[2] == fleet.counted[1] != fleet.counted[0]


async def test_what_quantisation_left_out_of_one_update_goes_into_the_next(
    fleet, workload, attach, make_task, params
):
    fleet.tasks = [make_task(params, round=1, bits_up=4, error_feedback=True)]
    await attach()
    await fleet.until(lambda: len(fleet.counted) == 1)
    fleet.push(make_task(params, round=2, bits_up=4, error_feedback=True, residual_round=1))
    fleet.push(make_task(params, run="other", round=2, bits_up=4, error_feedback=True))
    await fleet.until(lambda: len(fleet.counted) == 3)
    assert fleet.counted[1] != fleet.counted[2]
