"""Which meter and which levers a device has."""

import fcntl
import os

import pytest

from edge_agent import device
from edge_agent.energy.counter import Raw, SourceInfo
from edge_agent.energy.owner import OWNED, owned
from edge_agent.energy.unwrap import CounterTracker
from fleet.domain import Quality
from fleet.kinds import kind


class Counter:
    def __init__(self, id, component="cpu"):
        self.info = SourceInfo(id, id.partition(":")[0], component, "package", Quality.MEASURED, 0.05, "")

    def read(self):
        return Raw(0.0, 0)


def trackers(*sources):
    return [CounterTracker(Counter(*source)) for source in sources]


@pytest.fixture
def sysfs(tmp_path):
    (tmp_path / "class").mkdir()
    return tmp_path


def ids(found):
    return [tracker.info.id for tracker in found]


def test_where_a_meter_covers_the_processor_the_model_is_left_out(sysfs):
    found, _ = owned(trackers(("rapl:package-0",), ("model",)), (), sysfs)
    assert ids(found) == ["rapl:package-0"]


def test_a_gpu_meter_alone_leaves_the_processor_to_the_model(sysfs):
    found, _ = owned(trackers(("nvml:GPU-1", "gpu"), ("model",)), (), sysfs)
    assert ids(found) == ["nvml:GPU-1", "model"]


def test_counters_that_another_process_owns_are_rejected_and_the_model_speaks_for_itself(sysfs):
    held = os.open(sysfs / "class", os.O_RDONLY)
    fcntl.flock(held, fcntl.LOCK_EX)
    found, rejected = owned(trackers(("rapl:package-0",), ("model",)), (), sysfs)
    os.close(held)
    assert (ids(found), [(r.id, r.reason) for r in rejected]) == (["model"], [("rapl:package-0", OWNED)])


def test_a_device_with_nothing_but_its_model_owns_nothing(sysfs):
    found, rejected = owned(trackers(("model",)), (), sysfs)
    held = os.open(sysfs / "class", os.O_RDONLY)
    fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    os.close(held)
    assert (ids(found), rejected) == (["model"], ())


def test_a_device_whose_meter_is_not_there_estimates_and_says_what_is_missing(tmp_path, monkeypatch):
    monkeypatch.setattr("edge_agent.energy.remote.TIMEOUT_S", 0.01)
    monkeypatch.setattr(device.RemoteMeter, "_reach", lambda self, wait_s: self._stand())
    pi = kind("raspberry-pi-5")
    meter = device.open_meter("d", pi, tmp_path / "meter.sock", tmp_path, tmp_path, ())
    assert ([s.id for s in meter.sources], [r.id for r in meter.rejected]) == (["model"], ["meter"])


def test_an_agent_alone_on_its_host_reads_it_itself(sysfs):
    meter = device.open_meter("d", kind("raspberry-pi-5"), None, sysfs, sysfs, ())
    meter.close()
    assert ([s.id for s in meter.sources], "rapl" in {r.id for r in meter.rejected}) == (["model"], True)


@pytest.mark.parametrize(("quota", "levers"), [(0.5, ["cpu_quota"]), (None, [])])
def test_only_a_device_on_a_cpu_quota_can_set_its_own_pace(monkeypatch, quota, levers):
    monkeypatch.setattr(device.probe, "cpu_quota", lambda: quota)
    monkeypatch.setattr(device, "clock_hz", lambda: 3e9)
    assert [info.lever for info in device.open_levers("d", None).infos] == levers
