"""Running average power limit: the processor's own energy counters, by powercap.

package holds core and uncore but not dram; psys holds package and more. So the host is the sum of distinct
packages and of dram, and core, uncore, psys and what has an unknown name are rails. A package that is listed
twice (by MSR and by MMIO) or mirrored (dies of one socket that show the same counter) is counted once.
"""

import os
import re
import time
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from edge_agent.energy.counter import RAIL, Raw, Rejected, SourceInfo
from edge_agent.energy.powercap import DENIED_FIX, NO_DRIVER_FIX, Zone, zones
from edge_agent.energy.reading import Clock, SourceFailed, number, number_or_none, reason_of
from fleet.domain import Quality

PACKAGE = re.compile(r"package-(\d+)(?:-die-(\d+))?")
RAILS = ("core", "uncore", "psys")

PACKAGE_WATTS = 1000.0
"""More than any package draws; holds where the zone does not say its own limit."""

NARROWEST_RANGE_J = 65_532.610_987
"""Range of a 32-bit counter in steps of 2**-16 J, the narrowest known; holds where a zone hides its range."""

LONGEST_GAP_S = 60.0
STILL_S = 0.5
"""A counter that did not move for so long, while a core was busy, counts nothing."""

Spin = Callable[[float], None]


def spin(seconds: float) -> None:
    """Keeps one core busy."""
    until = time.perf_counter() + seconds
    while time.perf_counter() < until:
        sum(range(200))


class RaplCounter:
    """One zone of powercap, in joules."""

    def __init__(self, zone: Zone, info: SourceInfo, clock: Clock) -> None:
        self.zone = zone
        self.info = info
        self._energy_uj = zone.path / "energy_uj"
        self._clock = clock

    def read(self) -> Raw:
        """Joules since the range was last passed; OSError or SourceFailed when the kernel does not say."""
        joules = number(self._energy_uj) * 1e-6
        return Raw(joules, self._clock())


@dataclass(frozen=True)
class Probed:
    """A counter, with its reading before and after one core was busy."""

    counter: RaplCounter
    before: Raw
    after: Raw


def find(
    host_sys: Path,
    host_proc: Path,
    clock: Clock = time.monotonic_ns,
    spin: Spin = spin,
    live: bool | None = None,
) -> tuple[list[RaplCounter], list[Rejected]]:
    """The counters to use below `host_sys`, and every other zone with the reason. Keeps a core busy meanwhile.

    live: whether a counter that stands still counts nothing; None: where `host_sys` is a kernel's and not a copy.
    """
    listed, rejected = zones(host_sys)
    cpuinfo = _cpuinfo(host_sys, host_proc)
    packages = sum(zone.name.startswith("package") for zone in listed)
    counters = [RaplCounter(zone, _info(zone, cpuinfo, packages), clock) for zone in listed]
    if live is None:
        live = (host_sys / "class").exists() and _of_kernel(host_sys / "class")
    moving, still = _probe(counters, spin, live)
    once, twice = _deduplicate(moving)
    distinct, mirrored = _drop_mirrors(once, spin)
    return distinct, [*rejected, *still, *twice, *mirrored]


def _cpuinfo(host_sys: Path, host_proc: Path) -> str:
    """What is known of the processor that the zones are of.

    Nothing, if only one of the trees is the running kernel's: a copy beside the real /proc is another machine.
    """
    try:
        if _of_kernel(host_sys / "class") == _of_kernel(host_proc / "cpuinfo"):
            return (host_proc / "cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        pass
    return ""


def _of_kernel(path: Path) -> bool:
    """Whether a path lies in a sysfs or procfs, also one that is mounted elsewhere."""
    device = os.stat(path).st_dev
    number = f"{os.major(device)}:{os.minor(device)}"
    for line in Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="replace").splitlines():
        mounted, _, filesystem = line.partition(" - ")
        if mounted.split()[2] == number and filesystem.split()[0] in ("sysfs", "proc"):
            return True
    return False


def _info(zone: Zone, cpuinfo: str, packages: int) -> SourceInfo:
    range_uj = number_or_none(zone.path / "max_energy_range_uj")
    if range_uj is not None and range_uj <= 0:
        range_uj = None
    unit_j = None if range_uj is None else range_uj * 1e-6 / 0xFFFF_FFFF
    wrap_j = None if range_uj is None or unit_j is None else range_uj * 1e-6 + unit_j
    max_watts = _max_watts(zone, packages)
    component, rail = _component(zone.name)
    detail = f"{zone.name} of {zone.control}"
    if range_uj is None:
        detail += ", range unknown: what is spent while it wraps is lost"
    virtual = re.search(r"^flags\s*:.*\bhypervisor\b", cpuinfo, re.MULTILINE) is not None
    if virtual:
        detail += ", virtual: the hypervisor's estimate"
    if "AuthenticAMD" in cpuinfo:
        detail += ", AMD: without memory, not checked against a meter"
    return SourceInfo(
        id=zone.id,
        kind="rapl",
        component=component,
        scope="package",
        quality=Quality.DERIVED if virtual else Quality.MEASURED,
        min_window_s=0.05,
        detail=detail,
        unit_j=unit_j,
        wrap_j=wrap_j,
        max_watts=max_watts,
        max_gap_s=min(LONGEST_GAP_S, (wrap_j or NARROWEST_RANGE_J) / (2 * max_watts)),
        rail=rail,
    )


def _component(name: str) -> tuple[str, str | None]:
    """The component that a zone of this name counts, and its name among the rails if it is one."""
    if PACKAGE.fullmatch(name):
        return "cpu", None
    if name == "dram":
        return "dram", None
    return RAIL, name if name in RAILS else "other"


def _max_watts(zone: Zone, packages: int) -> float:
    """Twice the highest limit that the zone names; short bursts go above the long-term one."""
    limits = [
        number_or_none(path)
        for kind in ("max_power_uw", "power_limit_uw")
        for path in zone.path.glob(f"constraint_*_{kind}")
    ]
    highest = max((limit * 1e-6 for limit in limits if limit is not None), default=0.0)
    ceiling = PACKAGE_WATTS * (max(1, packages) if zone.name == "psys" else 1)
    return min(2 * highest, ceiling) if highest > 0 else ceiling


def _probe(counters: Iterable[RaplCounter], spin: Spin, live: bool) -> tuple[list[Probed], list[Rejected]]:
    """Reads each counter before and after a core was busy; one that cannot be read or stood still is rejected.

    In a copy, which nothing advances, only a zero is.
    """
    rejected, waiting, moving = [], {}, []
    for counter in counters:
        try:
            waiting[counter] = counter.read()
        except (OSError, SourceFailed) as error:
            rejected.append(_unreadable(counter, error))
    spun_s = 0.0
    while waiting and spun_s < (STILL_S if live else 0.02):
        spin(0.02)
        spun_s += 0.02
        for counter, before in list(waiting.items()):
            try:
                after = counter.read()
            except (OSError, SourceFailed) as error:
                rejected.append(_unreadable(counter, error))
                del waiting[counter]
                continue
            # A graphics part at rest may stand still while a core is busy; a zero says nothing of anything.
            still_fine = not live or counter.info.rail == "uncore"
            if after.value != before.value or (still_fine and before.value > 0):
                moving.append(Probed(counter, before, after))
                del waiting[counter]
    for counter, before in waiting.items():
        what = "is zero" if before.value == 0 else f"stands still at {before.value:g} J"
        reason = f"the counter {what} while a core is busy: no RAPL behind it (usual in a virtual machine)"
        rejected.append(Rejected(counter.info.id, reason, NO_DRIVER_FIX))
    return sorted(moving, key=lambda probed: probed.counter.zone.rank), rejected


def _unreadable(counter: RaplCounter, error: OSError | SourceFailed) -> Rejected:
    path = counter.zone.path / "energy_uj"
    if isinstance(error, PermissionError):
        try:
            mode = f"mode {path.stat().st_mode & 0o777:04o}"
        except OSError:
            mode = "mode unknown"
        return Rejected(counter.info.id, f"{path}: permission denied ({mode})", DENIED_FIX)
    return Rejected(counter.info.id, f"{path} cannot be read: {reason_of(error)}")


def _deduplicate(probed: Iterable[Probed]) -> tuple[list[Probed], list[Rejected]]:
    """Keeps one zone of each (name, parent) over the control types: that of the preferred type."""
    kept: dict[tuple[str, str | None], Probed] = {}
    alike, rejected = [], []
    for one in probed:
        zone = one.counter.zone
        first = kept.setdefault((zone.name, zone.parent), one)
        if first.counter.zone.control == zone.control:
            alike.append(one)
        else:
            reason = f"{zone.name} is counted by {first.counter.zone.control} already"
            rejected.append(Rejected(f"{zone.id}@{zone.control}", reason))
    return alike, rejected


def _drop_mirrors(probed: list[Probed], spin: Spin) -> tuple[list[RaplCounter], list[Rejected]]:
    """Keeps one of the dies of a package that show the same counter; what lies in the others goes too."""
    dies: dict[str, list[Probed]] = defaultdict(list)
    for one in probed:
        if match := PACKAGE.fullmatch(one.counter.zone.name):
            dies[match[1]].append(one)
    groups = [group for group in dies.values() if len(group) > 1]
    if groups:
        spin(0.2)  # an update of 1 ms that one die shows and the other does not yet is then below 1 %
    mirror_of: dict[Zone, Zone] = {}
    for group in groups:
        distinct: list[tuple[Probed, float]] = []
        for one in group:
            joules = _now_joules(one)
            twin = next((other for other, now in distinct if _mirrors(other, now, one, joules)), None)
            if twin is None:
                distinct.append((one, joules))
            else:
                mirror_of[one.counter.zone] = twin.counter.zone
    kept, rejected = [], []
    for one in probed:
        zone = one.counter.zone
        mirror = next((m for m in mirror_of if zone in (m, *_children(m, probed))), None)
        if mirror is None:
            kept.append(one.counter)
        else:
            reason = f"{mirror.name} shows the counter of {mirror_of[mirror].name} once more"
            rejected.append(Rejected(zone.id, reason))
    return kept, rejected


def _now_joules(one: Probed) -> float:
    try:
        return one.counter.read().value
    except (OSError, SourceFailed):
        return one.after.value


def _children(zone: Zone, probed: Iterable[Probed]) -> list[Zone]:
    others = (one.counter.zone for one in probed)
    return [other for other in others if other.control == zone.control and other.index[:-1] == zone.index]


def _mirrors(one: Probed, one_now_joules: float, other: Probed, other_now_joules: float) -> bool:
    """Whether two counters are equal but for what was spent between reading them, and grow alike within 1 %."""
    apart_s = abs(other.before.at_ns - one.before.at_ns) * 1e-9 + 0.002  # an update of 1 ms on either side
    spent_joules = (one.counter.info.max_watts or PACKAGE_WATTS) * apart_s
    grown = one_now_joules - one.before.value, other_now_joules - other.before.value
    equal = abs(other.before.value - one.before.value) <= spent_joules
    return equal and abs(grown[0] - grown[1]) <= 0.01 * max(abs(grown[0]), abs(grown[1]))
