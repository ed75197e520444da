"""The zones of the kernel's powercap tree: where they are, what they are called and why they may be hidden.

A zone is a directory `<control>:<index>[:<index>]` with a `name` and an `energy_uj`. The name says what it
is; the index does not (psys may be zone 1), and it may be hexadecimal. `enabled` is about capping, not about
counting, and is not read.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from edge_agent.energy.counter import Rejected
from edge_agent.energy.reading import text

CONTROLS = ("intel-rapl", "intel-rapl-tpmi", "intel-rapl-mmio")
"""Control types, the preferred first. One package may be in several of them."""

_ZONE = re.compile(r"(intel-rapl(?:-tpmi|-mmio)?)((?::[0-9a-f]+)+)")

MASKED_FIX = """Mount the host's tree beside the masked one and say where it is (docker compose):
  volumes:
    - /sys/class:/host/sys/class:ro
    - /sys/devices:/host/sys/devices:ro
  environment:
    WATTBED_HOST_SYS: /host/sys"""

DENIED_FIX = """Start the meter service, which runs as root and serves the others: docker compose up -d meter
Or, on the host (a local user who may read it can spy on others, so only a group gets it; run it at every boot):
  groupadd -f powercap
  find /sys/devices/virtual/powercap -name energy_uj -exec chgrp powercap {} + -exec chmod 0440 {} +"""

NO_DRIVER_FIX = (
    "On bare x86: modprobe intel_rapl_msr (on AMD from Linux 5.11). In a virtual machine: measure on its host."
)


@dataclass(frozen=True)
class Zone:
    """One zone. `parent` is the name of the zone it lies in, None at the top; `index` are its numbers.

    `id` is `rapl:package-0` or `rapl:package-0/dram`; one like another of its control gets its index too.
    """

    path: Path
    control: str
    index: tuple[int, ...]
    name: str
    parent: str | None
    id: str

    @property
    def rank(self) -> tuple[int, tuple[int, ...]]:
        """Zones of the preferred control type come first, each before the zones in it."""
        return CONTROLS.index(self.control), self.index


def zones(host_sys: Path) -> tuple[list[Zone], list[Rejected]]:
    """Every zone below `host_sys` in order of `rank`; without any, the reason for it."""
    paths: dict[str, Path] = {}
    for root in (host_sys / "class/powercap", host_sys / "devices/virtual/powercap"):
        for path in _walk(root):
            paths.setdefault(path.name, path)
    names: dict[str, str] = {}
    rejected = []
    for key, path in paths.items():
        try:
            names[key] = text(path / "name")
        except OSError as error:
            rejected.append(Rejected(f"rapl:{key}", f"{path}/name cannot be read: {error.strerror}"))
    found: list[Zone] = []
    taken = set()
    for key, name in names.items():
        control, *numbers = key.split(":")
        parent = names.get(key.rpartition(":")[0])
        id = f"rapl:{parent}/{name}" if parent else f"rapl:{name}"
        if (control, id) in taken:
            id += "#" + ":".join(numbers)
        taken.add((control, id))
        found.append(Zone(paths[key], control, tuple(int(part, 16) for part in numbers), name, parent, id))
    if not paths:
        rejected.append(_absent(host_sys))
    return sorted(found, key=lambda zone: zone.rank), rejected


def _walk(directory: Path) -> Iterator[Path]:
    """Zones in `directory`, in its control types and in its zones; follows no other link."""
    try:
        entries = sorted(directory.iterdir())
    except OSError:
        return
    for entry in entries:
        zone = _ZONE.fullmatch(entry.name) is not None
        if zone and entry.is_dir():
            yield entry
        if zone or entry.name in CONTROLS:
            yield from _walk(entry)


def _absent(host_sys: Path) -> Rejected:
    """Why there is no zone: hidden by the container engine, no domain, or no driver."""
    listed = host_sys / "class/powercap"
    try:
        entries = list(listed.iterdir())
    except OSError:
        reason = f"{listed} does not exist: no RAPL driver (not x86, a virtual machine, or its module is absent)"
        return Rejected("rapl", reason, NO_DRIVER_FIX)
    if any(entry.is_symlink() and not entry.exists() for entry in entries):
        reason = f"the links in {listed} lead into a directory that the container engine hides"
        return Rejected("rapl", reason, MASKED_FIX)
    if any((entry / "energy_uj").exists() for entry in entries):
        return Rejected("rapl", f"{listed} has power zones, but none of RAPL")
    reason = f"{listed} has no zone: the driver found no domain (usual in a virtual machine)"
    return Rejected("rapl", reason, NO_DRIVER_FIX)
