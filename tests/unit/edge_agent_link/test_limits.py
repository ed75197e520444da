import pytest
from prometheus_client import CollectorRegistry

from edge_agent import limits
from edge_agent.limits import LimitsCollector
from fleet.domain import LinkInfo

LINK = LinkInfo(20e6, 50e6, 0.01, 0.005, 0.005, "tbf", "relay", "none", "walk:sigma=1")


@pytest.fixture
def write(tmp_path):
    def write(path, text):
        file = tmp_path / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        return tmp_path

    return write


@pytest.mark.parametrize(("text", "quota"), [("150000 100000\n", 1.5), ("max 100000\n", None)])
def test_a_quota_of_version_2(write, text, quota):
    assert limits.cpu_quota(write("sys/fs/cgroup/cpu.max", text)) == quota


@pytest.mark.parametrize(("text", "quota"), [("400000\n", 4.0), ("-1\n", None)])
def test_a_quota_of_version_1(write, text, quota):
    write("sys/fs/cgroup/cpu/cpu.cfs_period_us", "100000\n")
    assert limits.cpu_quota(write("sys/fs/cgroup/cpu/cpu.cfs_quota_us", text)) == quota


@pytest.mark.parametrize(
    ("path", "text", "limit"),
    [
        ("memory.max", "8589934592\n", 8589934592),
        ("memory.max", "max\n", None),
        ("memory/memory.limit_in_bytes", "8589934592\n", 8589934592),
        ("memory/memory.limit_in_bytes", "9223372036854771712\n", None),
    ],
)
def test_a_memory_limit_of_either_version(write, path, text, limit):
    assert limits.memory_limit_bytes(write(f"sys/fs/cgroup/{path}", text)) == limit


def test_without_a_namespace_the_groups_path_is_followed_and_the_tightest_limit_above_counts(write):
    write("proc/self/cgroup", "0::/system.slice/wattbed.service\n")
    write("sys/fs/cgroup/system.slice/wattbed.service/cpu.max", "300000 100000\n")
    write("sys/fs/cgroup/system.slice/wattbed.service/memory.max", "max\n")
    root = write("sys/fs/cgroup/system.slice/memory.max", "1048576\n")
    write("sys/fs/cgroup/system.slice/cpu.max", "200000 100000\n")
    assert (limits.cpu_quota(root), limits.memory_limit_bytes(root)) == (2.0, 1 << 20)


def test_a_path_of_the_host_that_the_container_does_not_show_is_passed_over(write):
    write("proc/self/cgroup", "4:memory:/docker/abc\n1:cpu,cpuacct:/docker/abc\n0::/\n")
    write("sys/fs/cgroup/cpu/cpu.cfs_quota_us", "50000\n")
    root = write("sys/fs/cgroup/cpu/cpu.cfs_period_us", "100000\n")
    assert limits.cpu_quota(root) == 0.5


@pytest.mark.parametrize(
    ("used", "stat"),
    [
        ("memory.current", ("memory.stat", "inactive_file 300\nactive_file 5\n")),
        ("memory/memory.usage_in_bytes", ("memory/memory.stat", "inactive_file 1\ntotal_inactive_file 300\n")),
    ],
)
def test_memory_in_use_leaves_out_what_the_kernel_would_drop_first(write, used, stat):
    write(f"sys/fs/cgroup/{stat[0]}", stat[1])
    assert limits.memory_in_use_bytes(write(f"sys/fs/cgroup/{used}", "1000\n")) == 700


def test_where_nothing_is_told_nothing_is_said(tmp_path):
    assert (
        limits.cpu_quota(tmp_path),
        limits.memory_limit_bytes(tmp_path),
        limits.memory_in_use_bytes(tmp_path),
    ) == (
        None,
        None,
        None,
    )


def test_prometheus_sees_quota_memory_and_link(write):
    write("sys/fs/cgroup/cpu.max", "400000 100000\n")
    write("sys/fs/cgroup/memory.max", "2048\n")
    root = write("sys/fs/cgroup/memory.current", "1024\n")
    assert seen(LimitsCollector("pi-1", lambda: LINK, root)) == {
        ("wattbed_device_cpu_quota_cores", "pi-1"): 4,
        ("wattbed_device_memory_limit_bytes", "pi-1"): 2048,
        ("wattbed_device_memory_bytes", "pi-1"): 1024,
        ("wattbed_link_rate_bits_per_second", "pi-1", "up"): 20e6,
        ("wattbed_link_rate_bits_per_second", "pi-1", "down"): 50e6,
        ("wattbed_link_delay_seconds", "pi-1"): 0.01,
        ("wattbed_link_info", "pi-1", "tbf", "relay", "none", "walk:sigma=1"): 1,
    }


def test_there_is_no_series_of_a_limit_or_a_link_that_is_not(tmp_path):
    assert seen(LimitsCollector("pi-1", lambda: None, tmp_path)) == {}


def test_a_rate_that_nobody_holds_is_no_series(tmp_path):
    link = LinkInfo(20e6, 50e6, 0.01, 0.005, 0.005, "none", "netem", "netem")
    names = {key[0] for key in seen(LimitsCollector("pi-1", lambda: link, tmp_path))}
    assert names == {"wattbed_link_delay_seconds", "wattbed_link_info"}


def seen(collector):
    registry = CollectorRegistry()
    registry.register(collector)
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in registry.collect()
        for sample in family.samples
    }
