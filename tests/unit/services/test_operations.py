import asyncio
import json
import socket
from dataclasses import replace
from urllib.request import urlopen

import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from prometheus_client.parser import text_string_to_metric_families

from coordinator.server import run
from fleet.domain import EnergyReading, Heartbeat, Phase, PhaseMeasured, PhaseTotal, Power, Quality, TaskFailed
from fleet.errors import AddressInUse, WattbedError
from fleet.v1 import operator_pb2


async def page(address, path):
    body = await asyncio.to_thread(lambda: urlopen(f"http://{address}{path}").read())
    return body.decode()


async def samples(address):
    families = text_string_to_metric_families(await page(address, "/metrics"))
    return {(s.name, tuple(sorted(s.labels.items()))): s.value for f in families for s in f.samples}


async def test_health_and_reflection_answer(coordinator):
    check = await health_pb2_grpc.HealthStub(coordinator.channel).Check(health_pb2.HealthCheckRequest())
    request = reflection_pb2.ServerReflectionRequest(list_services="")
    stub = reflection_pb2_grpc.ServerReflectionStub(coordinator.channel)
    call = stub.ServerReflectionInfo(iter([request]))
    services = {s.name for s in (await call.read()).list_services_response.service}
    assert check.status == health_pb2.HealthCheckResponse.SERVING
    assert {"fleet.v1.Fleet", "fleet.v1.Operator", "grpc.health.v1.Health"} <= services


async def test_asking_twice_with_one_key_starts_one_run(coordinator):
    assert await coordinator.start("key") == await coordinator.start("key")


async def test_a_second_coordinator_on_the_same_log_is_refused(coordinator, settings):
    with pytest.raises(AddressInUse, match="another coordinator uses"):
        await run(settings, asyncio.get_running_loop().create_future(), asyncio.Event())


@pytest.mark.parametrize("which", ["listen", "http"])
async def test_a_port_in_use_is_named(settings, which):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(AddressInUse, match=address):
            await run(
                replace(settings, **{which: address}), asyncio.get_running_loop().create_future(), asyncio.Event()
            )


async def test_an_agent_that_can_be_scraped_is_discovered_and_one_that_cannot_is_shown_here(
    coordinator, device_of
):
    open_ = await device_of("open", metrics_address="10.0.0.7:9500").attach()
    hidden = await device_of("hidden").attach()
    total = PhaseTotal(Phase.TRAIN, 2.0, "cpu", Quality.ESTIMATED, 12.5, "model")
    power = Power(3.5, "model", "cpu", Quality.ESTIMATED)
    for device in (open_, hidden):
        await device.send(Heartbeat(1, 1.0, 1.0, 1, (power,), (total,)))
        await device.hear()
    found = await samples(coordinator.http)
    energy = [
        (dict(labels)["agent"], value)
        for (n, labels), value in found.items()
        if n == "wattbed_agent_energy_joules_total"
    ]
    assert json.loads(await page(coordinator.http, "/sd")) == [
        {"targets": ["10.0.0.7:9500"], "labels": {"agent": "open", "device_kind": "mini-pc-n100"}}
    ]
    assert energy == [("hidden", 12.5)]


async def test_a_window_is_in_the_ledger_once_however_often_it_is_reported(coordinator, pair):
    run_id = await coordinator.start()
    a, _ = pair
    await a.task()
    reading = EnergyReading("model", "cpu", "package", Quality.ESTIMATED, 7.0, 5.0, 9.0)
    for _ in range(3):
        await a.send(PhaseMeasured("w1", run_id, 1, Phase.TRAIN, 1.0, 2.0, (reading,)))
        await a.hear()
    device = (await coordinator.report(run_id)).rounds[1].devices[0]
    found = await samples(coordinator.http)
    joules = [value for (name, _), value in found.items() if name == "wattbed_assignment_energy_joules_total"]
    assert device.phases[0].readings == (reading,)
    assert device.phases[0].windows == 1
    assert joules == [7.0]


async def test_what_was_not_measured_has_no_series_and_no_zero(coordinator, pair):
    run_id = await coordinator.start()
    a, _ = pair
    await a.task()
    await a.send(PhaseMeasured("w1", run_id, 1, Phase.TRAIN, 1.0, 2.0, ()))
    await a.hear()
    found = await samples(coordinator.http)
    assert not [name for name, _ in found if name == "wattbed_assignment_energy_joules_total"]
    assert found["wattbed_assignment_unmeasured_windows_total", (("device", "a"), ("phase", "train"))] == 1


async def test_a_round_in_which_all_give_up_fails_with_their_reasons(coordinator, pair):
    run_id = await coordinator.start(round={"mode": "sync", "min_devices": 2, "devices": 2, "quorum": 2,
                                            "deadline_s": 60, "max_failures": 1})  # fmt: skip
    for device in pair:
        await device.task()
        await device.send(TaskFailed(run_id, 1, f"{device.name} has no data"))
    watch = coordinator.operator.WatchRun(operator_pb2.WatchRunRequest(run=run_id))
    kinds = [m.event.kind async for m in watch if m.WhichOneof("message") == "event"]
    report = await coordinator.report(run_id)
    assert kinds[-2:] == ["RoundFailed", "RunEnded"]
    assert "a gave up: a has no data; b gave up: b has no data" in report.run.reason


async def test_the_newest_stream_of_a_device_wins(coordinator, device_of):
    older = await device_of("a").attach()
    newer = await device_of("a").attach()
    with pytest.raises(WattbedError):
        await older.hear()
    await newer.send(Heartbeat(7, 1.0, 1.0, 1))
    assert (await newer.hear()).sequence == 7


async def test_a_stopped_run_withdraws_its_tasks(coordinator, pair):
    run_id = await coordinator.start()
    await pair[0].task()
    await coordinator.ask(coordinator.operator.StopRun(operator_pb2.StopRunRequest(run=run_id, reason="enough")))
    cancel = await pair[0].hear()
    assert (type(cancel).__name__, cancel.run, cancel.round) == ("Cancel", run_id, 1)


async def test_a_window_of_a_run_that_is_not_in_the_log_is_taken_from_the_agent_and_left(coordinator, pair):
    a, _ = pair
    await a.send(PhaseMeasured("w1", "elsewhere-1", 1, Phase.TRAIN, 1.0, 2.0, ()))
    await a.send(TaskFailed("elsewhere-1", 1, "no matter"))
    await a.send(Heartbeat(3, 1.0, 1.0, 1))
    assert [type(await a.hear()).__name__ for _ in range(2)] == ["MeasurementAck", "HeartbeatAck"]
