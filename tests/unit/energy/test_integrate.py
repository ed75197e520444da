import math
import random

import pytest

from edge_agent.energy.counter import Delta, Failed, First, Gap, Raw, SourceInfo
from edge_agent.energy.integrate import Integrator, SensorTracker
from edge_agent.energy.reading import SourceFailed
from fleet.domain import Quality

INFO = SourceInfo("ina3221:0", "ina3221", "board", "module", Quality.MEASURED, 0.5, "", max_gap_s=1.0)


def joules(watts, times):
    integrator = Integrator(INFO)
    steps = [integrator.update(Raw(watts(t), round(t * 1e9))) for t in times]
    assert steps[0] == First()
    return sum(step.joules for step in steps[1:])


def late(count, interval_s, rng):
    """Sample times of a sampler that comes up to a fifth of its interval late."""
    return [0.0, *(i * interval_s + rng.uniform(0, interval_s / 5) for i in range(1, count)), count * interval_s]


@pytest.mark.parametrize("seed", range(5))
def test_a_ramp_is_integrated_within_half_a_percent(seed):
    times = late(200, 0.1, random.Random(seed))
    assert joules(lambda t: 3 + 2 * t, times) == pytest.approx(3 * 20 + 20**2, rel=0.005)


@pytest.mark.parametrize("seed", range(5))
def test_a_sine_with_ten_samples_a_period_is_integrated_within_half_a_percent(seed):
    times = late(200, 0.1, random.Random(seed))
    assert joules(lambda t: 10 + 8 * math.sin(2 * math.pi * t), times) == pytest.approx(10 * 20, rel=0.005)


@pytest.mark.parametrize("per_period", [10, 10.37, 13.1, 25.7])
def test_a_square_with_ten_samples_a_period_or_more_is_integrated_within_half_a_percent(per_period):
    periods = 60
    step_s = 1 / per_period
    times = [i * step_s for i in range(int(periods * per_period))] + [float(periods)]
    square = joules(lambda t: 12.0 if t % 1.0 < 0.5 else 4.0, times)
    assert square == pytest.approx(8.0 * periods, rel=0.005)


def test_power_below_zero_is_an_offset_and_counts_as_it_is():
    assert joules(lambda t: -0.4, [0.0, 0.5, 1.0]) == pytest.approx(-0.4)


def test_no_straight_line_is_drawn_over_a_gap():
    integrator = Integrator(INFO)
    seen = [integrator.update(Raw(10.0, ns)) for ns in (0, 3 * 10**9, 3 * 10**9 + 10**8)]
    assert seen == [First(), Gap(pytest.approx(3.0)), Delta(pytest.approx(1.0))]


def test_no_straight_line_is_drawn_over_a_failure():
    said = [Raw(10.0, 0), SourceFailed("stale", "no answer for 3 s"), Raw(10.0, 10**8)]

    class Sensor:
        info = INFO

        def read(self):
            if isinstance(one := said.pop(0), Exception):
                raise one
            return one

    tracker = SensorTracker(Sensor())
    assert [tracker.advance() for _ in range(3)] == [First(), Failed("stale"), First()]
