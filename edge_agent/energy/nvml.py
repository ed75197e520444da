"""NVIDIA's management library, by nvidia-ml-py (module `pynvml`), as little of it as energy needs.

An index says nothing (CUDA_VISIBLE_DEVICES reorders), so a GPU is its UUID. Which figures a GPU gives is found
by asking for them, not by its generation. Load NVML after forking, never before.
"""

from collections.abc import Sequence
from typing import Any, Protocol

from edge_agent.energy.counter import Rejected
from edge_agent.energy.reading import SourceFailed

POWER_AVERAGE = 185
POWER_INSTANT = 186
"""Field values, in mW."""

GPU = 0
MODULE = 1
"""Scopes of a field value: the GPU, or the module it shares with a CPU."""

NOT_SUPPORTED = 3
NO_PERMISSION = 4
LIBRARY_NOT_FOUND = 12
GPU_IS_LOST = 15

RUNTIME_FIX = (
    "Install nvidia-container-toolkit on the host, give the service the GPU (compose: "
    "deploy.resources.reservations.devices: [{driver: nvidia, count: all, capabilities: [gpu, utility]}]) "
    "and set NVIDIA_DRIVER_CAPABILITIES: compute,utility"
)

Handle = Any
"""A device of NVML: opaque."""


class NvmlFailed(SourceFailed):
    """NVML answered with an error; `code` is its nvmlReturn_t."""

    def __init__(self, code: int, reason: str, message: str) -> None:
        super().__init__(reason, message)
        self.code = code


class NvmlApi(Protocol):
    """What is asked of NVML. Everything raises NvmlFailed."""

    def devices(self) -> Sequence[Handle]:
        """Every device; a slice of a GPU may be among them."""

    def physical(self, handle: Handle) -> Handle:
        """The GPU that a MIG slice is of; the handle itself where it is no slice."""

    def uuid(self, handle: Handle) -> str:
        """Its UUID."""

    def name(self, handle: Handle) -> str:
        """Its name."""

    def architecture(self, handle: Handle) -> int:
        """Its generation: 5 Volta, 6 Turing, 7 Ampere, 8 Ada, 9 Hopper, 10 Blackwell."""

    def mig(self, handle: Handle) -> bool:
        """Whether it is divided into MIG slices."""

    def energy_mj(self, handle: Handle) -> int:
        """mJ since the driver was loaded."""

    def power_mw(self, handle: Handle) -> int:
        """mW: now, or the mean of a second (Ampere but GA100, and later)."""

    def field_mw(self, handle: Handle, field: int, scope: int) -> float:
        """A field value in mW; its own return code counts, not that of the call."""


class Pynvml:
    """NvmlApi by the real binding. Made by `open_nvml`; NVML is initialised then and stays so."""

    def __init__(self) -> None:
        import pynvml

        if not hasattr(pynvml, "_nvmlGetFunctionPointer"):
            message = f"{pynvml.__file__} is not the binding of nvidia-ml-py but another package of that name"
            raise NvmlFailed(LIBRARY_NOT_FOUND, "wrong_binding", message)
        self._nvml = pynvml
        self._ask("nvmlInit")

    def devices(self) -> Sequence[Handle]:
        """Every device that NVML counts."""
        return [self._ask("nvmlDeviceGetHandleByIndex", index) for index in range(self._ask("nvmlDeviceGetCount"))]

    def physical(self, handle: Handle) -> Handle:
        """The GPU of a slice; the handle itself, also where the driver knows no slices."""
        try:
            is_slice = self._ask("nvmlDeviceIsMigDeviceHandle", handle)
        except NvmlFailed:
            return handle
        if not getattr(is_slice, "value", is_slice):
            return handle
        return self._ask("nvmlDeviceGetDeviceHandleFromMigDeviceHandle", handle)

    def uuid(self, handle: Handle) -> str:
        """Its UUID."""
        return str(self._ask("nvmlDeviceGetUUID", handle))

    def name(self, handle: Handle) -> str:
        """Its name."""
        return str(self._ask("nvmlDeviceGetName", handle))

    def architecture(self, handle: Handle) -> int:
        """Its generation as NVML numbers it."""
        return int(self._ask("nvmlDeviceGetArchitecture", handle))

    def mig(self, handle: Handle) -> bool:
        """Whether MIG is on; off where NVML knows nothing of it."""
        try:
            return bool(self._ask("nvmlDeviceGetMigMode", handle)[0])
        except NvmlFailed:
            return False

    def energy_mj(self, handle: Handle) -> int:
        """mJ since the driver was loaded."""
        return int(self._ask("nvmlDeviceGetTotalEnergyConsumption", handle))

    def power_mw(self, handle: Handle) -> int:
        """mW."""
        return int(self._ask("nvmlDeviceGetPowerUsage", handle))

    def field_mw(self, handle: Handle, field: int, scope: int) -> float:
        """A field value in mW."""
        value = self._ask("nvmlDeviceGetFieldValues", handle, [(field, scope)])[0]
        if value.nvmlReturn != 0:
            raise self._failed(f"field {field} of scope {scope}", int(value.nvmlReturn))
        member = ("dVal", "uiVal", "ulVal", "ullVal", "sllVal", "siVal", "usVal")[value.valueType]
        return float(getattr(value.value, member))

    def _ask(self, function: str, *arguments: object) -> Any:
        try:
            return getattr(self._nvml, function)(*arguments)
        except self._nvml.NVMLError as error:
            raise self._failed(function, int(error.value)) from None

    def _failed(self, what: str, code: int) -> NvmlFailed:
        reason = {
            NOT_SUPPORTED: "not_supported",
            NO_PERMISSION: "no_permission",
            LIBRARY_NOT_FOUND: "library_not_found",
            GPU_IS_LOST: "gpu_is_lost",
        }.get(code, f"nvml_{code}")
        return NvmlFailed(code, reason, f"{what}: {self._nvml.NVMLError(code)}")


def open_nvml() -> NvmlApi | Rejected:
    """NVML of this host, or why there is none."""
    try:
        return Pynvml()
    except NvmlFailed as error:
        fix = RUNTIME_FIX if error.code == LIBRARY_NOT_FOUND and error.reason != "wrong_binding" else ""
        if error.reason == "wrong_binding":
            fix = "pip uninstall pynvml && pip install --force-reinstall nvidia-ml-py"
        return Rejected("nvml", f"NVML cannot be used: {error}", fix)
    except ImportError as error:
        return Rejected("nvml", f"the binding is not installed: {error}", "pip install nvidia-ml-py")
