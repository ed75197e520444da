import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.energy import reading
from edge_agent.energy.counter import Delta, Failed, First, Gap, Raw, ReadFailed, Reset, SourceInfo
from edge_agent.energy.unwrap import CounterTracker, Unwrapper
from fleet.domain import Quality

UNIT_J = 61.035e-6
RANGE_J = 262_143.328_850
WRAP_J = RANGE_J + UNIT_J


def info(wrap_j=WRAP_J, max_watts=190.0, max_gap_s=60.0, min_window_s=0.05):
    return SourceInfo(
        "rapl:package-0", "rapl", "cpu", "package", Quality.MEASURED, min_window_s, "",
        unit_j=UNIT_J, wrap_j=wrap_j, max_watts=max_watts, max_gap_s=max_gap_s,
    )  # fmt: skip


def steps(readings, **of_info):
    """Steps of (joules, seconds) readings."""
    unwrapper = Unwrapper(info(**of_info))
    return [unwrapper.update(Raw(joules, round(seconds * 1e9))) for joules, seconds in readings]


def test_the_first_reading_has_nothing_to_be_subtracted_from():
    assert steps([(5.0, 0.0), (7.0, 1.0)]) == [First(), Delta(2.0)]


@given(st.lists(st.integers(0, 2_000_000), min_size=1, max_size=60), st.integers(0, 2**32 - 1))
def test_joules_through_any_number_of_wraps_are_exact_to_one_step_of_the_counter(grown, start):
    total, readings = start, [(start * UNIT_J, 0.0)]
    for second, units in enumerate(grown, start=1):
        total += units
        readings.append((total % 2**32 * UNIT_J, float(second)))
    joules = sum(step.joules for step in steps(readings)[1:])
    assert joules == pytest.approx(sum(grown) * UNIT_J, abs=UNIT_J)


def test_a_fall_that_the_power_limit_explains_is_a_wrap():
    step = steps([(WRAP_J - 10.0, 0.0), (80.0, 1.0)])[1]
    assert (step.wrapped, step.joules) == (True, pytest.approx(90.0))


def test_a_fall_that_would_take_more_than_the_power_limit_is_a_reset_and_the_new_reading_is_the_base():
    assert steps([(200_000.0, 0.0), (3.0, 1.0), (8.0, 2.0)])[1:] == [Reset(), Delta(5.0)]


def test_a_rise_above_the_power_limit_is_a_reset_and_not_energy():
    assert steps([(5.0, 0.0), (100_000.0, 1.0)])[1] == Reset()


def test_a_step_of_the_counter_between_two_quick_readings_is_not_taken_for_a_reset():
    assert steps([(5.0, 0.0), (5.3, 0.0001)])[1] == Delta(pytest.approx(0.3))


def test_a_fall_of_a_counter_whose_range_nobody_knows_drops_that_interval_only():
    assert steps([(9.0, 0.0), (2.0, 1.0), (4.0, 2.0)], wrap_j=None)[1:] == [Reset(), Delta(2.0)]


def test_readings_too_far_apart_to_exclude_a_second_wrap_are_a_gap():
    assert steps([(5.0, 0.0), (6.0, 61.0), (7.0, 62.0)])[1:] == [Gap(pytest.approx(61.0)), Delta(1.0)]


def test_a_reading_repeated_with_its_own_time_adds_nothing():
    assert steps([(5.0, 3.0), (5.0, 3.0)])[1] == Delta(0.0)


class Broken:
    """A counter that says what a list says; an exception is raised."""

    def __init__(self, *said):
        self.info = info()
        self.said = list(said)

    def read(self):
        said = self.said.pop(0)
        if isinstance(said, Exception):
            raise said
        return said


def test_a_failed_reading_is_missing_and_the_next_good_one_is_no_wrap():
    counter = Broken(Raw(9.0, 0), OSError(5, "Input/output error"), Raw(12.0, 2 * 10**9), Raw(13.0, 3 * 10**9))
    tracker = CounterTracker(counter)
    assert [tracker.advance() for _ in range(4)] == [First(), Failed("EIO"), First(), Delta(1.0)]


def test_a_failure_without_a_word_of_the_kernel_has_the_name_of_its_class():
    assert CounterTracker(Broken(ReadFailed("gone"))).advance() == Failed("ReadFailed")


def test_a_file_that_is_empty_for_an_instant_is_read_again(tmp_path, monkeypatch):
    file = tmp_path / "energy_uj"
    file.write_text("")
    monkeypatch.setattr(reading.time, "sleep", lambda _: file.write_text("42\n"))
    assert reading.number(file) == 42
