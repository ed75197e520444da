"""Laws fitted to points that were made by such laws find them again, and say what they are worth."""

from dataclasses import replace

import numpy as np
import pytest

from fleet.errors import BadRequest
from fleet.generation import Recipe
from fleet.quality import NoiseErrors, QualityPoint
from optimizer.fitting.laws import distances, quality_laws, step_errors
from optimizer.generation.quality import as_numbers, from_numbers

STEPS, HARM = 20, 400.0


def fid(width: float, steps: int, bits: int) -> float:
    return 12 + 3 * (width**-1.5 - 1) + 40 / steps - 40 / STEPS + (0 if bits == 32 else HARM * 4.0**-bits)


def point(width: float, steps: int = STEPS, bits: int = 32, sampler: str = "ddim") -> QualityPoint:
    value = fid(width, steps, bits)
    return QualityPoint(Recipe((width,) * steps, sampler, bits), 100, value, 0.5, 2 * value, 0.1, 1000)


LINES = [
    *(point(w) for w in (0.25, 0.375, 0.5, 0.75, 1.0)),
    *(point(1.0, s) for s in (2, 4, 5, 8, 10)),
    *(point(1.0, bits=b) for b in (3, 4, 6, 8)),
]
NOISE = NoiseErrors(
    (0.25, 0.75), (0.01, 0.02), (0.9, 0.2), (0.25, 0.5, 1.0), ((0.4, 0.3, 0.31), (0.1, 0.08, 0.05)), 64
)


def test_the_laws_that_made_the_points_are_found():
    laws = quality_laws(LINES, "ddim")

    assert (laws.width.a, laws.width.c, laws.width.g) == pytest.approx((12, 3, 1.5), rel=1e-3)
    assert laws.steps.at([2, 20]) == pytest.approx([30, 12], rel=1e-3)
    assert laws.bits.harm == pytest.approx(HARM, rel=1e-3)
    assert max(laws.width.residual, laws.bits.residual) < 1e-3


def test_harms_add_up_where_two_things_are_reduced():
    (found,) = distances(quality_laws(LINES, "ddim"), [point(0.5, 5, 4)])

    assert found.relative < 0.01


def test_points_of_another_sampler_are_another_matter():
    wild = [replace(p, recipe=replace(p.recipe, sampler="dpm++"), fid=7 * p.fid) for p in LINES]

    assert quality_laws(LINES + wild, "ddim") == quality_laws(LINES, "ddim")
    assert len(distances(quality_laws(LINES, "ddim"), LINES + wild)) == len(LINES)


def test_there_are_laws_of_the_average_error_too():
    laws = quality_laws(LINES, "ddim", metric="error")

    assert laws.width.a == pytest.approx(24, rel=1e-3)
    assert laws.metric == "error"


def test_there_are_laws_of_what_is_missed_which_is_never_nothing():
    missing = [replace(p, recall=1 - p.fid / 1000) for p in LINES]
    laws = quality_laws(missing, "ddim", metric="missed")
    complete = [replace(p, recall=1.0) for p in LINES]

    assert (laws.width.a, laws.width.c) == pytest.approx((0.012, 0.003), rel=1e-3)
    assert laws.steps.at([2, 20]) == pytest.approx([0.030, 0.012], rel=1e-3)
    assert quality_laws(complete, "ddim", metric="missed").quality(0.5, 5) == pytest.approx(0.005, rel=1e-3)


def test_measurements_with_noise_have_a_residual_of_its_size():
    draws = np.random.default_rng(0)
    noisy = [replace(p, fid=p.fid * (1 + 0.05 * draws.standard_normal())) for p in LINES]

    laws = quality_laws(noisy, "ddim")

    assert 0.005 < laws.width.residual < 0.15
    assert 0.005 < laws.bits.residual < 0.3


def test_the_table_of_noise_never_grows_with_width_and_weighs_as_the_bound_does():
    table = step_errors(NOISE)

    assert table.errors == ((0.4, 0.3, 0.3), (0.1, 0.08, 0.05))
    assert table.weights == pytest.approx((0.01 / (2 * 0.99 * 0.1), 0.02 / (2 * 0.98 * 0.8)))


def mixed(*widths: float, worse: float = 1.0) -> QualityPoint:
    """Worth the mean of what its widths are worth, times `worse`."""
    value = worse * float(np.mean([fid(w, STEPS, 32) for w in widths]))
    recipe = Recipe(tuple(w for w in widths for _ in range(STEPS // len(widths))), "ddim", 32)
    return QualityPoint(recipe, 100, value, 0.5, 2 * value, 0.1, 1000)


MIXED = [mixed(0.25, 1.0), mixed(1.0, 0.25), mixed(0.5, 1.0), mixed(0.25, 0.5, 0.75, 1.0)]


@pytest.mark.parametrize("noise", [None, NOISE])
def test_schedules_that_were_measured_say_what_a_width_in_one_step_is_worth(noise):
    before = distances(quality_laws(LINES, "ddim", noise=NOISE), MIXED)
    laws = quality_laws(LINES + MIXED, "ddim", noise=noise)
    after = distances(laws, MIXED)

    assert max(d.relative for d in before) > 0.1
    assert max(d.relative for d in after) < 0.03
    assert all(d.relative < 0.01 for d in distances(laws, LINES))
    assert (laws.combined, laws.margin) == (4, pytest.approx(0, abs=0.03))


def test_the_margin_is_what_nine_in_ten_combined_measurements_needed():
    worse = [replace(point(0.5, s), fid=(1 + 0.01 * s) * fid(0.5, s, 32)) for s in (2, 4, 5, 8, 10)]

    laws = quality_laws(LINES + worse, "ddim")

    assert laws.combined == 5
    assert laws.margin == pytest.approx(0.092, abs=0.003)
    assert quality_laws(LINES, "ddim").margin == 0


def test_a_promise_of_what_was_predicted_has_the_margin_and_the_best_there_is_has_none():
    laws = replace(quality_laws(LINES, "ddim"), margin=0.1)

    assert laws.promised([20.0, laws.best]) == pytest.approx([22.0, 12.0], rel=1e-3)
    assert laws.predicted_for(22.0) == pytest.approx(20.0)
    assert (laws.predicted_for(12.5), laws.predicted_for(11.0)) == (laws.best, 11.0)


def test_laws_survive_being_kept():
    laws = quality_laws(LINES, "ddim", noise=NOISE, source="a test")

    assert from_numbers(as_numbers(laws)) == laws


@pytest.mark.parametrize(
    ("points", "metric", "complaint"),
    [
        (LINES, "beauty", "no laws of 'beauty'; known are fid, missed, error"),
        (LINES[:2], "fid", "needs 3 different places at least"),
    ],
)
def test_what_cannot_be_fitted_is_refused(points, metric, complaint):
    with pytest.raises(BadRequest, match=complaint):
        quality_laws(points, "ddim", metric=metric)
