"""CPU time as one process hands it to another, and as the host counts it."""

import os
import subprocess
import sys

import pytest

from edge_agent.energy.cpu_usage import UsageFile, accept, cgroup_devices, host_busy_seconds, open_own
from fleet.errors import BadRequest

HERTZ = os.sysconf("SC_CLK_TCK")


@pytest.fixture
def make_usage(tmp_path):
    opened = []

    def make(name, content):
        path = tmp_path / name
        path.write_text(content)
        opened.append(os.open(path, os.O_RDONLY))
        return UsageFile(opened[-1], name, (0, 0))

    yield make
    for descriptor in opened:
        os.close(descriptor)


STAT = f"42 (a (b) 7 S) R 1 42 42 0 -1 4194304 100 0 0 0 {3 * HERTZ} {HERTZ} {5 * HERTZ} {2 * HERTZ} 20 0 1 0 5\n"


@pytest.mark.parametrize(
    ("name", "content", "seconds"),
    [
        ("cpu.stat", "usage_usec 2500000\nuser_usec 2000000\nsystem_usec 500000\nnr_periods 0\n", 2.5),
        ("cpuacct.usage", "2500000000\n", 2.5),
        ("stat", STAT, 11.0),
    ],
)
def test_both_versions_of_control_groups_and_a_process_are_read(make_usage, name, content, seconds):
    assert make_usage(name, content).seconds() == seconds


@pytest.mark.parametrize(
    ("name", "content"), [("cpu.stat", "nr_periods 0\n"), ("cpuacct.usage", ""), ("stat", "")]
)
def test_a_file_without_a_cpu_time_cannot_be_read(make_usage, name, content):
    with pytest.raises(OSError, match="not a CPU time"):
        make_usage(name, content).seconds()


def test_a_cgroup_file_is_taken_from_anybody_and_only_from_a_cgroup_hierarchy(tmp_path):
    (tmp_path / "cpu.stat").write_text("usage_usec 1000000\n")
    descriptor = os.open(tmp_path / "cpu.stat", os.O_RDONLY)
    taken = accept(descriptor, 0, frozenset({os.fstat(descriptor).st_dev}))
    with pytest.raises(BadRequest, match=r"'cpu\.stat'"):
        accept(descriptor, 0, frozenset())
    taken.close()


def test_what_this_process_hands_over_is_taken_and_goes_up():
    usage = accept(open_own(), os.getpid(), cgroup_devices())
    before = usage.seconds()
    while usage.seconds() == before:
        sum(range(10_000))
    usage.close()


def test_a_process_that_is_gone_cannot_be_read():
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    usage = accept(os.open(f"/proc/{process.pid}/stat", os.O_RDONLY), process.pid, frozenset())
    process.communicate(b"\n")
    with pytest.raises(ProcessLookupError):
        usage.seconds()
    usage.close()


def test_a_host_is_busy_in_user_nice_system_and_interrupts_and_not_while_another_machine_has_its_processor(
    tmp_path,
):
    fields = [10, 1, 5, 900, 50, 2, 3, 77, 4, 0]  # user nice system idle iowait irq softirq steal guest guest_nice
    (tmp_path / "stat").write_text("cpu  " + " ".join(str(f * HERTZ) for f in fields) + "\ncpu0 0 0 0 0\n")
    assert host_busy_seconds(tmp_path) == 10 + 1 + 5 + 2 + 3


def test_a_host_that_does_not_count_cannot_be_read(tmp_path):
    (tmp_path / "stat").write_text("intr 0\n")
    with pytest.raises(OSError, match="not with the processors' times"):
        host_busy_seconds(tmp_path)
