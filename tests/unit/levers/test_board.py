"""Who may pull which lever, and that every one is put back whatever happens."""

import json

import pytest

from edge_agent.levers.board import Board, find_levers
from edge_agent.levers.duty import DutyCycle
from edge_agent.levers.journal import Journal, JournalDamaged
from edge_agent.levers.request import DeviceLevers
from fleet.domain import Assignment, LeverInfo, LeverOutcome


@pytest.fixture
def path(tmp_path):
    return tmp_path / "levers.json"


@pytest.fixture
def make_board(sysfs, path, tmp_path):
    def make(*allowed, nvml=None):
        return Board(find_levers(sysfs, nvml, tmp_path), allowed, Journal(path))

    return make


def test_only_levers_on_the_list_are_offered_and_set(make_board, policies):
    board = make_board("devfreq")
    outcome = board.set("a", "cpufreq", 8e8)
    assert ([i.lever for i in board.infos], outcome.applied, outcome.reason, policies()) == (
        ["devfreq:17000000.gpu"],
        None,
        "cpufreq is not on the list of levers that may be set (WATTBED_LEVERS)",
        [1_800_000, 2_400_000],
    )


def test_a_list_may_name_kinds_and_patterns(make_board, nvml):
    assert [i.lever for i in make_board("nvml_*:GPU-1", "cpufreq", nvml=nvml).infos] == [
        "cpufreq",
        "nvml_power:GPU-1",
        "nvml_clocks:GPU-1",
    ]


@pytest.mark.parametrize("value", [3.9e8, 2.41e9, float("inf")])
def test_a_request_outside_the_devices_own_bounds_is_refused(make_board, policies, value):
    outcome = make_board("cpufreq").set("a", "cpufreq", value)
    assert (outcome.applied, "is outside 4e+08 to 2.4e+09" in outcome.reason, policies()) == (
        None,
        True,
        [1_800_000, 2_400_000],
    )


def test_a_lever_of_another_host_is_refused(make_board):
    assert make_board("*").set("a", "warp", 9.0).reason == "this host has no lever 'warp'"


def test_a_lever_has_one_holder_at_a_time(make_board):
    board = make_board("cpufreq")
    board.set("a", "cpufreq", 8e8)
    refused = board.set("b", "cpufreq", 9e8)
    board.release("a")
    assert (refused.reason, board.set("b", "cpufreq", 9e8).applied) == ("cpufreq is held by a", 9e8)


def test_a_holder_puts_back_its_own_levers_only(make_board, policies, sysfs):
    board = make_board("*")
    board.set("a", "cpufreq", 8e8)
    board.set("b", "devfreq:17000000.gpu", 4e8)
    board.release("a")
    gpu = (sysfs / "class/devfreq/17000000.gpu/max_freq").read_text()
    assert (policies(), gpu.strip()) == ([1_800_000, 2_400_000], "306000000")


def test_a_lever_set_twice_goes_back_to_what_it_was_at_first(make_board, policies):
    board = make_board("cpufreq")
    board.set("a", "cpufreq", 8e8)
    board.set("a", "cpufreq", 1e9)
    board.close()
    assert policies() == [1_800_000, 2_400_000]


def test_what_a_killed_process_left_is_put_back_by_the_next(make_board, policies, path):
    make_board("cpufreq").set("a", "cpufreq", 8e8)
    moved = policies()
    recovered = make_board().recover()
    assert (moved, recovered, policies(), json.loads(path.read_text())) == (
        [800_000, 600_000],
        True,
        [1_800_000, 2_400_000],
        {},
    )


def test_the_journal_is_written_before_a_lever_moves(make_board, path, policies, monkeypatch):
    board = make_board("cpufreq")
    seen = []
    lever = board._levers["cpufreq"]
    monkeypatch.setattr(lever, "apply", lambda value: seen.append((policies(), json.loads(path.read_text()))))
    board.set("a", "cpufreq", 8e8)
    ((clocks, journal),) = seen
    assert (clocks, list(journal["cpufreq"].values())) == ([1_800_000, 2_400_000], ["1800000", "2400000"])


def test_a_lever_that_fails_half_way_is_put_back_and_refused(make_board, policies, sysfs, monkeypatch):
    board = make_board("cpufreq")
    lever = board._levers["cpufreq"]

    def fail(value):
        (sysfs / "devices/system/cpu/cpufreq/policy0/scaling_max_freq").write_text("500000")
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(lever, "apply", fail)
    outcome = board.set("a", "cpufreq", 8e8)
    assert (outcome.applied, "Input/output error" in outcome.reason, policies()) == (
        None,
        True,
        [1_800_000, 2_400_000],
    )


def test_a_lever_that_cannot_be_put_back_stays_in_the_journal_and_is_lent_to_nobody(make_board, path, monkeypatch):
    board = make_board("cpufreq")
    board.set("a", "cpufreq", 8e8)

    def stuck(original):
        raise OSError(16, "busy")

    monkeypatch.setattr(board._levers["cpufreq"], "restore", stuck)
    board.release("a")
    assert (list(json.loads(path.read_text())), board.set("b", "cpufreq", 9e8).reason, board.recover()) == (
        ["cpufreq"],
        "cpufreq could not be put back after it was last set",
        False,
    )


def test_a_journal_that_is_none_stops_the_process_that_would_forget_it(path):
    path.write_text("[1, 2")
    with pytest.raises(JournalDamaged, match="is not a journal of levers"):
        Journal(path)


def assignment(watts=None, hertz=None):
    return Assignment(
        "r", 1, "d", "0", 1, 0, 8, 8, "fp32", 1.0, 1, 1, 0.0, None, watts, hertz,
    )  # fmt: skip


class Host:
    def __init__(self, *levers):
        self.infos = tuple(LeverInfo(name, unit, 1.0, 1e10) for name, unit in levers)
        self.calls = []

    def set(self, lever, value):
        self.calls.append((lever, value))
        return LeverOutcome(lever, value, value)

    def release(self):
        self.calls.append("released")


def test_an_assignment_that_asks_for_nothing_sets_nothing():
    host = Host(("cpufreq", "Hz"))
    assert (DeviceLevers(host).apply(assignment()), host.calls) == ((), [])


def test_watts_and_hertz_go_to_the_lever_of_the_part_that_trains():
    host = Host(("cpufreq", "Hz"), ("nvml_clocks:GPU-1", "Hz"), ("nvpmodel", "W"), ("nvml_power:GPU-1", "W"))
    levers = DeviceLevers(host, gpus=["GPU-1"])
    levers.apply(assignment(watts=80.0, hertz=1e9))
    levers.release()
    assert host.calls == [("nvml_power:GPU-1", 80.0), ("nvml_clocks:GPU-1", 1e9), "released"]


def test_the_gpu_of_another_agent_is_no_lever_of_this_one():
    host = Host(("nvml_power:GPU-2", "W"), ("nvml_clocks:GPU-2", "Hz"), ("cpufreq", "Hz"))
    levers = DeviceLevers(host, gpus=["GPU-1"])
    assert [info.lever for info in levers.infos] == ["cpufreq"]


def test_what_a_device_cannot_set_is_refused_with_the_reason():
    outcomes = DeviceLevers().apply(assignment(watts=10.0, hertz=1e9))
    assert [(o.lever, o.applied, o.reason) for o in outcomes] == [
        ("power", None, "this device has no lever in W"),
        ("frequency", None, "this device has no lever in Hz"),
    ]


def test_an_emulated_device_without_levers_of_its_host_sets_its_own_pace():
    outcomes = DeviceLevers(duty=DutyCycle(1.0, 2e9)).apply(assignment(hertz=1e9))
    assert outcomes == (LeverOutcome("cpu_quota", 1e9, 1e9),)
