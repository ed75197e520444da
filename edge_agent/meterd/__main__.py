"""`python -m edge_agent.meterd`: the meter of this host, and the only place that reads its environment.

Exit codes: 0 after SIGTERM or SIGINT, after --restore put everything back and after --check found a meter; 1
when that failed or an address is taken; 2 when the environment is wrong.
"""

import argparse
import asyncio
import gc
import logging
import os
import signal
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

from edge_agent.energy import cpu_usage
from edge_agent.energy.baseline import Baseline
from edge_agent.energy.counter import Rejected
from edge_agent.energy.discover import discover
from edge_agent.energy.nvml import open_nvml
from edge_agent.energy.owner import owned
from edge_agent.energy.sampler import SAMPLE_HZ
from edge_agent.energy.self_check import SelfChecks, pairs
from edge_agent.levers.board import Board, find_levers
from edge_agent.levers.journal import Journal
from edge_agent.levers.lever import Lever
from edge_agent.meterd import messages
from edge_agent.meterd.desk import LeverDesk
from edge_agent.meterd.host import HostMeter
from edge_agent.meterd.link import Link
from edge_agent.meterd.metrics import HostCollector
from edge_agent.meterd.server import Server, lock
from edge_agent.meterd.session import Daemon
from edge_agent.metrics import serve
from fleet import logs
from fleet.errors import BadRequest, WattbedError

log = logging.getLogger(__name__)

SOCKET = "/run/wattbed/meter.sock"
MOST_HZ = 50.0
CHECK_TIMEOUT_S = 5.0


@dataclass(frozen=True)
class Environment:
    """The WATTBED_* variables of a meter. `metrics` is (host, port); None: metrics are not served."""

    socket: Path
    state: Path
    host_sys: Path
    host_proc: Path
    metrics: tuple[str, int] | None
    plugs: tuple[str, ...]
    levers: tuple[str, ...]
    idle_watts: Mapping[str, float]
    hz: float


def read(environ: Mapping[str, str]) -> Environment:
    """The meter's environment; BadRequest names every variable that is missing or wrong."""
    wrong = []
    if not environ.get("WATTBED_STATE"):
        wrong.append("WATTBED_STATE is not set: the folder for idle power and the journal of levers")
    metrics = None
    if address := environ.get("WATTBED_METRICS"):
        host, _, port = address.rpartition(":")
        if not host or not port.isdecimal() or int(port) > 65535:
            wrong.append(f"WATTBED_METRICS = {address!r}: not host:port")
        else:
            metrics = host, int(port)
    idle_watts = {}
    for entry in _list(environ, "WATTBED_BASELINE"):
        source, _, watts = entry.rpartition("=")
        try:
            idle_watts[source] = float(watts)
        except ValueError:
            source = ""
        if not source or not 0 <= idle_watts[source] < 1e6:
            wrong.append(f"WATTBED_BASELINE: {entry!r} is not source=watts")
    try:
        hz = float(environ.get("WATTBED_SAMPLE_HZ") or SAMPLE_HZ)
    except ValueError:
        hz = 0.0
    if not 0 < hz <= MOST_HZ:
        wrong.append(f"WATTBED_SAMPLE_HZ = {environ['WATTBED_SAMPLE_HZ']!r}: above 0, at most {MOST_HZ:g}")
    if wrong:
        raise BadRequest("; ".join(wrong))
    return Environment(
        Path(environ.get("WATTBED_METER") or SOCKET),
        Path(environ["WATTBED_STATE"]),
        Path(environ.get("WATTBED_HOST_SYS") or "/sys"),
        Path(environ.get("WATTBED_HOST_PROC") or "/proc"),
        metrics,
        _list(environ, "WATTBED_PLUGS"),
        _list(environ, "WATTBED_LEVERS"),
        idle_watts,
        hz,
    )


def _list(environ: Mapping[str, str], name: str) -> tuple[str, ...]:
    return tuple(entry.strip() for entry in environ.get(name, "").split(",") if entry.strip())


def _board(environment: Environment, has_nvml: bool) -> Board:
    """The levers of this host, none moved yet."""
    journal = Journal(environment.state / "levers.json")
    levers: tuple[Lever, ...] = ()
    if environment.levers or journal.entries():
        levers = find_levers(environment.host_sys, import_module("pynvml") if has_nvml else None)
    return Board(levers, environment.levers, journal)


async def run(environment: Environment) -> None:
    """The meter, until a signal."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    environment.state.mkdir(parents=True, exist_ok=True)
    held = lock(environment.socket)
    nvml = open_nvml()
    board = _board(environment, not isinstance(nvml, Rejected))
    board.recover()
    found = discover(environment.host_sys, environment.host_proc, nvml, environment.plugs)
    trackers, rejected = owned(found.trackers, found.rejected, environment.host_sys)
    baseline = Baseline(environment.idle_watts, environment.state / "baseline.json")
    host = HostMeter(trackers, rejected, baseline, environment.host_proc)
    for one in host.sources:
        log.info("%s: %s of the %s, %s", one.id, one.component, one.scope, one.quality)
    checks = SelfChecks(pairs(trackers))
    if environment.metrics is not None:
        collector = HostCollector(host, checks=checks.ratios)
        log.info("metrics on port %d", serve([collector], *environment.metrics))
    desk = LeverDesk(board)
    gc.freeze()  # what is here stays: looking through it again would hold up a mark for milliseconds
    daemon = Daemon(host, desk, environment.metrics is not None, cpu_usage.cgroup_devices())
    try:
        await Server(daemon, environment.socket).run(stop, environment.hz)
    finally:
        found.close()
        os.close(held)


def restore(environment: Environment) -> bool:
    """Puts back what a meter that was killed left; False when something could not be."""
    held = lock(environment.socket)
    try:
        return _board(environment, not isinstance(open_nvml(), Rejected)).recover()
    finally:
        os.close(held)


def check(environment: Environment) -> None:
    """MeterLost when no meter answers at the socket."""
    link = Link(environment.socket, lambda: (messages.Levers("check"), []), CHECK_TIMEOUT_S)
    link.connect()
    link.close()


def main() -> int:
    """The exit code."""
    options = argparse.ArgumentParser(prog="python -m edge_agent.meterd", description="The meter of this host.")
    either = options.add_mutually_exclusive_group()
    either.add_argument(
        "--restore", action="store_true", help="put levers back that a killed meter left, and exit"
    )
    either.add_argument("--check", action="store_true", help="exit 0 if a meter answers, else 1")
    chosen = options.parse_args()
    try:
        logs.set_up(logs.settings(os.environ))
        environment = read(os.environ)
    except WattbedError as error:
        print(f"meterd: {error}", file=sys.stderr)
        return 2
    try:
        if chosen.restore:
            return 0 if restore(environment) else 1
        if chosen.check:
            check(environment)
        else:
            asyncio.run(run(environment))
    except (WattbedError, OSError) as error:
        print(f"meterd: {error}", file=sys.stderr)
        return 2 if isinstance(error, BadRequest) else 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
