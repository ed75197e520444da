"""What the coordinator shows of a device that nobody can scrape: what an agent would show itself."""

import asyncio
from dataclasses import replace
from urllib.request import urlopen

import pytest

from fleet.domain import (
    Capabilities,
    EnergyReading,
    Heartbeat,
    LinkInfo,
    MeterInfo,
    Phase,
    PhaseMeasured,
    PhaseTotal,
    Power,
    Quality,
    RejectedMeter,
)

LINK = LinkInfo(20e6, 50e6, 0.01, 0.005, 0.0, "tbf", "relay", "relay")
DEVICE = Capabilities(
    "raspberry-pi-5",
    "cpu",
    4,
    1 << 30,
    "aarch64",
    "0",
    meters=(
        MeterInfo("rapl:package-0", "cpu", "package", Quality.MEASURED, "one socket"),
        MeterInfo("rapl:package-1", "cpu", "package", Quality.MEASURED, "another"),
    ),
    rejected_meters=(RejectedMeter("nvml", "no libnvidia-ml.so.1"),),
    cpu_quota=0.5,
    link=LINK,
)
BEAT = Heartbeat(
    1,
    1.0,
    7.0,
    4096,
    power=(Power(3.5, "rapl:package-0", "cpu", Quality.MEASURED),),
    totals=(
        PhaseTotal(Phase.TRAIN, 2.0, "cpu", Quality.MEASURED, 12.5, "rapl:package-0", "package"),
        PhaseTotal(Phase.TRAIN, 2.0, "cpu", Quality.MEASURED, 2.5, "rapl:package-1", "package"),
        PhaseTotal(Phase.TRAIN, 2.0, "gpu", Quality.MEASURED, None, "nvml_energy:GPU-1", "package"),
    ),
)


async def lines(coordinator, *names):
    page = await asyncio.to_thread(lambda: urlopen(f"http://{coordinator.http}/metrics").read().decode())
    return [line for line in page.splitlines() if line.split("{")[0] in names]


@pytest.fixture
async def hidden(coordinator, device_of):
    device = await device_of("pi", capabilities=DEVICE).attach()
    await device.send(BEAT)
    await device.hear()
    return device


async def test_its_sources_what_they_cover_and_whether_they_answer(coordinator, hidden):
    assert await lines(
        coordinator,
        "wattbed_energy_source_info",
        "wattbed_energy_source_rejected_info",
        "wattbed_energy_source_up",
    ) == [
        'wattbed_energy_source_info{detail="one socket",device="pi",host="pi",quality="measured",scope="package",'
        'source="rapl:package-0"} 1.0',
        'wattbed_energy_source_info{detail="another",device="pi",host="pi",quality="measured",scope="package",'
        'source="rapl:package-1"} 1.0',
        'wattbed_energy_source_rejected_info{device="pi",host="pi",reason="no libnvidia-ml.so.1",source="nvml"} 1.0',
        'wattbed_energy_source_up{device="pi",host="pi",source="rapl:package-0"} 1.0',
        'wattbed_energy_source_up{device="pi",host="pi",source="rapl:package-1"} 0.0',
    ]


async def test_its_joules_by_what_they_cover_with_two_sockets_as_one_and_nothing_for_what_was_not_measured(
    coordinator, hidden
):
    assert await lines(
        coordinator,
        "wattbed_agent_energy_joules_total",
        "wattbed_agent_phase_seconds_total",
        "wattbed_power_watts",
    ) == [
        'wattbed_agent_energy_joules_total{agent="pi",component="cpu",phase="train",quality="measured",'
        'scope="package"} 15.0',
        'wattbed_agent_phase_seconds_total{agent="pi",phase="train"} 2.0',
        'wattbed_power_watts{component="cpu",device="pi",host="pi",source="rapl:package-0"} 3.5',
    ]


async def test_its_limits_and_its_link(coordinator, hidden):
    assert await lines(
        coordinator,
        "wattbed_device_cpu_quota_cores",
        "wattbed_device_memory_limit_bytes",
        "wattbed_device_memory_bytes",
        "wattbed_device_cpu_seconds_total",
        "wattbed_link_rate_bits_per_second",
        "wattbed_link_delay_seconds",
        "wattbed_link_info",
    ) == [
        'wattbed_device_cpu_seconds_total{device="pi"} 7.0',
        'wattbed_device_cpu_quota_cores{agent="pi"} 0.5',
        'wattbed_device_memory_limit_bytes{agent="pi"} 1.073741824e+09',
        'wattbed_device_memory_bytes{agent="pi"} 4096.0',
        'wattbed_link_rate_bits_per_second{agent="pi",direction="up"} 2e+07',
        'wattbed_link_rate_bits_per_second{agent="pi",direction="down"} 5e+07',
        'wattbed_link_delay_seconds{agent="pi"} 0.01',
        'wattbed_link_info{agent="pi",delay_by="relay",loss_by="relay",rate_by="tbf",trace="constant"} 1.0',
    ]


async def test_a_link_that_nothing_emulates_has_no_rate_and_no_delay(coordinator, device_of):
    link = replace(LINK, rate_by="none", delay_by="none")
    await device_of("pi", capabilities=replace(DEVICE, link=link, cpu_quota=None)).attach()
    found = await lines(
        coordinator,
        "wattbed_link_rate_bits_per_second",
        "wattbed_link_delay_seconds",
        "wattbed_device_cpu_quota_cores",
    )
    assert found == []


async def test_nothing_is_shown_of_an_agent_that_serves_metrics_or_has_gone(coordinator, device_of, hidden):
    await device_of("open", capabilities=DEVICE, metrics_address="10.0.0.7:9500").attach()
    hidden.call.cancel()
    names = ("wattbed_energy_source_info", "wattbed_link_info", "wattbed_device_memory_limit_bytes")
    async with asyncio.timeout(20):
        while await lines(coordinator, *names):
            await asyncio.sleep(0.02)
    assert await lines(coordinator, "wattbed_device_attached") == [
        'wattbed_device_attached{device="pi"} 0.0',
        'wattbed_device_attached{device="open"} 1.0',
    ]


async def test_joules_of_the_ledger_say_their_scope(coordinator, pair):
    run = await coordinator.start()
    await pair[0].task()
    readings = (
        EnergyReading("rapl:package-0", "cpu", "package", Quality.MEASURED, 7.0),
        EnergyReading("plug:desk", "wall", "wall", Quality.MEASURED, 20.0),
    )
    await pair[0].send(PhaseMeasured("w1", run, 1, Phase.TRAIN, 1.0, 2.0, readings))
    await pair[0].hear()
    assert await lines(coordinator, "wattbed_assignment_energy_joules_total") == [
        'wattbed_assignment_energy_joules_total{component="cpu",device="a",phase="train",quality="measured",'
        'scope="package",source="rapl:package-0"} 7.0',
        'wattbed_assignment_energy_joules_total{component="wall",device="a",phase="train",quality="measured",'
        'scope="wall",source="plug:desk"} 20.0',
    ]


async def test_a_device_whose_stream_broke_is_silent_and_one_that_said_goodbye_is_not(coordinator, pair):
    lost, leaves = pair
    lost.call.cancel()
    await leaves.call.done_writing()
    async with asyncio.timeout(20):
        while "wattbed_log_events_total 5.0" not in await lines(coordinator, "wattbed_log_events_total 5.0"):
            await asyncio.sleep(0.02)  # a start, two who came and two who went
    assert await lines(coordinator, "wattbed_device_silent") == [
        'wattbed_device_silent{device="a"} 1.0',
        'wattbed_device_silent{device="b"} 0.0',
    ]
    await lost.attach()
    assert 'wattbed_device_silent{device="a"} 0.0' in await lines(coordinator, "wattbed_device_silent")
