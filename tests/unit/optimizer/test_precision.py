"""Energy-optimal precision: the published numbers, and the fast solvers against every integer choice."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fleet.errors import BadRequest
from optimizer.models.convergence import Learning
from optimizer.models.presets import GREEN_CHIP, GREEN_LEARNING, GREEN_NETWORK
from optimizer.models.training import sample_energy
from optimizer.precision import exhaustive, solve
from optimizer.precision.problem import Problem, green

CLOSE = 1 + 1e-3


def significant(x, digits):
    return float(f"{x:.{digits}g}")


@pytest.mark.parametrize(
    ("eps", "choice", "rounds", "joules"),
    [
        (0.1, (1, 1, 11, 19), (393.84, 5), (13.381, 5)),
        (0.1, (1, 4, 12, 20), (229.51, 5), (32.971, 5)),
        (0.1, (1, 4, 32, 32), (228.15, 5), (66.616, 5)),
        (1e-3, (1.19394216, 4.27747329, 11.68601205, 22.75720617), (21361.984, 8), (3594.2342, 8)),
    ],
)
def test_the_published_points_come_to_the_published_rounds_and_joules(eps, choice, rounds, joules):
    point = green(eps, as_published=True).point(*choice)
    found = significant(point.rounds, rounds[1]), significant(point.joules, joules[1])
    assert found == (rounds[0], joules[0])


def test_the_backward_pass_differs_from_the_published_code_by_its_slip_alone():
    right, slipped = (
        float(sample_energy(GREEN_NETWORK, GREEN_CHIP, 32, as_published=p).backward) for p in (False, True)
    )
    assert (significant(right, 7), significant(slipped, 7)) == (3.777447e-4, 3.746250e-4)


def test_the_brute_force_optima_are_the_published_ones():
    table = exhaustive.table(green(0.1, as_published=True))
    energy = exhaustive.energy(table)
    nash = exhaustive.nash(table, solve.disagreement(table.problem))
    assert [(p.I, p.K, p.m, p.n) for p in (energy, nash)] == [(1, 1, 11, 19), (1, 4, 12, 20)]


def test_the_relaxed_nash_point_lies_where_the_paper_found_it():
    found = solve.relaxed_nash(green(1e-3, as_published=True))
    np.testing.assert_allclose((found.I, found.K, found.m, found.n), (1.194, 4.277, 11.686, 22.757), rtol=0.01)


@st.composite
def problems(draw):
    learning = Learning(
        devices=draw(st.integers(2, 14)),
        max_iterations=draw(st.integers(2, 10)),
        smoothness=draw(st.floats(0.02, 1.0)),
        convexity=0.05,
        beta=draw(st.floats(21.0, 80.0)),
        gamma=1.0,
        gradient=draw(st.floats(0.02, 2.0)),
        heterogeneity=draw(st.floats(0.05, 2.0)),
        noise=draw(st.floats(1.0, 300.0)),
        eps=draw(st.floats(1e-3, 0.05)),
        variance=draw(st.floats(0.0, 1.0)),
    )
    network = replace(GREEN_NETWORK, parameters=draw(st.integers(1000, 1_000_000)), macs=draw(st.floats(1e5, 1e9)))
    return Problem(network, GREEN_CHIP, learning, draw(st.integers(1, 64)), draw(st.floats(1e-7, 1.0)))


@settings(deadline=None)
@given(problems())
def test_every_fast_solver_is_within_a_thousandth_of_brute_force(problem):
    table = exhaustive.table(problem)
    if not np.isfinite(table.rounds).any():
        return
    fallback = solve.disagreement(problem)
    pairs = [
        (exhaustive.energy(table).joules, solve.energy_minimal(problem).joules),
        (exhaustive.time(table).rounds, solve.time_minimal(problem).rounds),
    ]
    best, found = exhaustive.total(table), solve.total_minimal(problem)
    pairs.append((best.rounds + best.joules, found.rounds + found.joules))
    best, found = exhaustive.nash(table, fallback), solve.nash(problem)
    gains = [(fallback.rounds - p.rounds) * (fallback.joules - p.joules) for p in (found, best)]
    pairs.append((gains[0], gains[1]))
    assert all(found <= CLOSE * best or found == best for best, found in pairs)


@settings(deadline=None)
@given(problems())
def test_the_integers_of_the_energy_optimum_are_within_one_step_of_brute_force(problem):
    table = exhaustive.table(problem)
    if not np.isfinite(table.rounds).any():
        return
    best, found = exhaustive.energy(table), solve.energy_minimal(problem)
    assert (
        max(
            abs(a - b)
            for a, b in zip((best.I, best.K, best.m, best.n), (found.I, found.K, found.m, found.n), strict=True)
        )
        <= 1
    )


def test_no_point_of_the_fast_pareto_boundary_is_beaten_by_more_than_a_thousandth():
    problem = green(0.1)
    every = exhaustive.pareto(exhaustive.table(problem))
    rounds, joules = np.array([p.rounds for p in every]), np.array([p.joules for p in every])
    for p in solve.pareto(problem, 12):
        assert joules[rounds <= p.rounds].min() * CLOSE >= p.joules


def test_one_precision_for_both_is_never_cheaper_than_two():
    problem = green(0.1)
    both = solve.one_precision(problem, 1, 4)
    assert both.joules >= exhaustive.table(problem).joules[0, 3].min()


def test_a_target_out_of_reach_is_refused_with_the_bits_it_would_need():
    with pytest.raises(BadRequest, match=r"eps = 1e-15 needs \d+ bits"):
        green(1e-15)


@pytest.mark.parametrize(
    ("name", "value"), [("eps", 0.0), ("smoothness", -1.0), ("gradient", np.nan), ("devices", 0)]
)
def test_a_constant_that_means_nothing_is_refused_by_name(name, value):
    with pytest.raises(BadRequest, match=rf"Learning\.{name} is"):
        replace(GREEN_LEARNING, **{name: value})
