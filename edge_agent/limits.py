"""What this device may use, as Linux holds it to: CPU quota and memory limit of its control group, and its link.

Both versions of control groups are read. A process sees its own group at the mount point where its container has a
namespace of its own, below it by the path in /proc/self/cgroup where not. Limits of the groups above count too.
"""

from collections.abc import Callable, Iterator
from pathlib import Path

from prometheus_client.core import GaugeMetricFamily, InfoMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from fleet.domain import LinkInfo

MOUNT = "sys/fs/cgroup"
UNLIMITED_BYTES = 1 << 62
"""Version 1 says "no limit" as the largest multiple of a page: anything as large as this."""


def cpu_quota(root: Path = Path("/")) -> float | None:
    """CPU seconds per second that this process may use; None without a quota. `root` holds proc and sys."""
    quotas = [_quota(*_text(group / "cpu.max").partition(" ")[::2]) for group in _groups(root, "")]
    for group in _groups(root, "cpu"):
        quotas.append(_quota(_text(group / "cpu.cfs_quota_us"), _text(group / "cpu.cfs_period_us")))
    return min((quota for quota in quotas if quota is not None), default=None)


def memory_limit_bytes(root: Path = Path("/")) -> int | None:
    """Bytes that this process's group may hold; None without a limit."""
    limits = [_text(group / "memory.max") for group in _groups(root, "")]
    limits += [_text(group / "memory.limit_in_bytes") for group in _groups(root, "memory")]
    return min((int(t) for t in limits if t.isdecimal() and int(t) < UNLIMITED_BYTES), default=None)


def memory_in_use_bytes(root: Path = Path("/")) -> int | None:
    """Bytes that this process's group holds, less the file pages the kernel would drop first; None if untold."""
    for controller, used, dropped in (
        ("", "memory.current", "inactive_file"),
        ("memory", "memory.usage_in_bytes", "total_inactive_file"),
    ):
        for group in _groups(root, controller):
            held = _text(group / used)
            if held.isdecimal():
                stat = dict(line.split() for line in _text(group / "memory.stat").splitlines())
                return max(int(held) - int(stat.get(dropped, 0)), 0)
    return None


class LimitsCollector(Collector):
    """CPU, memory and link of one agent, read at scrape. No series where there is no limit or no emulated link."""

    def __init__(self, device: str, link: Callable[[], LinkInfo | None], root: Path = Path("/")) -> None:
        self._device = device
        self._link = link
        self._root = root

    def collect(self) -> Iterator[Metric]:
        """All families."""
        yield self._gauge(
            "wattbed_device_cpu_quota_cores", "CPU seconds per second at most", cpu_quota(self._root)
        )
        yield self._gauge("wattbed_device_memory_limit_bytes", "Memory at most", memory_limit_bytes(self._root))
        yield self._gauge("wattbed_device_memory_bytes", "Memory in use", memory_in_use_bytes(self._root))
        link = self._link()
        rate = GaugeMetricFamily(
            "wattbed_link_rate_bits_per_second",
            "Rate of the emulated link; with a trace its ceiling",
            labels=("agent", "direction"),
        )
        info = InfoMetricFamily("wattbed_link", "What emulates the link")
        delay_s = None
        if link is not None:
            if link.rate_by != "none":
                rate.add_metric((self._device, "up"), link.rate_up_bps)
                rate.add_metric((self._device, "down"), link.rate_down_bps)
            if link.delay_by != "none":
                delay_s = link.delay_s
            info.add_metric(
                (),
                {
                    "agent": self._device,
                    "rate_by": link.rate_by,
                    "delay_by": link.delay_by,
                    "loss_by": link.loss_by,
                    "trace": link.trace,
                },
            )
        yield rate
        yield self._gauge("wattbed_link_delay_seconds", "Delay of the emulated link, one way", delay_s)
        yield info

    def _gauge(self, name: str, says: str, value: float | None) -> Metric:
        family = GaugeMetricFamily(name, says, labels=("agent",))
        if value is not None:
            family.add_metric((self._device,), value)
        return family


def _groups(root: Path, controller: str) -> list[Path]:
    """This process's group of a version 1 controller, or of version 2 for "", then those above it."""
    mount = root / MOUNT / controller
    path = "/"
    for line in _text(root / "proc/self/cgroup").splitlines():
        _, names, below = line.split(":", 2)
        if controller in names.split(","):
            path = below
    groups = [mount / path.strip("/")]
    while groups[-1] != mount:
        groups.append(groups[-1].parent)
    return groups


def _quota(quota: str, period: str) -> float | None:
    return int(quota) / int(period) if quota.isdecimal() and period.isdecimal() and int(period) else None


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii", errors="replace").strip()
    except OSError:
        return ""
