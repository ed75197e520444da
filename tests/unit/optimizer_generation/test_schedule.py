"""Width per step, steps and bits of one request: the multiplier method against dynamic programming."""

from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from optimizer.generation import dynamic
from optimizer.generation.schedule import (
    OutOfReach,
    StepPrices,
    by_square,
    cheapest,
    cheapest_widths,
    error_allowed,
    narrowest,
    step_terms,
)

FINE = (0.25, 0.375, 0.5, 0.625, 0.75, 0.875, 1.0)
seeds, qualities = st.integers(0, 10**6), st.floats(4.2, 30)


def prices(seed, widths):
    random = np.random.default_rng(seed)
    costs = np.sort(random.uniform(0.05, 0.3) + np.asarray(widths) ** random.uniform(0.5, 2.5))
    return StepPrices(widths, tuple(costs.tolist()))


def test_the_judge_finds_what_trying_everything_finds(laws):
    for seed in range(12):
        known, price = laws(seed), prices(seed, (0.25, 0.5, 1.0))
        terms = step_terms(known, 6, price.widths)
        allowed = float(np.quantile([terms.min(axis=1).sum(), terms.max(axis=1).sum()], 0.4))
        every = [
            sum(price.costs[w] for w in choice)
            for choice in product(range(3), repeat=6)
            if sum(terms[i, w] for i, w in enumerate(choice)) <= allowed
        ]
        assert dynamic.least_cost(terms, price.costs, allowed) == pytest.approx(min(every))


@given(seeds, qualities, st.sampled_from((5, 9, 20, 30)), st.sampled_from(((0.25, 0.5, 0.75, 1.0), FINE)))
def test_widths_per_step_cost_what_dynamic_programming_finds(laws, seed, quality, steps, widths):
    known, price = laws(seed), prices(seed, widths)
    allowed = error_allowed(known, quality, steps, 32, widths)
    judged = (
        np.inf if np.isnan(allowed) else dynamic.least_cost(step_terms(known, steps, widths), price.costs, allowed)
    )
    try:
        found = cheapest_widths(known, quality, steps, 32, price)
    except OutOfReach:
        assert judged == np.inf
        return
    assert found.cost <= judged * 1.005
    assert found.quality <= quality * (1 + 1e-6)


@given(seeds, qualities)
def test_steps_bits_and_widths_together_cost_what_dynamic_programming_finds(laws, seed, quality):
    known, steps = laws(seed), (5, 8, 12, 16)
    offered = {32: prices(seed, FINE), 8: prices(seed + 1, FINE)}
    judged = dynamic.cheapest(known, quality, steps, offered)
    try:
        found = cheapest(known, quality, steps, offered)
    except OutOfReach:
        assert judged == np.inf
        return
    assert found.cost <= judged * 1.005
    assert known.quality_of(found.widths, found.bits) <= quality * (1 + 1e-6)


@given(seeds, qualities, st.sampled_from((5, 20)))
def test_a_width_per_step_never_costs_more_than_one_width_for_all(laws, seed, quality, steps):
    known, price = laws(seed), by_square(FINE, fixed=0.1)
    try:
        one = narrowest(known, quality, steps, 32, price)
    except OutOfReach:
        with pytest.raises(OutOfReach):
            cheapest_widths(known, quality, steps, 32, price)
        return
    assert cheapest_widths(known, quality, steps, 32, price).cost <= one.cost * (1 + 1e-9)


def test_the_wide_network_is_used_near_the_image(laws):
    found = cheapest_widths(laws(3), 8.0, 20, 32, by_square(FINE))
    assert np.mean(found.widths[10:]) > np.mean(found.widths[:10])


def test_what_is_out_of_reach_says_what_is_not(laws):
    known = laws(1)
    with pytest.raises(OutOfReach, match="the best of all choices is") as refused:
        cheapest(known, 1.0, (10, 30), {32: by_square(FINE), 8: by_square(FINE)})
    assert refused.value.best == pytest.approx(float(known.quality(1.0, 30, 32)))
