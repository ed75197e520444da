"""Levers that are files of sysfs: the greatest clock of processors (cpufreq) and of Jetson's GPU (devfreq)."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from edge_agent.levers.lever import HERTZ, LeverStuck
from fleet.domain import LeverInfo

KILO = 1000.0


@dataclass(frozen=True)
class ClockFile:
    """One file that holds the greatest clock allowed, in units of `unit_hz`; its own bounds in hertz."""

    path: Path
    unit_hz: float
    minimum_hz: float
    maximum_hz: float
    steps_hz: tuple[float, ...] = ()

    def nearest(self, hertz: float) -> float:
        """The greatest clock of the device that is not above `hertz`, within its bounds."""
        wanted = min(max(hertz, self.minimum_hz), self.maximum_hz)
        return max((step for step in self.steps_hz if step <= wanted), default=wanted)

    def read(self) -> float:
        """What the file says, in hertz."""
        return _hertz(self.path, self.unit_hz)


class ClockFiles:
    """Sets the greatest clock of several units of one device at once: each to what it can do of the request."""

    def __init__(self, name: str, files: tuple[ClockFile, ...], detail: str) -> None:
        self._files = files
        self.info = LeverInfo(
            name,
            HERTZ,
            min(f.minimum_hz for f in files),
            max(f.maximum_hz for f in files),
            detail,
        )

    def original(self) -> dict[str, str]:
        """Path to content."""
        return {str(f.path): f.path.read_text(encoding="ascii").strip() for f in self._files}

    def apply(self, value: float) -> float:
        """The greatest clock any of the units has now."""
        for f in self._files:
            f.path.write_text(str(round(f.nearest(value) / f.unit_hz)), encoding="ascii")
        return max(f.read() for f in self._files)

    def restore(self, original: dict[str, str]) -> None:
        """Writes every file back; only files of this lever are written."""
        ours = {str(f.path) for f in self._files}
        failed = []
        for path, content in original.items():
            if path not in ours:
                failed.append(f"{path} is not a file of {self.info.lever}")
                continue
            try:
                Path(path).write_text(content, encoding="ascii")
            except OSError as error:
                failed.append(f"{path}: {error.strerror}")
        if failed:
            raise LeverStuck("; ".join(failed))


def cpufreq(host_sys: Path) -> Iterable[ClockFiles]:
    """`cpufreq`: scaling_max_freq of every policy (clusters of processors that share a clock)."""
    files = []
    for policy in sorted((host_sys / "devices/system/cpu/cpufreq").glob("policy*")):
        try:
            low, high = (_hertz(policy / f"cpuinfo_{edge}_freq", KILO) for edge in ("min", "max"))
            floor = max(low, _hertz(policy / "scaling_min_freq", KILO))
            steps = _steps(policy / "scaling_available_frequencies", KILO)
            _hertz(policy / "scaling_max_freq", KILO)
        except (OSError, LeverStuck):
            continue
        files.append(ClockFile(policy / "scaling_max_freq", KILO, floor, high, steps))
    if files:
        detail = f"scaling_max_freq of {len(files)} cpufreq policies; the governor may stay below it"
        yield ClockFiles("cpufreq", tuple(files), detail)


def devfreq(host_sys: Path) -> Iterable[ClockFiles]:
    """`devfreq:NAME` for each GPU with a devfreq entry, as Jetson's have."""
    for folder in sorted((host_sys / "class/devfreq").glob("*")):
        if not any(word in folder.name for word in ("gpu", "gv11b", "gp10b", "ga10b", "gb10b")):
            continue
        try:
            steps = _steps(folder / "available_frequencies", 1.0)
            floor = _hertz(folder / "min_freq", 1.0)
            now = _hertz(folder / "max_freq", 1.0)
        except (OSError, LeverStuck):
            continue
        highest = max(steps, default=now)
        file = ClockFile(folder / "max_freq", 1.0, floor, highest, steps)
        yield ClockFiles(f"devfreq:{folder.name}", (file,), "max_freq of the GPU's devfreq")


def _hertz(path: Path, unit_hz: float) -> float:
    content = path.read_text(encoding="ascii").strip()
    if not content.isdecimal():
        raise LeverStuck(f"{path} holds {content[:40]!r}, not a clock")
    return int(content) * unit_hz


def _steps(path: Path, unit_hz: float) -> tuple[float, ...]:
    try:
        words = path.read_text(encoding="ascii").split()
    except OSError:
        return ()
    return tuple(sorted(int(word) * unit_hz for word in words if word.isdecimal()))
