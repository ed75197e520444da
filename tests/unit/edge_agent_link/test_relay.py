"""The relay on loopback, between real sockets. Bounds in time are such that a slow machine cannot break them."""

import asyncio
import contextlib
import logging
import random
import socket
import struct
import time

import pytest

from edge_agent.link.flow import Tally
from edge_agent.link.overhead import overhead_s
from edge_agent.link.relay import Port, Relay
from edge_agent.link.relay_metrics import RelayCollector
from fleet.errors import AddressInUse, BadRequest
from fleet.kinds import Link


def link(**wanted):
    facts = {"rate_up_bps": 1e9, "rate_down_bps": 1e9, "delay_s": 0.001, "jitter_s": 0.0, "loss": 0.0}
    return Link(**{**facts, **wanted}, source="[assumed] a test")


async def coordinator(answer):
    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    return server, server.sockets[0].getsockname()[:2]


async def echo(reader, writer):
    with contextlib.suppress(ConnectionError):
        while data := await reader.read(1 << 16):
            writer.write(data)
            await writer.drain()
        writer.write_eof()


@pytest.fixture
async def through():
    """Starts a coordinator and a relay before it; gives the relay and its port."""
    started = []

    async def start(answer=echo, upstream=None, reset_every_s=None, **wanted):
        if upstream is None:
            server, upstream = await coordinator(answer)
            started.append(server.close)
        relay = Relay(upstream, [Port("pi", "127.0.0.1", 0, link(**wanted))], reset_every_s)
        (port,) = await relay.start()
        started.append(relay.stop)
        return relay, port

    yield start
    for end in reversed(started):
        end()


async def test_a_byte_takes_at_least_the_delay_of_both_ways(through):
    _, port = await through(delay_s=0.03)
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    began_s = time.monotonic()
    writer.write(b"?")
    answer = await reader.readexactly(1)
    assert (answer, time.monotonic() - began_s >= 0.06) == (b"?", True)


async def test_a_stream_comes_whole_and_no_faster_than_the_rates(through):
    relay, port = await through(rate_up_bps=40e6, rate_down_bps=80e6, delay_s=0.02, jitter_s=0.01)
    data = random.Random(1).randbytes(500_000)
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    began_s = time.monotonic()
    writer.write(data)
    writer.write_eof()
    answer = await reader.read(-1)
    least_s = 8 * len(data) / 40e6 - 0.004
    assert (answer == data, time.monotonic() - began_s >= least_s) == (True, True)


async def test_one_side_can_have_ended_while_the_other_still_sends(through):
    async def late(reader, writer):
        said = await reader.read(-1)
        await asyncio.sleep(0.05)
        writer.write(b"heard " + said)
        writer.close()

    relay, port = await through(late)
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"that is all")
    writer.write_eof()
    assert await reader.read(-1) == b"heard that is all"
    while relay.pairs:
        await asyncio.sleep(0.005)


async def test_a_receiver_that_does_not_read_stops_the_sender_within_bounded_memory(through):
    release = asyncio.Event()

    async def lazy(reader, writer):
        writer.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 16)
        await release.wait()
        count = 0
        while data := await reader.read(1 << 16):
            count += len(data)
        writer.write(str(count).encode())
        writer.close()

    relay, port = await through(lazy)
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    sent = 0
    with contextlib.suppress(TimeoutError):
        while True:
            writer.write(bytes(1 << 16))
            sent += 1 << 16
            await asyncio.wait_for(writer.drain(), 0.3)
    (pair,) = relay.pairs
    held, room = pair.up.held_bytes, pair.up.line.room_bytes(0)
    release.set()
    writer.write_eof()
    assert (int(await reader.read(-1)), 0 < held <= room + (1 << 18)) == (sent, True)


async def test_a_coordinator_that_is_not_there_ends_the_connection_and_is_said_once(through, caplog):
    with socket.create_server(("127.0.0.1", 0)) as nobody:
        address = nobody.getsockname()[:2]
    relay, port = await through(upstream=address)
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            with contextlib.suppress(ConnectionError):
                assert await asyncio.wait_for(reader.read(1), 10) == b""
            writer.close()
    said = [record.getMessage() for record in caplog.records]
    assert (len(said), f"coordinator 127.0.0.1:{address[1]} cannot be reached" in said[0]) == (1, True)
    assert (relay.tallies["pi"].unreachable, relay.tallies["pi"].connections, len(relay.pairs)) == (3, 3, 0)


async def test_when_either_end_breaks_off_so_does_the_other(through):
    heard = asyncio.get_running_loop().create_future()

    async def hear(reader, writer):
        await reader.read(1)
        try:
            heard.set_result(await reader.read(1))
        except ConnectionResetError:
            heard.set_result("reset")

    relay, port = await through(hear)
    _, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"!")
    while not relay.tallies["pi"].connections or not next(iter(relay.pairs)).up.tally.payload_bytes:
        await asyncio.sleep(0.005)
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
    assert (await asyncio.wait_for(heard, 10), len(relay.pairs)) == ("reset", 0)


async def test_connections_are_reset_when_that_is_wanted(through):
    relay, port = await through(reset_every_s=0.01)
    reader, _ = await asyncio.open_connection("127.0.0.1", port)
    with pytest.raises(ConnectionResetError):
        await asyncio.wait_for(reader.read(1), 10)
    assert relay.tallies["pi"].resets == 1


async def test_stopping_ends_every_connection(through):
    relay, port = await through()
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"?")
    await reader.readexactly(1)
    relay.stop()
    with contextlib.suppress(ConnectionError):
        assert await asyncio.wait_for(reader.read(1), 10) == b""
    assert not relay.pairs


async def test_a_port_that_is_taken_is_an_error_that_names_it(through):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        relay = Relay(("127.0.0.1", 1), [Port("pi", "127.0.0.1", port, link())])
        with pytest.raises(AddressInUse, match=rf"cannot listen on 127\.0\.0\.1:{port} for pi: "):
            await relay.start()


def test_a_wrong_trace_is_an_error_before_anything_listens():
    with pytest.raises(BadRequest, match="link trace 'fog'"):
        Relay(("127.0.0.1", 1), [Port("pi", "127.0.0.1", 0, link(), "fog")])


async def test_hosts_of_one_kind_have_traces_of_their_own_that_last(through):
    relay, _ = await through()
    port = Port("pi", "127.0.0.1", 0, link(), "walk:sigma=1")
    one, two = relay.trace(port, "10.0.0.1"), relay.trace(port, "10.0.0.2")
    assert relay.trace(port, "10.0.0.1") is one
    assert [one.at(t) for t in range(9)] != [two.at(t) for t in range(9)]


async def test_prometheus_sees_what_passes_while_it_does_and_after(through):
    relay, port = await through(rate_up_bps=10e6)
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"12345")
    await reader.readexactly(5)
    during = samples(relay)
    writer.close()
    while relay.pairs:
        await asyncio.sleep(0.005)
    after = samples(relay)
    assert (
        during["wattbed_relay_payload_bytes_total", "pi", "up"],
        during["wattbed_relay_connections", "pi"],
        during["wattbed_relay_rate_bits_per_second", "pi", "127.0.0.1", "up"],
        after["wattbed_relay_payload_bytes_total", "pi", "down"],
        after["wattbed_relay_connections", "pi"],
        any(name[0] == "wattbed_relay_rate_bits_per_second" for name in after),
    ) == (5, 1, 10e6, 5, 0, False)


def samples(relay):
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in RelayCollector(relay).collect()
        for sample in family.samples
    }


async def test_what_the_relay_itself_takes_is_measured_and_is_not_the_delay():
    assert 0 <= await overhead_s() < 1


def test_tallies_add_up():
    total = Tally(1, 2, 3.0)
    total.add(Tally(10, 20, 30.0))
    assert total == Tally(11, 22, 33.0)
