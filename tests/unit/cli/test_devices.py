import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from cli import devices
from fleet.domain import DeviceSummary, Enrolled, LeverInfo, LinkInfo, RejectedMeter

Wattbed = Callable[..., Any]
LINK = LinkInfo(20e6, 50e6, 0.010, 0.005, 0.005, "tbf", "relay", "netfilter", trace="fading")


@pytest.fixture
def shaped(operator: Any) -> None:
    """A device with a quota, an emulated link, a rejected meter and a lever."""
    able = replace(
        operator.devices[0].capabilities,
        cpu_quota=0.3,
        link=LINK,
        rejected_meters=(RejectedMeter("rapl", "no RAPL driver"),),
        levers=(LeverInfo("cpu_quota", "cores", 0.05, 4.0, "of its container"),),
    )
    operator.devices[0] = replace(operator.devices[0], capabilities=able)


@pytest.mark.usefixtures("shaped")
def test_a_device_shows_its_link_with_what_emulates_it(wattbed: Wattbed) -> None:
    said = wattbed("devices", "show", "agent-1").out
    assert (
        "20 Mbit/s up, 50 Mbit/s down (by tbf), delay 10 ms one way, jitter 5 ms (by relay), "
        "loss 0.5 % (by netfilter); rate over time: fading"
    ) in said


@pytest.mark.usefixtures("shaped")
def test_a_device_shows_its_quota_its_levers_and_the_meters_that_were_rejected(wattbed: Wattbed) -> None:
    rows = [line.split() for line in wattbed("devices", "show", "agent-1").out.splitlines()]
    assert ["CPU", "quota", "0.3"] in rows
    assert ["rapl", "no", "RAPL", "driver"] in rows
    assert ["cpu_quota", "cores", "of", "its", "container", "0.05", "4"] in rows


def test_a_device_without_levers_and_link_says_so(wattbed: Wattbed) -> None:
    said = wattbed("devices", "show", "agent-1").out
    assert ("its own, not emulated" in said, "nothing of this device can be set" in said) == (True, True)


@pytest.mark.usefixtures("shaped")
def test_the_list_shows_links_in_short(wattbed: Wattbed) -> None:
    assert "20 Mbit/s↑ 50 Mbit/s↓, 10 ms" in wattbed("devices").out


def test_a_fast_link_is_said_in_gigabits() -> None:
    assert devices.bits(2.5e9) == "2.5 Gbit/s"


@pytest.fixture
def newcomer(operator: Any) -> None:
    """A third device, that joined and has not attached."""
    enrolled = Enrolled(1000.0, "t", "k" * 64, 2000.0, kind="jetson-orin-nano")
    operator.devices.append(DeviceSummary("new", None, False, 1000.0, enrolled=enrolled))


@pytest.mark.usefixtures("newcomer")
def test_a_device_that_never_attached_is_in_the_list_with_what_is_known_of_it(wattbed: Wattbed) -> None:
    row = next(line for line in wattbed("devices").out.splitlines() if line.lstrip().startswith("new"))
    assert ("jetson-orin-nano" in row, "never seen" in row) == (True, True)


@pytest.mark.usefixtures("newcomer")
def test_the_same_is_said_to_machines_and_of_the_device_alone(wattbed: Wattbed) -> None:
    listed = {d["device"]: d for d in json.loads(wattbed("devices", "--json").out)}
    assert {name: d["stream"] for name, d in listed.items()} == {
        "agent-1": "attached",
        "agent-2": "away",
        "new": "never seen",
    }
    assert (listed["new"]["capabilities"], listed["new"]["attached"]) == (None, False)
    said = wattbed("devices", "show", "new").out
    assert ("never seen since" in said, "joined and never attached" in said) == (True, True)
