"""Levers of NVIDIA GPUs through NVML: power limit and locked clocks."""

from collections.abc import Iterable
from typing import Any

from edge_agent.levers.lever import HERTZ, WATTS, LeverStuck
from fleet.domain import LeverInfo

MEGA = 1e6


class PowerLimit:
    """`nvml_power:UUID`: the power the GPU may draw, within its own constraints."""

    def __init__(self, nvml: Any, handle: Any, uuid: str) -> None:
        self._nvml = nvml
        self._handle = handle
        low_mw, high_mw = nvml.nvmlDeviceGetPowerManagementLimitConstraints(handle)
        self.info = LeverInfo(f"nvml_power:{uuid}", WATTS, low_mw / 1000, high_mw / 1000, "NVML power limit")

    def original(self) -> dict[str, str]:
        """The present limit in milliwatts."""
        return {"milliwatts": str(_asked(self._nvml, self._nvml.nvmlDeviceGetPowerManagementLimit, self._handle))}

    def apply(self, value: float) -> float:
        """The limit that the GPU says it has now, in watts."""
        nvml = self._nvml
        _asked(nvml, nvml.nvmlDeviceSetPowerManagementLimit, self._handle, round(value * 1000))
        return float(_asked(nvml, nvml.nvmlDeviceGetPowerManagementLimit, self._handle)) / 1000

    def restore(self, original: dict[str, str]) -> None:
        """Sets the limit it had."""
        nvml = self._nvml
        _asked(nvml, nvml.nvmlDeviceSetPowerManagementLimit, self._handle, int(original["milliwatts"]))


class LockedClocks:
    """`nvml_clocks:UUID`: the greatest clock of the GPU's processors.

    NVML cannot say whether clocks were locked before, so they are unlocked at the end; a lock that the owner
    of the host had set by hand is gone then.
    """

    def __init__(self, nvml: Any, handle: Any, uuid: str) -> None:
        self._nvml = nvml
        self._handle = handle
        memory = max(nvml.nvmlDeviceGetSupportedMemoryClocks(handle))
        self._steps_mhz = sorted(nvml.nvmlDeviceGetSupportedGraphicsClocks(handle, memory))
        low, high = self._steps_mhz[0] * MEGA, self._steps_mhz[-1] * MEGA
        detail = "NVML locked GPU clocks; unlocked at the end"
        self.info = LeverInfo(f"nvml_clocks:{uuid}", HERTZ, low, high, detail)

    def original(self) -> dict[str, str]:
        """Unlocked."""
        return {}

    def apply(self, value: float) -> float:
        """The clock it is locked to at most, in hertz: the highest step that is not above `value`."""
        steps = [mhz for mhz in self._steps_mhz if mhz * MEGA <= value]
        highest = steps[-1] if steps else self._steps_mhz[0]
        nvml = self._nvml
        _asked(nvml, nvml.nvmlDeviceSetGpuLockedClocks, self._handle, self._steps_mhz[0], highest)
        return float(highest * MEGA)

    def restore(self, original: dict[str, str]) -> None:
        """Unlocks the clocks."""
        _asked(self._nvml, self._nvml.nvmlDeviceResetGpuLockedClocks, self._handle)


def gpus(nvml: Any) -> Iterable[PowerLimit | LockedClocks]:
    """The levers of every GPU; one that a GPU does not support is left out. `nvml` is pynvml, initialised."""
    for index in range(nvml.nvmlDeviceGetCount()):
        try:
            handle = nvml.nvmlDeviceGetHandleByIndex(index)
            uuid = nvml.nvmlDeviceGetUUID(handle)
        except nvml.NVMLError:
            continue
        for kind in (PowerLimit, LockedClocks):
            try:
                yield kind(nvml, handle, uuid)
            except (nvml.NVMLError, ValueError, IndexError):
                continue


def _asked(nvml: Any, call: Any, *arguments: Any) -> Any:
    try:
        return call(*arguments)
    except nvml.NVMLError as error:
        raise LeverStuck(f"NVML: {error}") from None
