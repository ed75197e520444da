"""Whatever is wrong with an update or a request: a clear error, and nothing changed."""

import math
import struct
import zlib
from hashlib import sha256

import pytest

from coordinator import blobs as blobs_module
from fleet.domain import Heartbeat
from fleet.errors import (
    BadExperiment,
    BadRequest,
    CorruptUpdate,
    IllegalMove,
    LateUpdate,
    ProtocolMismatch,
    StorageFull,
    StrangerUpdate,
    UnknownRun,
    WrongOffset,
)
from fleet.v1 import fleet_pb2, operator_pb2
from quantizer import encode

pytestmark = pytest.mark.slow


def named(payload):
    return payload, sha256(payload).hexdigest()


@pytest.fixture
async def asked(coordinator, pair):
    """A run in its first round; the device a, its task and its honest payload."""
    run = await coordinator.start()
    a, _ = pair
    task = await a.task()
    return run, a, task, await a.train(task)


def resealed(payload):
    """With the checksum that belongs to it: only its content is wrong."""
    return named(payload[:-4] + struct.pack("<I", zlib.crc32(payload[:-4])))


def truncated(payload):
    return named(payload[:-100])


def altered(payload):
    return payload[:-5] + b"!" + payload[-4:], sha256(payload).hexdigest()


def no_payload(payload):
    return named(b"GIF89a" + payload[6:])


def not_a_number(payload):
    return resealed(payload[:-200] + struct.pack("<f", math.nan) + payload[-196:])


def infinite(payload):
    return resealed(payload[:-200] + struct.pack("<f", math.inf) + payload[-196:])


def of_another_model(payload):
    import numpy as np

    return named(encode({"tensor0000": np.ones(7, np.float32)}, 32, seed=0))


def shorter_than_said(payload):
    return named(payload + b"more than the header says")


@pytest.mark.parametrize(
    ("spoil", "error", "message"),
    [
        (truncated, CorruptUpdate, "bytes"),
        (altered, CorruptUpdate, "damaged: its CRC-32 is"),
        (no_payload, CorruptUpdate, "magic|not a"),
        (not_a_number, CorruptUpdate, r"tensor0001.*(finite|NaN|nan)"),
        (infinite, CorruptUpdate, r"tensor0001.*(finite|Inf|inf)"),
        (of_another_model, CorruptUpdate, "tensor0000"),
        (shorter_than_said, CorruptUpdate, "bytes"),
    ],
)
async def test_a_spoiled_update_is_refused_and_an_honest_one_still_counts(
    coordinator, asked, spoil, error, message
):
    run, a, task, payload = asked
    before = await coordinator.state(run)
    spoiled, name = spoil(payload)
    with pytest.raises(error, match=message):
        await a.put(task, spoiled, name)
    assert await coordinator.state(run) == before
    assert (await a.put(task, *named(payload))).fresh


async def test_a_length_that_lies_is_refused(coordinator, asked):
    run, a, task, payload = asked
    with pytest.raises(CorruptUpdate, match=r"more than the 100 bytes announced"):
        await a.put(task, *named(payload), size_bytes=100)
    with pytest.raises(WrongOffset, match=f"ended at byte {len(payload)} of {1 << 20}"):
        await a.put(task, *named(payload), size_bytes=1 << 20)


async def test_an_upload_that_breaks_off_goes_on_from_there(coordinator, asked):
    run, a, task, payload = asked
    name = sha256(payload).hexdigest()
    with pytest.raises(WrongOffset, match=f"ended at byte 1000 of {len(payload)}"):
        await a.put(task, payload[:1000], name, size_bytes=len(payload))
    stat = fleet_pb2.StatBlobRequest(digest=name, run=run, round=1, device="a")
    held = (await coordinator.fleet.StatBlob(stat)).held_bytes
    with pytest.raises(WrongOffset, match="starts at byte 0, but 1000 bytes are held"):
        await a.put(task, payload, name)
    assert held == 1000
    assert (await a.put(task, payload, name, offset_bytes=held)).fresh


async def test_the_same_update_twice_counts_once(asked):
    _, a, task, payload = asked
    answers = [(await a.put(task, *named(payload))).fresh for _ in range(2)]
    assert answers == [True, False]


async def test_a_second_update_for_the_same_round_is_refused(asked):
    _, a, task, payload = asked
    await a.put(task, *named(payload))
    with pytest.raises(IllegalMove, match="device a delivered .* for round 1 of run x-1 before"):
        await a.put(task, *named(payload[:-1] + b"x"))


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"run": "y-9"}, UnknownRun, "no run 'y-9'; the latest are: x-1"),
        ({"round": 2}, StrangerUpdate, "a was not asked to train in round 2"),
        ({"device": "mallory"}, StrangerUpdate, "mallory was never asked to train in run x-1"),
        ({"protocol_version": 9}, ProtocolMismatch, "the agent speaks protocol version 9, this coordinator 1"),
        ({"samples": 0}, BadRequest, "trained on 0 samples"),
        ({"digest": "../../etc/passwd"}, BadRequest, "is not a digest"),
    ],
)
async def test_a_foreign_header_is_refused(coordinator, asked, changes, error, message):
    run, a, task, payload = asked
    before = await coordinator.state(run)
    with pytest.raises(error, match=message):
        await a.put(task, payload, **({"digest": sha256(payload).hexdigest()} | changes))
    assert await coordinator.state(run) == before


async def test_an_update_for_a_closed_round_is_late(coordinator, pair):
    await coordinator.start()
    tasks = [await device.task() for device in pair]
    for device, task in zip(pair, tasks, strict=True):
        payload = await device.train(task)
        await device.put(task, *named(payload))
    again = await pair[0].task()
    assert again.assignment.round == 2
    with pytest.raises(LateUpdate, match="round 1 of run x-1 is closed"):
        await pair[0].put(tasks[0], *named(payload + b"another"))


async def test_a_full_disk_is_said_and_nothing_is_kept_by_mistake(coordinator, asked, monkeypatch):
    _, a, task, payload = asked
    with monkeypatch.context() as patch:
        patch.setattr(blobs_module, "free_bytes", lambda folder: 10)
        with pytest.raises(StorageFull, match=f"no room for {len(payload)} more bytes; 10 are free"):
            await a.put(task, *named(payload))
    assert (await a.put(task, *named(payload))).fresh


async def test_another_protocol_is_refused_with_both_versions(device_of):
    with pytest.raises(ProtocolMismatch, match="version 2, this coordinator 1"):
        await device_of("a", protocol_version=2).attach()


@pytest.mark.parametrize("name", ["../a", "", "a/b", "x" * 65, "a b"])
async def test_a_name_that_is_no_name_is_refused(device_of, name):
    with pytest.raises(BadRequest, match="a name has 1 to 64 letters"):
        await device_of(name).attach()


@pytest.mark.parametrize("path", ["../../../log.sqlite", "/etc/passwd", "..", "models/../../../privacy.key"])
async def test_a_path_where_a_digest_belongs_reads_nothing(coordinator, asked, path):
    run, _, _, _ = asked
    for call in (
        coordinator.fleet.GetBlob(fleet_pb2.GetBlobRequest(sha256=path, run=run, round=1, device="a")).read(),
        coordinator.fleet.StatBlob(fleet_pb2.StatBlobRequest(digest=path, run=run, round=1, device="a")),
        coordinator.operator.GetArtifact(operator_pb2.GetArtifactRequest(run=run, sha256=path)).read(),
    ):
        with pytest.raises(BadRequest, match="is not a digest"):
            await coordinator.ask(call)


async def test_a_stream_starts_with_hello(device_of):
    device = device_of("a")
    device.hello = Heartbeat(1, 1.0, 1.0, 1)
    with pytest.raises(BadRequest, match="a stream starts with Hello, not Heartbeat"):
        await device.attach()


async def test_a_device_may_not_read_what_it_was_not_asked_to_train_on(coordinator, asked):
    run, _, task, _ = asked
    request = fleet_pb2.GetBlobRequest(sha256=task.assignment.model_sha256, run=run, round=1, device="a")
    request.round = 7
    with pytest.raises(StrangerUpdate, match="a was not asked to train in round 7"):
        await coordinator.ask(coordinator.fleet.GetBlob(request).read())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"workload": {"name": "nop", "options": {}}},
            "workload.name = 'nop': known are classifier, diffusion, noop",
        ),
        ({"policy": {"name": "fixd", "options": {}}}, "policy.name = 'fixd': known are exhaustive, fixed"),
        ({"workload": {"name": "noop", "options": {"model_byte": 3}}}, "unknown key model_byte; known are"),
        ({"policy": {"name": "fixed", "options": {"bits_up": [17]}}}, "bits must be 1 to 16 or 32, not 17"),
        ({"rounds": "many"}, "rounds = 'many'"),
    ],
)
async def test_an_experiment_that_cannot_be_run_starts_nothing(coordinator, changes, message):
    with pytest.raises(BadExperiment, match=message):
        await coordinator.start(**changes)
    assert not (await coordinator.operator.ListRuns(operator_pb2.ListRunsRequest())).runs


async def test_missing_data_is_said_at_the_start(coordinator):
    from pathlib import Path

    from fleet.experiment import read

    experiment = read(Path("experiments/fashion-mnist.toml")).model_dump()
    experiment["workload"]["options"]["dataset"] = "cifar-10"
    with pytest.raises(Exception, match="cifar-10") as caught:
        await coordinator.start(**experiment)
    assert type(caught.value).__name__ == "DataMissing"


@pytest.mark.parametrize("call", ["GetReport", "ReplayRun", "StopRun"])
async def test_an_unknown_run_is_named(coordinator, call):
    request = getattr(operator_pb2, f"{call}Request")(run="nope-1")
    with pytest.raises(UnknownRun, match="no run 'nope-1'; the latest are: none"):
        await coordinator.ask(getattr(coordinator.operator, call)(request))
