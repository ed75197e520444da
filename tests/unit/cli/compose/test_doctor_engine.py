import gzip
import platform
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from cli import doctor_engine, kernel
from cli.checks import Finding
from cli.compose import Compose
from cli.engine import connect
from fleet.errors import Unequipped, Unreachable

RELEASE = "6.1.0-test"
INFO = {
    "ServerVersion": "26.1.5",
    "OperatingSystem": "Debian",
    "KernelVersion": platform.release(),
    "NCPU": 4,
    "MemTotal": 16_000_000_000,
    "CgroupVersion": "2",
    "CpuCfsQuota": True,
    "MemoryLimit": True,
    "Runtimes": {"runc": {}},
}


def config(root: Path, text: str) -> None:
    (root / "proc").mkdir(exist_ok=True)
    (root / "proc" / "config.gz").write_bytes(gzip.compress(text.encode()))


def modules(root: Path, name: str, text: str) -> None:
    folder = root / "lib" / "modules" / RELEASE
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(text)


def netem(root: Path) -> kernel.Feature:
    return kernel.feature("sch_netem", root, RELEASE)


def test_a_loaded_module_is_there(tmp_path: Path) -> None:
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc" / "modules").write_text("sch_netem 28672 0 - Live 0x0\n")
    assert netem(tmp_path) == kernel.Feature(True, "loaded")


def test_a_module_on_disk_is_loaded_when_it_is_needed(tmp_path: Path) -> None:
    modules(tmp_path, "modules.dep", "kernel/net/sched/sch_netem.ko.xz:\n")
    assert netem(tmp_path).present is True


def test_a_builtin_is_there(tmp_path: Path) -> None:
    modules(tmp_path, "modules.builtin", "kernel/net/sched/sch_netem.ko\n")
    assert netem(tmp_path) == kernel.Feature(True, "built into the kernel")


def test_the_configuration_says_what_is_built_in_and_what_is_left_out(tmp_path: Path) -> None:
    config(tmp_path, "CONFIG_NET_SCH_TBF=y\n# CONFIG_NET_SCH_NETEM is not set\n")
    assert (kernel.feature("sch_tbf", tmp_path, RELEASE).present, netem(tmp_path)) == (
        True,
        kernel.Feature(False, "not in this kernel (CONFIG_NET_SCH_NETEM is not set)"),
    )


def test_a_module_in_a_package_that_is_not_installed_is_not_there(tmp_path: Path) -> None:
    config(tmp_path, "CONFIG_NET_SCH_NETEM=m\n")
    modules(tmp_path, "modules.dep", "kernel/net/sched/sch_tbf.ko:\n")
    assert (netem(tmp_path).present, "not installed" in netem(tmp_path).detail) == (False, True)


def test_where_nothing_says_it_is_unknown_and_not_absent(tmp_path: Path) -> None:
    before = netem(tmp_path).present
    config(tmp_path, "CONFIG_NET_SCH_NETEM=m\n")
    assert (before, netem(tmp_path).present) == (None, None)


def test_the_kernel_of_another_machine_is_unknown() -> None:
    assert {c.finding for c in doctor_engine.kernel("5.15.0-elsewhere")} == {Finding.UNKNOWN}


@pytest.mark.parametrize(
    ("version", "masks"),
    [
        *(("26.1.5+dfsg1", True), ("24.0.7", True), ("24.0.6", False)),
        *(("20.10.27", True), ("20.10.24", False), ("23.0.8", None), ("podman", None)),
    ],
)
def test_powercap_is_masked_since_the_release_that_began_to(version: str, masks: bool | None) -> None:
    assert doctor_engine.masks_powercap(version) is masks


def test_what_a_container_shows_as_masked_counts_more_than_the_version(engine: Any) -> None:
    engine.add("pi").attrs["HostConfig"]["MaskedPaths"] = ["/proc/kcore"]
    masked = doctor_engine.masked_paths(engine)
    check = doctor_engine.counters_in_containers(INFO, masked, None)
    assert (check.finding, "shows /sys/devices/virtual/powercap to containers" in check.detail) == (
        Finding.OK,
        True,
    )


def test_the_meter_service_is_named_with_what_it_reads_through(docker: Any, compose: Compose) -> None:
    docker.model["services"]["meter"] = {
        "image": "agent:1",
        "volumes": [{"type": "bind", "source": "/sys/class", "target": "/host/sys/class"}],
    }
    check = doctor_engine.counters_in_containers(INFO, None, compose.stack())
    assert (check.finding, check.detail) == (
        Finding.OK,
        "engine 26.1.5 hides /sys/devices/virtual/powercap from containers; "
        "`meter` reads them from /sys/class as /host/sys/class",
    )


def test_without_a_meter_service_the_mask_comes_with_its_fix() -> None:
    check = doctor_engine.counters_in_containers(INFO, None, None)
    assert (check.finding, "below /host/sys" in check.detail) == (Finding.ABSENT, True)


def test_limits_that_would_not_take_effect_are_broken() -> None:
    check = doctor_engine.limits({**INFO, "CpuCfsQuota": False})
    assert (check.finding, "CPU quota of a device kind would not take effect" in check.detail) == (
        Finding.BROKEN,
        True,
    )


@pytest.mark.parametrize(("seconds", "finding"), [(1, Finding.OK), (90, Finding.BROKEN), (-90, Finding.BROKEN)])
def test_an_engine_whose_clock_is_off_is_broken(seconds: int, finding: Finding) -> None:
    now = datetime(2026, 1, 1, tzinfo=UTC)
    info = {"SystemTime": (now + timedelta(seconds=seconds)).isoformat()}
    assert doctor_engine.engine_clock(info, now).finding is finding


@pytest.mark.parametrize(
    ("more", "finding"),
    [
        ({}, Finding.ABSENT),
        ({"Runtimes": {"nvidia": {}}}, Finding.OK),
        ({"DiscoveredDevices": [{"Source": "cdi", "ID": "nvidia.com/gpu=0"}]}, Finding.OK),
    ],
)
def test_a_gpu_reaches_containers_by_runtime_or_by_cdi(more: dict[str, Any], finding: Finding) -> None:
    assert doctor_engine.gpu_runtime(INFO | more).finding is finding


def test_a_half_started_testbed_is_broken_and_none_is_absent(engine: Any, compose: Compose) -> None:
    stack = compose.stack()
    before = doctor_engine.testbed(engine, stack)
    engine.add("coordinator", Status="exited", ExitCode=3).attrs["HostConfig"]["RestartPolicy"] = {
        "Name": "always"
    }
    after = doctor_engine.testbed(engine, stack)
    assert (before.finding, after.finding, "bed-coordinator-1 exited with 3" in after.detail) == (
        Finding.ABSENT,
        Finding.BROKEN,
        True,
    )


def test_images_and_ports_are_told_one_by_one(engine: Any, compose: Compose) -> None:
    engine.here.remove("grafana:1")
    other = engine.add("web", project="blog")
    other.attrs["NetworkSettings"]["Ports"] = {"80/tcp": [{"HostIp": "0.0.0.0", "HostPort": "50551"}]}
    stack = compose.stack()
    found = {c.subject: c for c in doctor_engine.image_checks(engine, stack)}
    ports = {c.subject: c for c in doctor_engine.port_checks(engine, compose, stack, here=False)}
    assert (found["image grafana:1"].detail, found["image agent:1"].detail, ports["port 50551"].detail) == (
        "not here; `wattbed up` pulls it",
        "1.57 GB",
        "coordinator: shown by container blog-web-1; choose another with `--port N` or WATTBED_PORT=50552",
    )


def test_without_an_engine_the_rest_is_still_looked_at(compose: Compose) -> None:
    def refuse(environment: Any) -> Any:
        raise Unreachable("the Docker engine is not running")

    found = {c.subject: c for c in doctor_engine.examine_engine({}, lambda: compose, refuse)}
    assert (found["docker engine"].finding, "kernel sch_netem" in found) == (Finding.ABSENT, True)


def test_an_engine_that_does_not_run_says_how_to_start_it(tmp_path: Path) -> None:
    with pytest.raises(Unreachable, match=r"not running, there is no .*/no.sock: start it"):
        connect({"DOCKER_HOST": f"unix://{tmp_path}/no.sock"}, which=lambda name: "/usr/bin/docker")


def test_a_machine_without_docker_is_told_what_to_install(tmp_path: Path) -> None:
    with pytest.raises(Unequipped, match=r"Docker is not installed: install .*`wattbed up --local`"):
        connect({"DOCKER_HOST": f"unix://{tmp_path}/no.sock"}, which=lambda name: None)


def test_a_socket_nobody_listens_on_does_not_answer(tmp_path: Path) -> None:
    (tmp_path / "dead.sock").touch()
    with pytest.raises(Unreachable, match=r"dead\.sock does not answer: start it"):
        connect({"DOCKER_HOST": f"unix://{tmp_path}/dead.sock"}, which=lambda name: "/usr/bin/docker")
