import pytest

from edge_agent.link import route
from edge_agent.link.qdiscs import Qdisc
from edge_agent.link.route import Route, Way
from fleet.domain import LinkInfo
from fleet.kinds import kind

PI = kind("raspberry-pi-5").link
SERVER = kind("epyc-8024p").link

TBF = (Qdisc(2, "tbf", route.TBF_UP, 20e6), Qdisc(3, "tbf", route.TBF_DOWN, 50e6))
LOSSY = (Qdisc(2, "tbf", route.TBF_UP_LOSSY, 20e6), Qdisc(3, "tbf", route.TBF_DOWN, 50e6))
NETEM = (Qdisc(2, "netem", route.NETEM_UP), Qdisc(3, "netem", route.NETEM_DOWN))
PLAIN = (Qdisc(1, "noqueue", 0), Qdisc(2, "fq_codel", 0x8001))


@pytest.mark.parametrize(
    ("relay", "found", "address", "at_work"),
    [
        ("relay:1", PLAIN, "relay:1", ("relay", "relay", "relay", "walk:sigma=1")),
        ("relay:1", TBF, "relay:1", ("tbf", "relay", "relay", "walk:sigma=1")),
        ("relay:1", TBF[:1], "relay:1", ("relay", "relay", "relay", "walk:sigma=1")),
        ("relay:1", NETEM + TBF, "coordinator:1", ("tbf", "netem", "netem", "constant")),
        (None, NETEM + TBF, "coordinator:1", ("tbf", "netem", "netem", "constant")),
        (None, TBF, "coordinator:1", ("tbf", "none", "none", "constant")),
        (None, LOSSY, "coordinator:1", ("tbf", "none", "netfilter", "constant")),
    ],
)
def test_the_way_follows_from_what_the_namespace_has(relay, found, address, at_work):
    way = Route("coordinator:1", relay, PI, "walk:sigma=1", lambda: found).now()
    assert (way.address, (way.link.rate_by, way.link.delay_by, way.link.loss_by, way.link.trace)) == (
        address,
        at_work,
    )


def test_without_relay_and_queues_of_ours_there_is_no_emulated_link():
    assert Route("coordinator:1", None, PI, "walk:sigma=1", lambda: PLAIN).now() == Way("coordinator:1")


def test_a_queue_that_somebody_else_has_set_up_is_not_an_emulated_link():
    theirs = (Qdisc(2, "tbf", 0x8001, 1e6), Qdisc(3, "tbf", 0x8002, 1e6))
    assert Route("coordinator:1", None, PI, "constant", lambda: theirs).now() == Way("coordinator:1")


def test_what_a_kind_does_not_have_nobody_emulates():
    assert Route("c:1", "relay:1", SERVER, "constant", tuple).now().link == LinkInfo(
        1e9, 1e9, 0.0005, 0.0001, 0.0, "relay", "relay", "none", "constant"
    )


def test_the_rate_told_is_the_one_the_kernel_holds():
    slower = (Qdisc(2, "tbf", route.TBF_UP, 5e6), Qdisc(3, "tbf", route.TBF_DOWN, 6e6))
    link = Route("c:1", "relay:1", PI, "constant", lambda: slower).now().link
    assert (link.rate_up_bps, link.rate_down_bps) == (5e6, 6e6)


def test_a_kernel_that_does_not_tell_leaves_the_relay():
    def refuse():
        raise PermissionError("no netlink here")

    assert Route("c:1", "relay:1", PI, "constant", refuse).now().address == "relay:1"


@pytest.mark.parametrize(
    ("link", "trace", "watts"),
    [
        (PI, "constant", (PI.radio.transmit_watts, PI.radio.receive_watts)),
        (PI, "rayleigh:distance_m=500,power_watts=0.2", (0.2, None)),
        (SERVER, "constant", (None, None)),
        (SERVER, "rayleigh:distance_m=500", (0.1, None)),
    ],
)
def test_a_radio_draws_what_its_trace_says_else_its_kind_and_a_cable_has_none(link, trace, watts):
    found = Route("c:1", "relay:1", link, trace, tuple).now().link
    assert (found.transmit_watts, found.receive_watts) == watts
