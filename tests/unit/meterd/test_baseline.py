"""What the host draws when nobody works: measured in quiet, kept, never raised."""

import pytest

from edge_agent.energy.baseline import Baseline
from fleet.domain import Phase


def quiet(baseline, watts, seconds=31, cpu_s=0.0):
    for _ in range(seconds):
        baseline.feed(1.0, True, cpu_s, {"rapl": watts})


def test_half_a_minute_of_quiet_is_enough_and_less_is_not():
    baseline = Baseline({})
    quiet(baseline, 12.0, seconds=30)
    before = baseline.watts("rapl")
    quiet(baseline, 12.0, seconds=1)
    assert (before, baseline.watts("rapl")) == (None, pytest.approx(12.0))


def test_work_in_between_starts_it_anew():
    baseline = Baseline({})
    quiet(baseline, 12.0, seconds=20)
    baseline.feed(1.0, False, 0.5, {"rapl": 40.0})
    quiet(baseline, 12.0, seconds=20)
    assert baseline.watts("rapl") is None


def test_agents_that_compute_outside_their_phases_are_not_quiet():
    baseline = Baseline({})
    quiet(baseline, 30.0, seconds=100, cpu_s=0.5)
    assert baseline.watts("rapl") is None


def test_the_quietest_half_minute_counts():
    baseline = Baseline({})
    for watts in (15.0, 12.0, 14.0):
        quiet(baseline, watts)
    assert baseline.watts("rapl") == pytest.approx(12.0)


def test_a_source_that_failed_meanwhile_is_left_out():
    baseline = Baseline({})
    for second in range(31):
        baseline.feed(1.0, True, 0.0, {"rapl": 12.0, "dram": None if second == 9 else 2.0})
    assert (baseline.watts("rapl"), baseline.watts("dram")) == (pytest.approx(12.0), None)


def test_what_was_given_is_never_replaced():
    baseline = Baseline({"rapl": 20.0})
    quiet(baseline, 12.0)
    assert baseline.watts("rapl") == 20.0


def test_what_was_measured_outlives_the_process(tmp_path):
    quiet(Baseline({}, tmp_path / "baseline.json"), 12.0)
    assert Baseline({}, tmp_path / "baseline.json").watts("rapl") == pytest.approx(12.0)


def test_a_damaged_file_is_measured_anew(tmp_path):
    (tmp_path / "baseline.json").write_text("{")
    assert Baseline({}, tmp_path / "baseline.json").watts("rapl") is None


def test_agents_that_wait_let_the_host_find_its_idle_power(make_host):
    host = make_host()
    host.add("a")
    for _ in range(40):
        host.spend(1.0, 12.0, {"a": 0.01})
        host.meter.tick()
    host.meter.begin("a", Phase.TRAIN)
    host.spend(1.0, 52.0, {"a": 1.0})
    reading = host.meter.end("a")[1][0]
    assert (host.meter.idle_watts(), reading.joules, reading.flags) == (
        {"rapl:package-0": pytest.approx(12.0)},
        pytest.approx(40.0),
        (),
    )
