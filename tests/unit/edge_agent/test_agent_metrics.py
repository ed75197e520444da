import urllib.request

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from edge_agent.energy.counter import RAIL, Raw, ReadFailed, Rejected, SourceInfo
from edge_agent.energy.meter import Meter
from edge_agent.energy.self_check import SelfChecks
from edge_agent.energy.unwrap import CounterTracker
from edge_agent.metrics import AgentCollector, serve
from fleet.domain import Phase, Quality
from fleet.errors import AddressInUse

MODEL = SourceInfo("model", "model", "cpu", "wall", Quality.ESTIMATED, 0.05, "a toaster", 0.3)
CORE = SourceInfo("rapl:package-0/core", "rapl", RAIL, "package", Quality.MEASURED, 0.05, "", rail="core")


def package(number):
    return SourceInfo(
        f"rapl:package-{number}", "rapl", "cpu", "package", Quality.MEASURED, 0.05, "", None, 1e-6, 1e3
    )


class Counter:
    def __init__(self, info=MODEL):
        self.info = info
        self.joules = 0.0

    def read(self):
        if self.joules is None:
            raise ReadFailed("gone")
        return Raw(self.joules, round(now[0] * 1e9))


now = [0.0]


@pytest.fixture
def counter():
    now[0] = 0.0
    return Counter()


@pytest.fixture
def meter(counter):
    return make(counter)


def make(*counters, rejected=()):
    return Meter([CounterTracker(c) for c in counters], rejected, lambda: now[0])


def scrape(meter):
    registry = CollectorRegistry()
    registry.register(AgentCollector("pi-1", meter, host="box"))
    return [line for line in generate_latest(registry).decode().splitlines() if not line.startswith("#")]


def test_what_a_counter_says_beside_another_is_shown_once_it_was_compared(counter):
    found = SelfChecks({})
    meter = Meter([CounterTracker(counter)], clock=lambda: now[0], checks=found)
    assert not any("self_check" in line for line in scrape(meter))
    found._ratios["nvml:GPU-1"] = 0.57
    wanted = 'wattbed_energy_self_check_ratio{device="pi-1",host="box",source="nvml:GPU-1"} 0.57'
    assert wanted in scrape(meter)


def test_joules_seconds_and_power_are_what_the_meter_says(meter, counter):
    with meter.phase(Phase.TRAIN, lambda _: None):
        now[0], counter.joules = 4.0, 20.0
    meter.sample()
    lines = scrape(meter)
    assert [line for line in lines if "train" in line or "watts" in line] == [
        'wattbed_agent_energy_joules_total{agent="pi-1",component="cpu",phase="train",quality="estimated",scope="wall"} 20.0',
        'wattbed_agent_phase_seconds_total{agent="pi-1",phase="train"} 4.0',
        'wattbed_power_watts{component="cpu",device="pi-1",host="box",source="model"} 5.0',
    ]


def test_two_packages_of_one_device_are_one_series(counter):
    counters = Counter(package(0)), Counter(package(1))
    meter = make(*counters)
    with meter.phase(Phase.TRAIN, lambda _: None):
        now[0], counters[0].joules, counters[1].joules = 4.0, 20.0, 1.5
    assert [line for line in scrape(meter) if 'phase="train"' in line and "joules" in line] == [
        'wattbed_agent_energy_joules_total{agent="pi-1",component="cpu",phase="train",quality="measured",scope="package"} 21.5'
    ]


def test_a_host_shows_its_sources_and_its_rails_under_different_names(counter):
    whole, core = Counter(package(0)), Counter(CORE)
    meter = make(whole, core)
    now[0], whole.joules, core.joules = 4.0, 20.0, 12.0
    meter.tick()
    lines = scrape(meter)
    assert [line for line in lines if line.startswith(("wattbed_host", "wattbed_rail"))] == [
        'wattbed_host_energy_joules_total{component="cpu",device="package-0",host="box",quality="measured",scope="package",source="rapl"} 20.0',
        'wattbed_rail_energy_joules_total{host="box",rail="core",source="rapl"} 12.0',
    ]


def test_the_model_is_the_energy_of_no_host(meter, counter):
    now[0], counter.joules = 4.0, 20.0
    meter.tick()
    assert [line for line in scrape(meter) if "host_energy" in line] == []


def test_a_source_that_fails_is_down_and_has_no_power(meter, counter):
    now[0], counter.joules = 4.0, None
    meter.sample()
    lines = scrape(meter)
    assert (
        'wattbed_energy_source_up{device="pi-1",host="box",source="model"} 0.0' in lines,
        'wattbed_energy_read_errors_total{device="pi-1",host="box",reason="ReadFailed",source="model"} 2.0'
        in lines,
        any(line.startswith("wattbed_power_watts") for line in lines),
    ) == (True, True, False)


def test_troubles_of_a_counter_are_counted(counter):
    wrapping = Counter(package(0))
    wrapping.joules = 999.0
    meter = make(wrapping)
    now[0], wrapping.joules = 3.0, 1.0
    meter.tick()
    now[0] = 5.0
    lines = scrape(meter)
    where = '{device="pi-1",host="box",source="rapl:package-0"}'
    wanted = {"counter_wraps_total": 1.0, "counter_resets_total": 0.0, "gap_seconds_total": 0.0}
    assert [f"wattbed_energy_{name}{where} {count}" in lines for name, count in wanted.items()] == [True] * 3


def test_a_source_says_what_it_is_and_covers(meter):
    assert (
        'wattbed_energy_source_info{detail="a toaster",device="pi-1",host="box",quality="estimated",'
        'scope="wall",source="model"} 1.0'
    ) in scrape(meter)


def test_a_source_that_cannot_be_used_says_why():
    lines = scrape(make(rejected=(Rejected("rapl", "energy_uj: Permission denied", "chmod"),)))
    assert [line for line in lines if "rejected" in line] == [
        'wattbed_energy_source_rejected_info{device="pi-1",host="box",reason="energy_uj: Permission denied",source="rapl"} 1.0'
    ]


def test_a_device_without_a_source_has_no_series_of_joules():
    assert [line for line in scrape(make()) if "joules" in line] == []


def test_metrics_are_served_and_a_taken_port_is_an_error_that_names_it(meter):
    port = serve([AgentCollector("pi-1", meter)], "127.0.0.1", 0)
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as answer:
        assert b"wattbed_energy_source_info" in answer.read()
    with pytest.raises(AddressInUse, match=rf"cannot serve HTTP on 127\.0\.0\.1:{port}"):
        serve([AgentCollector("pi-1", meter)], "127.0.0.1", port)
