"""An assignment asks for watts and hertz; this device answers with what it set, or why not."""

from collections.abc import Sequence
from typing import Protocol

from edge_agent.levers.duty import DutyCycle
from edge_agent.levers.lever import HERTZ, WATTS
from fleet.domain import Assignment, LeverInfo, LeverOutcome

POWER = "power"
FREQUENCY = "frequency"
_FIRST = ("nvml_power", "nvml_clocks", "devfreq", "nvpmodel", "cpufreq", "cpu_quota")
"""Of several levers with the right unit the one of the part that trains: GPU before processor before emulation."""


class HostLevers(Protocol):
    """The levers of the host, wherever they are pulled. Calls may block."""

    @property
    def infos(self) -> tuple[LeverInfo, ...]:
        """What may be set."""

    def set(self, lever: str, value: float) -> LeverOutcome:
        """Sets a lever until it is released or this process ends."""

    def release(self) -> None:
        """Puts back all that this process set."""


class NoLevers:
    """A device that can set nothing."""

    infos: tuple[LeverInfo, ...] = ()

    def set(self, lever: str, value: float) -> LeverOutcome:
        """Refused."""
        return LeverOutcome(lever, value, None, "this device has no levers")

    def release(self) -> None:
        """Nothing to do."""


class DeviceLevers:
    """What this device can set: levers of its host, and its own duty cycle where it is an emulated one.

    `gpus` are the UUIDs of the GPUs it sees; levers of others are not its own.
    """

    def __init__(
        self, host: HostLevers | None = None, duty: DutyCycle | None = None, gpus: Sequence[str] = ()
    ) -> None:
        self._host = host or NoLevers()
        self._duty = duty
        self._gpus = tuple(gpus)

    @property
    def infos(self) -> tuple[LeverInfo, ...]:
        """What may be set."""
        host = (info for info in self._host.infos if self._is_ours(info.lever))
        return (*host, *((self._duty.info,) if self._duty else ()))

    def apply(self, assignment: Assignment) -> tuple[LeverOutcome, ...]:
        """Sets what the assignment asks for: one outcome per request, none where nothing is asked. May block."""
        asked = (
            (POWER, WATTS, assignment.power_limit_watts),
            (FREQUENCY, HERTZ, assignment.frequency_hz),
        )
        return tuple(self._set(name, unit, value) for name, unit, value in asked if value is not None)

    def release(self) -> None:
        """Puts everything back. May block."""
        if self._duty is not None:
            self._duty.release()
        self._host.release()

    def rest(self) -> float:
        """Called after each step: the duty cycle's sleep, and the seconds that are still due."""
        return self._duty.rest() if self._duty is not None else 0.0

    def _is_ours(self, lever: str) -> bool:
        kind, _, uuid = lever.partition(":")
        return not kind.startswith("nvml_") or uuid in self._gpus

    def _set(self, name: str, unit: str, value: float) -> LeverOutcome:
        info = _choose(self.infos, unit)
        if info is None:
            return LeverOutcome(name, value, None, f"this device has no lever in {unit}")
        if self._duty is not None and info is self._duty.info:
            return self._duty.set(value)
        return self._host.set(info.lever, value)


def _choose(infos: Sequence[LeverInfo], unit: str) -> LeverInfo | None:
    ranks = {name: rank for rank, name in enumerate(_FIRST)}
    fitting = [info for info in infos if info.unit == unit]
    return min(fitting, key=lambda i: ranks.get(i.lever.partition(":")[0], len(ranks)), default=None)
