"""The energy model for devices without a meter: idle power times time, plus power per core times CPU time.

What the number covers: the device of this kind as a whole within its scope (package, board or wall), idle
power included, as if this process were alone on it. CPU time is that of all threads of this process and of
its children that have ended, on the machine it really runs on: an emulated Raspberry Pi on a fast server
spends fewer seconds, and so fewer modelled joules, than a real one would. GPU, radio and disk are not in it.
"""

import resource
import time
from collections.abc import Callable

from edge_agent.energy.counter import Raw, SourceInfo
from fleet.domain import Quality
from fleet.kinds import DeviceKind


def cpu_seconds() -> float:
    """CPU time of all threads of this process, and of its children that have ended."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime


class CpuTimeModel:
    """Joules of a device of `kind` since this object was made, estimated from CPU time."""

    def __init__(
        self,
        kind: DeviceKind,
        cpu_seconds: Callable[[], float] = cpu_seconds,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._energy = energy = kind.energy
        self._cpu_seconds = cpu_seconds
        self._clock = clock
        self._began_s = clock()
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
        now = self._clock()
        idle = self._energy.idle_watts * (now - self._began_s)
        busy = self._energy.watts_per_core * (self._cpu_seconds() - self._began_cpu_s)
        return Raw(idle + busy, now)
