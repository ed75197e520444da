"""CPU time that one process hands to another as an open file.

An agent opens the usage file of its own cgroup (`cpu.stat`, or `cpuacct.usage` of version 1) and passes the
open file over a Unix socket. Its container shows it no other, so it cannot name a foreign one, and the reader
needs neither the host's process ids nor its cgroup tree. The file counts also what ended processes used. An
agent that is in no container hands over its /proc/self/stat.
"""

import os
import stat
import weakref
from dataclasses import dataclass
from pathlib import Path

from edge_agent.energy.cpu_time import own_usage
from fleet.errors import BadRequest

CGROUP_FILES = ("cpu.stat", "cpuacct.usage")
BUSY_FIELDS = (1, 2, 3, 6, 7)
"""user, nice, system, irq, softirq of /proc/stat; time as a guest is in user already, steal was not used here."""

_HERTZ = os.sysconf("SC_CLK_TCK")


def open_own() -> int:
    """A descriptor of the file with the CPU time of this process's container, or of this process."""
    return os.open(own_usage() or Path("/proc/self/stat"), os.O_RDONLY | os.O_CLOEXEC)


def cgroup_devices(procfs: Path = Path("/proc")) -> frozenset[int]:
    """The device numbers of the cgroup hierarchies, which are the same in every container of a host."""
    found = set()
    for line in (procfs / "self/mountinfo").read_text(encoding="utf-8").splitlines():
        mounted, _, source = line.partition(" - ")
        if source.split()[0] in ("cgroup", "cgroup2"):
            major, minor = mounted.split()[2].split(":")
            found.add(os.makedev(int(major), int(minor)))
    return frozenset(found)


@dataclass(frozen=True)
class UsageFile:
    """CPU time somebody handed over. `identity` is the same for two descriptors of the same file."""

    descriptor: int
    name: str
    identity: tuple[int, int]

    def seconds(self) -> float:
        """CPU seconds so far; OSError when the cgroup or the process is gone."""
        content = os.pread(self.descriptor, 4096, 0).decode("ascii", errors="replace")
        try:
            return _SECONDS[self.name](content)
        except (KeyError, IndexError, ValueError):
            raise OSError(f"{self.name} holds {content[:40]!r}, not a CPU time") from None

    def close(self) -> None:
        """Closes the descriptor."""
        os.close(self.descriptor)


def accept(descriptor: int, pid: int, devices: frozenset[int], procfs: Path = Path("/proc")) -> UsageFile:
    """The CPU time behind a descriptor that came from process `pid`; BadRequest when it is anything else.

    `devices` are the cgroup hierarchies. A process file must be the one of `pid` itself.
    """
    found = os.fstat(descriptor)
    name = Path(os.readlink(f"/proc/self/fd/{descriptor}")).name
    if not stat.S_ISREG(found.st_mode):
        raise BadRequest(f"the descriptor handed over is no regular file: {name!r}")
    usage = UsageFile(descriptor, name, (found.st_dev, found.st_ino))
    if name in CGROUP_FILES and found.st_dev in devices:
        usage.seconds()
        return usage
    if name == "stat" and found.st_dev == procfs.stat().st_dev and _pid(descriptor) == pid:
        return usage
    raise BadRequest(
        f"the descriptor handed over is neither a cgroup's CPU time nor that of process {pid}: {name!r}"
    )


def _pid(descriptor: int) -> int:
    return int(os.pread(descriptor, 32, 0).split()[0])


def _cpu_stat(content: str) -> float:
    return int(dict(line.split(maxsplit=1) for line in content.splitlines())["usage_usec"]) * 1e-6


def _cpuacct_usage(content: str) -> float:
    return int(content) * 1e-9


def _process_stat(content: str) -> float:
    fields = content.rpartition(")")[2].split()  # the name before it may hold blanks and brackets
    return sum(int(fields[number]) for number in (11, 12, 13, 14)) / _HERTZ


_SECONDS = {"cpu.stat": _cpu_stat, "cpuacct.usage": _cpuacct_usage, "stat": _process_stat}


class HostBusy:
    """CPU time of all processors of the host. Its file stays open: opened anew it takes four times as long."""

    def __init__(self, procfs: Path = Path("/proc")) -> None:
        self._path = procfs / "stat"
        self._descriptor: int | None = None

    def seconds(self) -> float:
        """CPU seconds the processors were busy since boot; OSError when that cannot be read."""
        if self._descriptor is None:
            self._descriptor = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
            weakref.finalize(self, os.close, self._descriptor)
        content = os.pread(self._descriptor, 512, 0).decode("ascii", errors="replace")
        fields = content.partition("\n")[0].split()
        if not fields or fields[0] != "cpu" or len(fields) < 8:
            raise OSError(f"{self._path} begins with {content[:40]!r}, not with the processors' times")
        return sum(int(fields[number]) for number in BUSY_FIELDS) / _HERTZ


def host_busy_seconds(procfs: Path = Path("/proc")) -> float:
    """CPU seconds all processors of the host were busy since boot; OSError when it cannot be read."""
    return HostBusy(procfs).seconds()
