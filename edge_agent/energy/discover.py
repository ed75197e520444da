"""Everything on this host that can say joules, and why the rest cannot."""

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from edge_agent.energy import battery, gpu, jetson, rapl
from edge_agent.energy import plugs as wall_plugs
from edge_agent.energy.counter import Rejected
from edge_agent.energy.cpu_time import CpuTimeModel
from edge_agent.energy.integrate import SensorTracker
from edge_agent.energy.nvml import NvmlApi
from edge_agent.energy.reading import Clock
from edge_agent.energy.unwrap import CounterTracker
from fleet.errors import BadRequest
from fleet.kinds import DeviceKind

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Found:
    """The sources of a host, each with its memory, and those that cannot be used."""

    trackers: tuple[CounterTracker | SensorTracker, ...]
    rejected: tuple[Rejected, ...]
    pollers: tuple[wall_plugs.PlugPoller, ...] = ()

    def close(self) -> None:
        """Ends the threads that ask plugs. Without it they end with the process."""
        for poller in self.pollers:
            poller.stop()


def discover(
    host_sys: Path,
    host_proc: Path,
    nvml: NvmlApi | Rejected | None,
    plugs: Sequence[str] = (),
    kind: DeviceKind | None = None,
    clock: Clock = time.monotonic_ns,
    spin: rapl.Spin = rapl.spin,
    live: bool | None = None,
) -> Found:
    """Looks for every source below `host_sys`, at NVML and at the plugs; with a `kind` there is its model too.

    Takes a moment in which one core is kept busy, and up to a second for each plug. `nvml` is what
    `open_nvml` gave; None: it is not asked.
    live: see `rapl.find`. BadRequest when `host_sys` is no directory or a plug has no address.
    """
    if not host_sys.is_dir():
        raise BadRequest(f"{host_sys}: no such directory")
    packages, no_packages = rapl.find(host_sys, host_proc, clock, spin, live)
    rails, no_rails = jetson.find(host_sys, clock)
    gpus, no_gpus = _gpus(nvml, bool(rails), clock)
    batteries, no_batteries = battery.find(host_sys, clock)
    at_wall, pollers, no_plugs = wall_plugs.find(plugs, clock)
    trackers: list[CounterTracker | SensorTracker] = [
        *(CounterTracker(package) for package in packages),
        *(CounterTracker(one) if isinstance(one, gpu.GpuEnergy) else SensorTracker(one) for one in gpus),
        *(SensorTracker(rail) for rail in rails),
        *(SensorTracker(one) for one in batteries),
        *(
            CounterTracker(one) if isinstance(one, wall_plugs.PlugCounter) else SensorTracker(one)
            for one in at_wall
        ),
    ]
    if kind is not None:
        trackers.append(CounterTracker(CpuTimeModel(kind, clock=clock)))
    rejected = (*no_packages, *no_gpus, *no_rails, *no_batteries, *no_plugs)
    for one in rejected:
        log.info("%s is not used: %s", one.id, one.reason)
    return Found(tuple(trackers), rejected, tuple(pollers))


def _gpus(
    nvml: NvmlApi | Rejected | None, on_rails: bool, clock: Clock
) -> tuple[list[gpu.GpuEnergy | gpu.GpuPower], list[Rejected]]:
    if isinstance(nvml, Rejected):
        return [], [nvml]
    return ([], []) if nvml is None else gpu.find(nvml, on_rails, clock)
