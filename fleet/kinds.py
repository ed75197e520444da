"""Kinds of devices: cores, memory, link and energy constants, described once in kinds.toml.

The compose file emulates a device from its kind, the agent estimates joules from it, and the optimiser
takes its first prediction from it. Every constant names its source.
"""

import math
import tomllib
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from types import MappingProxyType
from typing import Any, Literal

from pydantic import Field

from fleet.errors import BadRequest
from fleet.experiment import Section, parse

Source = Field(pattern=r"^\[(fitted|published|derived|assumed)\] .")


class Radio(Section):
    """What a link's radio draws while it sends and while it receives."""

    transmit_watts: float = Field(gt=0)
    receive_watts: float = Field(ge=0)
    source: str = Source


class Link(Section):
    """The emulated link. `loss` is the probability that a packet is lost; a delay is one way.

    `radio` is None for a cable.
    """

    rate_up_bps: float = Field(gt=0)
    rate_down_bps: float = Field(gt=0)
    delay_s: float = Field(ge=0)
    jitter_s: float = Field(ge=0)
    loss: float = Field(ge=0, lt=1)
    source: str = Source
    radio: Radio | None = None


class Energy(Section):
    """watts = idle_watts + watts_per_core * busy logical CPUs, give or take `interval` of it.

    `scope` says what the watts cover: the processor package, the board, or all that the wall sees.
    """

    scope: Literal["package", "board", "wall"]
    idle_watts: float = Field(ge=0)
    idle_source: str = Source
    watts_per_core: float = Field(gt=0)
    watts_per_core_source: str = Source
    interval: float = Field(gt=0, lt=1)
    interval_source: str = Source

    def watts(self, busy_cores: float) -> float:
        """Estimated power with `busy_cores` logical CPUs busy."""
        return self.idle_watts + self.watts_per_core * busy_cores


class Emulation(Section):
    """What a container that emulates the device may use: `cpus` of the host's, and memory."""

    cpus: float = Field(gt=0)
    memory_bytes: int = Field(gt=0)
    source: str = Source

    @property
    def threads(self) -> int:
        """Threads to compute with: one per CPU or part of one."""
        return math.ceil(self.cpus)


class DeviceKind(Section):
    """One kind of device. `emulation` is None for a kind that the compose file does not emulate.

    An "edge" server generates images for other devices, a "device" for itself and for whoever has none.
    """

    name: str
    description: str
    cores: float = Field(gt=0)
    memory_bytes: int = Field(gt=0)
    source: str = Source
    link: Link
    energy: Energy
    emulation: Emulation | None = None
    place: Literal["device", "edge"] = "device"


def read(text: str, where: str) -> Mapping[str, DeviceKind]:
    """The kinds in a TOML `text`, in its order; BadExperiment names each wrong key."""
    tables: dict[str, dict[str, Any]] = tomllib.loads(text)
    return MappingProxyType(
        {name: parse(DeviceKind, {"name": name, **table}, f"{where}: {name}") for name, table in tables.items()}
    )


@cache
def kinds() -> Mapping[str, DeviceKind]:
    """Every kind wattbed knows, by name."""
    return read((files("fleet") / "kinds.toml").read_text(encoding="utf-8"), "fleet/kinds.toml")


def kind(name: str) -> DeviceKind:
    """The kind called `name`; BadRequest lists the known ones."""
    if name not in kinds():
        raise BadRequest(f"unknown device kind {name!r}; known are {', '.join(kinds())}")
    return kinds()[name]
