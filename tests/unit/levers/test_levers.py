"""Each lever: what it offers, what it sets, and that everything is as it was afterwards."""

import pytest

from edge_agent.levers.board import find_levers
from edge_agent.levers.duty import DutyCycle, clock_hz
from edge_agent.levers.files import cpufreq, devfreq
from edge_agent.levers.gpu import gpus
from edge_agent.levers.lever import LeverStuck
from edge_agent.levers.nvpmodel import nvpmodel


def only(levers):
    (lever,) = levers
    return lever


def test_processor_clocks_are_offered_over_all_clusters(sysfs):
    info = only(cpufreq(sysfs)).info
    assert (info.lever, info.unit, info.minimum, info.maximum) == ("cpufreq", "Hz", 4e8, 2.4e9)


def test_each_cluster_gets_what_it_can_of_a_clock(sysfs, policies):
    applied = only(cpufreq(sysfs)).apply(2e9)
    assert (policies(), applied) == ([1_800_000, 1_200_000], 1.8e9)


def test_a_clock_below_a_clusters_least_is_its_least(sysfs, policies):
    only(cpufreq(sysfs)).apply(4e8)
    assert policies() == [400_000, 600_000]


def test_processor_clocks_are_put_back(sysfs, policies):
    lever = only(cpufreq(sysfs))
    before, original = policies(), lever.original()
    lever.apply(8e8)
    lever.restore(original)
    assert policies() == before


def test_a_journal_cannot_make_a_lever_write_to_foreign_files(sysfs, tmp_path):
    foreign = tmp_path / "passwd"
    foreign.write_text("root")
    with pytest.raises(LeverStuck, match="is not a file of cpufreq"):
        only(cpufreq(sysfs)).restore({str(foreign): "0"})
    assert foreign.read_text() == "root"


def test_a_processor_without_clocks_to_set_has_no_lever(tmp_path):
    assert list(cpufreq(tmp_path)) == []


def test_of_devfreq_only_the_gpu_is_offered_and_its_clock_is_a_step_of_it(sysfs):
    lever = only(devfreq(sysfs))
    assert (lever.info.lever, lever.info.maximum, lever.apply(6e8)) == ("devfreq:17000000.gpu", 918e6, 510e6)


def test_the_limit_of_a_gpu_is_set_in_watts_and_put_back(nvml):
    power = next(lever for lever in gpus(nvml) if lever.info.unit == "W")
    original = power.original()
    applied = power.apply(75.5)
    seen = nvml.state["limit_mw"]
    power.restore(original)
    assert (power.info.minimum, power.info.maximum, applied, seen, nvml.state["limit_mw"]) == (
        60.0, 115.0, 75.5, 75_500, 100_000,
    )  # fmt: skip


def test_the_clock_of_a_gpu_is_locked_at_a_step_that_is_not_above_the_request_and_unlocked(nvml):
    clocks = next(lever for lever in gpus(nvml) if lever.info.unit == "Hz")
    applied, locked = clocks.apply(1.9e9), nvml.state["locked"]
    clocks.restore(clocks.original())
    assert (applied, locked, nvml.state["locked"]) == (1.2e9, (300, 1200), None)


def test_a_gpu_that_lets_nobody_set_it_says_so(nvml):
    nvml.state["refuse"] = True
    with pytest.raises(LeverStuck, match="Insufficient Permissions"):
        next(iter(gpus(nvml))).apply(70.0)


def test_a_gpu_without_a_power_limit_offers_its_clocks_only(nvml):
    def unsupported(handle):
        raise nvml.NVMLError("Not Supported")

    nvml.nvmlDeviceGetPowerManagementLimitConstraints = unsupported
    assert [lever.info.lever for lever in gpus(nvml)] == ["nvml_clocks:GPU-1"]


def modes(root):
    return only(nvpmodel(root, str(root / "nvpmodel")))


def test_power_modes_are_offered_by_the_watts_in_their_names(jetson):
    info = modes(jetson).info
    assert (info.unit, info.minimum, info.maximum) == ("W", 7.0, 25.0)


def test_the_highest_power_mode_that_is_not_above_the_request_is_taken_and_put_back(jetson):
    lever = modes(jetson)
    original = lever.original()
    applied, mode = lever.apply(20.0), (jetson / "mode").read_text()
    lever.restore(original)
    assert (applied, mode.strip(), (jetson / "mode").read_text().strip()) == (15.0, "1", "0")


def test_a_power_mode_that_wants_a_reboot_is_told_no_and_refused(jetson):
    with pytest.raises(LeverStuck, match=r"stays in mode 0: Reboot required.* NO"):
        modes(jetson).apply(25.0)


def test_a_device_without_any_lever_has_none(tmp_path):
    assert find_levers(tmp_path, None, tmp_path) == ()


class Time:
    """CPU time and the clock move as the test says; a sleep moves the clock."""

    def __init__(self):
        self.cpu_s = self.now_s = 50.0
        self.slept_s = 0.0

    def sleep(self, seconds):
        self.now_s += seconds
        self.slept_s += seconds


def duty(time):
    return DutyCycle(2.0, 3e9, lambda: time.cpu_s, lambda: time.now_s, time.sleep)


def test_an_emulated_device_rests_until_its_cpu_time_is_the_part_it_was_asked_for():
    time = Time()
    lever = duty(time)
    lever.set(1.5e9)  # half the clock: one core of its two
    for _ in range(10):
        time.cpu_s, time.now_s = time.cpu_s + 0.2, time.now_s + 0.1  # two busy cores
        while lever.rest() > 0:
            pass
    assert (time.now_s - 50.0, time.slept_s) == (pytest.approx(2.0), pytest.approx(1.0))


def test_long_rests_come_in_pieces():
    time = Time()
    lever = duty(time)
    lever.set(3e8)
    time.cpu_s += 1.0  # due: 5 s
    assert (lever.rest(), time.slept_s) == (pytest.approx(4.0), 1.0)


def test_a_released_device_rests_no_more():
    time = Time()
    lever = duty(time)
    lever.set(3e8)
    time.cpu_s += 1.0
    lever.release()
    assert (lever.rest(), time.slept_s) == (0.0, 0.0)


def test_a_clock_above_the_hosts_is_refused():
    outcome = duty(Time()).set(4e9)
    assert (outcome.applied, outcome.reason) == (None, "4e+09 Hz is outside 3e+08 to 3e+09")


def test_a_host_that_does_not_tell_its_clock_has_none(tmp_path):
    (tmp_path / "cpuinfo").write_text("processor : 0\nBogoMIPS : 108.00\n")
    assert clock_hz(tmp_path) is None
