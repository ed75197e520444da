import pytest

from edge_agent import probe


@pytest.fixture
def root(tmp_path):
    (tmp_path / "sys/fs/cgroup").mkdir(parents=True)
    (tmp_path / "proc").mkdir()
    return tmp_path


def test_a_cpu_quota_limits_the_cores_and_is_rounded_up(root):
    (root / "sys/fs/cgroup/cpu.max").write_text("50000 100000\n")
    assert probe.cores(root) == 1


def test_without_a_quota_all_processors_of_the_affinity_count(root):
    (root / "sys/fs/cgroup/cpu.max").write_text("max 100000\n")
    assert probe.cores(root) == probe.cores(root / "nowhere") >= 1


def test_the_memory_of_a_container_is_its_limit(root):
    (root / "sys/fs/cgroup/memory.max").write_text("1048576\n")
    assert probe.memory_bytes(root) == 1 << 20


def test_the_gpu_is_what_the_driver_calls_it(root):
    gpu = root / "proc/driver/nvidia/gpus/0000:01:00.0"
    gpu.mkdir(parents=True)
    (gpu / "information").write_text("Model: \t\t NVIDIA GeForce RTX 4060\nIRQ: 100\n")
    assert probe.gpu_model(root) == "NVIDIA GeForce RTX 4060"


def test_no_driver_is_no_gpu(root):
    assert probe.gpu_model(root) is None
