"""Quality laws: what they promise, how they are kept, and that fits find them again."""

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet.errors import BadRequest
from optimizer.generation.fitting import fit_bits, fit_steps, fit_width
from optimizer.generation.quality import StepLaw, WidthLaw, as_numbers, bound_weights, from_numbers
from optimizer.models.presets import RMSE_BY_STEPS, STEPS

pytestmark = pytest.mark.slow

GIVEN_WIDTHS = (0.25, 0.375, 0.5, 0.75, 1.0)


@given(st.integers(0, 10**6), st.booleans())
def test_laws_kept_as_json_come_back_the_same(laws, seed, by_step):
    kept = laws(seed, by_step=by_step)
    assert from_numbers(json.loads(json.dumps(as_numbers(kept)))) == kept


@pytest.mark.parametrize("broken", [{}, {"width": {"a": 1}}, {"width": {"a": 1, "c": 1, "g": 1}, "steps": 3}])
def test_numbers_that_are_no_laws_are_refused(broken):
    with pytest.raises(BadRequest):
        from_numbers(broken)


@given(st.floats(1, 50), st.floats(0.1, 10), st.floats(0.1, 3), st.floats(0.1, 1))
def test_the_least_width_for_a_value_has_that_value(a, c, g, width):
    law = WidthLaw(a, c, g)
    assert law.width_for(float(law.at(width))) == pytest.approx(width, rel=1e-6)


def test_a_value_below_the_best_needs_more_than_the_full_width():
    assert WidthLaw(4.0, 2.0, 1.0).width_for(3.9) > 1


@given(st.integers(0, 10**6), st.sampled_from((5, 12, 30)), st.sampled_from(GIVEN_WIDTHS[1:]))
def test_widths_by_step_are_worth_something_between_the_narrowest_and_the_widest(laws, seed, steps, widest):
    known = laws(seed)
    mixed = np.random.default_rng(seed).choice((0.25, widest), steps)
    low, high = known.quality(widest, steps), known.quality(0.25, steps)
    assert low * (1 - 1e-9) <= known.quality_of(mixed) <= high * (1 + 1e-9)


def test_wide_steps_help_where_the_error_is(laws):
    known, steps = laws(3), 20
    last, first = np.full(steps, 0.25), np.full(steps, 0.25)
    last[-5:], first[:5] = 1.0, 1.0  # the last steps are near the image, where the table has the error
    assert known.quality_of(last) < known.quality_of(first)


def test_without_a_table_only_the_mean_square_counts(laws):
    assert laws(0, by_step=False).equal_width((0.5, 1.0)) == pytest.approx(np.sqrt(0.625))


def test_an_error_that_grows_with_width_is_no_table(laws):
    table = laws(0).by_step
    with pytest.raises(BadRequest, match="grow"):
        replace(table, errors=tuple(row[::-1] for row in table.errors))


@pytest.mark.parametrize("values", [(3.0, 4.0, 2.0), (9.0, 8.0, 2.0)])
def test_steps_that_do_not_fall_convexly_are_no_law(values):
    with pytest.raises(BadRequest, match="convex"):
        StepLaw((1, 2, 3), values)


@given(st.floats(2, 20), st.floats(0.5, 10), st.floats(0.3, 3))
def test_the_fit_of_width_finds_the_law_that_made_the_points(a, c, g):
    law = WidthLaw(a, c, g)
    fitted = fit_width(GIVEN_WIDTHS, law.at(GIVEN_WIDTHS).tolist())
    assert np.allclose(fitted.at(GIVEN_WIDTHS), law.at(GIVEN_WIDTHS), rtol=1e-3)
    assert fitted.residual is not None
    assert fitted.residual < 0.02


@given(st.lists(st.floats(1, 100), min_size=2, max_size=12), st.integers(0, 99))
def test_the_fit_of_steps_falls_and_is_convex_whatever_was_measured(values, seed):
    steps = np.arange(1, len(values) + 1) * 10
    law = fit_steps(steps.tolist(), values)  # StepLaw itself refuses anything else
    assert law.samples == len(values)


def test_the_fit_of_the_published_error_is_as_near_as_a_falling_convex_law_can_be():
    law = fit_steps(STEPS.tolist(), RMSE_BY_STEPS.tolist())
    line = np.polyfit(STEPS, RMSE_BY_STEPS, 1)  # falling and convex too
    off, off_line = (np.sum((v - RMSE_BY_STEPS) ** 2) for v in (law.at(STEPS), np.polyval(line, STEPS)))
    assert off <= off_line * (1 + 1e-9)


def test_the_fit_of_bits_finds_the_harm():
    bits = (4, 6, 8, 32)
    values = [4.0 + 100 * 4.0**-b if b < 32 else 4.0 for b in bits]
    assert fit_bits(bits, values).harm == pytest.approx(100, rel=1e-6)


def test_fewer_places_than_a_law_has_numbers_are_refused():
    with pytest.raises(BadRequest, match="3 different places"):
        fit_width((0.5, 1.0, 1.0), (8.0, 4.0, 4.1))


def test_the_weights_of_the_bound_are_those_of_the_equation():
    beta = np.linspace(1e-4, 0.02, 1000)
    t = 700
    alpha_bar = np.prod(1 - beta[: t + 1])
    expected = beta[t] ** 2 / (2 * beta[t] * (1 - beta[t]) * (1 - alpha_bar))
    assert bound_weights(beta)[t] == pytest.approx(expected)
