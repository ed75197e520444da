"""Shapes a link with tc in the network namespace this runs in. Short-lived; needs NET_ADMIN, ip, tc and iptables.

Rate: tbf on the interface upwards; downwards what arrives is redirected to an ifb, which has a tbf too. Delay,
jitter and loss: netem before each tbf, where the kernel has it: found out by trying. Where it has not, the
relay delays and stalls (edge_agent.link.relay); without a relay either, netfilter's statistic match loses packets.

A packet that netfilter drops on its way out is a local error to TCP, which keeps it and notices no loss. So
outwards the packet is marked and routed to an ifb of its own, which swallows what nobody redirected to it.
"""

import json
import logging
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from edge_agent.link.line import BURST_S
from edge_agent.link.route import NETEM_DOWN, NETEM_UP, TBF_DOWN, TBF_UP, TBF_UP_LOSSY
from fleet.errors import BadRequest, ShapingFailed
from fleet.kinds import Link

log = logging.getLogger(__name__)

INGRESS, LOST, PROBE = "wattbed-in", "wattbed-lost", "wattbed-probe"
"""The ifb that what arrives passes, the one that swallows what is lost, and one to try things on."""

CHAIN_IN, CHAIN_OUT = "WATTBED-IN", "WATTBED-OUT"
MARK = TABLE = "30641"

LEAST_BURST_BYTES = 10 * 1514
"""Ten full packets. A bucket must hold what the link carries from one kernel tick to the next (tc-tbf(8)): at
250 Hz, what most stock kernels have, 4 ms of the rate."""

QUEUE_S = 0.05
"""What tbf lets wait before it drops: a home router's queue, and more than the round trip of any kind."""

ORDER_BPS = 10e9
"""netem delays each packet by itself, and jitter would reorder a stream; with a rate of its own, however high, it
keeps the order."""

NETEM_QUEUE_S = 0.2
NETEM_MISSING = ("qdisc kind is unknown", "No such file or directory", "Operation not supported")

OURS = {f"{major:x}:" for major in (TBF_UP, TBF_UP_LOSSY, TBF_DOWN, NETEM_UP, NETEM_DOWN)}

Run = Callable[[Sequence[str]], str]


@dataclass(frozen=True)
class Shaped:
    """What emulates a link from now on."""

    interface: str
    rate_by: str
    delay_by: str
    loss_by: str

    def __str__(self) -> str:
        return f"{self.interface}: rate by {self.rate_by}, delay by {self.delay_by}, loss by {self.loss_by}"


def run(argv: Sequence[str]) -> str:
    """What the command printed; ShapingFailed with the command and what it said."""
    try:
        ended = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=30)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ShapingFailed(f"`{' '.join(argv)}`: {error}") from None
    if ended.returncode != 0:
        said = " ".join((ended.stderr.strip() or ended.stdout.strip() or "nothing").split())
        raise ShapingFailed(f"`{' '.join(argv)}` ended with {ended.returncode}: {said}")
    return ended.stdout


class Shaper:
    """Shapes `interface`; None: the one with the default route, or the only one there is."""

    def __init__(self, interface: str | None = None, run: Run = run) -> None:
        self._run = run
        self._interface = interface or self._find_interface()

    def shape(self, link: Link, relayed: bool, traced: bool) -> Shaped:
        """Sets the link up, or changes what is there to it. On failure all is undone, and the error raised.

        `relayed`: the agent has a relay for what the kernel lacks. `traced`: the relay follows a trace, so that
        delay and loss are its in any case.
        """
        self._refuse_foreign()
        try:
            return self._shape(link, relayed, traced)
        except ShapingFailed as error:
            try:
                self.clear()
            except ShapingFailed as further:
                raise ShapingFailed(f"{error}; and undoing it failed: {further}") from None
            raise

    def clear(self) -> None:
        """Takes away all that `shape` makes; where there is nothing, does nothing."""
        interface = self._interface
        self._clear_loss()
        there = self._links()
        if self._root(interface) in OURS:
            self._run(("tc", "qdisc", "del", "dev", interface, "root"))
        if INGRESS in there and self._has_ingress(interface):
            self._run(("tc", "qdisc", "del", "dev", interface, "ingress"))
        for name in (INGRESS, LOST, PROBE):
            if name in there:
                self._run(("ip", "link", "del", name))

    def _shape(self, link: Link, relayed: bool, traced: bool) -> Shaped:
        interface = self._interface
        netem = not (relayed and traced) and bool(link.delay_s or link.loss) and self._has_netem()
        netfilter = bool(link.loss) and not netem and not relayed
        self._make_ifb(INGRESS)
        self._run(("tc", "qdisc", "replace", "dev", interface, "ingress"))
        every = (
            "parent",
            "ffff:",
            "protocol",
            "all",
            "prio",
            "1",
            "handle",
            "800::800",
            "u32",
            "match",
            "u32",
            "0",
            "0",
        )
        redirect = ("action", "mirred", "egress", "redirect", "dev", INGRESS)
        self._run(("tc", "filter", "replace", "dev", interface, *every, *redirect))
        up = TBF_UP_LOSSY if netfilter else TBF_UP
        self._queue(interface, link, link.rate_up_bps, up, NETEM_UP if netem else None)
        self._queue(INGRESS, link, link.rate_down_bps, TBF_DOWN, NETEM_DOWN if netem else None)
        if netfilter:
            self._lose(link.loss)
        else:
            self._clear_loss()
        rest = "netem" if netem else "relay" if relayed else "none"
        return Shaped(
            interface,
            "tbf",
            rest if link.delay_s else "none",
            ("netfilter" if netfilter else rest) if link.loss else "none",
        )

    def _queue(self, interface: str, link: Link, rate_bps: float, tbf: int, netem: int | None) -> None:
        first = tbf if netem is None else netem
        if self._root(interface) not in ("0:", f"{first:x}:"):
            self._run(("tc", "qdisc", "del", "dev", interface, "root"))
        place: tuple[str, ...] = ("dev", interface, "root")
        if netem is not None:
            self._run(("tc", "qdisc", "replace", *place, "handle", f"{netem:x}:", *netem_words(link, rate_bps)))
            place = ("dev", interface, "parent", f"{netem:x}:1")
        self._run(("tc", "qdisc", "replace", *place, "handle", f"{tbf:x}:", *tbf_words(rate_bps)))

    def _has_netem(self) -> bool:
        self._make_ifb(PROBE)
        try:
            self._run(("tc", "qdisc", "add", "dev", PROBE, "root", "netem", "delay", "1ms"))
        except ShapingFailed as error:
            if any(words in str(error) for words in NETEM_MISSING):
                return False
            raise
        finally:
            self._run(("ip", "link", "del", PROBE))
        return True

    def _lose(self, loss: float) -> None:
        self._clear_loss()
        self._make_ifb(LOST)
        chance = ("-m", "statistic", "--mode", "random", "--probability", f"{loss:.9f}")
        for family, iptables in self._families():
            self._run(("ip", family, "rule", "add", "fwmark", MARK, "table", TABLE))
            self._run(("ip", family, "route", "replace", "default", "dev", LOST, "table", TABLE))
            for chain, hook, side in ((CHAIN_IN, "INPUT", "-i"), (CHAIN_OUT, "OUTPUT", "-o")):
                verdict = ("DROP",) if chain == CHAIN_IN else ("MARK", "--set-mark", MARK)
                mangle = (iptables, "-w", "-t", "mangle")
                self._run((*mangle, "-N", chain))
                self._run((*mangle, "-A", chain, *chance, "-j", *verdict))
                self._run((*mangle, "-A", hook, side, self._interface, "-j", chain))

    def _clear_loss(self) -> None:
        if LOST not in self._links():
            return
        for family, iptables in self._families():
            rules = self._run((iptables, "-w", "-t", "mangle", "-S")).splitlines()
            for chain, hook in ((CHAIN_IN, "INPUT"), (CHAIN_OUT, "OUTPUT")):
                jumps = [rule for rule in rules if rule.startswith(f"-A {hook} ") and rule.endswith(f"-j {chain}")]
                for rule in jumps:
                    self._run((iptables, "-w", "-t", "mangle", "-D", *rule.split()[1:]))
                if f"-N {chain}" in rules:
                    self._run((iptables, "-w", "-t", "mangle", "-F", chain))
                    self._run((iptables, "-w", "-t", "mangle", "-X", chain))
            while f"lookup {TABLE}" in self._run(("ip", family, "rule", "show")):
                self._run(("ip", family, "rule", "del", "table", TABLE))
        self._run(("ip", "link", "del", LOST))

    def _families(self) -> tuple[tuple[str, str], ...]:
        """IPv4, and IPv6 where the interface has an address that is not for the local wire only."""
        six = self._run(("ip", "-6", "-o", "addr", "show", "dev", self._interface, "scope", "global")).strip()
        return (("-4", "iptables"), ("-6", "ip6tables")) if six else (("-4", "iptables"),)

    def _make_ifb(self, name: str) -> None:
        if name not in self._links():
            self._run(("ip", "link", "add", name, "type", "ifb"))
        self._run(("ip", "link", "set", name, "up"))

    def _links(self) -> list[str]:
        return [str(link["ifname"]) for link in self._json("ip", "-j", "link", "show")]

    def _root(self, interface: str) -> str:
        """The handle of the root discipline; "0:" for the kernel's default."""
        if interface not in self._links():
            return "0:"
        listed = self._json("tc", "-j", "qdisc", "show", "dev", interface)
        return next((str(q["handle"]) for q in listed if q.get("root")), "0:")

    def _has_ingress(self, interface: str) -> bool:
        return any(q["kind"] == "ingress" for q in self._json("tc", "-j", "qdisc", "show", "dev", interface))

    def _refuse_foreign(self) -> None:
        root = self._root(self._interface)
        if root not in OURS | {"0:"}:
            raise BadRequest(f"{self._interface} has a root queueing discipline {root} that is not wattbed's")
        if self._has_ingress(self._interface) and INGRESS not in self._links():
            raise BadRequest(f"{self._interface} has an ingress discipline that is not wattbed's")

    def _find_interface(self) -> str:
        routes = self._json("ip", "-j", "route", "show", "default")
        if routes:
            return str(routes[0]["dev"])
        names = [name for name in self._links() if name not in ("lo", INGRESS, LOST, PROBE)]
        if len(names) != 1:
            raise BadRequest(
                f"no default route, and not one interface but {len(names)}: {', '.join(names) or 'none'}"
            )
        return names[0]

    def _json(self, *argv: str) -> list[dict[str, Any]]:
        said = self._run(argv)
        listed: list[dict[str, Any]] = json.loads(said) if said.strip() else []
        return listed


def tbf_words(rate_bps: float) -> tuple[str, ...]:
    """tc's words for a token bucket of this rate."""
    burst_bytes = max(LEAST_BURST_BYTES, round(rate_bps * BURST_S / 8))
    return ("tbf", "rate", f"{rate_bps:.0f}bit", "burst", f"{burst_bytes}b", "latency", f"{QUEUE_S * 1e3:g}ms")


def netem_words(link: Link, rate_bps: float) -> tuple[str, ...]:
    """tc's words for this delay, jitter and loss; `limit` packets hold the rate's worth of delay and queue."""
    held_s = link.delay_s + link.jitter_s + NETEM_QUEUE_S
    words = ["netem", "limit", str(max(1000, round(rate_bps * held_s / 8 / 1514)))]
    words += ["delay", f"{link.delay_s * 1e6:.0f}us", f"{link.jitter_s * 1e6:.0f}us"]
    if link.loss:
        words += ["loss", f"{link.loss * 100:g}%"]
    return (*words, "rate", f"{ORDER_BPS:.0f}bit")
