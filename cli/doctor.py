"""What can be measured, reached and run on this machine, and what not and why."""

import asyncio
import ctypes
import importlib
import os
import platform
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil

from cli import last_up
from cli.checks import Check, Finding
from cli.client import Operator
from cli.data import found
from cli.doctor_engine import examine_engine
from fleet.errors import WattbedError
from fleet.kinds import kinds

REQUIRED_PYTHON = (3, 11)
REQUIRED_MODULES = ("grpc", "numpy", "torch")
ROOM_BYTES = 1 << 30
"""A testbed keeps some models and their blobs: below this it soon stops with StorageFull."""
TIMEX_BYTES, TIME_ERROR = 256, 5
"""adjtimex(2): room for a struct timex whose modes are 0, which changes nothing; and what a free clock returns."""


def examine(address: str, state: Path, data: Path | None) -> Iterator[Check]:
    """Every check but those of energy counters, the quick ones first."""
    yield python()
    yield from map(module, REQUIRED_MODULES)
    yield machine()
    yield disk(state)
    yield clock()
    yield asyncio.run(coordinator(address))
    yield from examine_engine(os.environ, lambda: last_up.compose(last_up.load(state), os.environ))
    for name in found(data):
        finding = Finding.OK if name.problem is None else Finding.ABSENT
        yield Check(f"data {name.name}", finding, name.problem or name.detail)
    yield energy_model()


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
            why = f"none answers at {address}; `wattbed up` starts one"
            return Check("coordinator", Finding.ABSENT, why)
        try:
            devices = await operator.devices()
        except WattbedError as error:
            return Check("coordinator", Finding.BROKEN, f"healthy at {address}, but: {error}")
    attached = sum(d.attached for d in devices)
    detail = f"answers at {address}, {attached} of {len(devices)} devices attached"
    return Check("coordinator", Finding.OK, detail)


def clock(adjtimex: Callable[[Any], int] | None = None) -> Check:
    """Whether the kernel says that something keeps this machine's clock right."""
    try:
        answer = (adjtimex or ctypes.CDLL(None).adjtimex)(ctypes.create_string_buffer(TIMEX_BYTES))
    except (OSError, AttributeError, TypeError):
        return Check("clock", Finding.UNKNOWN, "unknown: this system has no adjtimex")
    if answer < 0:
        return Check("clock", Finding.UNKNOWN, "unknown: this process may not ask the kernel")
    if answer == TIME_ERROR:
        return Check(
            "clock", Finding.ABSENT, "nothing keeps it right, says the kernel: `timedatectl set-ntp true`"
        )
    return Check("clock", Finding.OK, "kept right, says the kernel")


def energy_model() -> Check:
    """What joules are estimated by where no meter is."""
    names = ", ".join(kinds())
    detail = f"CPU time times the power model of a device kind, always marked estimated; kinds: {names}"
    return Check("joules: model", Finding.OK, detail)
