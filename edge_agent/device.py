"""This device's meter and levers: its host's where there is a meter daemon, else its own."""

from pathlib import Path

from edge_agent import probe
from edge_agent.energy.counter import SourceInfo
from edge_agent.energy.cpu_time import CpuTimeModel
from edge_agent.energy.discover import discover
from edge_agent.energy.meter import DeviceMeter, Meter
from edge_agent.energy.nvml import open_nvml
from edge_agent.energy.owner import covers, owned
from edge_agent.energy.remote import RemoteMeter
from edge_agent.energy.self_check import SelfChecks, pairs
from edge_agent.energy.unwrap import CounterTracker
from edge_agent.levers.duty import DutyCycle, clock_hz
from edge_agent.levers.remote import RemoteLevers
from edge_agent.levers.request import DeviceLevers
from fleet.kinds import DeviceKind


def open_meter(
    device: str, kind: DeviceKind, socket: Path | None, host_sys: Path, host_proc: Path, plugs: tuple[str, ...]
) -> DeviceMeter:
    """The meter at `socket`, or without one a meter of this process over all that it may read.

    The model of `kind` is used only where no meter covers the processor, the board or the wall when the agent
    starts; it is never put in place of one later.
    """
    if socket is not None:

        def beside(sources: tuple[SourceInfo, ...]) -> Meter:
            return Meter([] if covers(sources) else [CounterTracker(CpuTimeModel(kind))])

        return RemoteMeter(socket, device, probe.gpu_uuids(), beside)
    found = discover(host_sys, host_proc, open_nvml(), plugs, kind)
    trackers, rejected = owned(found.trackers, found.rejected, host_sys)
    meter = Meter(trackers, rejected, checks=SelfChecks(pairs(trackers)))
    meter.start()
    return meter


def open_levers(device: str, socket: Path | None) -> DeviceLevers:
    """What the host's daemon lets this device set; for one that runs on a CPU quota also its duty cycle."""
    quota, clock = probe.cpu_quota(), clock_hz()
    duty = DutyCycle(quota, clock) if quota is not None and clock is not None else None
    return DeviceLevers(None if socket is None else RemoteLevers(socket, device), duty, probe.gpu_uuids())
