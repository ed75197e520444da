"""Which way an agent goes to its coordinator, and what emulates its link on that way.

Through the relay, unless the agent's own namespace has netem: then the kernel delays, and the relay would do it
twice. What the shaper set up is seen by the handles it uses, which needs no privilege.
"""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from edge_agent.link.qdiscs import Qdisc, qdiscs
from edge_agent.link.radio import radio_watts
from fleet.domain import LinkInfo
from fleet.kinds import Link

log = logging.getLogger(__name__)

TBF_UP, TBF_DOWN, NETEM_UP, NETEM_DOWN = 0x77B1, 0x77B2, 0x77B3, 0x77B4
"""Majors of the handles of the shaper's disciplines."""

TBF_UP_LOSSY = 0x77B5
"""TBF_UP, where netfilter loses packets as well: an unprivileged process sees a handle but no rule."""


@dataclass(frozen=True)
class Way:
    """An address (host:port) to reach the coordinator at, and the link that is emulated on the way there."""

    address: str
    link: LinkInfo | None = None


@dataclass(frozen=True)
class Route:
    """The ways of one agent. `relay` None: there is no relay. `trace` is what the relay is told to follow."""

    coordinator: str
    relay: str | None
    link: Link
    trace: str = "constant"
    look: Callable[[], Sequence[Qdisc]] = qdiscs

    def now(self) -> Way:
        """The way to take at this moment. What the kernel does not tell is not there."""
        try:
            found = self.look()
        except OSError as error:
            log.debug("queueing disciplines are not told: %s", error)
            found = ()
        netem = any(q.kind == "netem" for q in found)
        rates_bps = {q.major: q.rate_bps for q in found if q.kind == "tbf"}
        up_bps = rates_bps.get(TBF_UP) or rates_bps.get(TBF_UP_LOSSY)
        down_bps = rates_bps.get(TBF_DOWN)
        rate_by = "tbf" if up_bps and down_bps else "none"
        relayed = self.relay is not None and not netem
        if not (relayed or netem or rate_by == "tbf"):
            return Way(self.coordinator)
        if relayed:
            delay_by = loss_by = "relay"
            rate_by = "tbf" if rate_by == "tbf" else "relay"
        else:
            delay_by = loss_by = "netem" if netem else "none"
            loss_by = "netfilter" if TBF_UP_LOSSY in rates_bps else loss_by
        trace = self.trace if relayed else "constant"
        info = LinkInfo(
            up_bps or self.link.rate_up_bps,
            down_bps or self.link.rate_down_bps,
            self.link.delay_s,
            self.link.jitter_s,
            self.link.loss,
            rate_by,
            delay_by if self.link.delay_s else "none",
            loss_by if self.link.loss else "none",
            trace,
            *radio_watts(self.link, trace),
        )
        return Way(self.relay if relayed and self.relay else self.coordinator, info)
