"""What a batch costs, fitted: from presets, by a first batch, to what was measured."""

import random
from dataclasses import astuple

import pytest

from fleet.energy import EnergyReading, Quality
from fleet.kinds import kind
from fleet.origin import Origin
from optimizer.generation.costs import BatchSample, Terms, fitted, preset

TRUE = Terms(start=0.03, step=0.006, image=0.002, linear=0.001, square=0.01)
KIND = kind("raspberry-pi-5")
GRID = [(n, (w,) * s) for n in (1, 4, 16) for w in (0.25, 0.5, 1.0) for s in (5, 20)]


def sample(images, widths, seconds, joules=None):
    readings = () if joules is None else (EnergyReading("rapl:0", "cpu", "package", Quality.MEASURED, joules),)
    return BatchSample(images, widths, seconds, readings)


def test_before_any_batch_the_preset_stands_and_says_so():
    before = preset(KIND, 4, 5e6)
    assert (fitted([], before), before.origin, before.samples) == (before, Origin.PRESET, 0)


def test_a_first_batch_scales_the_preset_to_its_size():
    before = preset(KIND, 4, 5e6)
    widths = (1.0,) * 10
    slow = sample(4, widths, 7 * before.seconds.of(4, widths))
    cost = fitted([slow], before)
    assert cost.seconds.of(4, widths) == pytest.approx(slow.seconds, rel=0.05)
    assert cost.seconds.of(16, widths) == pytest.approx(7 * before.seconds.of(16, widths), rel=0.15)
    assert (cost.origin, cost.samples) == (Origin.FITTED, 1)


def test_measured_batches_give_the_constants_that_made_them_also_between_what_was_measured():
    draw = random.Random(1)
    samples = [sample(n, w, TRUE.of(n, w) * draw.uniform(0.95, 1.05), 5 * TRUE.of(n, w)) for n, w in GRID]
    cost = fitted(samples, preset(KIND, 4, 5e6))
    for n, w in [(8, (0.75,) * 10), (2, (0.25,) * 8 + (1.0,) * 4)]:
        assert cost.seconds.of(n, w) == pytest.approx(TRUE.of(n, w), rel=0.1)
        assert cost.joules.of(n, w) == pytest.approx(5 * TRUE.of(n, w), rel=0.1)
    assert (cost.quality, cost.scope, cost.source) == (Quality.MEASURED, "package", "rapl")


def test_one_odd_batch_hardly_moves_the_fit():
    samples = [sample(n, w, TRUE.of(n, w)) for n, w in GRID]
    samples[3] = sample(samples[3].images, samples[3].widths, 30 * samples[3].seconds)
    cost = fitted(samples, preset(KIND, 4, 5e6))
    assert cost.seconds.of(8, (0.5,) * 10) == pytest.approx(TRUE.of(8, (0.5,) * 10), rel=0.15)


def test_no_constant_is_below_zero_and_more_work_never_costs_less():
    draw = random.Random(2)
    samples = [sample(n, w, TRUE.of(n, w) * draw.uniform(0.3, 3)) for n, w in GRID]
    cost = fitted(samples, preset(KIND, 4, 5e6))
    assert min(astuple(cost.seconds)) >= 0
    assert cost.seconds.of(4, (0.5,) * 10) <= cost.seconds.of(8, (0.5,) * 10) <= cost.seconds.of(8, (1.0,) * 10)


def test_the_margin_grows_with_the_scatter_and_shrinks_with_the_samples():
    draw = random.Random(3)
    calm = [sample(n, w, TRUE.of(n, w)) for n, w in GRID]
    wild = [sample(n, w, TRUE.of(n, w) * draw.uniform(0.6, 1.6)) for n, w in GRID]
    before = preset(KIND, 4, 5e6)
    assert fitted(calm, before).margin < fitted(wild, before).margin
    assert fitted(calm, before).margin < fitted(calm[:2], before).margin <= before.margin


def test_without_joules_the_preset_s_stand_in_at_the_pace_that_was_measured():
    samples = [sample(n, w, TRUE.of(n, w)) for n, w in GRID]
    cost = fitted(samples, preset(KIND, 4, 5e6))
    assert cost.quality is None
    assert cost.joules.of(4, (1.0,) * 10) > 0
