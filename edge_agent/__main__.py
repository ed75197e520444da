"""`python -m edge_agent`: the only place that reads the environment. With `--join` it joins, and ends.

Exit codes: 0 after SIGTERM or SIGINT, 1 when the coordinator can never take this agent or an address is
taken, 2 when the environment is wrong.
"""

import asyncio
import json
import logging
import os
import signal
import socket
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from edge_agent import identity as identities
from edge_agent import probe
from edge_agent.identity import Identity
from edge_agent.link.route import Route
from edge_agent.link.trace import spec_for
from fleet import logs
from fleet.errors import BadRequest, WattbedError
from fleet.identity import JoinToken, parse_token
from fleet.kinds import DeviceKind, kind
from fleet.memory import keep_buffers

log = logging.getLogger(__name__)

IDENTITY = "identity"
THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS")
"""What torch, NumPy and Numba take their number of threads from, once, when they are imported."""


MODEL_STORAGE_BYTES = 1 << 30
"""Of disk for models to generate images with, unless WATTBED_MODEL_STORAGE_BYTES says otherwise."""


@dataclass(frozen=True)
class Environment:
    """The WATTBED_* variables of an agent. `metrics` is (host, port); None: metrics are not served.

    `meter` is the socket of the host's meter; None: this agent is alone on its host and reads the counters
    below `host_sys` itself. `relay` (host:port) emulates the link with `trace` where this namespace has no netem.
    `model_storage_bytes` are for models to generate images with; `place` "edge" has them made for others too, and
    empty leaves it to the kind.
    """

    coordinator: str | None
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
    model_storage_bytes: int = MODEL_STORAGE_BYTES
    place: str = ""
    token: JoinToken | None = None
    join_at: str | None = None

    @property
    def identity(self) -> Path:
        """The folder of the device's key and certificate."""
        return self.state / IDENTITY


def read(environ: Mapping[str, str]) -> Environment:
    """The agent's environment; BadRequest names every variable that is missing or wrong.

    A device that has joined knows its name, its kind and its coordinator; one that joins, what its token says.
    """
    wrong = []
    known = identities.load(Path(environ["WATTBED_STATE"]) / IDENTITY) if environ.get("WATTBED_STATE") else None
    token = _token(environ, known)
    environ = _known(known, token) | {name: value for name, value in environ.items() if value}
    joins = () if token else ("WATTBED_COORDINATOR",)
    needed = (*joins, "WATTBED_DEVICE", "WATTBED_KIND", "WATTBED_STATE")
    missing = [name for name in needed if not environ.get(name)]
    if missing:
        raise BadRequest(f"not set: {', '.join(missing)}")
    try:
        for name in ("WATTBED_COORDINATOR", "WATTBED_JOIN"):
            if environ.get(name):
                _address(environ, name)
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
    storage = environ.get("WATTBED_MODEL_STORAGE_BYTES") or str(MODEL_STORAGE_BYTES)
    if not storage.isdecimal() or int(storage) < 1:
        wrong.append(f"WATTBED_MODEL_STORAGE_BYTES = {storage!r}: not a number of bytes, 1 or more")
    if (place := environ.get("WATTBED_PLACE", "")) not in ("", "device", "edge"):
        wrong.append(f"WATTBED_PLACE = {place!r}: known are device and edge")
    if wrong:
        raise BadRequest("; ".join(wrong))
    return Environment(
        environ.get("WATTBED_COORDINATOR"),
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
        int(storage),
        place,
        token,
        environ.get("WATTBED_JOIN") or None,
    )


def _token(environ: Mapping[str, str], known: Identity | None) -> JoinToken | None:
    """The token that is given, or lies in a file: that one is for who has no identity, or none that is of use.

    A device of a testbed that was revoked does not come back by itself because there is a token beside it.
    """
    if text := environ.get("WATTBED_TOKEN"):
        return parse_token(text)
    path = environ.get("WATTBED_TOKEN_FILE")
    if not path:
        return None
    try:
        token = parse_token(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        if known is not None:
            return None
        raise BadRequest(f"WATTBED_TOKEN_FILE: {path} cannot be read: {error.strerror}") from None
    of_use = known is not None and known.credentials.authority_sha256 == token.authority_sha256
    return None if of_use and known is not None and time.time() < known.expires_at_s else token


def _known(known: Identity | None, token: JoinToken | None) -> dict[str, str]:
    """What need not be said, because this device has joined, because its token says so, or because it is plain."""
    if known is not None and (token is None or token.token == known.token):
        facts = {"COORDINATOR": known.coordinator, "DEVICE": known.device, "KIND": known.kind}
        return {f"WATTBED_{name}": value for name, value in facts.items()}
    if token is None:
        return {}
    found = token.kind or probe.likely_kind()
    return {"WATTBED_KIND": found} if found else {}


def _address(environ: Mapping[str, str], name: str) -> tuple[str, int]:
    host, _, port = environ[name].rpartition(":")
    if not host or not port.isdecimal() or int(port) > 65535:
        raise BadRequest(f"{name} = {environ[name]!r}: not host:port")
    return host, int(port)


async def enrol(environment: Environment) -> tuple[Identity | None, str]:
    """The device's identity, joined for if need be, and where its fleet is served.

    BadRequest: it has none, and that place is another machine.
    """
    from edge_agent.join import joined, refuse_plain

    identity = await joined(
        environment.identity, environment.token, environment.device, environment.kind.name, environment.join_at
    )
    at = environment.coordinator or (identity.coordinator if identity else "")
    if identity is None:
        refuse_plain(at)
        log.warning("no certificate: the coordinator at %s is spoken to in plain text", at)
    return identity, at


async def run(environment: Environment) -> None:
    """The agent, until a signal."""
    identity, at = await enrol(environment)
    device = identity.device if identity else environment.device
    # These import NumPy and Numba, which take their threads from the environment set above.
    from edge_agent.agent import Agent, Settings
    from edge_agent.details import with_details
    from edge_agent.device import open_levers, open_meter
    from edge_agent.health import Health
    from edge_agent.limits import LimitsCollector
    from edge_agent.metrics import AgentCollector, serve
    from edge_agent.renew import Keeper
    from fleet.domain import Hello
    from fleet.rpc import PROTOCOL_VERSION

    meter = open_meter(
        device,
        environment.kind,
        environment.meter,
        environment.host_sys,
        environment.host_proc,
        environment.plugs,
    )
    levers = open_levers(device, environment.meter)
    route = Route(at, environment.relay, environment.kind.link, environment.trace)
    address, health = None, Health(environment.state)
    if environment.metrics is not None:
        host, port = environment.metrics
        limits = LimitsCollector(device, lambda: route.now().link)
        port = serve([AgentCollector(device, meter), limits], host, port, health.checks)
        reachable = socket.gethostname() if host in ("0.0.0.0", "::", "[::]") else host
        address = f"{reachable}:{port}"
    hello = Hello(
        PROTOCOL_VERSION,
        device,
        replace(
            with_details(probe.capabilities(environment.kind.name, meter.sources, meter.rejected, levers.infos)),
            model_storage_bytes=environment.model_storage_bytes,
            place=environment.place or environment.kind.place,
        ),
        address,
    )
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    keeper = Keeper(environment.identity, identity) if identity else None
    settings = Settings(at, environment.state, environment.data, route.now, keeper)
    agent = Agent(settings, hello, meter, levers)
    health.attached = lambda: agent.attached
    beating = asyncio.create_task(health.beat())
    try:
        await agent.run(stop)
    finally:
        beating.cancel()
        levers.release()
        meter.close()


async def _facts(environment: Environment) -> dict[str, object]:
    identity, at = await enrol(environment)
    if identity is None:
        raise BadRequest("there is no token to join with: WATTBED_TOKEN is not set")
    return {
        "device": identity.device,
        "kind": identity.kind,
        "coordinator": at,
        "state": str(environment.state),
        "expires_at_s": identity.expires_at_s,
    }


def main() -> int:
    """The exit code."""
    try:
        logs.set_up(logs.settings(os.environ))
        environment = read(os.environ)
    except WattbedError as error:
        print(f"edge_agent: {error}", file=sys.stderr)
        return 2
    keep_buffers()
    for name in THREAD_VARIABLES:
        os.environ[name] = str(environment.threads)
    try:
        if "--join" in sys.argv[1:]:
            print(json.dumps(asyncio.run(_facts(environment))))
            return 0
        asyncio.run(run(environment))
    except BadRequest as error:
        print(f"edge_agent: {error}", file=sys.stderr)
        return 2
    except WattbedError as error:
        print(f"edge_agent: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"edge_agent: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
