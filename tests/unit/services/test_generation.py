"""Requests for images over real gRPC: what a device may say and send, and what its client is told."""

import asyncio
from hashlib import sha256

import numpy as np
import pytest

from fleet import rpc, wire
from fleet.domain import Capabilities, EnergyReading, MeasurementAck, Phase, Quality
from fleet.errors import (
    BadRequest,
    CorruptUpdate,
    LateUpdate,
    StrangerUpdate,
    UnknownRequest,
    UnknownRun,
    WattbedError,
)
from fleet.generation import (
    CancelGeneration,
    Demand,
    GenerationEnded,
    GenerationMeasured,
    GenerationProgress,
    GenerationRequest,
    GenerationTask,
    ImagesHeader,
    Preview,
    Recipe,
)
from fleet.images import pack, unpack
from fleet.v1 import fleet_pb2, operator_pb2

pytestmark = pytest.mark.slow

ABLE = Capabilities("mini-pc-n100", "cpu", 4, 1 << 30, "x86_64", "0", model_storage_bytes=1 << 30)
RECIPE = Recipe((1.0, 0.5), "ddim")


def request(run, name="r1", images=3, **settings):
    return GenerationRequest(name, run, images, 7, **{"recipe": RECIPE} | settings)


class Client:
    """One call to Generate."""

    def __init__(self, coordinator, asked):
        message = operator_pb2.GenerateRequest(request=wire.to_proto(asked))
        self.coordinator, self.call = coordinator, coordinator.operator.Generate(message)

    async def hear(self):
        answer = await self.coordinator.ask(self.call.read())
        return answer.WhichOneof("message"), wire.from_proto(getattr(answer, answer.WhichOneof("message")))

    async def until(self, kind):
        while (heard := await self.hear())[0] != kind:
            pass
        return heard[1]


@pytest.fixture
async def run(coordinator):
    name = await coordinator.start()
    await asyncio.sleep(0)
    async with asyncio.timeout(20):
        while not (await coordinator.report(name)).rounds:
            await asyncio.sleep(0.02)
    return name


@pytest.fixture
async def device(device_of):
    return await device_of("a", capabilities=ABLE).attach()


async def task(device, kind=GenerationTask):
    async with asyncio.timeout(20):
        while not isinstance(message := await device.hear(), kind):
            pass
    return message


async def put(device, batch, payload, request="r1", digest=None, batch_id=None):
    digest = digest or sha256(payload).hexdigest()
    header = ImagesHeader(batch_id or batch.batch, request, device.name, digest, len(payload), 0, 1)

    async def parts():
        yield fleet_pb2.PutBlobRequest(images=wire.to_proto(header))
        yield fleet_pb2.PutBlobRequest(data=payload)

    for _ in range(3):
        try:
            return (await device.coordinator.ask(device.coordinator.fleet.PutBlob(parts()))).fresh
        except WattbedError as error:
            if type(error) is not WattbedError:  # else INTERNAL, which grpc.aio gives now and then
                raise
    raise AssertionError("no answer but INTERNAL")


def images(n=3):
    return np.random.default_rng(1).integers(0, 256, (n, 8, 8, 1), np.uint8)


async def test_a_client_is_told_the_place_the_progress_the_images_and_what_they_took(coordinator, device, run):
    client = Client(coordinator, request(run))
    placed = await client.until("placed")
    batch = (await task(device)).batch
    assert (placed.device, placed.recipe, batch.images) == ("a", RECIPE, 3)
    await device.send(GenerationProgress(batch.batch, 1, 2, (Preview("r1", b"png"), Preview("of another", b""))))
    assert (await client.until("progress")).previews == (Preview("r1", b"png"),)
    reading = EnergyReading("rapl:package-0", "cpu", "package", Quality.MEASURED, 3.0)
    await device.send(GenerationMeasured("w1", batch.batch, Phase.GENERATE, 0.0, 0.5, (reading,)))
    assert await put(device, batch, pack(images())) is True
    report = await client.until("images")
    await device.send(GenerationEnded(batch.batch))
    done = await client.until("done")
    blob = operator_pb2.GetArtifactRequest(run=run, sha256=report.digest)
    payload = b"".join([chunk.data async for chunk in coordinator.operator.GetArtifact(blob)])
    assert (unpack(payload) == images()).all()
    assert (done.status, done.complete, done.phases[0].readings[0].joules) == ("served", True, 3.0)
    assert await put(device, batch, pack(images())) is False


async def test_a_window_said_twice_counts_once_and_one_of_a_stranger_is_only_acknowledged(
    coordinator, device, run
):
    client = Client(coordinator, request(run))
    await client.until("placed")
    batch = (await task(device)).batch
    reading = EnergyReading("rapl:package-0", "cpu", "package", Quality.MEASURED, 3.0)
    window = GenerationMeasured("w1", batch.batch, Phase.GENERATE, 0.0, 0.5, (reading,))
    strange = GenerationMeasured("w2", "of nobody", Phase.GENERATE, 0.0, 0.5, (reading,))
    broken = GenerationMeasured(
        "w3", batch.batch, Phase.UPLOAD, 0.0, 0.5, (EnergyReading("x", "cpu", "package", Quality.MEASURED, -1.0),)
    )
    for message in (window, window, strange, broken):
        await device.send(message)
    acked = [await task(device, MeasurementAck) for _ in range(4)]
    await put(device, batch, pack(images()))
    await device.send(GenerationEnded(batch.batch))
    done = await client.until("done")
    assert [a.window for a in acked] == ["w1", "w1", "w2", "w3"]
    assert [(p.phase, p.readings[0].joules) for p in done.phases] == [(Phase.GENERATE, 3.0)]


@pytest.mark.parametrize(
    ("payload", "changes", "error"),
    [
        (pack(images(2)), {}, CorruptUpdate),
        (b"not images", {}, CorruptUpdate),
        (pack(images()), {"digest": "ab" * 32}, CorruptUpdate),
        (pack(images()), {"request": "another"}, StrangerUpdate),
        (pack(images()), {"batch_id": "b99"}, StrangerUpdate),
    ],
)
async def test_images_that_were_not_asked_for_are_refused_and_sound_ones_still_count(
    coordinator, device, run, payload, changes, error
):
    client = Client(coordinator, request(run))
    await client.until("placed")
    batch = (await task(device)).batch
    with pytest.raises(error):
        await put(device, batch, payload, **changes)
    assert await put(device, batch, pack(images())) is True


async def test_a_request_that_is_cancelled_is_taken_from_its_device_whose_images_come_too_late(
    coordinator, device, run
):
    client = Client(coordinator, request(run))
    await client.until("placed")
    batch = (await task(device)).batch
    cancelled = operator_pb2.CancelRequestRequest(request="r1", reason="enough")
    await coordinator.ask(coordinator.operator.CancelRequest(cancelled))
    assert (await client.until("done")).status == "cancelled"
    assert (await task(device, CancelGeneration)).batch == batch.batch
    with pytest.raises(LateUpdate):
        await put(device, batch, pack(images()))


async def test_a_device_gets_the_model_of_its_batch_and_no_other(coordinator, device, device_of, run):
    client = Client(coordinator, request(run))
    await client.until("placed")
    batch = (await task(device)).batch

    async def get(**changes):
        place = {"sha256": batch.model_sha256, "device": "a", "run": run, "batch": batch.batch} | changes
        call = coordinator.fleet.GetBlob(fleet_pb2.GetBlobRequest(**place))
        try:
            return b"".join([chunk.data async for chunk in call])
        except Exception as error:
            raise rpc.wattbed_error(error) from None

    assert len(await get()) == batch.model_bytes
    with pytest.raises(StrangerUpdate):
        await get(sha256="cd" * 32)
    await device_of("b", capabilities=ABLE).attach()
    with pytest.raises(StrangerUpdate):
        await get(device="b")


async def test_what_nobody_can_serve_is_said_at_once(coordinator, run):
    done = await Client(coordinator, request(run)).until("done")
    assert (done.status, "is not here" in done.reason) == ("refused", True)


async def test_a_quality_of_a_model_that_nothing_is_known_of_is_refused_until_it_is_known(
    coordinator, device, run
):
    asked = request(run, recipe=None, quality=Demand("fid", 30.0))
    refused = await Client(coordinator, asked).until("done")
    laws = (
        '{"width": {"a": 10, "c": 2, "g": 1}, "steps": {"steps": [5, 10], "values": [20, 10]},'
        ' "bits": {"harm": 0}, "metric": "fid", "sampler": "ddim"}'
    )
    kept = operator_pb2.KeepQualityRequest(run=run, laws_json=laws)
    await coordinator.ask(coordinator.operator.KeepQuality(kept))
    again = request(run, name="r2", recipe=None, quality=Demand("fid", 30.0))
    placed = await Client(coordinator, again).until("placed")
    known = await coordinator.ask(coordinator.operator.GetQuality(operator_pb2.GetQualityRequest(run=run)))
    assert (refused.status, "measure it" in refused.reason) == ("refused", True)
    assert (placed.expected.metric, placed.expected.quality <= 30.0, len(known.laws_json)) == ("fid", True, 1)


@pytest.mark.parametrize(
    "changes",
    [
        {"images": 0},
        {"images": 1000},
        {"where": "moon"},
        {"where": "local"},
        {"within_s": -1.0},
        {"recipe": Recipe((), "ddim")},
        {"recipe": Recipe((2.0,), "ddim")},
        {"recipe": Recipe((1.0,), "magic")},
        {"recipe": Recipe((1.0,), "ddim", 20)},
        {"name": "../x"},
    ],
)
async def test_a_request_that_no_device_could_ever_serve_is_a_bad_request(coordinator, run, changes):
    with pytest.raises(BadRequest):
        await Client(coordinator, request(run, **changes)).hear()


async def test_what_is_not_there_is_not_found(coordinator):
    with pytest.raises(UnknownRun):
        await Client(coordinator, request("nowhere")).hear()
    with pytest.raises(UnknownRequest):
        await coordinator.ask(coordinator.operator.CancelRequest(operator_pb2.CancelRequestRequest(request="x")))
