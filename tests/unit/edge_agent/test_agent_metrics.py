import urllib.request

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from edge_agent.energy.counter import Raw, ReadFailed, SourceInfo
from edge_agent.energy.meter import Meter
from edge_agent.metrics import AgentCollector, serve
from fleet.domain import Phase, Quality
from fleet.errors import AddressInUse


class Counter:
    info = SourceInfo("model", "model", "cpu", "wall", Quality.ESTIMATED, 0.05, "a toaster", 0.3)

    def __init__(self):
        self.joules = 0.0

    def read(self):
        if self.joules is None:
            raise ReadFailed("gone")
        return Raw(self.joules, now[0])


now = [0.0]


@pytest.fixture
def counter():
    now[0] = 0.0
    return Counter()


@pytest.fixture
def meter(counter):
    return Meter([counter], lambda: now[0])


def scrape(meter):
    registry = CollectorRegistry()
    registry.register(AgentCollector("pi-1", meter, host="box"))
    return [line for line in generate_latest(registry).decode().splitlines() if not line.startswith("#")]


def test_joules_seconds_and_power_are_what_the_meter_says(meter, counter):
    with meter.phase(Phase.TRAIN, lambda _: None):
        now[0], counter.joules = 4.0, 20.0
    meter.sample()
    lines = scrape(meter)
    assert [line for line in lines if "train" in line or "watts" in line] == [
        'wattbed_agent_energy_joules_total{agent="pi-1",component="cpu",phase="train",quality="estimated"} 20.0',
        'wattbed_agent_phase_seconds_total{agent="pi-1",phase="train"} 4.0',
        'wattbed_power_watts{component="cpu",device="pi-1",host="box",source="model"} 5.0',
    ]


def test_a_source_that_fails_is_down_and_has_no_power(meter, counter):
    now[0], counter.joules = 4.0, None
    meter.sample()
    lines = scrape(meter)
    assert (
        'wattbed_energy_source_up{device="pi-1",host="box",source="model"} 0.0' in lines,
        any(line.startswith("wattbed_power_watts") for line in lines),
    ) == (True, False)


def test_a_source_says_what_it_is_and_covers(meter):
    assert (
        'wattbed_energy_source_info{detail="a toaster",device="pi-1",host="box",quality="estimated",'
        'scope="wall",source="model"} 1.0'
    ) in scrape(meter)


def test_a_device_without_a_source_has_no_series_of_joules():
    assert [line for line in scrape(Meter([])) if "joules" in line] == []


def test_metrics_are_served_and_a_taken_port_is_an_error_that_names_it(meter):
    port = serve(AgentCollector("pi-1", meter), "127.0.0.1", 0)
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as answer:
        assert b"wattbed_energy_source_info" in answer.read()
    with pytest.raises(AddressInUse, match=rf"cannot serve metrics on 127\.0\.0\.1:{port}"):
        serve(AgentCollector("pi-1", meter), "127.0.0.1", port)
