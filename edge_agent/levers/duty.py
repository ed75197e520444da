"""The lever of an emulated device: CPU time in place of clock rate.

An emulated device runs on a part of a processor whose clock it cannot set. It slows down by resting: after
each step of training it sleeps until its CPU time is the asked-for part of what its quota allows. This
stretches a phase as a lower clock would. It does not lower the joules per operation as a lower voltage
would: nothing but real hardware shows that.
"""

import time
from collections.abc import Callable
from pathlib import Path

from edge_agent.energy.cpu_time import cpu_seconds
from edge_agent.levers.lever import HERTZ
from fleet.domain import LeverInfo, LeverOutcome

CPU_QUOTA = "cpu_quota"
LEAST_PART = 0.1
LONGEST_REST_S = 1.0
"""Rests are cut into pieces of this, so that a task that is cancelled notices."""


class DutyCycle:
    """Offers `cpu_quota` in hertz: f of the host's clock stands for f / clock of the quota."""

    def __init__(
        self,
        quota_cores: float,
        clock_hz: float,
        cpu_seconds: Callable[[], float] = cpu_seconds,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._quota_cores = quota_cores
        self._clock_hz = clock_hz
        self._cpu_seconds = cpu_seconds
        self._clock = clock
        self._sleep = sleep
        self._cores: float | None = None
        self._began_s = self._began_cpu_s = 0.0
        self.info = LeverInfo(
            CPU_QUOTA,
            HERTZ,
            LEAST_PART * clock_hz,
            clock_hz,
            f"emulated: {quota_cores:g} cores x f / {clock_hz / 1e9:.2f} GHz, by resting between steps",
        )

    def set(self, hertz: float) -> LeverOutcome:
        """From now on, until `release`."""
        info = self.info
        if not info.minimum * (1 - 1e-6) <= hertz <= info.maximum * (1 + 1e-6):
            reason = f"{hertz:g} Hz is outside {info.minimum:g} to {info.maximum:g}"
            return LeverOutcome(CPU_QUOTA, hertz, None, reason)
        self._cores = self._quota_cores * hertz / self._clock_hz
        self._began_s, self._began_cpu_s = self._clock(), self._cpu_seconds()
        return LeverOutcome(CPU_QUOTA, hertz, hertz)

    def release(self) -> None:
        """No more rests."""
        self._cores = None

    def rest(self) -> float:
        """Sleeps a piece of what is due, if anything; returns the seconds that are still due after it."""
        if self._cores is None:
            return 0.0
        due_s = (self._cpu_seconds() - self._began_cpu_s) / self._cores - (self._clock() - self._began_s)
        if due_s <= 0:
            return 0.0
        piece_s = min(due_s, LONGEST_REST_S)
        self._sleep(piece_s)
        return due_s - piece_s


def clock_hz(procfs: Path = Path("/proc")) -> float | None:
    """The greatest clock that /proc/cpuinfo shows for any processor; None where it shows none (ARM)."""
    try:
        lines = (procfs / "cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return None
    clocks = [float(line.partition(":")[2]) for line in lines if line.startswith("cpu MHz")]
    return max(clocks) * 1e6 if clocks and max(clocks) > 0 else None
