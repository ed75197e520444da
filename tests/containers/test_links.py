"""The emulated links, measured by moving bytes between containers: from the shaped agents, straight and by a relay."""

import contextlib
import json
import statistics

import pytest

from cli.client import Operator
from edge_agent.link.line import HEADER_BYTES, SEGMENT_BYTES, mathis_bps
from fleet.kinds import kind

KINDS = ("raspberry-pi-5", "jetson-orin-nano", "mini-pc-n100", "gpu-workstation")
FILLED = KINDS[:3]
"""Those whose rate the few processors of this test can fill, at both ends and in the relay."""

PORTS = {name: 50601 + number for number, name in enumerate(KINDS)}
WITHIN = 0.1
WITHIN_S = 0.0003
"""How near the relay comes to a delay so short that a tenth of it is nothing: processes wake no more exactly."""

SECONDS = 3.0
BEATS = 250
ON_WIRE = 1 + HEADER_BYTES / SEGMENT_BYTES

FAR = """
import socket, struct, threading, time

def serve(connection):
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    what, size = struct.unpack("!cq", connection.recv(9, socket.MSG_WAITALL))
    if what == b"d":
        for _ in range(size // 65536):
            connection.sendall(bytes(65536))
        connection.shutdown(socket.SHUT_WR)
        connection.recv(1)
    elif what == b"u":
        began, count = None, 0
        while data := connection.recv(262144):
            if began is None:
                began = time.monotonic()
            else:
                count += len(data)
        connection.sendall(struct.pack("!qd", count, time.monotonic() - began))
    else:
        while connection.recv(1):
            connection.sendall(struct.pack("!d", time.monotonic()))

listening = socket.create_server(("0.0.0.0", 5000))
while True:
    threading.Thread(target=serve, args=(listening.accept()[0],), daemon=True).start()
"""

NEAR = """
import json, socket, struct, sys, time
host, port, what, size = sys.argv[1], int(sys.argv[2]), sys.argv[3], int(sys.argv[4])
link = socket.create_connection((host, port), 60)
link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
link.sendall(struct.pack("!cq", what.encode(), size))
if what == "d":
    began, count = None, 0
    while data := link.recv(262144):
        if began is None:
            began = time.monotonic()
        else:
            count += len(data)
    print(json.dumps(8 * count / (time.monotonic() - began)))
elif what == "u":
    for _ in range(size // 65536):
        link.sendall(bytes(65536))
    link.shutdown(socket.SHUT_WR)
    count, seconds = struct.unpack("!qd", link.recv(16, socket.MSG_WAITALL))
    print(json.dumps(8 * count / seconds))
else:
    ways = []
    for _ in range(size):
        began = time.monotonic()
        link.sendall(b"?")
        (there,) = struct.unpack("!d", link.recv(8, socket.MSG_WAITALL))
        ways.append((there - began, time.monotonic() - there))
        time.sleep(0.005)
    print(json.dumps(ways))
"""


@pytest.fixture(scope="module")
def far(stack):
    """Addresses that answer: by name of a kind through a relay of ours, by "" straight."""
    network = f"{stack.project}_default"
    image = stack.containers("coordinator")[0].image.id
    agent = stack.containers("raspberry-pi-5")[0].image.id
    names = f"{stack.project}-far", f"{stack.project}-far-relay"
    relays = ",".join(f"{name}=0.0.0.0:{port}" for name, port in PORTS.items())
    # The image says it is that of a service of the project.
    labels = {"com.docker.compose.service": "far"}
    started = []
    try:
        started.append(
            stack.engine.containers.run(
                image, ["-c", FAR], entrypoint="python3", name=names[0], network=network, detach=True
            )
        )
        started.append(
            stack.engine.containers.run(
                agent,
                entrypoint=["python3", "-m", "edge_agent.link", "relay"],
                environment={"WATTBED_UPSTREAM": f"{names[0]}:5000", "WATTBED_RELAYS": relays},
                name=names[1],
                network=network,
                labels=labels,
                detach=True,
            )
        )
        stack.until("the relay", lambda: f"{KINDS[-1]} on " in started[1].logs().decode(), 60)
        yield {"": (names[0], 5000), **{name: (names[1], port) for name, port in PORTS.items()}}
    finally:
        for container in started:
            with contextlib.suppress(Exception):
                container.remove(force=True)


def measured(stack, name, address, what, size):
    """What the agent's own container measures: bits per second, or the two ways of each beat in seconds."""
    (container,) = stack.containers(name)
    code, said = container.exec_run(["python3", "-c", NEAR, address[0], str(address[1]), what, str(int(size))])
    assert code == 0, said.decode()
    return json.loads(said)


def rates_bps(stack, name, address, expected):
    """Measured on the wire, up and down."""
    measured_bps = {
        way: measured(stack, name, address, way, bps / 8 * SECONDS) * ON_WIRE for way, bps in expected.items()
    }
    print(f"{name} by {address[0]}: {measured_bps} of {expected} bit/s")
    return measured_bps


@pytest.mark.parametrize("name", FILLED)
def test_a_shaped_agent_has_the_declared_rate_both_ways(stack, far, name):
    link = kind(name).link
    declared = {"u": link.rate_up_bps, "d": link.rate_down_bps}
    assert rates_bps(stack, name, far[""], declared) == pytest.approx(declared, rel=WITHIN)


@pytest.mark.parametrize("name", FILLED)
def test_the_relay_in_series_leaves_the_rate_or_what_a_tcp_stream_gets_of_it_under_loss(stack, far, name):
    link = kind(name).link
    ceiling_bps = mathis_bps(2 * link.delay_s, link.loss) * ON_WIRE
    expected = {"u": min(link.rate_up_bps, ceiling_bps), "d": min(link.rate_down_bps, ceiling_bps)}
    assert rates_bps(stack, name, far[name], expected) == pytest.approx(expected, rel=WITHIN)


def quickest_quarter_s(stack, name, address):
    """The lower quartiles up and down, of the quieter of two series: what else runs here only ever adds."""
    series = [zip(*measured(stack, name, address, "p", BEATS), strict=True) for _ in range(2)]
    quartiles = [[statistics.quantiles(way, n=4)[0] for way in ways] for ways in series]
    return [min(way) for way in zip(*quartiles, strict=True)]


@pytest.mark.parametrize("name", KINDS)
def test_a_byte_takes_the_declared_delay_each_way(stack, far, name):
    link = kind(name).link
    straight, relayed = (quickest_quarter_s(stack, name, far[way]) for way in ("", name))
    # A quarter of an even jitter lies below half of its lower side.
    added = [through - path + link.jitter_s / 2 for through, path in zip(relayed, straight, strict=True)]
    print(f"{name}: {added[0]:.5f} s up, {added[1]:.5f} s down of {link.delay_s} s")
    assert added == pytest.approx([link.delay_s] * 2, rel=WITHIN, abs=WITHIN_S)


async def test_the_coordinator_is_told_what_emulates_each_link(stack):
    async with Operator(stack.coordinator) as operator:
        links = {d.capabilities.kind: d.capabilities.link for d in await operator.devices() if d.attached}
    at_work = {name: (links[name].rate_by, links[name].delay_by, links[name].rate_up_bps) for name in KINDS}
    by = at_work[KINDS[0]][1]
    assert by in ("relay", "netem")
    assert at_work == {name: ("tbf", by, kind(name).link.rate_up_bps) for name in KINDS}


@pytest.mark.parametrize("name", KINDS)
def test_the_link_of_a_kind_is_in_prometheus(stack, name):
    link = kind(name).link

    def shown():
        rates = stack.query(f'wattbed_link_rate_bits_per_second{{device_kind="{name}"}}')
        delays = stack.query(f'wattbed_link_delay_seconds{{device_kind="{name}"}}')
        seen = {r["metric"]["direction"]: float(r["value"][1]) for r in rates}
        return (seen, [float(d["value"][1]) for d in delays]) == (
            {"up": link.rate_up_bps, "down": link.rate_down_bps},
            [link.delay_s],
        )

    stack.until("the link in Prometheus", shown, 30)
