"""What is counted of the calls that a coordinator serves, on real gRPC."""

import asyncio
from urllib.request import urlopen

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from prometheus_client.parser import text_string_to_metric_families

from coordinator.requests import BUCKETS_S, Requests
from fleet.errors import WattbedError
from fleet.v1 import operator_pb2

NAMES = ("wattbed_grpc_requests_total", "wattbed_grpc_requests_running", "wattbed_grpc_request_seconds_count")


async def seen(coordinator, *names):
    """Samples by (name, method, status), once the calls that have ended are counted."""
    page = await asyncio.to_thread(lambda: urlopen(f"http://{coordinator.http}/metrics").read().decode())
    return {
        (s.name, s.labels["method"], s.labels.get("status")): s.value
        for family in text_string_to_metric_families(page)
        for s in family.samples
        if s.name in (names or NAMES)
    }


async def until(coordinator, key, value):
    async with asyncio.timeout(20):
        while (found := await seen(coordinator)).get(key) != value:
            await asyncio.sleep(0.02)
    return found


async def test_calls_are_counted_by_method_and_status(coordinator):
    await coordinator.start()
    with pytest.raises(WattbedError):
        await coordinator.report("no-such-run")
    found = await seen(coordinator, "wattbed_grpc_requests_total")
    assert found == {
        ("wattbed_grpc_requests_total", "StartRun", "OK"): 1,
        ("wattbed_grpc_requests_total", "GetReport", "NOT_FOUND"): 1,
    }


async def test_every_call_that_ends_is_in_the_histogram_but_streams_that_stay_open_are_not(coordinator, device_of):
    device = await device_of("a").attach()
    run = await coordinator.start()
    watch = coordinator.operator.WatchRun(operator_pb2.WatchRunRequest(run=run))
    await watch.read()
    watch.cancel()
    found = await until(coordinator, ("wattbed_grpc_requests_total", "WatchRun", "CANCELLED"), 1)
    attached = found["wattbed_grpc_requests_running", "Attach", None]
    device.call.cancel()
    found = await until(coordinator, ("wattbed_grpc_requests_running", "Attach", None), 0)
    timed = {method for name, method, _ in found if name == "wattbed_grpc_request_seconds_count"}
    assert (attached, timed) == (1, {"StartRun"})


async def test_a_streamed_answer_is_one_call(coordinator, pair):
    await coordinator.start()
    task = await pair[0].task()
    await pair[0].train(task)
    found = await until(coordinator, ("wattbed_grpc_requests_total", "GetBlob", "OK"), 1)
    assert found["wattbed_grpc_request_seconds_count", "GetBlob", "OK"] == 1


async def test_methods_that_do_not_exist_are_counted_under_one_name(coordinator):
    for name in ("/fleet.v1.Fleet/Nonsense", "/nobody/Home"):
        with pytest.raises(grpc.aio.AioRpcError, match="UNIMPLEMENTED"):
            await coordinator.channel.unary_unary(name)(b"")
    found = await seen(coordinator, "wattbed_grpc_requests_total")
    assert found == {("wattbed_grpc_requests_total", "unknown", "UNIMPLEMENTED"): 2}


async def test_health_checks_are_calls_too(coordinator):
    await health_pb2_grpc.HealthStub(coordinator.channel).Check(health_pb2.HealthCheckRequest())
    assert (await seen(coordinator))["wattbed_grpc_requests_total", "Check", "OK"] == 1


async def test_a_duration_is_in_its_bucket_and_in_all_that_are_longer():
    now = iter((100.0, 100.3))
    requests = Requests(lambda: next(now))

    class Context:
        def code(self):
            return 0

    with requests._counted("GetReport", Context()):
        pass
    histogram = next(f for f in requests.collect() if f.name == "wattbed_grpc_request_seconds")
    buckets = {s.labels["le"]: s.value for s in histogram.samples if s.name.endswith("_bucket")}
    assert [le for le, count in buckets.items() if count] == [*(str(b) for b in BUCKETS_S if b >= 0.5), "+Inf"]
    assert [round(s.value, 6) for s in histogram.samples if s.name.endswith("_sum")] == [0.3]
