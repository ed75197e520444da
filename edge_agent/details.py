"""What is told of a device besides its meters: GPU, kernel modules, versions. Asked of the kernel and of drivers.

What work costs it is measured by a short calibration that the coordinator asks for when it has joined.
"""

import platform
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from fleet.domain import Capabilities, VersionInfo

MODULES = (
    *("intel_rapl_common", "intel_rapl_msr", "amd_energy", "msr", "ina3221", "ina238", "nvidia", "nvgpu"),
    *("cpufreq_userspace", "sch_tbf", "sch_netem", "ifb", "act_mirred"),
)
"""Of meters, of levers and of emulated links."""

PACKAGES = ("torch", "bitsandbytes", "numpy", "numba", "grpcio", "cryptography", "nvidia-ml-py")


def with_details(found: Capabilities, root: Path = Path("/")) -> Capabilities:
    """`found` with GPU, modules and versions; `root` holds proc, sys and etc."""
    capability, memory_bytes = gpu() if found.gpu_model else (None, None)
    return replace(
        found,
        compute_capability=capability,
        gpu_memory_bytes=memory_bytes,
        kernel_modules=kernel_modules(root),
        versions=versions(root),
    )


def kernel_modules(root: Path = Path("/")) -> tuple[str, ...]:
    """Those of MODULES that are loaded, or built in and have parameters: the kernel shows no others of its own."""
    return tuple(name for name in MODULES if (root / "sys/module" / name).is_dir())


def versions(root: Path = Path("/")) -> tuple[VersionInfo, ...]:
    """Kernel, Python, drivers, and the packages that training and measuring depend on; those that are here."""
    found = [VersionInfo("kernel", platform.release()), VersionInfo("python", platform.python_version())]
    if (driver := _nvidia_driver(root)) is not None:
        found.append(VersionInfo("nvidia driver", driver))
    if (l4t := _first_line(root / "etc/nv_tegra_release")) is not None:
        found.append(VersionInfo("l4t", l4t))
    for package in PACKAGES:
        try:
            found.append(VersionInfo(package, version(package)))
        except PackageNotFoundError:
            continue
    return tuple(found)


def gpu() -> tuple[str | None, int | None]:
    """Compute capability ("8.9") and bytes of memory of the first GPU, as NVML tells; None what it does not."""
    try:
        import pynvml

        pynvml.nvmlInit()
    except Exception:  # no binding, another package of its name, or no library: then nothing is known
        return None, None
    try:
        handle = pynvml.nvmlDeviceGetHandleByIndex(0)
        major, minor = pynvml.nvmlDeviceGetCudaComputeCapability(handle)
        return f"{major}.{minor}", _memory_bytes(pynvml, handle)
    except pynvml.NVMLError:
        return None, None
    finally:
        pynvml.nvmlShutdown()


def _memory_bytes(nvml: Any, handle: Any) -> int | None:
    try:
        return int(nvml.nvmlDeviceGetMemoryInfo(handle).total)
    except nvml.NVMLError:  # a GPU that shares the memory of its processor has none of its own
        return None


def _nvidia_driver(root: Path) -> str | None:
    line = _first_line(root / "proc/driver/nvidia/version")
    if line is None:
        return None
    return next((w for w in line.split() if w[0].isdigit() and "." in w), line)


def _first_line(path: Path) -> str | None:
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return None
    return lines[0].strip() if lines else None
