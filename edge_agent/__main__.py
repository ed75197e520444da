"""`python -m edge_agent`: the only place that reads the environment.

Exit codes: 0 after SIGTERM or SIGINT, 1 when the coordinator can never take this agent or an address is
taken, 2 when the environment is wrong.
"""

import asyncio
import logging
import os
import signal
import socket
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from edge_agent import probe
from edge_agent.link.route import Route
from edge_agent.link.trace import spec_for
from fleet.errors import BadRequest, WattbedError
from fleet.kinds import DeviceKind, kind
from fleet.memory import keep_buffers

THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS")
"""What torch, NumPy and Numba take their number of threads from, once, when they are imported."""


@dataclass(frozen=True)
class Environment:
    """The WATTBED_* variables of an agent. `metrics` is (host, port); None: metrics are not served.

    `meter` is the socket of the host's meter; None: this agent is alone on its host and reads the counters
    below `host_sys` itself. `relay` (host:port) emulates the link with `trace` where this namespace has no netem.
    """

    coordinator: str
    device: str
    kind: DeviceKind
    state: Path
    data: Path | None
    metrics: tuple[str, int] | None
    threads: int
    meter: Path | None = None
    host_sys: Path = Path("/sys")
    host_proc: Path = Path("/proc")
    plugs: tuple[str, ...] = ()
    relay: str | None = None
    trace: str = "constant"


def read(environ: Mapping[str, str]) -> Environment:
    """The agent's environment; BadRequest names every variable that is missing or wrong."""
    wrong = []
    needed = ("WATTBED_COORDINATOR", "WATTBED_DEVICE", "WATTBED_KIND", "WATTBED_STATE")
    missing = [name for name in needed if not environ.get(name)]
    if missing:
        raise BadRequest(f"not set: {', '.join(missing)}")
    try:
        _address(environ, "WATTBED_COORDINATOR")
        metrics = _address(environ, "WATTBED_METRICS") if environ.get("WATTBED_METRICS") else None
        if environ.get("WATTBED_RELAY"):
            _address(environ, "WATTBED_RELAY")
    except BadRequest as error:
        wrong.append(str(error))
    threads = environ.get("WATTBED_THREADS") or str(probe.cores())
    if not threads.isdecimal() or int(threads) < 1:
        wrong.append(f"WATTBED_THREADS = {threads!r}: not a number of threads, 1 or more")
    try:
        device_kind = kind(environ["WATTBED_KIND"])
    except BadRequest as error:
        wrong.append(f"WATTBED_KIND: {error}")
    if wrong:
        raise BadRequest("; ".join(wrong))
    return Environment(
        environ["WATTBED_COORDINATOR"],
        environ["WATTBED_DEVICE"],
        device_kind,
        Path(environ["WATTBED_STATE"]),
        Path(environ["WATTBED_DATA"]) if environ.get("WATTBED_DATA") else None,
        metrics,
        int(threads),
        Path(environ["WATTBED_METER"]) if environ.get("WATTBED_METER") else None,
        Path(environ.get("WATTBED_HOST_SYS") or "/sys"),
        Path(environ.get("WATTBED_HOST_PROC") or "/proc"),
        tuple(plug.strip() for plug in environ.get("WATTBED_PLUGS", "").split(",") if plug.strip()),
        environ.get("WATTBED_RELAY") or None,
        spec_for(device_kind.name, environ.get("WATTBED_LINK_TRACE", "")),
    )


def _address(environ: Mapping[str, str], name: str) -> tuple[str, int]:
    host, _, port = environ[name].rpartition(":")
    if not host or not port.isdecimal() or int(port) > 65535:
        raise BadRequest(f"{name} = {environ[name]!r}: not host:port")
    return host, int(port)


async def run(environment: Environment) -> None:
    """The agent, until a signal."""
    # These import NumPy and Numba, which take their threads from the environment set above.
    from edge_agent.agent import Agent, Settings
    from edge_agent.device import open_levers, open_meter
    from edge_agent.limits import LimitsCollector
    from edge_agent.metrics import AgentCollector, serve
    from fleet.domain import Hello
    from fleet.rpc import PROTOCOL_VERSION

    meter = open_meter(
        environment.device,
        environment.kind,
        environment.meter,
        environment.host_sys,
        environment.host_proc,
        environment.plugs,
    )
    levers = open_levers(environment.device, environment.meter)
    route = Route(environment.coordinator, environment.relay, environment.kind.link, environment.trace)
    address = None
    if environment.metrics is not None:
        host, port = environment.metrics
        limits = LimitsCollector(environment.device, lambda: route.now().link)
        port = serve([AgentCollector(environment.device, meter), limits], host, port)
        reachable = socket.gethostname() if host in ("0.0.0.0", "::", "[::]") else host
        address = f"{reachable}:{port}"
    hello = Hello(
        PROTOCOL_VERSION,
        environment.device,
        probe.capabilities(environment.kind.name, meter.sources, meter.rejected, levers.infos),
        address,
    )
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    settings = Settings(environment.coordinator, environment.state, environment.data, route.now)
    try:
        await Agent(settings, hello, meter, levers).run(stop)
    finally:
        levers.release()
        meter.close()


def main() -> int:
    """The exit code."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    try:
        environment = read(os.environ)
    except WattbedError as error:
        print(f"edge_agent: {error}", file=sys.stderr)
        return 2
    keep_buffers()
    for name in THREAD_VARIABLES:
        os.environ[name] = str(environment.threads)
    try:
        asyncio.run(run(environment))
    except WattbedError as error:
        print(f"edge_agent: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"edge_agent: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
