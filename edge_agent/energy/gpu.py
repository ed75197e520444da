"""Joules and watts of NVIDIA GPUs, by NVML.

A figure covers the whole card, memory and regulators included: scope board. Slices (MIG) have no energy of
their own, so a GPU is counted once however it is divided. NVIDIA names 5 % of the draw as accuracy; the
sensor of an A100 or H100 looks a quarter of the time (arXiv 2312.02741), so short windows are worse.
"""

import re
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from edge_agent.energy.counter import Raw, Rejected, SourceInfo
from edge_agent.energy.nvml import GPU, MODULE, POWER_AVERAGE, POWER_INSTANT, Handle, NvmlApi, NvmlFailed
from edge_agent.energy.reading import Clock, SourceFailed
from fleet.domain import Quality

ACCURACY = 0.05
LONGEST_GAP_S = 60.0
LONGEST_SAMPLE_GAP_S = 1.0
"""Power is sampled ten times a second; a busy host is late at times, and a second without a sample is a gap."""

_TEGRA = re.compile(r"nvgpu|tegra|\borin\b|\bthor\b", re.IGNORECASE)
_GA100 = re.compile(r"\b(A100|A800|A30)\b")
_AMPERE = 7


class GpuEnergy:
    """The energy counter of one GPU: in steps of 20 to 100 ms, so that no growth does not mean no power."""

    def __init__(self, api: NvmlApi, handle: Handle, info: SourceInfo, clock: Clock) -> None:
        self.info = info
        self._api = api
        self._handle = handle
        self._clock = clock

    def read(self) -> Raw:
        """Joules since the driver was loaded; NvmlFailed, as for a GPU that is lost."""
        return Raw(self._api.energy_mj(self._handle) * 1e-3, self._clock())

    def power_beside(self) -> "GpuPower | None":
        """The power of the same GPU, to check the counter by; None where it has none of its own."""
        found = power(self._api, self.info.id.partition(":")[2], self._handle, self._clock)
        return found if found is not None and found.info.component == self.info.component else None


class GpuPower:
    """The power of one GPU, by whichever way of asking it answers."""

    def __init__(self, ask: Callable[[], float], info: SourceInfo, clock: Clock) -> None:
        self.info = info
        self._ask_mw = ask
        self._clock = clock

    def read(self) -> Raw:
        """Watts; NvmlFailed, and SourceFailed("no_power") for a reading that no running GPU has."""
        milliwatts = self._ask_mw()
        if milliwatts <= 0:
            raise SourceFailed("no_power", f"{self.info.id} says {milliwatts:g} mW")
        return Raw(milliwatts * 1e-3, self._clock())


@dataclass(frozen=True)
class _Way:
    """One way of asking for power: what its figure covers, over how long it is the mean, how to ask."""

    component: str
    scope: str
    min_window_s: float
    detail: str
    ask: Callable[[], float]


def find(
    api: NvmlApi, measured_by_rails: bool = False, clock: Clock = time.monotonic_ns
) -> tuple[list[GpuEnergy | GpuPower], list[Rejected]]:
    """One source per physical GPU in the order of their UUIDs, and the GPUs without one.

    `measured_by_rails`: this is a Jetson with power rails; its GPU is on them, and NVML's word is not taken too.
    """
    try:
        gpus, rejected = _physical(api)
    except NvmlFailed as error:
        return [], [Rejected("nvml", f"the GPUs cannot be listed: {error}")]
    found: list[GpuEnergy | GpuPower] = []
    for uuid, handle in sorted(gpus.items()):
        try:
            source = _source(api, uuid, handle, measured_by_rails, clock)
        except NvmlFailed as error:
            source = Rejected(f"nvml:{uuid}", f"the GPU does not answer: {error}")
        if isinstance(source, Rejected):
            rejected.append(source)
        else:
            found.append(source)
    if not gpus and not rejected:
        rejected.append(Rejected("nvml", "NVML lists no GPU"))
    return found, rejected


def _source(
    api: NvmlApi, uuid: str, handle: Handle, measured_by_rails: bool, clock: Clock
) -> GpuEnergy | GpuPower | Rejected:
    name = api.name(handle)
    tegra = _TEGRA.search(name) is not None
    if tegra and measured_by_rails:
        return Rejected(f"nvml:{uuid}", f"{name} is on the power rails of this board already")
    source = energy(api, uuid, handle, clock) or power(api, uuid, handle, clock)
    if source is not None:
        return source
    fix = "On a Jetson mount the host's /sys/class and /sys/devices: its INA3221 measures" if tegra else ""
    return Rejected(f"nvml:{uuid}", f"NVML lists {name} and gives neither its energy nor its power", fix)


def _physical(api: NvmlApi) -> tuple[dict[str, Handle], list[Rejected]]:
    """Handles by UUID: a slice stands for the GPU it is of. What is lost already has no UUID and is rejected."""
    gpus: dict[str, Handle] = {}
    rejected = []
    for index, handle in enumerate(api.devices()):
        try:
            gpu = api.physical(handle)
            gpus.setdefault(api.uuid(gpu), gpu)
        except NvmlFailed as error:
            rejected.append(Rejected(f"nvml:{index}", f"the GPU does not answer: {error}"))
    return gpus, rejected


def energy(api: NvmlApi, uuid: str, handle: Handle, clock: Clock = time.monotonic_ns) -> GpuEnergy | None:
    """The energy counter of a GPU, None where asking for it fails (before Volta, laptops, vGPU)."""
    try:
        api.energy_mj(handle)
    except NvmlFailed:
        return None
    info = SourceInfo(
        id=f"nvml:{uuid}",
        kind="nvml_energy",
        component="gpu",
        scope="board",
        quality=Quality.MEASURED,
        min_window_s=1.0,
        detail=f"{_name(api, handle)}, energy counter",
        interval=ACCURACY,
        unit_j=1e-3,
        max_gap_s=LONGEST_GAP_S,
    )
    return GpuEnergy(api, handle, info, clock)


def power(api: NvmlApi, uuid: str, handle: Handle, clock: Clock = time.monotonic_ns) -> GpuPower | None:
    """The power of a GPU: as of now, else the mean of a second, else of the module; None where all fail."""
    for way in _ways(api, handle):
        try:
            way.ask()
        except NvmlFailed:
            continue
        info = SourceInfo(
            id=f"nvml:{uuid}",
            kind="nvml_power",
            component=way.component,
            scope=way.scope,
            quality=Quality.MEASURED,
            min_window_s=way.min_window_s,
            detail=f"{_name(api, handle)}, {way.detail}",
            interval=ACCURACY,
            max_gap_s=LONGEST_SAMPLE_GAP_S,
        )
        return GpuPower(way.ask, info, clock)
    return None


def _ways(api: NvmlApi, handle: Handle) -> Iterable[_Way]:
    """Ways to ask for power, the best first. A mean lags by half a second or more: its windows must be longer."""
    try:
        architecture = api.architecture(handle)
        mean = architecture >= _AMPERE and not _GA100.search(api.name(handle))
    except NvmlFailed:
        mean = True
    instant, average = 0.5, 5.0
    field = api.field_mw
    yield _Way("gpu", "board", instant, "power now", lambda: field(handle, POWER_INSTANT, GPU))
    yield _Way("gpu", "board", average, "mean power of 1 s", lambda: field(handle, POWER_AVERAGE, GPU))
    if mean:
        yield _Way("gpu", "board", average, "mean power of 1 s", lambda: api.power_mw(handle))
    else:
        yield _Way("gpu", "board", instant, "power now", lambda: api.power_mw(handle))
    module = "power now of the module with its CPU"
    yield _Way("board", "module", instant, module, lambda: field(handle, POWER_INSTANT, MODULE))


def _name(api: NvmlApi, handle: Handle) -> str:
    name = api.name(handle)
    return f"{name}, all MIG slices together" if api.mig(handle) else name
