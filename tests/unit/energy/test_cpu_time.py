import pytest

from edge_agent.energy import cpu_time
from edge_agent.energy.cpu_time import CpuTimeModel, own_usage, usage_seconds
from edge_agent.energy.reading import SourceFailed
from fleet.domain import Quality
from fleet.kinds import kind

CONTAINER = "4b605857a72c59f517d918a87adb4f2c0a06e934b8d823ef7d4ee6a234dcdcf5"


def tree(root, **files):
    """A cgroup file system; keys have __ for / and _DOT_ for a dot."""
    for name, content in files.items():
        path = root / name.replace("__", "/").replace("_DOT_", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    return root


@pytest.fixture
def proc(tmp_path):
    return tree(tmp_path / "proc", self__cgroup="0::/\n")


def test_a_container_of_version_2_is_known_by_a_type_that_the_root_lacks(tmp_path, proc):
    files = {"cpu_DOT_stat": "usage_usec 1500000\nuser_usec 1\n", "cgroup_DOT_type": "domain\n"}
    usage = own_usage(tree(tmp_path / "cgroup", **files), proc)
    assert usage_seconds(usage) == 1.5


def test_the_root_of_version_2_is_the_host_and_not_this_agent(tmp_path, proc):
    assert own_usage(tree(tmp_path / "cgroup", cpu_DOT_stat="usage_usec 1500000\n"), proc) is None


@pytest.mark.parametrize("controller", ["cpuacct", "cpu,cpuacct"])
def test_a_container_of_version_1_is_known_by_lacking_what_the_root_has(tmp_path, proc, controller):
    usage = own_usage(tree(tmp_path / "cgroup", **{f"{controller}__cpuacct_DOT_usage": "2500000000\n"}), proc)
    assert usage_seconds(usage) == 2.5


def test_the_root_of_version_1_is_the_host_and_not_this_agent(tmp_path, proc):
    files = {"cpuacct__cpuacct_DOT_usage": "2500000000\n", "cpuacct__release_agent": "\n"}
    assert own_usage(tree(tmp_path / "cgroup", **files), proc) is None


def test_a_container_that_sees_the_hosts_tree_finds_itself_by_its_id(tmp_path):
    own = f"system.slice/docker-{CONTAINER}.scope"
    proc = tree(tmp_path / "proc", self__cgroup=f"0::/{own}\n")
    root = tree(tmp_path / "cgroup", cpu_DOT_stat="usage_usec 9\n")
    (root / own).mkdir(parents=True)
    (root / own / "cpu.stat").write_text("usage_usec 250000\n")
    assert usage_seconds(own_usage(root, proc)) == 0.25


def test_a_session_of_the_host_is_no_container(tmp_path):
    proc = tree(tmp_path / "proc", self__cgroup="0::/user.slice/session-1.scope\n")
    root = tree(tmp_path / "cgroup", cpu_DOT_stat="usage_usec 9\n")
    assert own_usage(root, proc) is None


def test_no_cgroups_no_container(tmp_path, proc):
    assert own_usage(tmp_path / "nothing", proc) is None


def test_a_file_without_the_field_is_an_error_and_not_zero(tmp_path):
    with pytest.raises(SourceFailed, match="no usage_usec"):
        usage_seconds(tree(tmp_path, cpu_DOT_stat="nr_periods 0\n") / "cpu.stat")


def test_a_process_outside_a_container_counts_itself(monkeypatch):
    monkeypatch.setattr(cpu_time, "_own_usage", lambda: None)
    before = cpu_time.cpu_seconds()
    sum(i * i for i in range(300_000))
    assert cpu_time.cpu_seconds() > before


def test_the_model_adds_idle_power_times_time_and_power_per_core_times_cpu_time():
    cpu, now = [7.0], [100 * 10**9]
    pi = kind("raspberry-pi-5")
    model = CpuTimeModel(pi, lambda: cpu[0], lambda: now[0])
    cpu[0], now[0] = 32.0, 110 * 10**9
    assert model.read().value == pytest.approx(10 * pi.energy.idle_watts + 25 * pi.energy.watts_per_core)


def test_the_model_is_labelled_an_estimate_with_the_interval_of_its_kind():
    info = CpuTimeModel(kind("epyc-8024p")).info
    assert (info.quality, info.interval, info.scope) == (Quality.ESTIMATED, 0.4, "package")
