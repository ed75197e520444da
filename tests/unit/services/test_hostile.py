"""What a broken or hostile device does to a coordinator: it is refused, counted, and the round goes on without it."""

import asyncio
import contextlib
import math
import urllib.request
from dataclasses import replace
from hashlib import sha256

import grpc
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from coordinator.limits import Limits
from fleet import rpc
from fleet.domain import EnergyReading, Heartbeat, LeverInfo, Phase, PhaseMeasured, Progress, Quality, TaskFailed
from fleet.errors import BadRequest, CorruptUpdate, TooMany, TooMuch, TooSlow, Unreachable, WattbedError
from fleet.v1 import fleet_pb2, fleet_pb2_grpc, operator_pb2
from quantizer import decode, encode

pytestmark = pytest.mark.slow

METHODS = {
    "Attach": "stream_stream", "StatBlob": "unary_unary", "GetBlob": "unary_stream", "PutBlob": "stream_unary",
    "GetFiller": "unary_stream", "PutFiller": "stream_unary",
}  # fmt: skip


@pytest.fixture(autouse=True)
def _patient(monkeypatch):
    """These devices send no heartbeats."""
    monkeypatch.setattr("coordinator.sessions.SILENCE_S", 600.0)


def named(payload):
    return payload, sha256(payload).hexdigest()


async def refused(coordinator):
    """wattbed_refused_total by reason, of what was refused at all."""
    page = await asyncio.to_thread(lambda: urllib.request.urlopen(f"http://{coordinator.http}/metrics").read())
    lines = [x for x in page.decode().splitlines() if x.startswith("wattbed_refused_total")]
    counts = {x.split('"')[1]: float(x.split()[-1]) for x in lines}
    return {reason: count for reason, count in counts.items() if count}


async def marked(coordinator, run):
    """The line of the first device of round 1, once the log says what is wrong with it."""
    async with asyncio.timeout(10):
        while not (line := (await coordinator.report(run)).rounds[1].devices[0]).reason:
            await asyncio.sleep(0.01)
    return line


async def honest_round(pair):
    """Both devices deliver what they were asked for; the tasks of the next round."""
    tasks = [await device.task() for device in pair]
    for device, task in zip(pair, tasks, strict=True):
        await device.put(task, *named(await device.train(task)))
    return [await device.task() for device in pair]


@pytest.fixture
async def asked(coordinator, pair):
    run = await coordinator.start()
    task = await pair[0].task()
    return run, pair[0], task, await pair[0].train(task)


def coded_otherwise(payload, task):
    return encode(decode(payload), 8, seed=0, block_size=task.block_size)


def compressed(payload, task):
    return encode(decode(payload), 32, seed=0, entropy="on")


def only_a_part(payload, task):
    return encode(decode(payload), 32, seed=0, keep=0.5)


def with_a_path_for_a_name(payload, task):
    return encode({"../../../etc/passwd": np.ones(500, np.float32), **decode(payload)}, 32, seed=0)


def of_a_quintillion_values(payload, task):
    """A few bytes whose header claims 2^40 values: nothing may be allocated for them."""
    tensors = {"tensor0000": np.zeros((0, 1 << 20, 1 << 20), np.float32)}
    return encode(tensors, 32, seed=0, entropy="on")


@pytest.mark.parametrize(
    ("made", "message"),
    [
        (coded_otherwise, "bits 8 instead of 32, codec uniform instead of float32"),
        (compressed, "entropy stage on instead of off"),
        (only_a_part, "share of values kept 0.5 instead of 1.0"),
        (with_a_path_for_a_name, "tensor '../../../etc/passwd' of shape"),
        (of_a_quintillion_values, "tensor 'tensor0000' has shape"),
    ],
)
async def test_an_update_other_than_asked_for_is_refused_said_in_the_log_and_the_round_goes_on(
    coordinator, asked, pair, made, message
):
    run, a, task, payload = asked
    with pytest.raises(CorruptUpdate, match=message):
        await a.put(task, *named(made(payload, task)))
    assert (await refused(coordinator))["update"] == 1
    assert message in (await marked(coordinator, run)).reason
    await a.put(task, *named(payload))
    other = await pair[1].task()
    await pair[1].put(other, *named(await pair[1].train(other)))
    assert (await a.task()).assignment.round == 2


async def test_a_device_that_is_refused_again_and_again_does_not_fill_the_log(coordinator, asked):
    run, a, task, payload = asked
    for i in range(25):
        with pytest.raises(CorruptUpdate):
            await a.put(task, *named(coded_otherwise(payload, task) + bytes([i])))
    call = coordinator.operator.WatchRun(operator_pb2.WatchRunRequest(run=run))
    refusals = 0
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(1):
            async for message in call:
                refusals += message.event.kind == "UpdateRefused"
    call.cancel()
    assert refusals == 20
    assert (await refused(coordinator))["update"] == 25


async def test_an_update_that_announces_more_than_any_codec_makes_is_refused_before_a_byte_is_taken(
    coordinator, asked
):
    _, a, task, payload = asked
    with pytest.raises(TooMuch, match="announces 1,099,511,627,776 bytes; at most"):
        await a.put(task, *named(payload), size_bytes=1 << 40)
    assert (await refused(coordinator))["size"] == 1


async def test_a_norm_far_above_that_of_earlier_rounds_is_refused(coordinator, pair):
    await coordinator.start(rounds=3, aggregation={"rule": "mean", "max_times_median": 3.0})
    first, second = await honest_round(pair)
    payload = await pair[0].train(first)
    large = encode({n: 10 * x for n, x in decode(payload).items()}, 32, seed=0, block_size=64)
    with pytest.raises(CorruptUpdate, match=r"its norm is .*; at most .* is allowed"):
        await pair[0].put(first, *named(large))
    assert (await pair[0].put(first, *named(payload))).fresh


async def test_more_samples_than_an_experiment_allows_are_refused(coordinator, pair):
    await coordinator.start(aggregation={"rule": "mean", "max_samples": 100})
    task = await pair[0].task()
    payload = await pair[0].train(task)
    with pytest.raises(TooMuch, match="a claims 9,223,372,036,854,775,807 samples; at most 100"):
        await pair[0].put(task, *named(payload), samples=2**63 - 1)
    assert (await pair[0].put(task, *named(payload), samples=100)).fresh


async def test_a_loss_that_is_no_number_is_kept_and_the_log_can_be_read_again(coordinator, pair):
    run = await coordinator.start()
    for device in pair:
        task = await device.task()
        await device.put(task, *named(await device.train(task)), loss=math.nan)
    await pair[0].task()
    report = await coordinator.report(run)
    assert all(math.isnan(d.loss) for d in report.rounds[1].devices)
    await coordinator.state(run)  # folds the log anew


def window(task, joules, seconds=1.0, name="w"):
    reading = EnergyReading("rapl", "cpu", "package", Quality.MEASURED, joules)
    a = task.assignment
    return PhaseMeasured(name, a.run, a.round, Phase.TRAIN, 1.0, seconds, (reading,))


@pytest.mark.parametrize(("joules", "seconds"), [(math.nan, 1.0), (-5.0, 1.0), (math.inf, 1.0), (1.0, -1.0)])
async def test_a_window_that_no_meter_can_have_read_is_not_in_the_ledger(coordinator, asked, joules, seconds):
    run, a, task, _ = asked
    await a.send(window(task, joules, seconds))
    await a.send(window(task, 7.0, name="sound"))
    while (await a.hear()) != window_ack("sound"):
        pass
    (phase,) = (await coordinator.report(run)).rounds[1].devices[0].phases
    assert [r.joules for r in phase.readings] == [7.0]
    assert (await refused(coordinator))["measurement"] == 1


def window_ack(name):
    from fleet.domain import MeasurementAck

    return MeasurementAck(name)


async def test_a_number_that_is_none_ends_the_stream(device_of):
    device = device_of("a")
    levers = (LeverInfo("frequency", "Hz", math.nan, math.inf, ""),)
    device.hello = replace(device.hello, capabilities=replace(device.hello.capabilities, levers=levers))
    with pytest.raises(BadRequest, match="LeverInfo.minimum is nan"):
        await device.attach()


async def test_a_reason_of_a_megabyte_is_cut(coordinator, asked):
    run, a, task, _ = asked
    await a.send(TaskFailed(run, 1, "x" * 900_000))
    assert len((await marked(coordinator, run)).reason) < 2100


async def test_a_message_longer_than_grpc_takes_is_refused_unread(coordinator, pair):
    request = fleet_pb2.StatBlobRequest(digest="0" * 32, run="x" * (5 << 20), round=1, device="a")
    with pytest.raises(WattbedError, match=r"RESOURCE_EXHAUSTED.*larger than max"):
        await coordinator.ask(coordinator.fleet.StatBlob(request))
    await coordinator.start()
    assert (await pair[0].task()).assignment.round == 1


async def to_the_end(device):
    while True:
        await device.hear()


async def flood(device):
    with contextlib.suppress(grpc.aio.AioRpcError, asyncio.InvalidStateError):
        for i in range(50):
            await device.send(Heartbeat(i, 0.0, 0.0, 0))


class TestLimits:
    @pytest.fixture
    def settings(self, settings):
        few = Limits(
            message_bytes=5000, messages_per_s=1.0, messages_burst=20, calls_per_s=1.0, calls_burst=30,
            uploads=2, downloads=2, hello_s=0.3, stall_s=0.5, devices=3,
        )  # fmt: skip
        return replace(settings, limits=few)

    async def test_a_long_message_ends_the_stream(self, coordinator, pair):
        await pair[0].send(Progress("r", 1, Phase.TRAIN, 1, 1))
        await pair[0].send(TaskFailed("x" * 6000, 1, ""))
        with pytest.raises(TooMuch, match=r"a message of 6,0\d\d bytes; at most 5,000"):
            await to_the_end(pair[0])

    async def test_too_many_messages_end_the_stream(self, coordinator, pair):
        with pytest.raises(WattbedError):  # TooMany, or now and then grpc.aio's INTERNAL for the failed write
            await asyncio.gather(to_the_end(pair[0]), flood(pair[0]))
        assert (await refused(coordinator))["rate"] == 1

    async def test_too_many_calls_are_refused_and_another_device_does_not_notice(self, coordinator, pair):
        def stat(name):
            request = fleet_pb2.StatBlobRequest(digest="0" * 32, run="x", round=1, device=name)
            return coordinator.ask(coordinator.fleet.StatBlob(request))

        answers = [type(x) for x in await asyncio.gather(*(stat("a") for _ in range(40)), return_exceptions=True)]
        assert answers.count(TooMany) >= 10
        with pytest.raises(Exception, match="no run 'x'"):
            await stat("b")

    async def test_names_that_are_made_up_share_one_allowance(self, coordinator):
        def stat(number):
            request = fleet_pb2.StatBlobRequest(digest="0" * 32, run="x", round=1, device=f"nobody-{number}")
            return coordinator.ask(coordinator.fleet.StatBlob(request))

        answers = [type(x) for x in await asyncio.gather(*(stat(n) for n in range(40)), return_exceptions=True)]
        assert answers.count(TooMany) == 10

    async def test_no_more_devices_than_allowed_become_known(self, coordinator, pair, device_of):
        await device_of("c").attach()
        with pytest.raises(TooMany, match="3 devices are known, and no more are taken"):
            await device_of("d").attach()

    async def test_who_connects_and_says_nothing_is_sent_away(self, coordinator):
        call = coordinator.fleet.Attach()
        with pytest.raises(TooSlow, match=r"nothing came for 0\.3 s"):
            await coordinator.ask(call.read())

    async def test_hundreds_of_streams_that_say_nothing_are_ended_and_keep_nobody_out(
        self, coordinator, device_of
    ):
        crowd = rpc.channel(coordinator.address)
        calls = [fleet_pb2_grpc.FleetStub(crowd).Attach() for _ in range(400)]
        reading = [asyncio.create_task(coordinator.ask(call.read())) for call in calls]
        await device_of("a").attach()
        ended = await asyncio.gather(*reading, return_exceptions=True)
        # Beyond 256 of one connection gRPC refuses, or has its client wait for its turn.
        assert {TooSlow} <= {type(e) for e in ended} <= {TooSlow, Unreachable}
        await crowd.close()

    async def test_a_slow_loris_is_ended_and_what_came_is_kept_for_it(self, coordinator, asked, pair):
        run, a, task, payload = asked
        name = sha256(payload).hexdigest()

        async def drip():
            header = fleet_pb2.UpdateHeader(
                run=run, round=1, device="a", digest=name, size_bytes=len(payload), samples=1, protocol_version=1
            )
            yield fleet_pb2.PutBlobRequest(header=header)
            yield fleet_pb2.PutBlobRequest(data=payload[:10])
            await asyncio.sleep(60)

        with pytest.raises(TooSlow, match=r"nothing came for 0\.5 s"):
            await coordinator.ask(coordinator.fleet.PutBlob(drip()))
        assert (await a.put(task, payload, name, offset_bytes=10)).fresh
        assert (await refused(coordinator))["slow"] == 1

    async def test_only_so_many_uploads_of_a_device_run_at_once(self, coordinator, asked):
        run, a, task, payload = asked

        async def held(digest):
            header = fleet_pb2.UpdateHeader(
                run=run, round=1, device="a", digest=digest, size_bytes=100, samples=1, protocol_version=1
            )
            yield fleet_pb2.PutBlobRequest(header=header)
            await asyncio.sleep(60)

        calls = [coordinator.ask(coordinator.fleet.PutBlob(held(f"{i:032}"))) for i in range(4)]
        answers = await asyncio.gather(*calls, return_exceptions=True)
        assert sorted(type(x).__name__ for x in answers) == ["TooMany", "TooMany", "TooSlow", "TooSlow"]

    async def test_a_device_that_never_reads_is_ended_and_the_others_go_on(self, coordinator, pair):
        """Its window is filled with a download that it never takes."""
        run = await coordinator.start(
            rounds=1, workload={"name": "noop", "options": {"model_bytes": 20_000_000, "tensors": 2}}
        )
        tasks = [await device.task() for device in pair]
        a = tasks[0].assignment
        request = fleet_pb2.GetBlobRequest(sha256=a.model_sha256, device="a", run=run, round=1)
        stuck = coordinator.fleet.GetBlob(request)
        await stuck.read()
        async with asyncio.timeout(20):
            while "slow" not in await refused(coordinator):
                await asyncio.sleep(0.1)
        for device, task in zip(pair, tasks, strict=True):
            await device.put(task, *named(await device.train(task)), chunk=1 << 20)
        stuck.cancel()


class TestMalformed:
    """Bytes that are no protobuf, or one that nobody meant, to every method of a coordinator that goes on working."""

    @pytest.fixture
    def fuzz(self, coordinator):
        raw = rpc.channel(coordinator.address)

        async def send(method, messages):
            call = getattr(raw, METHODS[method])(f"/fleet.v1.Fleet/{method}")
            try:
                async with asyncio.timeout(5):
                    if METHODS[method].startswith("unary"):
                        answer = call(messages[0])
                    else:
                        answer = call(iter(messages))
                    if METHODS[method].endswith("unary"):
                        await answer
                    else:
                        async for _ in answer:
                            pass
            except grpc.aio.AioRpcError as error:
                if "execute_batch" in error.debug_error_string():
                    return "OK"  # grpc.aio's own, for a write to a call that was answered
                return error.code().name
            return "OK"

        return send

    async def test_garbage_on_every_method_is_refused_and_an_honest_round_goes_on(self, coordinator, pair, fuzz):
        await coordinator.start()
        codes = set()
        examples = []
        anything = st.tuples(st.sampled_from(sorted(METHODS)), st.lists(messages, min_size=1, max_size=3))

        @settings(max_examples=150, deadline=None, database=None, suppress_health_check=list(HealthCheck))
        @given(anything)
        def draw(example):
            examples.append(example)

        draw()
        # A hello in the name of one of them is not garbage: it ends the other's stream.
        hello = fleet_pb2.Hello(device=pair[0].name, protocol_version=rpc.PROTOCOL_VERSION)
        examples.append(("Attach", [fleet_pb2.AgentMessage(hello=hello).SerializeToString()]))
        for method, sent in examples:
            codes.add(await fuzz(method, sent))
        ours = (
            "OK",
            "INVALID_ARGUMENT",
            "NOT_FOUND",
            "PERMISSION_DENIED",
            "FAILED_PRECONDITION",
            "RESOURCE_EXHAUSTED",
        )
        assert codes <= set(ours)
        # As agents do, they come back.
        tasks = await honest_round([await device.attach() for device in pair])
        assert {t.assignment.round for t in tasks} == {2}


def built(cls, **strategies):
    return st.fixed_dictionaries({}, optional=strategies).map(lambda fields: cls(**fields).SerializeToString())


text = st.text(max_size=30) | st.just("x-1") | st.just("a") | st.just("../../x")
number = st.integers(0, 2**32 - 1)
messages = st.one_of(
    st.binary(max_size=200),
    built(fleet_pb2.StatBlobRequest, digest=text, run=text, round=number, device=text),
    built(fleet_pb2.GetBlobRequest, sha256=text, run=text, round=number, device=text, offset_bytes=number),
    built(fleet_pb2.PutFillerRequest, device=text, calibration=text, data=st.binary(max_size=50)),
    st.fixed_dictionaries({}, optional={"run": text, "device": text, "round": number, "samples": number,
        "digest": text, "size_bytes": st.integers(0, 2**64 - 1), "protocol_version": st.just(1)}).map(
        lambda x: fleet_pb2.PutBlobRequest(header=fleet_pb2.UpdateHeader(**x)).SerializeToString()),
    st.fixed_dictionaries({}, optional={"device": text, "protocol_version": st.just(1)}).map(
        lambda x: fleet_pb2.AgentMessage(hello=fleet_pb2.Hello(**x)).SerializeToString()),
)  # fmt: skip
