"""An agent goes through the relay or straight, as its namespace has it, and changes over while attached."""

import asyncio
import contextlib

import pytest

from edge_agent import agent as agent_module
from edge_agent.__main__ import read
from edge_agent.agent import Agent, Settings
from edge_agent.energy.cpu_time import CpuTimeModel
from edge_agent.energy.meter import Meter
from edge_agent.energy.unwrap import CounterTracker
from edge_agent.link import route
from edge_agent.link.qdiscs import Qdisc
from edge_agent.link.relay import Port, Relay
from edge_agent.link.route import Route
from fleet import rpc
from fleet.domain import Capabilities, Hello
from fleet.errors import BadRequest
from fleet.kinds import kind

JETSON = kind("jetson-orin-nano")
NETEM = [
    *(Qdisc(2, "netem", route.NETEM_UP), Qdisc(3, "netem", route.NETEM_DOWN)),
    *(Qdisc(2, "tbf", route.TBF_UP, 100e6), Qdisc(3, "tbf", route.TBF_DOWN, 100e6)),
]


@pytest.fixture
async def through(fleet, tmp_path, monkeypatch):
    """A relay before the coordinator, and an agent that may use it; `found` is what its namespace has."""
    monkeypatch.setattr(agent_module, "WAY_CHECK_S", 0.02)
    relay = Relay(("127.0.0.1", fleet.port), [Port("jetson-orin-nano", "127.0.0.1", 0, JETSON.link)])
    (port,) = await relay.start()
    found = []
    way = Route(f"127.0.0.1:{fleet.port}", f"127.0.0.1:{port}", JETSON.link, look=lambda: tuple(found))
    hello = Hello(rpc.PROTOCOL_VERSION, "d1", Capabilities(JETSON.name, "cpu", 1, 1, "m", "0"))
    stop = asyncio.Event()
    settings = Settings(f"127.0.0.1:{fleet.port}", tmp_path / "agent", route=way.now)
    running = asyncio.create_task(Agent(settings, hello, Meter([CounterTracker(CpuTimeModel(JETSON))])).run(stop))
    yield relay, found
    stop.set()
    with contextlib.suppress(Exception):
        await running
    relay.stop()


def told(fleet):
    return [(h.capabilities.link.rate_by, h.capabilities.link.delay_by) for h in fleet.hellos]


async def test_without_netem_the_agent_attaches_through_the_relay_and_says_so(fleet, through):
    relay, _ = through
    await fleet.until(lambda: fleet.hellos)
    assert (told(fleet), len(relay.pairs)) == ([("relay", "relay")], 1)


async def test_when_the_shaper_comes_after_the_agent_the_agent_goes_straight(fleet, through):
    _, found = through
    await fleet.until(lambda: fleet.hellos)
    found.extend(NETEM)
    await fleet.until(lambda: len(fleet.hellos) == 2)
    assert told(fleet) == [("relay", "relay"), ("tbf", "netem")]


async def test_an_upload_goes_on_where_it_was_when_the_way_changes(fleet, through, workload, make_task, params):
    _, found = through
    await fleet.until(lambda: fleet.outbox)
    fleet.cut_uploads.append(1000)
    fleet.push(make_task(params))
    await fleet.until(lambda: fleet.headers)
    found.extend(NETEM)
    await fleet.until(lambda: fleet.counted and len(fleet.hellos) >= 2)
    assert (len(fleet.counted), fleet.headers[-1].offset_bytes >= 1000) == (1, True)


def test_the_agents_relay_and_trace_are_read_from_the_environment():
    good = {
        "WATTBED_COORDINATOR": "coordinator:1",
        "WATTBED_DEVICE": "pi-1",
        "WATTBED_KIND": "raspberry-pi-5",
        "WATTBED_STATE": "state",
        "WATTBED_RELAY": "relay:50561",
        "WATTBED_LINK_TRACE": "raspberry-pi-5=walk:sigma=0.2",
    }
    environment = read(good)
    assert (environment.relay, environment.trace) == ("relay:50561", "walk:sigma=0.2")
    with pytest.raises(BadRequest, match="WATTBED_RELAY = 'relay': not host:port"):
        read(good | {"WATTBED_RELAY": "relay"})
