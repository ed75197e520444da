"""What this device is: asked of the kernel, never of a command."""

import math
import os
import platform
from importlib.metadata import version
from pathlib import Path

import psutil

from edge_agent.energy.counter import Rejected, SourceInfo
from edge_agent.limits import cpu_quota as cpu_quota
from edge_agent.limits import memory_limit_bytes
from fleet.domain import Capabilities, LeverInfo, RejectedMeter


def capabilities(
    kind: str,
    sources: tuple[SourceInfo, ...],
    rejected: tuple[Rejected, ...] = (),
    levers: tuple[LeverInfo, ...] = (),
    root: Path = Path("/"),
) -> Capabilities:
    """Processor, memory and GPU as this process may use them; `root` holds proc and sys."""
    return Capabilities(
        kind=kind,
        cpu_model=cpu_model(root),
        cpu_cores=cores(root),
        memory_bytes=memory_bytes(root),
        machine=platform.machine(),
        agent_version=version("wattbed"),
        gpu_model=gpu_model(root),
        meters=tuple(source.meter_info() for source in sources),
        rejected_meters=tuple(RejectedMeter(one.id, one.reason) for one in rejected),
        levers=levers,
        cpu_quota=cpu_quota(root),
    )


LIKELY = (
    ("raspberry-pi-5", "proc/device-tree/model", "Raspberry Pi 5"),
    ("jetson-orin-nano", "proc/device-tree/model", "Orin Nano"),
    ("mini-pc-n100", "proc/cpuinfo", "N100"),
)


def likely_kind(root: Path = Path("/")) -> str | None:
    """The kind that this machine says it is; None where it says none that is known."""
    for kind, path, words in LIKELY:
        try:
            if words in (root / path).read_text(encoding="utf-8", errors="replace"):
                return kind
        except OSError:
            continue
    return "gpu-workstation" if gpu_model(root) else None


def cores(root: Path = Path("/")) -> int:
    """Processors this process may use at once: its affinity, or its CPU quota rounded up where that is less."""
    allowed = len(os.sched_getaffinity(0))
    quota = cpu_quota(root)
    return allowed if quota is None else min(allowed, math.ceil(quota))


def memory_bytes(root: Path = Path("/")) -> int:
    """Memory of the machine, or of the container where that is less."""
    total = psutil.virtual_memory().total
    return min(total, memory_limit_bytes(root) or total)


def cpu_model(root: Path = Path("/")) -> str:
    """The processor's name; the machine's architecture where the kernel has no name for it."""
    return _field(root / "proc/cpuinfo", "model name") or platform.machine()


def gpu_model(root: Path = Path("/")) -> str | None:
    """The name of the first NVIDIA GPU, as its driver tells; None where there is no such driver."""
    found = sorted((root / "proc/driver/nvidia/gpus").glob("*/information"))
    return _field(found[0], "Model") if found else None


def gpu_uuids(root: Path = Path("/")) -> tuple[str, ...]:
    """The UUIDs of the NVIDIA GPUs this process sees; empty where there is no such driver."""
    found = sorted((root / "proc/driver/nvidia/gpus").glob("*/information"))
    return tuple(uuid for path in found if (uuid := _field(path, "GPU UUID")) and "?" not in uuid)


def _field(path: Path, name: str) -> str | None:
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return None
    for line in lines:
        key, _, value = line.partition(":")
        if key.strip() == name:
            return value.strip()
    return None
