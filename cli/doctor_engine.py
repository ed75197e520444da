"""What the compose testbed needs of this machine: engine, compose, kernel, GPU runtime, images, ports."""

import platform
import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

from cli import cells, images, parts, ports
from cli.checks import Check, Finding
from cli.compose import METER, Compose, Stack
from cli.engine import Client, connect, engine_address, is_here
from cli.kernel import FEATURES, feature
from fleet.errors import BadRequest, WattbedError

POWERCAP = "/sys/devices/virtual/powercap"
MASKED_SINCE = ((20, 10, 27), (24, 0, 7))
"""GHSA-jq35-85cj-fj4p: releases of Docker's two lines then that began to mask powercap."""
CLOCK_TOLERANCE_S = 2.0


def examine_engine(
    environment: Mapping[str, str],
    compose_file: Callable[[], Compose],
    connected: Callable[[Mapping[str, str]], Client] = connect,
) -> Iterator[Check]:
    """Checks of the engine and of what the compose file asks of it. Without Docker they are absent, not broken."""
    compose, stack = None, None
    try:
        compose = compose_file()
        version = compose.version()
        stack = compose.stack()
        yield Check("docker compose", Finding.OK, f"{version}, {compose.files[0]} is valid")
    except WattbedError as error:
        finding = Finding.BROKEN if isinstance(error, BadRequest) and compose else Finding.ABSENT
        yield Check("docker compose", finding, str(error))
    try:
        client = connected(environment)
        info = client.info()
    except WattbedError as error:
        yield Check("docker engine", Finding.ABSENT, str(error))
        yield from kernel(None)
        return
    yield engine(info)
    yield limits(info)
    yield engine_clock(info, datetime.now(UTC))
    yield gpu_runtime(info)
    yield from kernel(str(info["KernelVersion"]))
    yield counters_in_containers(info, masked_paths(client), stack)
    if compose is not None and stack is not None:
        yield testbed(client, stack)
        yield from image_checks(client, stack)
        yield from port_checks(client, compose, stack, is_here(engine_address(environment)))


def engine(info: Mapping[str, Any]) -> Check:
    """What engine it is, and what it has."""
    room = f"{info['NCPU']} CPUs, {info['MemTotal'] / 1e9:.1f} GB"
    detail = f"{info['ServerVersion']} on {info['OperatingSystem']}, kernel {info['KernelVersion']}, {room}"
    return Check("docker engine", Finding.OK, detail)


def limits(info: Mapping[str, Any]) -> Check:
    """Whether the CPU quota and memory limit of a device kind take effect."""
    missing = [
        word for word, key in (("CPU quota", "CpuCfsQuota"), ("memory limit", "MemoryLimit")) if not info.get(key)
    ]
    version = f"cgroup v{info.get('CgroupVersion', '?')}, driver {info.get('CgroupDriver', '?')}"
    if missing:
        why = f"{' and '.join(missing)} of a device kind would not take effect"
        return Check("cgroup", Finding.BROKEN, f"{version}: {why}")
    return Check("cgroup", Finding.OK, f"{version}: CPU quota and memory limit take effect")


def engine_clock(info: Mapping[str, Any], now: datetime) -> Check:
    """How far the engine's clock is off this machine's."""
    off_s = (datetime.fromisoformat(str(info["SystemTime"])) - now).total_seconds()
    if abs(off_s) <= CLOCK_TOLERANCE_S:
        return Check("engine clock", Finding.OK, f"within {CLOCK_TOLERANCE_S:.0f} s of this machine's")
    words = f"{abs(off_s):.0f} s {'ahead of' if off_s > 0 else 'behind'} this machine's: deadlines would be off"
    return Check("engine clock", Finding.BROKEN, words)


def gpu_runtime(info: Mapping[str, Any]) -> Check:
    """Whether containers can be given an NVIDIA GPU."""
    if "nvidia" in (info.get("Runtimes") or {}):
        return Check("GPU runtime", Finding.OK, "the engine has the runtime `nvidia`")
    devices = [
        d["ID"] for d in info.get("DiscoveredDevices") or () if str(d.get("ID", "")).startswith("nvidia.com/")
    ]
    if devices:
        return Check("GPU runtime", Finding.OK, f"the engine has the CDI devices {', '.join(devices)}")
    driver = "an NVIDIA driver is here" if shutil.which("nvidia-smi") else "no NVIDIA driver is here either"
    fix = "install nvidia-container-toolkit, then `sudo nvidia-ctk runtime configure --runtime=docker`"
    return Check("GPU runtime", Finding.ABSENT, f"the engine has no runtime `nvidia`, and {driver}: {fix}")


def kernel(engine_release: str | None) -> Iterator[Check]:
    """What of a link can be emulated by the kernel; the engine's may be another than this machine's."""
    for module, (_, what) in FEATURES.items():
        if engine_release is not None and engine_release != platform.release():
            detail = f"unknown: the engine runs kernel {engine_release}, this machine {platform.release()}"
            yield Check(f"kernel {module}", Finding.UNKNOWN, detail)
            continue
        found = feature(module)
        finding = {True: Finding.OK, False: Finding.ABSENT, None: Finding.UNKNOWN}[found.present]
        instead = "; a relay does it instead" if module == "sch_netem" and found.present is False else ""
        yield Check(f"kernel {module}", finding, f"{what}: {found.detail}{instead}")


def masked_paths(client: Client) -> list[str] | None:
    """What the engine hides from the unprivileged containers that are here; None where there is none."""
    for container in client.containers.list(all=True, ignore_removed=True):
        host = container.attrs["HostConfig"]
        if not host.get("Privileged") and host.get("MaskedPaths") is not None:
            return list(host["MaskedPaths"])
    return None


def counters_in_containers(info: Mapping[str, Any], masked: list[str] | None, stack: Stack | None) -> Check:
    """Whether an unprivileged container sees the host's energy counters, and how the meter service does."""
    version = str(info["ServerVersion"])
    hidden = POWERCAP in masked if masked is not None else masks_powercap(version)
    words = {
        True: f"engine {version} hides {POWERCAP} from containers",
        False: f"engine {version} shows {POWERCAP} to containers, root may read it there",
        None: f"unknown whether engine {version} hides {POWERCAP} from containers",
    }[hidden]
    meter = stack.services.get(METER) if stack is not None else None
    through = (
        [f"{source} as {target}" for source, target in meter.mounts if source.startswith("/sys")] if meter else []
    )
    if through:
        return Check(
            "counters in containers", Finding.OK, f"{words}; `{METER}` reads them from {', '.join(through)}"
        )
    fix = "mount /sys/class and /sys/devices below /host/sys, read-only, where it is metered; set WATTBED_HOST_SYS"
    finding = Finding.UNKNOWN if hidden is None else Finding.ABSENT if hidden else Finding.OK
    return Check("counters in containers", finding, f"{words}; {fix}" if finding is not Finding.OK else words)


def masks_powercap(version: str) -> bool | None:
    """Whether an engine of this version hides powercap; None where its line of releases is not known."""
    numbers = re.match(r"(\d+)\.(\d+)\.(\d+)", version)
    if numbers is None:
        return None
    release = (int(numbers[1]), int(numbers[2]), int(numbers[3]))
    old, new = MASKED_SINCE
    if release >= new:
        return True
    return None if release[0] == 23 else release[:2] == old[:2] and release >= old


def testbed(client: Client, stack: Stack) -> Check:
    """Whether the compose testbed runs, whole or half."""
    found = parts.parts(client, stack.project)
    if not found:
        return Check("testbed", Finding.ABSENT, f"project {stack.project!r} does not run; `wattbed up` starts it")
    wrong = parts.faults(found, {})
    if wrong:
        return Check("testbed", Finding.BROKEN, str(parts.half_started(wrong)))
    ready = sum(p.ready for p in found)
    return Check("testbed", Finding.OK, f"project {stack.project!r}: {ready} of {len(found)} containers ready")


def image_checks(client: Client, stack: Stack) -> Iterator[Check]:
    """Which images are here."""
    builders = {s.image for s in stack.services.values() if s.builds}
    for name in dict.fromkeys(s.image for s in stack.services.values()):
        found = images.look(client, name)
        if found is None:
            how = "builds" if name in builders else "pulls"
            yield Check(f"image {name}", Finding.ABSENT, f"not here; `wattbed up` {how} it")
        else:
            commit = f", of commit {found.revision[:12]}" if found.revision else ""
            yield Check(f"image {name}", Finding.OK, f"{cells.size(found.size_bytes)}{commit}")


def port_checks(client: Client, compose: Compose, stack: Stack, here: bool) -> Iterator[Check]:
    """Which of the ports that the compose file shows are free, and who has the others."""
    for service in stack.services.values():
        for port in service.ports:
            if port.published is None:
                continue
            subject = f"port {port.published}"
            holder = ports.publisher(client, port.published)
            if holder is not None:
                whose = f"shown by container {holder[0]}"
                mine = holder[1] == stack.project
            elif here and ports.taken(port.host, port.published):
                whose, mine = f"in use by {ports.listener(port.published)}", False
            else:
                whose, mine = "free" if here else "unknown: the engine is on another machine", True
            hint = "" if mine else f"; {ports.advice(compose, port.target, port.published)}"
            finding = Finding.OK if mine else Finding.ABSENT
            yield Check(subject, finding, f"{service.name}: {whose}{hint}")
