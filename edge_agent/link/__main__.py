"""`python -m edge_agent.link shape [--clear] [--interface NAME]` and `python -m edge_agent.link relay`.

Read the environment here and nowhere else. Exit codes: 0 done, or ended by a signal; 1 it could not be done;
2 the environment or the command line is wrong.
"""

import argparse
import asyncio
import logging
import os
import re
import signal
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from edge_agent.link import trace as traces
from edge_agent.link.overhead import overhead_s
from edge_agent.link.relay import Port, Relay
from edge_agent.link.shape import Shaper
from fleet import logs
from fleet.errors import BadRequest, WattbedError
from fleet.kinds import kind

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class RelayEnvironment:
    """The WATTBED_* variables of a relay. `metrics` is (host, port); None: metrics are not served."""

    upstream: tuple[str, int]
    ports: tuple[Port, ...]
    reset_every_s: float | None
    metrics: tuple[str, int] | None


def read_relay(environ: Mapping[str, str]) -> RelayEnvironment:
    """WATTBED_UPSTREAM, WATTBED_RELAYS, WATTBED_LINK_TRACE, WATTBED_RESET_EVERY_S, WATTBED_METRICS."""
    missing = [name for name in ("WATTBED_UPSTREAM", "WATTBED_RELAYS") if not environ.get(name)]
    if missing:
        raise BadRequest(f"not set: {', '.join(missing)}")
    specs = environ.get("WATTBED_LINK_TRACE", "")
    ports = []
    for part in environ["WATTBED_RELAYS"].split(","):
        name, equals, address = part.strip().partition("=")
        if not equals:
            raise BadRequest(f"WATTBED_RELAYS: {part.strip()!r} is not KIND=host:port")
        link = kind(name).link
        port = Port(name, *_address("WATTBED_RELAYS", address), link, traces.spec_for(name, specs))
        traces.parse(port.trace, link, name)
        ports.append(port)
    names = [port.kind for port in ports]
    if len({*names}) < len(names):
        raise BadRequest(f"WATTBED_RELAYS names a kind twice: {', '.join(names)}")
    reset = environ.get("WATTBED_RESET_EVERY_S")
    if reset and not (re.fullmatch(r"\d+(\.\d+)?", reset) and float(reset) > 0):
        raise BadRequest(f"WATTBED_RESET_EVERY_S = {reset!r}: not a number of seconds above 0")
    metrics = environ.get("WATTBED_METRICS")
    return RelayEnvironment(
        _address("WATTBED_UPSTREAM", environ["WATTBED_UPSTREAM"]),
        tuple(ports),
        float(reset) if reset else None,
        _address("WATTBED_METRICS", metrics) if metrics else None,
    )


def shape(environ: Mapping[str, str], interface: str | None, clear: bool) -> None:
    """Shapes for WATTBED_KIND, leaving to the relay what is its if WATTBED_RELAY is set, and says what it did."""
    if clear:
        Shaper(interface).clear()
        return
    if not environ.get("WATTBED_KIND"):
        raise BadRequest("not set: WATTBED_KIND")
    name = environ["WATTBED_KIND"]
    link = kind(name).link
    spec = traces.spec_for(name, environ.get("WATTBED_LINK_TRACE", ""))
    print(Shaper(interface).shape(link, bool(environ.get("WATTBED_RELAY")), spec != "constant"), flush=True)


async def relay(environment: RelayEnvironment) -> None:
    """The relay, until a signal."""
    # Only a relay that serves metrics needs Prometheus's client, and no shaper does.
    from edge_agent.link.relay_metrics import RelayCollector
    from edge_agent.metrics import serve

    stop = asyncio.Event()
    for ending in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(ending, stop.set)
    taken_s = await overhead_s()
    relay = Relay(environment.upstream, environment.ports, environment.reset_every_s, taken_s)
    numbers = await relay.start()
    log.info("the relay itself takes %.3f ms, which is taken off every delay", taken_s * 1e3)
    try:
        if environment.metrics is not None:
            serve([RelayCollector(relay)], *environment.metrics)
        for port, number in zip(environment.ports, numbers, strict=True):
            log.info("%s on %s:%d, %s", port.kind, port.host, number, port.trace)
        await stop.wait()
    finally:
        relay.stop()


def _address(name: str, text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    if not host or not port.isdecimal() or int(port) > 65535:
        raise BadRequest(f"{name}: {text!r} is not host:port")
    return host.strip("[]"), int(port)


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit code."""
    parser = argparse.ArgumentParser(prog="python -m edge_agent.link", description="Emulates a device's link.")
    commands = parser.add_subparsers(dest="command", required=True)
    shaping = commands.add_parser("shape", help="Set up tc in this network namespace and end; needs NET_ADMIN.")
    shaping.add_argument("--clear", action="store_true", help="Take away what an earlier call set up.")
    shaping.add_argument("--interface", help="The interface to shape; else the one with the default route.")
    commands.add_parser("relay", help="Delay and stall connections to the coordinator until SIGTERM.")
    chosen = parser.parse_args(arguments)
    try:
        logs.set_up(logs.settings(os.environ))
        if chosen.command == "shape":
            shape(os.environ, chosen.interface or os.environ.get("WATTBED_INTERFACE"), chosen.clear)
        else:
            asyncio.run(relay(read_relay(os.environ)))
    except BadRequest as error:
        print(f"edge_agent.link: {error}", file=sys.stderr)
        return 2
    except (WattbedError, OSError) as error:
        print(f"edge_agent.link: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
