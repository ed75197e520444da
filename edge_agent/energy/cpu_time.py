"""The energy model for devices without a meter: idle power times time, plus power per core times CPU time.

What the number covers: the device of this kind as a whole within its scope (package, board or wall), idle
power included, as if this agent were alone on it. CPU time is that of the container the agent is in, or of
its process where it is in none, on the machine it really runs on: an emulated Raspberry Pi on a fast server
spends fewer seconds, and so fewer modelled joules, than a real one would. GPU, radio and disk are not in it.
docs/energy.md says how far off it is.
"""

import re
import resource
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path

from edge_agent.energy.counter import Raw, SourceInfo
from edge_agent.energy.reading import Clock, SourceFailed, number, text, text_or_none
from fleet.domain import Quality
from fleet.kinds import DeviceKind

_CONTAINER_ID = re.compile(r"[0-9a-f]{64}")


def own_usage(cgroupfs: Path = Path("/sys/fs/cgroup"), procfs: Path = Path("/proc")) -> Path | None:
    """The file with the CPU time of the container this process is in, None where it is in none.

    A container sees its own cgroup as the root of the hierarchy. The true root can be told from it: it alone
    has `release_agent` (version 1) and it alone has no `cgroup.type` (version 2). Where a container was given the
    host's view of version 2, its own path carries its id.
    """
    for name in ("cpuacct", "cpu,cpuacct"):
        usage = cgroupfs / name / "cpuacct.usage"
        if usage.exists():
            return None if usage.with_name("release_agent").exists() else usage
    own = (text_or_none(procfs / "self/cgroup") or "").rpartition("::/")[2].strip()
    if _CONTAINER_ID.search(own) and (cgroupfs / own / "cpu.stat").exists():
        return cgroupfs / own / "cpu.stat"
    usage = cgroupfs / "cpu.stat"
    return usage if usage.exists() and usage.with_name("cgroup.type").exists() else None


def usage_seconds(usage: Path) -> float:
    """CPU seconds in a cgroup's cpu.stat (version 2) or cpuacct.usage (version 1)."""
    if usage.name == "cpuacct.usage":
        return number(usage) * 1e-9
    fields = dict(line.split(maxsplit=1) for line in text(usage).splitlines() if " " in line)
    if not fields.get("usage_usec", "").isdecimal():
        raise SourceFailed("garbled", f"{usage}: no usage_usec")
    return int(fields["usage_usec"]) * 1e-6


def process_cpu_seconds() -> float:
    """CPU time of all threads of this process, and of its children that have ended."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime


@cache
def _own_usage() -> Path | None:
    return own_usage()


def cpu_seconds() -> float:
    """CPU time of the container this process is in, ended processes included; else that of the process."""
    usage = _own_usage()
    return process_cpu_seconds() if usage is None else usage_seconds(usage)


class CpuTimeModel:
    """Joules of a device of `kind` since this object was made, estimated from CPU time."""

    def __init__(
        self,
        kind: DeviceKind,
        cpu_seconds: Callable[[], float] = cpu_seconds,
        clock: Clock = time.monotonic_ns,
    ) -> None:
        self._energy = energy = kind.energy
        self._cpu_seconds = cpu_seconds
        self._clock = clock
        self._began_ns = clock()
        self._began_cpu_s = cpu_seconds()
        self.info = SourceInfo(
            id="model",
            kind="model",
            component="cpu",
            scope=energy.scope,
            quality=Quality.ESTIMATED,
            min_window_s=0.05,
            detail=(
                f"{kind.name}: {energy.idle_watts:g} W idle + {energy.watts_per_core:g} W per busy core, "
                f"+-{energy.interval:.0%}"
            ),
            interval=energy.interval,
        )

    def read(self) -> Raw:
        """Joules so far."""
        now_ns = self._clock()
        idle = self._energy.idle_watts * (now_ns - self._began_ns) * 1e-9
        busy = self._energy.watts_per_core * (self._cpu_seconds() - self._began_cpu_s)
        return Raw(idle + busy, now_ns)
