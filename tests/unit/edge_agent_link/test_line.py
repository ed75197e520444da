import itertools
import math
import random

import pytest

from edge_agent.link import line
from edge_agent.link.line import Line, Passage, mathis_bps, packets
from edge_agent.link.trace import Constant, LinkState, parse
from fleet.kinds import Link, kind

SMALL = 1


def link(**wanted):
    facts = {"rate_up_bps": 20e6, "rate_down_bps": 50e6, "delay_s": 0.0, "jitter_s": 0.0, "loss": 0.0}
    return Link(**{**facts, **wanted}, source="[assumed] a test")


def made(up=True, taken_s=0.0, **wanted):
    return Line(Constant(link(**wanted)), up, random.Random(1), taken_s)


class Steps:
    """Rates in turn, each for one second; the last for ever."""

    def __init__(self, *rates_bps):
        self.rates_bps = rates_bps

    def at(self, t_s):
        step = min(int(t_s), len(self.rates_bps) - 1)
        until_s = step + 1.0 if step + 1 < len(self.rates_bps) else math.inf
        return LinkState(self.rates_bps[step], 1.0, 0.0, 0.0, 0.0, until_s)


def wire_bits(payload_bytes):
    return 8 * (payload_bytes + line.HEADER_BYTES * packets(payload_bytes))


@pytest.mark.parametrize(("up", "rate_bps"), [(True, 20e6), (False, 50e6)])
def test_a_stream_leaves_at_the_declared_rate_headers_counted(up, rate_bps):
    flowing = made(up)
    last = [flowing.enter(14480, 5.0).at_s for _ in range(1000)][-1]
    assert 1000 * wire_bits(14480) / (last - 5.0 + line.BURST_S) == pytest.approx(rate_bps)


def test_after_a_rest_no_more_than_the_buckets_depth_passes_at_once():
    flowing = made()
    flowing.enter(14480, 0.0)
    at_once = itertools.takewhile(
        lambda passage: passage == Passage(100.0), (flowing.enter(1448, 100.0) for _ in range(99))
    )
    assert len(list(at_once)) == int(20e6 * line.BURST_S / wire_bits(1448))


def test_a_second_bucket_of_the_same_rate_changes_nothing():
    first, second = made(), made()
    leave = [first.enter(1448, 0.0).at_s for _ in range(2000)]
    assert [second.enter(1448, t).at_s for t in leave] == pytest.approx(leave)


def test_a_piece_that_outlasts_a_rate_goes_on_at_the_next_and_an_outage_is_waited_out():
    flowing = Line(Steps(wire_bits(1448), 0.0, 4 * wire_bits(1448)), True, random.Random(1))
    assert [round(flowing.enter(1448, 0.5).at_s, 6) for _ in range(3)] == [
        round(2 + (0.5 - line.BURST_S) / 4, 6), round(2 + (1.5 - line.BURST_S) / 4, 6), round(2 + (2.5 - line.BURST_S) / 4, 6),
    ]  # fmt: skip


def test_a_small_message_takes_the_delay_of_one_way_less_what_passes_elsewhere():
    assert (made(delay_s=0.01).enter(SMALL, 3.0), made(delay_s=0.01, taken_s=0.002).enter(SMALL, 3.0)) == (
        Passage(3.01),
        Passage(3.0 + 0.01 - 0.002),
    )


def test_jitter_is_even_around_the_delay_and_never_changes_the_order():
    flowing = made(delay_s=0.01, jitter_s=0.005)
    far_apart = [flowing.enter(SMALL, t).at_s - t for t in range(1, 4001)]
    close = [flowing.enter(SMALL, 5000 + t / 10_000).at_s for t in range(4000)]
    assert sum(far_apart) / 4000 == pytest.approx(0.01, rel=0.02)
    assert (min(far_apart) >= 0.005 - 1e-9, max(far_apart) <= 0.015 + 1e-9, close == sorted(close)) == (
        True,
        True,
        True,
    )


def test_loss_leaves_of_the_rate_what_a_tcp_sender_gets():
    lossy = made(delay_s=0.01, loss=0.005)
    state = Constant(link(delay_s=0.01, loss=0.005)).at(0)
    assert mathis_bps(0.02, 0.005) == pytest.approx(math.sqrt(1.5 / 0.005) * 1448 * 8 / 0.02)
    assert lossy.rate_bps(state) == pytest.approx(mathis_bps(0.02, 0.005) * 1514 / 1448)
    assert made(delay_s=0.01, loss=1e-6).rate_bps(Constant(link(delay_s=0.01, loss=1e-6)).at(0)) == 20e6


def test_as_many_pieces_stall_as_packets_are_lost():
    lossy = made(delay_s=0.01, loss=0.005)
    passages = [lossy.enter(14480, t, behind_bytes=14480) for t in range(20_000)]
    assert sum(p.stall_s > 0 for p in passages) / 20_000 == pytest.approx(1 - 0.995**10, rel=0.05)


def test_a_loss_with_packets_behind_it_costs_a_round_trip_and_a_lone_one_the_timeout():
    lossy = made(delay_s=0.01, loss=0.1)
    bulk = {round(lossy.enter(1448, t, behind_bytes=14480).stall_s, 3) for t in range(5000)}
    alone = {round(lossy.enter(SMALL, t).stall_s, 3) for t in range(5000, 10_000)}
    timeout_s = line.TIMEOUT_S + 0.02
    assert {0, 0.02, round(0.02 + timeout_s, 3)} <= bulk
    assert {0, timeout_s} <= alone
    assert 0.02 not in alone


def test_what_follows_a_stalled_piece_waits_for_it():
    lossy = made(delay_s=0.01, loss=0.2)
    passages = [lossy.enter(SMALL, t / 1000) for t in range(2000)]
    times = [p.at_s for p in passages]
    assert (times == sorted(times), any(p.stall_s for p in passages)) == (True, True)


def test_a_line_has_room_for_what_a_stalled_round_trip_holds_back():
    flowing = made(delay_s=0.05, jitter_s=0.01)
    assert flowing.room_bytes(0) == line.MARGIN_BYTES + int(20e6 * (3 * 0.05 + 0.01) / 8)


@pytest.mark.parametrize(
    "name", ["raspberry-pi-5", "jetson-orin-nano", "mini-pc-n100", "xeon-e5-2620v3", "epyc-8024p"]
)
def test_pieces_are_fine_beside_the_link_and_not_too_small_to_pass_on(name):
    flowing = Line(parse("constant", kind(name).link, "a"), True, random.Random(1))
    piece = flowing.piece_bytes(0)
    rate_bps = flowing.rate_bps(Constant(kind(name).link).at(0))
    assert 2 * line.SEGMENT_BYTES <= piece <= line.LARGEST_PIECE_BYTES
    assert 8 * piece / rate_bps <= line.PIECE_S
