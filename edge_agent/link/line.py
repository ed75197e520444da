"""When bytes that enter one direction of a link leave it. No clock, no sockets: moments go in, moments come out.

Rate: a token bucket that counts bytes as tbf does on Ethernet, headers and all, and is as deep as the shaper's.
Delay: one way, give or take a uniform jitter, and never before what entered earlier: a stream keeps its order.

Loss, as a TCP stream feels it:

- *Stall.* The stream waits for the lost packet. With three packets behind it that is one round trip: fast
  retransmit (RFC 5681, 3.2). Without, it is the retransmission timeout, which Linux holds at 200 ms above the
  round trip; each further loss of the same packet doubles it (RFC 6298, 5.5). Losses of one window are mended
  together (SACK).
- *Rate.* A sender halves its window with each loss, so that it gets no more than sqrt(3/2) MSS / (RTT sqrt(loss)):
  Mathis, Semke, Mahdavi, Ott, "The Macroscopic Behavior of the TCP Congestion Avoidance Algorithm", ACM CCR 27(3),
  1997. CUBIC gets the same from the short links that are emulated here (RFC 9438, 4.3).
"""

import math
import random
from dataclasses import dataclass

from edge_agent.link.trace import LinkState, Trace

BURST_S = 0.004
"""Depth of the token bucket, in time at the link's rate: a kernel tick at 250 Hz."""

SEGMENT_BYTES = 1448
"""Payload of a full TCP packet with time stamps on Ethernet."""

HEADER_BYTES = 66
"""Ethernet, IPv4 and TCP headers of such a packet, which tbf counts too."""

TIMEOUT_S = 0.2
"""Least of Linux's retransmission timeout (TCP_RTO_MIN)."""

PIECE_S = 0.005
LARGEST_PIECE_BYTES = 1 << 16

MARGIN_BYTES = 1 << 18
"""What a direction may hold beyond what the link itself has in flight."""


@dataclass(frozen=True)
class Passage:
    """When a piece leaves at the far end, and how much of its delay is a stall."""

    at_s: float
    stall_s: float = 0.0


def mathis_bps(round_trip_s: float, loss: float) -> float:
    """What a TCP stream gets of any link with this loss, in payload bits per second; infinite without loss."""
    if loss == 0 or round_trip_s == 0:
        return math.inf
    return math.sqrt(1.5) * SEGMENT_BYTES * 8 / (round_trip_s * math.sqrt(loss))


def packets(payload_bytes: int) -> int:
    """Packets that carry so much payload."""
    return math.ceil(payload_bytes / SEGMENT_BYTES)


class Line:
    """One direction: `up` takes the trace's rate up, else its rate down.

    `taken_s` of each delay passes elsewhere, and is left out.
    """

    def __init__(self, trace: Trace, up: bool, chance: random.Random, taken_s: float = 0.0) -> None:
        self._trace = trace
        self._up = up
        self._chance = chance
        self._taken_s = taken_s
        self._free_s = -math.inf
        self._last_s = -math.inf

    def rate_bps(self, state: LinkState) -> float:
        """Bits per second on the wire: the link's, or what loss leaves of it."""
        on_wire = 1 + HEADER_BYTES / SEGMENT_BYTES
        return min(
            state.rate_up_bps if self._up else state.rate_down_bps,
            mathis_bps(2 * state.delay_s, state.loss) * on_wire,
        )

    def piece_bytes(self, now_s: float) -> int:
        """How finely to cut what enters now: a piece passes as a whole."""
        piece = self.rate_bps(self._trace.at(now_s)) * PIECE_S / 8
        return int(min(max(piece, 2 * SEGMENT_BYTES), LARGEST_PIECE_BYTES))

    def room_bytes(self, now_s: float) -> int:
        """What this direction may hold: the delay's worth of the rate, as much again for a stalled round trip."""
        state = self._trace.at(now_s)
        return MARGIN_BYTES + int(self.rate_bps(state) * (3 * state.delay_s + state.jitter_s) / 8)

    def enter(self, payload_bytes: int, now_s: float, behind_bytes: int = 0) -> Passage:
        """The passage of the next piece; `behind_bytes` follow it at once. `now_s` must not fall."""
        sent_s = self._sent(payload_bytes + HEADER_BYTES * packets(payload_bytes), now_s)
        state = self._trace.at(sent_s)
        stall_s = self._stall_s(state, packets(payload_bytes), packets(payload_bytes + behind_bytes))
        jitter_s = self._chance.uniform(-state.jitter_s, state.jitter_s)
        delay_s = max(state.delay_s + jitter_s - self._taken_s, 0)
        self._last_s = max(self._last_s, sent_s + delay_s + stall_s)
        return Passage(self._last_s, stall_s)

    def _sent(self, wire_bytes: int, now_s: float) -> float:
        """When the bucket has let the last byte go."""
        t_s, left_bits = max(self._free_s, now_s - BURST_S, 0.0), wire_bytes * 8.0
        while True:
            state = self._trace.at(t_s)
            rate_bps = self.rate_bps(state)
            if left_bits <= rate_bps * (state.until_s - t_s):
                break
            left_bits -= rate_bps * (state.until_s - t_s)
            t_s = state.until_s
        self._free_s = t_s + (left_bits / rate_bps if left_bits else 0.0)
        return max(self._free_s, now_s)

    def _stall_s(self, state: LinkState, count: int, together: int) -> float:
        if state.loss == 0 or self._chance.random() < (1 - state.loss) ** count:
            return 0.0
        round_trip_s = 2 * state.delay_s
        timeout_s = TIMEOUT_S + round_trip_s
        stall_s = round_trip_s
        if together <= 3:
            stall_s, timeout_s = timeout_s, 2 * timeout_s
        while self._chance.random() < state.loss:
            stall_s, timeout_s = stall_s + timeout_s, 2 * timeout_s
        return stall_s
