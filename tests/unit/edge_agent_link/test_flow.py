"""A flow between two pretended sockets, under a clock that the test turns."""

import heapq
import itertools
import random

import pytest

from edge_agent.link import line
from edge_agent.link.flow import Flow
from edge_agent.link.line import Line
from edge_agent.link.trace import Constant, parse
from fleet.kinds import Link

LINK = Link(rate_up_bps=8e6, rate_down_bps=8e6, delay_s=0.1, jitter_s=0, loss=0, source="[assumed] a test")


class TurnedClock:
    def __init__(self):
        self.now_s = 0.0
        self.due = []
        self.order = itertools.count()

    def now(self):
        return self.now_s

    def call_at(self, t_s, call):
        heapq.heappush(self.due, (t_s, next(self.order), call))

    def turn_to(self, t_s):
        while self.due and self.due[0][0] <= t_s:
            self.now_s, _, call = heapq.heappop(self.due)
            call()
        self.now_s = t_s


class Source:
    def __init__(self):
        self.reading = True

    def pause_reading(self):
        self.reading = False

    def resume_reading(self):
        self.reading = True


class Sink:
    def __init__(self, clock, full_at=None):
        self.clock = clock
        self.flow = None
        self.full_at = full_at
        self.written = []
        self.ended_s = None

    def write(self, data):
        self.written.append((self.clock.now(), bytes(data)))
        if self.full_at is not None and sum(len(d) for _, d in self.written) >= self.full_at:
            self.flow.sink_full(True)

    def write_eof(self):
        self.ended_s = self.clock.now()

    @property
    def got(self):
        return b"".join(data for _, data in self.written)


@pytest.fixture
def clock():
    return TurnedClock()


@pytest.fixture
def make(clock):
    def make(full_at=None, **wanted):
        facts = {"rate_up_bps": 8e6, "rate_down_bps": 8e6, "delay_s": 0.1, "jitter_s": 0.0, "loss": 0.0}
        link = Link(**{**facts, **wanted}, source="[assumed] a test")
        flow = Flow(Line(Constant(link), True, random.Random(3)), clock.now, clock.call_at, lambda: None)
        flow.source, flow.sink = Source(), Sink(clock, full_at)
        flow.sink.flow = flow
        return flow

    return make


def test_bytes_arrive_in_order_at_the_rate_and_after_the_delay(clock, make):
    flow = make(jitter_s=0.05)
    data = random.Random(1).randbytes(200_000)
    flow.feed(data[:120_000])
    flow.feed(data[120_000:])
    flow.feed_eof()
    clock.turn_to(10.0)
    on_wire_s = 8 * (len(data) + line.HEADER_BYTES * line.packets(len(data))) / 8e6
    assert flow.sink.got == data
    assert 0.05 <= flow.sink.written[0][0] <= 0.15 + line.PIECE_S
    assert on_wire_s + 0.1 - line.BURST_S <= flow.sink.ended_s <= on_wire_s + 0.15 + line.BURST_S


def test_a_flow_that_holds_enough_stops_reading_and_goes_on_when_half_has_left(clock, make):
    flow = make()
    room = flow.line.room_bytes(0)
    flow.feed(bytes(room))
    still = flow.source.reading
    flow.feed(bytes(1))
    stopped = flow.source.reading
    states = set()
    while not flow.source.reading:
        states.add(flow.held_bytes > room // 2)
        clock.turn_to(clock.now() + 0.001)
    assert (still, stopped, states, flow.held_bytes <= room // 2) == (True, False, {True}, True)


def test_a_slow_receiver_holds_the_flow_and_nothing_is_lost(clock, make):
    flow = make(full_at=20_000)
    data = random.Random(2).randbytes(100_000)
    flow.feed(data)
    flow.feed_eof()
    clock.turn_to(5.0)
    held_back = len(flow.sink.got)
    waiting = len(clock.due)
    flow.sink.full_at = None
    flow.sink_full(False)
    clock.turn_to(6.0)
    assert (20_000 <= held_back < 30_000, waiting, flow.sink.got == data, flow.sink.ended_s) == (
        True,
        0,
        True,
        5.0,
    )


def test_an_idle_flow_waits_for_nothing(clock, make):
    flow = make()
    flow.feed(b"beat")
    clock.turn_to(1.0)
    assert (flow.sink.got, clock.due) == (b"beat", [])


def test_a_dropped_flow_writes_no_more(clock, make):
    flow = make()
    sink = flow.sink
    flow.feed(b"gone")
    flow.drop()
    clock.turn_to(1.0)
    assert (sink.written, flow.held_bytes) == ([], 0)


def test_a_flow_counts_what_has_left_and_what_was_stalled(clock, make):
    flow = make(loss=0.3)
    for _ in range(100):
        flow.feed(b"x" * 1448)
    clock.turn_to(1000.0)
    assert (flow.tally.payload_bytes, flow.tally.stalls > 10, flow.tally.stall_s > 10 * 0.2) == (
        144_800,
        True,
        True,
    )


def test_what_arrives_follows_the_trace_through_an_outage(clock, make, tmp_path):
    file = tmp_path / "drive.csv"
    file.write_text("time_s,rate_up_bps,rate_down_bps\n0,2e6,1\n2,0,0\n3,8e6,1\n5,4e6,1\n")
    flow = make()
    flow.line = Line(parse(f"csv:{file}", LINK, "pi/0"), True, random.Random(3))
    while clock.now() < 6.2:
        if flow.source.reading:
            flow.feed(bytes(flow.line.room_bytes(clock.now()) // 4))
        clock.turn_to(clock.now() + 0.01)
    moved_bits = [
        8 * sum(len(data) for at_s, data in flow.sink.written if second + 0.1 < at_s <= second + 1.1)
        for second in range(6)
    ]
    on_wire = 1 + line.HEADER_BYTES / line.SEGMENT_BYTES
    assert [bits * on_wire for bits in moved_bits] == pytest.approx([2e6, 2e6, 0, 8e6, 8e6, 4e6], rel=0.02, abs=1)
