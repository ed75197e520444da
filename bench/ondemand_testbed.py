"""Four devices of unlike kinds as processes: each in a CPU quota of its own and behind the link of its own.

Quotas are a part of those of the kinds' [emulation], by control groups, which needs root; without, `quotas` is
False and the devices differ in link, watts and tolerance only. Links go through the relay (docs/links.md), which
needs nothing.
"""

import os
import shutil
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from time import sleep

from processes import Processes

from cli import local
from fleet.kinds import kind

CELL = "rayleigh:distance_m={},bandwidth_hz=250e3,power_down_watts=2,seed=1"
"""250 kHz for each device, 0.1 W up and 2 W down; otherwise the channel of arXiv 2207.09387."""

LINKS = {
    "raspberry-pi-5": CELL.format(2000),
    "jetson-orin-nano": CELL.format(1500),
    "mini-pc-n100": CELL.format(1000),
    "gpu-workstation": CELL.format(300),
}
"""The devices by kind, in the order of agent-1, agent-2, ..., each with the trace of its link."""

GROUPS = Path("/sys/fs/cgroup")
PERIOD_US = 100_000

QUOTA_PART = 0.6
"""Of the kinds' quotas, which would take all of two cores: so much of them that they hold beside other work."""

SHARES, WEIGHT = 16384, 1600
"""16 times the usual claim to a processor (version 1, version 2), so that a device gets what its quota allows."""


@dataclass(frozen=True)
class Bed:
    """A testbed that is up. `quotas`: whether the agents are held to their kinds' CPU quotas."""

    address: str
    quotas: bool


@contextmanager
def testbed(state: Path) -> Iterator[Bed]:
    """A fresh testbed in the folder `state`, gone with its data at the end."""
    local.down(state, purge=True)
    state.mkdir(parents=True, exist_ok=True)
    ports = dict(zip(LINKS, _free_ports(len(LINKS)), strict=True))
    (upstream,) = _free_ports(1)
    traces = ";".join(f"{name}={trace}" for name, trace in LINKS.items())
    groups = _groups()

    def dressed(spec: local.Spec) -> local.Spec:
        name = spec.facts.get("WATTBED_KIND")
        if name is None:
            return spec
        facts = {"WATTBED_RELAY": f"{local.LOOPBACK}:{ports[name]}", "WATTBED_LINK_TRACE": traces}
        threads = {"WATTBED_THREADS": "1"}
        by = ("sh", "-c", 'echo $$ > "$0" && exec "$@"', str(groups[name] / "cgroup.procs")) if groups else ()
        return replace(spec, facts={**spec.facts, **facts, **threads}, by=by)

    with Processes(state) as processes:
        try:
            processes.start(
                "relay",
                [sys.executable, "-m", "edge_agent.link", "relay"],
                {
                    "WATTBED_UPSTREAM": f"{local.LOOPBACK}:{upstream}",
                    "WATTBED_RELAYS": ",".join(f"{name}={local.LOOPBACK}:{p}" for name, p in ports.items()),
                    "WATTBED_LINK_TRACE": traces,
                },
            )
            up, _ = local.up(
                state,
                agents=len(LINKS),
                kinds=list(LINKS),
                data=None,
                port=upstream,
                http_port=0,
                ready_timeout_s=180.0,
                each=dressed,
            )
            yield Bed(up.address, bool(groups))
        finally:
            local.down(state, purge=True)
            for group in groups.values():
                _removed(group)
    shutil.rmtree(state, ignore_errors=True)


def _free_ports(count: int) -> list[int]:
    sockets = [socket.create_server((local.LOOPBACK, 0)) for _ in range(count)]
    ports = [int(s.getsockname()[1]) for s in sockets]
    for each in sockets:
        each.close()
    return ports


def _groups() -> dict[str, Path]:
    """A control group with its quota for each kind; empty where this process may not make any."""
    made: dict[str, Path] = {}
    try:
        for name in LINKS:
            emulation = kind(name).emulation
            assert emulation is not None
            made[name] = _group(
                f"wattbed-bench-{os.getpid()}-{name}", int(QUOTA_PART * emulation.cpus * PERIOD_US)
            )
    except OSError as error:
        print(f"no CPU quotas: {error}", file=sys.stderr)
        for group in made.values():
            _removed(group)
        return {}
    return made


def _group(name: str, quota_us: int) -> Path:
    version_1 = GROUPS / "cpu" / "cpu.cfs_quota_us"
    group = (version_1.parent if version_1.exists() else GROUPS) / name
    group.mkdir()
    try:
        if version_1.exists():
            (group / "cpu.cfs_period_us").write_text(str(PERIOD_US))
            (group / "cpu.cfs_quota_us").write_text(str(quota_us))
            (group / "cpu.shares").write_text(str(SHARES))
        else:
            (group / "cpu.max").write_text(f"{quota_us} {PERIOD_US}")
            (group / "cpu.weight").write_text(str(WEIGHT))
    except OSError:
        _removed(group)
        raise
    return group


def _removed(group: Path) -> None:
    """A group can only go once its last process has been reaped."""
    for _ in range(50):
        with suppress(OSError):
            group.rmdir()
            return
        sleep(0.1)
