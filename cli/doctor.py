"""What can be measured, reached and run on this machine, and what not and why."""

import asyncio
import ctypes.util
import importlib
import os
import platform
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import psutil

from cli.client import Operator
from cli.data import found
from fleet.errors import WattbedError
from fleet.kinds import kinds

REQUIRED_PYTHON = (3, 11)
REQUIRED_MODULES = ("grpc", "numpy", "torch")
ROOM_BYTES = 1 << 30
"""A testbed keeps some models and their blobs: below this it soon stops with StorageFull."""


class Finding(StrEnum):
    """How a check came out. Only BROKEN keeps wattbed from running."""

    OK = "ok"
    ABSENT = "absent"
    BROKEN = "broken"


@dataclass(frozen=True)
class Check:
    """One thing that was looked at. `detail` says what was found, or why it is missing."""

    subject: str
    finding: Finding
    detail: str


def examine(address: str, state: Path, data: Path | None, host_sys: Path = Path("/sys")) -> Iterator[Check]:
    """Every check, the quick ones first. `host_sys` is where sysfs is mounted."""
    yield python()
    yield from map(module, REQUIRED_MODULES)
    yield machine()
    yield disk(state)
    yield asyncio.run(coordinator(address))
    for name in found(data):
        finding = Finding.OK if name.problem is None else Finding.ABSENT
        yield Check(f"data {name.name}", finding, name.problem or name.detail)
    yield energy_model()
    yield from counters(host_sys)


def python() -> Check:
    """The interpreter."""
    version = platform.python_version()
    if sys.version_info >= REQUIRED_PYTHON:
        return Check("python", Finding.OK, version)
    wanted = ".".join(map(str, REQUIRED_PYTHON))
    return Check("python", Finding.BROKEN, f"{version}, but {wanted} or newer is needed")


def module(name: str) -> Check:
    """Whether a module that nothing works without can be imported."""
    try:
        imported = importlib.import_module(name)
    except Exception as error:  # a broken wheel raises anything from OSError to AttributeError
        return Check(name, Finding.BROKEN, f"cannot be imported: {error}")
    detail = str(getattr(imported, "__version__", "version unknown"))
    if name == "torch":
        cuda = imported.cuda.device_count()
        detail += f", {cuda} CUDA devices" if cuda else ", no CUDA device: training runs on the CPU"
    return Check(name, Finding.OK, detail)


def machine() -> Check:
    """Cores this process may use, and memory."""
    cores = len(psutil.Process().cpu_affinity()) if hasattr(psutil.Process, "cpu_affinity") else os.cpu_count()
    memory = psutil.virtual_memory()
    room = f"{memory.available / 1e9:.1f} of {memory.total / 1e9:.1f} GB memory free"
    return Check("machine", Finding.OK, f"{platform.machine()}, {cores} cores, {room}")


def disk(state: Path) -> Check:
    """Room where the testbed's state lies, or would lie."""
    place = next(p for p in (state.resolve(), *state.resolve().parents) if p.exists())
    free = shutil.disk_usage(place).free
    finding = Finding.OK if free >= ROOM_BYTES else Finding.BROKEN
    return Check("disk", finding, f"{free / 1e9:.1f} GB free at {place}; {ROOM_BYTES / 1e9:.1f} GB are needed")


async def coordinator(address: str) -> Check:
    """Whether one answers, and how many devices are attached to it."""
    async with Operator(address) as operator:
        if not await operator.healthy():
            why = f"none answers at {address}; `wattbed up --local` starts one"
            return Check("coordinator", Finding.ABSENT, why)
        try:
            devices = await operator.devices()
        except WattbedError as error:
            return Check("coordinator", Finding.BROKEN, f"healthy at {address}, but: {error}")
    attached = sum(d.attached for d in devices)
    detail = f"answers at {address}, {attached} of {len(devices)} devices attached"
    return Check("coordinator", Finding.OK, detail)


def energy_model() -> Check:
    """The one source of joules of this version."""
    names = ", ".join(kinds())
    detail = f"CPU time times the power model of a device kind, always marked estimated; kinds: {names}"
    return Check("joules: model", Finding.OK, detail)


def counters(host_sys: Path) -> Iterator[Check]:
    """Energy counters that are here or not; this version reads none of them."""
    for subject, present, where in (
        ("RAPL", _zones(host_sys), f"{host_sys}/class/powercap"),
        ("INA3221", _ina3221(host_sys), f"{host_sys}/class/hwmon"),
        ("NVML", ctypes.util.find_library("nvidia-ml"), "libnvidia-ml, which comes with NVIDIA's driver"),
    ):
        detail = f"present: {present}; not read by this version" if present else f"not found: {where}"
        yield Check(f"joules: {subject}", Finding.ABSENT, detail)


def _zones(host_sys: Path) -> str:
    names = []
    for zone in sorted((host_sys / "class" / "powercap").glob("*/energy_uj")):
        access = "readable" if os.access(zone, os.R_OK) else "not readable by this user"
        names.append(f"{zone.parent.name} ({access})")
    return ", ".join(names)


def _ina3221(host_sys: Path) -> str:
    chips = [n.parent.name for n in (host_sys / "class" / "hwmon").glob("*/name") if _says(n, "ina3221")]
    return ", ".join(sorted(chips))


def _says(file: Path, word: str) -> bool:
    try:
        return file.read_text(encoding="utf-8").strip() == word
    except OSError:
        return False
