import pytest

from edge_agent.energy.counter import Raw, ReadFailed, SourceInfo
from edge_agent.energy.cpu_time import CpuTimeModel
from edge_agent.energy.meter import Meter, MeterBusy
from fleet.domain import Phase, Quality
from fleet.kinds import kind


class Clock:
    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


class Counter:
    """A counter whose joules the test sets; None: it cannot be read."""

    def __init__(self, clock, id="rapl", interval=None, min_window_s=0.05):
        self.clock = clock
        self.joules = 0.0
        self.info = SourceInfo(id, "rapl", "cpu", "package", Quality.MEASURED, min_window_s, "", interval)

    def read(self):
        if self.joules is None:
            raise ReadFailed("energy_uj: Input/output error")
        return Raw(self.joules, self.clock())


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def counter(clock):
    return Counter(clock)


@pytest.fixture
def meter(clock, counter):
    return Meter([counter], clock, lambda: 1_700_000_000.0)


def window(meter, clock, counter, joules, seconds=2.0):
    windows = []
    with meter.phase(Phase.TRAIN, windows.append):
        clock.now += seconds
        counter.joules = joules
    return windows[0]


def test_a_window_is_the_difference_of_two_readings(meter, clock, counter):
    counter.joules = 5.0
    assert window(meter, clock, counter, 12.0).readings[0].joules == 7.0


def test_a_window_ends_and_is_handed_over_also_when_its_inside_fails(meter, clock, counter):
    windows = []

    def fail():
        with meter.phase(Phase.TRAIN, windows.append):
            counter.joules, clock.now = 3.0, clock.now + 1.0
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert windows[0].readings[0].joules == 3.0


def test_a_source_that_fails_says_so_and_no_other_speaks_for_it(clock):
    broken, model = Counter(clock), Counter(clock, id="model", interval=0.3)
    meter = Meter([broken, model], clock)
    windows = []
    with meter.phase(Phase.TRAIN, windows.append):
        clock.now += 2.0
        broken.joules, model.joules = None, 10.0
    assert [(r.source, r.joules, r.flags) for r in windows[0].readings] == [
        ("rapl", None, ("read_failed",)),
        ("model", 10.0, ()),
    ]


def test_a_failed_reading_is_counted_by_its_reason(meter, clock, counter):
    window(meter, clock, counter, None)
    assert meter.read_errors() == {("rapl", "ReadFailed"): 1}


def test_a_counter_that_fell_and_climbed_past_its_start_inside_a_window_is_a_reset(meter, clock, counter):
    counter.joules = 5.0
    windows = []
    with meter.phase(Phase.TRAIN, windows.append):
        counter.joules = 1.0
        meter.sample()
        counter.joules = 9.0
        clock.now += 1.0
    assert (windows[0].readings[0].joules, windows[0].readings[0].flags) == (None, ("reset",))


def test_a_window_shorter_than_its_source_can_tell_is_flagged_and_still_counted(meter, clock, counter):
    reading = window(meter, clock, counter, 1.0, seconds=0.01).readings[0]
    assert (reading.joules, reading.flags) == (1.0, ("short_window",))


def test_bounds_are_the_interval_of_the_source_and_unknown_where_it_has_none(clock):
    known, unknown = Counter(clock, interval=0.25), Counter(clock, id="other")
    meter = Meter([known, unknown], clock)
    windows = []
    with meter.phase(Phase.TRAIN, windows.append):
        clock.now += 1.0
        known.joules = unknown.joules = 8.0
    assert [(r.low_joules, r.high_joules) for r in windows[0].readings] == [(6.0, 10.0), (None, None)]


def test_phases_and_idle_add_up_to_the_counter(meter, clock, counter):
    counter.joules = 4.0
    window(meter, clock, counter, 11.0)
    counter.joules = 13.0
    clock.now += 3.0
    assert {t.phase: (t.seconds, t.joules) for t in meter.totals()} == {
        Phase.IDLE: (3.0, 6.0),
        Phase.TRAIN: (2.0, 7.0),
    }


def test_totals_grow_while_a_phase_is_open(meter, clock, counter):
    with meter.phase(Phase.TRAIN, lambda _: None):
        counter.joules = 2.0
        assert {t.phase: t.joules for t in meter.totals()}[Phase.TRAIN] == 2.0


def test_joules_across_a_gap_belong_to_nobody(meter, clock, counter):
    counter.joules = None
    meter.sample()
    window(meter, clock, counter, 50.0)
    assert [t.joules for t in meter.totals() if t.phase is Phase.TRAIN] == [None]


def test_a_second_phase_inside_a_phase_is_an_error(meter):
    with (
        pytest.raises(MeterBusy, match="phase quantize begins while train is open"),
        meter.phase(Phase.TRAIN, lambda _: None),
        meter.phase(Phase.QUANTIZE, lambda _: None),
    ):
        pass


def test_power_is_energy_over_time_since_the_sample_before(meter, clock, counter):
    counter.joules, clock.now = 30.0, clock.now + 2.0
    meter.sample()
    assert [p.watts for p in meter.power()] == [15.0]


def test_power_is_absent_when_its_source_failed(meter, clock, counter):
    counter.joules, clock.now = None, clock.now + 2.0
    meter.sample()
    assert (meter.power(), meter.up()) == ((), {"rapl": False})


def test_the_model_adds_idle_power_times_time_and_power_per_core_times_cpu_time(clock):
    cpu = Clock()
    pi = kind("raspberry-pi-5")
    model = CpuTimeModel(pi, cpu, clock)
    clock.now, cpu.now = clock.now + 10.0, cpu.now + 25.0
    assert model.read().joules == pytest.approx(10 * pi.energy.idle_watts + 25 * pi.energy.watts_per_core)


def test_the_model_is_labelled_an_estimate_with_the_interval_of_its_kind():
    info = CpuTimeModel(kind("epyc-8024p")).info
    assert (info.quality, info.interval, info.scope) == (Quality.ESTIMATED, 0.4, "package")


def test_the_model_counts_what_this_process_computes():
    model = CpuTimeModel(kind("epyc-8024p"), clock=lambda: 0.0)
    before = model.read().joules
    sum(i * i for i in range(200_000))
    assert model.read().joules > before
