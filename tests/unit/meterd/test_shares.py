"""Joules of a host are divided by CPU time; what nobody gets is named, and everything adds up."""

import math

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edge_agent.energy.shares import OtherCpu, divide, divide_gpu
from fleet.domain import Phase, Quality

SECONDS = st.floats(0, 10, allow_nan=False)
SHARES = st.dictionaries(st.sampled_from("abcdefgh"), SECONDS)
IDLE = st.none() | st.floats(0, 300)


@given(st.floats(-5, 1e5), st.floats(1e-4, 60), IDLE, SHARES, SECONDS)
def test_idle_agents_and_others_are_the_whole_whatever_was_spent(joules, seconds, idle_watts, cpu_s, other_s):
    d = divide(joules, seconds, idle_watts, cpu_s, other_s)
    whole = math.fsum([d.idle_joules, *d.agents.values(), d.other_joules])
    assert whole == pytest.approx(joules, abs=1e-9 * max(1.0, abs(joules)))


@given(st.floats(0, 1e5), st.floats(1e-4, 60), IDLE, SHARES, SECONDS)
def test_nobody_gets_less_than_nothing(joules, seconds, idle_watts, cpu_s, other_s):
    d = divide(joules, seconds, idle_watts, cpu_s, other_s)
    assert min([d.idle_joules, *d.agents.values()]) >= 0
    assert d.other_joules >= -1e-9 * max(1.0, joules)


@given(st.floats(0, 1e5), st.floats(1e-4, 60), IDLE, st.lists(st.sampled_from("abc"), max_size=5))
def test_a_gpu_is_divided_without_a_rest_as_well(joules, seconds, idle_watts, training):
    d = divide_gpu(joules, seconds, idle_watts, training)
    whole = math.fsum([d.idle_joules, *d.agents.values(), d.other_joules])
    assert whole == pytest.approx(joules, abs=1e-9 * max(1.0, joules))


def test_dynamic_energy_goes_by_cpu_time():
    d = divide(100.0, 2.0, 20.0, {"a": 1.0, "b": 0.5}, 0.5)
    assert (d.idle_joules, d.agents, d.other_joules) == (40.0, {"a": 30.0, "b": 15.0}, 15.0)


def test_a_host_that_draws_less_than_its_idle_power_has_nothing_to_divide():
    d = divide(30.0, 2.0, 20.0, {"a": 1.0}, 0.0)
    assert (d.idle_joules, d.agents, d.other_joules) == (30.0, {"a": 0.0}, 0.0)


def test_without_a_baseline_nothing_is_called_idle():
    assert divide(30.0, 2.0, None, {"a": 1.0}, 1.0).agents == {"a": 15.0}


def test_others_are_what_the_host_was_busy_beyond_its_agents():
    others = OtherCpu()
    others.slice(0.0, 0.0, 50.0, 0.0)
    assert others.slice(2.0, 2.0, 53.0, 1.0) == pytest.approx(2.0)


def test_ticks_of_a_hundredth_do_not_take_from_the_others_what_is_theirs():
    """/proc/stat moves in hundredths. In slices of 3 ms most see no move, and a few see 10 ms at once."""
    others, total, busy_s = OtherCpu(), 0.0, 100.0
    others.slice(0.0, 0.0, busy_s, 0.0)
    for step in range(1, 2001):
        now = step * 0.003
        seen = math.floor((busy_s + 0.8 * now) * 100) / 100
        total += others.slice(now, 0.003, seen, 0.5 * 0.003)
    assert total == pytest.approx(0.3 * 6.0, rel=0.02)


def test_an_agent_that_computed_more_than_the_host_seemed_busy_leaves_others_nothing():
    others = OtherCpu()
    others.slice(0.0, 0.0, 50.0, 0.0)
    assert others.slice(1.0, 1.0, 50.9, 1.0) == 0.0


def test_joules_fall_into_the_phase_an_agent_was_in_when_they_were_spent(host):
    host.add("a")
    host.add("b")
    host.meter.begin("a", Phase.TRAIN)
    host.spend(1.0, 40.0, {"a": 1.0, "b": 0.5})
    host.meter.end("a")
    host.meter.begin("b", Phase.TRAIN)
    host.spend(1.0, 25.0, {"a": 0.5, "b": 1.0})
    host.meter.end("b")
    assert host.rows() == {
        ("_idle", "idle"): 20.0,
        ("_other", "other"): pytest.approx(0.0),
        ("a", "train"): pytest.approx(20.0),
        ("b", "idle"): pytest.approx(10.0),
        ("a", "idle"): pytest.approx(5.0),
        ("b", "train"): pytest.approx(10.0),
    }


def test_a_window_is_the_share_of_its_agent_and_is_called_derived(host):
    host.add("a")
    host.meter.begin("a", Phase.TRAIN)
    host.spend(2.0, 50.0, {"a": 1.0}, others_s=1.0)
    seconds, readings = host.meter.end("a")
    assert (seconds, [(r.source, r.joules, r.quality, r.flags) for r in readings]) == (
        2.0,
        [("rapl:package-0", pytest.approx(15.0), Quality.DERIVED, ())],
    )


def test_a_window_on_a_host_whose_idle_power_nobody_knows_says_so(make_host):
    host = make_host()
    host.add("a")
    host.meter.begin("a", Phase.TRAIN)
    host.spend(2.0, 50.0, {"a": 1.0}, others_s=1.0)
    reading = host.meter.end("a")[1][0]
    assert (reading.joules, reading.flags) == (pytest.approx(25.0), ("no_baseline",))


def test_a_counter_that_fails_in_a_window_gives_its_agent_no_joules(host):
    host.add("a")
    host.meter.begin("a", Phase.TRAIN)
    host.spend(1.0, None, {"a": 1.0})
    host.meter.tick()
    host.spend(1.0, 500.0, {"a": 1.0})
    reading = host.meter.end("a")[1][0]
    assert (reading.joules, reading.flags, sum(host.rows().values())) == (None, ("read_failed",), 0.0)


def test_what_a_dead_agent_used_until_it_died_is_its_own(host):
    host.add("a")
    host.meter.begin("a", Phase.TRAIN)
    host.spend(1.0, 30.0, {"a": 1.0})
    host.remove("a")
    host.spend(1.0, 30.0, others_s=1.0)
    host.meter.tick()
    assert {row: joules for row, joules in host.rows().items() if joules} == {
        ("_idle", "idle"): 20.0,
        ("a", "train"): pytest.approx(20.0),
        ("_other", "other"): pytest.approx(20.0),
    }


def test_an_agent_whose_cpu_time_is_gone_gets_nothing_more_and_its_window_says_so(host):
    host.add("a")
    host.meter.begin("a", Phase.TRAIN)
    host.spend(1.0, 30.0, {"a": 1.0})
    (host.folder / "a.usage").write_text("")
    reading = host.meter.end("a")[1][0]
    assert (reading.joules, reading.flags) == (0.0, ("no_cpu_time",))


def test_a_rail_is_divided_among_nobody(make_host):
    host = make_host([("rapl:package-0/core", "rail", "package")])
    host.add("a")
    host.meter.begin("a", Phase.TRAIN)
    host.spend(1.0, 30.0, {"a": 1.0})
    assert (host.meter.end("a")[1], host.rows()) == ((), {})


GPU = ("nvml:GPU-1", "gpu", "board")


def test_a_gpu_belongs_to_the_agent_that_sees_it_and_trains(make_host):
    host = make_host([GPU])
    host.add("a", gpus=("GPU-1",))
    host.add("b", gpus=("GPU-2",))
    for agent in ("a", "b"):
        host.meter.begin(agent, Phase.TRAIN)
    host.spend(1.0, 90.0, {"a": 0.1, "b": 2.0})
    assert [host.meter.end(agent)[1][0].joules for agent in ("a", "b")] == [90.0, 0.0]


def test_two_agents_that_train_on_one_gpu_get_the_same_and_are_told(make_host):
    host = make_host([GPU])
    for agent in ("a", "b"):
        host.add(agent, gpus=("GPU-1",))
        host.meter.begin(agent, Phase.TRAIN)
    host.spend(1.0, 90.0)
    readings = [host.meter.end(agent)[1][0] for agent in ("a", "b")]
    assert [(r.joules, "gpu_shared" in r.flags) for r in readings] == [(45.0, True), (45.0, True)]


def test_a_gpu_nobody_trains_on_is_the_others(make_host):
    host = make_host([GPU])
    host.add("a", gpus=("GPU-1",))
    host.spend(1.0, 90.0, {"a": 1.0})
    host.meter.tick()
    assert host.rows() == {("_other", "other"): 90.0}


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["tick", "begin", "end", "join", "leave", "fail"]),
        st.sampled_from(["a", "b", "c"]),
        st.sampled_from([Phase.TRAIN, Phase.UPLOAD, Phase.QUANTIZE]),
        st.floats(0.001, 3.0),
        st.floats(0.0, 200.0),
        st.floats(0.0, 3.0),
        st.floats(0.0, 3.0),
    ),
    max_size=40,
)


@given(STEPS, st.none() | st.floats(0, 80))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_the_rows_of_a_source_add_up_to_it_whatever_agents_do(make_host, steps, idle_watts):
    host = make_host(idle_watts={} if idle_watts is None else {"rapl:package-0": idle_watts})
    here, inside = set(), set()
    for action, agent, phase, seconds, joules, cpu_s, others_s in steps:
        host.spend(seconds, None if action == "fail" else joules, dict.fromkeys(here, cpu_s), others_s)
        if action == "join" and agent not in here:
            host.add(agent)
            here.add(agent)
        elif action == "leave" and agent in here:
            host.remove(agent)
            here -= {agent}
            inside -= {agent}
        elif action == "begin" and agent in here - inside:
            host.meter.begin(agent, phase)
            inside.add(agent)
        elif action == "end" and agent in inside:
            host.meter.end(agent)
            inside.remove(agent)
        else:
            host.meter.tick()
    (state,), rows, _ = host.meter.snapshot()
    assert math.fsum(rows.values()) == pytest.approx(state.joules or 0.0, rel=1e-9, abs=1e-9)
