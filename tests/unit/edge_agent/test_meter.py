import sys
import threading
import types

import pytest

from edge_agent.energy.counter import RAIL, Raw, ReadFailed, Rejected, SourceInfo
from edge_agent.energy.edges import wait_for_gpu
from edge_agent.energy.integrate import SensorTracker
from edge_agent.energy.meter import Meter, MeterBusy
from edge_agent.energy.sampler import Sampler
from edge_agent.energy.unwrap import CounterTracker
from fleet.domain import Phase, Quality


class Clock:
    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


class Source:
    """A counter (or sensor) whose value the test sets; None: it cannot be read."""

    def __init__(self, clock, id="rapl:package-0", kind="rapl", component="cpu", interval=None, **limits):
        self.clock = clock
        self.value = 0.0
        quality = Quality.ESTIMATED if kind == "model" else Quality.MEASURED
        self.info = SourceInfo(id, kind, component, "package", quality, 0.05, "", interval, **limits)

    def read(self):
        if self.value is None:
            raise ReadFailed("energy_uj: Input/output error")
        return Raw(self.value, round(self.clock() * 1e9))


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def counter(clock):
    return Source(clock, wrap_j=1000.0, max_watts=100.0, max_gap_s=60.0)


@pytest.fixture
def meter(clock, counter):
    return Meter([CounterTracker(counter)], (), clock, lambda: 1_700_000_000.0)


def window(meter, clock, counter, value, seconds=2.0):
    windows = []
    with meter.phase(Phase.TRAIN, windows.append):
        clock.now += seconds
        counter.value = value
    return windows[0]


def test_a_window_is_the_difference_of_two_readings(meter, clock, counter):
    counter.value = 5.0
    assert window(meter, clock, counter, 12.0).readings[0].joules == 7.0


def test_a_window_ends_and_is_handed_over_also_when_its_inside_fails(meter, clock, counter):
    windows = []

    def fail():
        with meter.phase(Phase.TRAIN, windows.append):
            counter.value, clock.now = 3.0, clock.now + 1.0
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert windows[0].readings[0].joules == 3.0


def test_a_source_that_fails_says_so_and_no_other_speaks_for_it(clock):
    broken, model = Source(clock), Source(clock, id="model", kind="model", interval=0.3)
    meter = Meter([CounterTracker(broken), CounterTracker(model)], (), clock)
    windows = []
    with meter.phase(Phase.TRAIN, windows.append):
        clock.now += 2.0
        broken.value, model.value = None, 10.0
    assert [(r.source, r.joules, r.quality, r.flags) for r in windows[0].readings] == [
        ("rapl:package-0", None, Quality.MEASURED, ("read_failed",)),
        ("model", 10.0, Quality.ESTIMATED, ()),
    ]


def test_a_source_that_fails_and_comes_back_inside_a_window_cannot_say_its_joules(meter, clock, counter):
    windows = []
    with meter.phase(Phase.TRAIN, windows.append):
        clock.now, counter.value = clock.now + 1.0, None
        meter.tick()
        clock.now, counter.value = clock.now + 1.0, 9.0
    assert (windows[0].readings[0].joules, windows[0].readings[0].flags) == (None, ("read_failed",))


def test_a_source_that_is_down_when_a_window_begins_cannot_say_its_joules(meter, clock, counter):
    counter.value = None
    assert window(meter, clock, counter, 9.0).readings[0].flags == ("read_failed",)


def test_a_source_that_came_back_before_a_window_begins_can(meter, clock, counter):
    counter.value = None
    meter.tick()
    counter.value = 4.0
    assert window(meter, clock, counter, 9.0).readings[0].joules == 5.0


def test_a_failed_reading_is_counted_by_its_reason(meter, clock, counter):
    window(meter, clock, counter, None)
    assert meter.read_errors() == {("rapl:package-0", "ReadFailed"): 1}


def test_a_wrap_inside_a_window_is_part_of_it(meter, clock, counter):
    counter.value = 990.0
    clock.now += 30.0
    meter.tick()
    reading = window(meter, clock, counter, 15.0).readings[0]
    assert (reading.joules, meter.states()[0].wraps) == (pytest.approx(25.0), 1)


def test_a_reset_inside_a_window_leaves_it_without_joules_also_when_the_counter_climbs_past_its_start(
    meter, clock, counter
):
    counter.value = 500.0
    clock.now += 30.0
    windows = []
    with meter.phase(Phase.TRAIN, windows.append):
        counter.value, clock.now = 1.0, clock.now + 1.0
        meter.tick()
        counter.value, clock.now = 590.0, clock.now + 10.0
    reading = windows[0].readings[0]
    assert (reading.joules, reading.flags, meter.states()[0].resets) == (None, ("reset",), 1)


def test_a_gap_inside_a_window_leaves_it_without_joules_and_its_seconds_are_counted(meter, clock, counter):
    reading = window(meter, clock, counter, 50.0, seconds=90.0).readings[0]
    assert (reading.joules, reading.flags, meter.states()[0].gap_s) == (None, ("gap",), pytest.approx(90.0))


def test_a_window_shorter_than_its_source_can_tell_is_flagged_and_still_counted(meter, clock, counter):
    reading = window(meter, clock, counter, 1.0, seconds=0.01).readings[0]
    assert (reading.joules, reading.flags) == (1.0, ("short_window",))


def test_bounds_are_the_interval_of_the_source_and_unknown_where_it_has_none(clock):
    known, unknown = Source(clock, interval=0.25), Source(clock, id="other")
    meter = Meter([CounterTracker(known), CounterTracker(unknown)], (), clock)
    windows = []
    with meter.phase(Phase.TRAIN, windows.append):
        clock.now += 1.0
        known.value = unknown.value = 8.0
    assert [(r.low_joules, r.high_joules) for r in windows[0].readings] == [(6.0, 10.0), (None, None)]


def test_a_sensor_sampled_inside_a_window_gives_the_area_under_its_power(clock):
    sensor = Source(clock, id="ina:VDD_IN", kind="ina3221", component="board", max_gap_s=0.5)
    sensor.value = 10.0
    meter = Meter([SensorTracker(sensor)], (), clock)
    windows = []
    with meter.phase(Phase.TRAIN, windows.append):
        for tenth in range(1, 21):  # 10 W to 20 W in one second, and down again in the next
            clock.now += 0.1
            sensor.value = 20.0 - abs(10 - tenth)
            meter.tick()
    assert windows[0].readings[0].joules == pytest.approx(30.0)


def test_phases_and_idle_add_up_to_the_counter(meter, clock, counter):
    counter.value = 4.0
    window(meter, clock, counter, 11.0)
    counter.value = 13.0
    clock.now += 3.0
    assert {t.phase: (t.seconds, t.joules) for t in meter.totals()} == {
        Phase.IDLE: (3.0, 6.0),
        Phase.TRAIN: (2.0, 7.0),
    }


def test_totals_grow_while_a_phase_is_open(meter, clock, counter):
    with meter.phase(Phase.TRAIN, lambda _: None):
        counter.value = 2.0
        assert {t.phase: t.joules for t in meter.totals()}[Phase.TRAIN] == 2.0


def test_joules_across_a_failure_belong_to_nobody(meter, clock, counter):
    counter.value = None
    meter.sample()
    window(meter, clock, counter, 50.0)
    assert [t.joules for t in meter.totals() if t.phase is Phase.TRAIN] == [None]


def test_a_rail_has_its_own_reading_and_is_in_no_total(clock):
    rail = Source(clock, id="rapl:package-0/core", component=RAIL, rail="core")
    meter = Meter([CounterTracker(rail)], (), clock)
    reading = window(meter, clock, rail, 6.0).readings[0]
    assert (reading.component, reading.joules, meter.totals(), meter.states()[0].joules) == (RAIL, 6.0, (), 6.0)


def test_a_second_phase_inside_a_phase_is_an_error(meter):
    with (
        pytest.raises(MeterBusy, match="phase quantize begins while train is open"),
        meter.phase(Phase.TRAIN, lambda _: None),
        meter.phase(Phase.QUANTIZE, lambda _: None),
    ):
        pass


def test_a_refused_phase_leaves_the_open_one_as_it_is(meter, clock, counter):
    windows = []
    with meter.phase(Phase.TRAIN, windows.append):
        with pytest.raises(MeterBusy), meter.phase(Phase.UPLOAD, windows.append):
            pass
        clock.now, counter.value = clock.now + 1.0, 3.0
    assert [(w.phase, w.readings[0].joules) for w in windows] == [(Phase.TRAIN, 3.0)]


def test_a_window_that_nobody_ends_gives_its_joules_to_its_phase(meter, clock, counter):
    unclosed = meter.phase(Phase.TRAIN, lambda _: None)
    unclosed.__enter__()
    clock.now, counter.value = clock.now + 1.0, 3.0
    assert {t.phase: t.joules for t in meter.totals()}[Phase.TRAIN] == 3.0


def test_power_is_energy_over_time_since_the_sample_before(meter, clock, counter):
    counter.value, clock.now = 30.0, clock.now + 2.0
    meter.sample()
    assert [p.watts for p in meter.power()] == [15.0]


def test_power_is_absent_when_its_source_failed_and_while_it_is_not_known_for_all_of_the_time(
    meter, clock, counter
):
    said = []
    for value in (None, 20.0, 50.0):
        counter.value, clock.now = value, clock.now + 2.0
        meter.sample()
        said.append((meter.power() != (), meter.up()["rapl:package-0"]))
    assert said == [(False, False), (False, True), (True, True)]


def test_the_joules_shown_never_fall_when_a_sensor_is_below_zero(clock):
    sensor = Source(clock, id="ina:VDD_GPU", kind="ina3221", component=RAIL, rail="VDD_GPU", max_gap_s=5.0)
    meter = Meter([SensorTracker(sensor)], (), clock)
    shown = []
    for watts in (2.0, 2.0, -1.0, -1.0, 2.0):
        sensor.value, clock.now = watts, clock.now + 1.0
        meter.tick()
        shown.append(meter.states()[0].joules)
    assert shown == sorted(shown)


def test_what_was_rejected_is_told(clock):
    reasons = (Rejected("rapl", "no powercap"),)
    assert Meter([], reasons, clock).rejected == reasons


def test_queued_gpu_work_is_finished_before_each_edge_is_read(clock, counter):
    order = []
    meter = Meter([CounterTracker(counter)], (), clock, before_edge=lambda: order.append("waited"))
    with meter.phase(Phase.TRAIN, lambda _: order.append("window")):
        order.append("trained")
    assert order == ["waited", "trained", "waited", "window"]


@pytest.mark.parametrize(("initialized", "waits"), [(True, 1), (False, 0)])
def test_a_process_that_uses_no_gpu_waits_for_none(monkeypatch, initialized, waits):
    calls = []
    cuda = types.SimpleNamespace(is_initialized=lambda: initialized, synchronize=lambda: calls.append(1))
    monkeypatch.setitem(sys.modules, "torch", types.SimpleNamespace(cuda=cuda))
    wait_for_gpu()
    assert len(calls) == waits


def test_the_sampler_ticks_until_it_is_closed():
    ticks = []
    enough = threading.Event()

    def tick():
        ticks.append(1)
        if len(ticks) == 3:
            enough.set()

    sampler = Sampler(tick, hz=1000)
    assert enough.wait(10)
    sampler.close()
    at_close = len(ticks)
    assert (len(ticks), threading.active_count() >= 1) == (at_close, True)


def test_a_meter_of_the_model_alone_needs_no_sampler(clock):
    meter = Meter([CounterTracker(Source(clock, id="model", kind="model"))], (), clock)
    before = threading.active_count()
    meter.start()
    assert threading.active_count() == before
