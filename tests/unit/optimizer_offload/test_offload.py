"""Offloading and quality control: the price method against dynamic programming, baselines, and named refusals."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet.errors import BadRequest
from optimizer.generation.fitting import fit_steps
from optimizer.models.presets import RMSE_BY_STEPS, STEPS
from optimizer.models.radio import macro_gain
from optimizer.offload import dynamic, schemes, solve
from optimizer.offload.problem import Aims, Edge, Infeasible, Problem, Users

NOISE = 10 ** (-174 / 10) / 1000
PUBLISHED = fit_steps(STEPS.tolist(), RMSE_BY_STEPS.tolist())
FALLING = fit_steps([10, 20, 30, 40, 50, 60], [90.0, 50.0, 28.0, 16.0, 10.0, 7.0])
seeds = st.integers(0, 10**6)


def problem(seed, most_users=9, law=FALLING, **changes):
    random = np.random.default_rng(seed)
    n, full = int(random.integers(1, most_users + 1)), law.steps[-1]
    terms = {
        "cycles": random.uniform(0.5, 2, n) * 2e11 / full,
        "kappa": 1e-27 * random.uniform(0.5, 2, n),
        "min_hz": 0.2e9,
        "max_hz": random.uniform(1e9, 3e9, n),
        "battery_joules": random.choice([np.inf, 50, 500], n),
        "deadline_s": random.uniform(20, 200, n),
        "prompt_bits": random.uniform(0, 1e5, n),
        "image_bits": random.uniform(1e5, 5e6, n),
        "gain": macro_gain(random.uniform(50, 400, n)),
        "bandwidth_hz": random.uniform(1e5, 2e6, n),
        "watts": 0.2,
        "edge_watts": 1.0,
        "noise_watts_per_hz": NOISE,
    }
    users = Users(**(terms | changes))
    edge = Edge(random.uniform(5, 50) / full, random.uniform(20, 200), random.uniform(0, 100))
    aims = Aims(random.uniform(0.5, 3), random.uniform(0.1, 1), random.uniform(0.1, 1), 100.0, 100.0, 500.0)
    return Problem(users, edge, law, aims, int(law.steps[0]), int(full))


@given(seeds, st.sampled_from((9, 16)))
def test_the_price_method_is_worth_what_dynamic_programming_finds(seed, most_users):
    asked = problem(seed, most_users)
    try:
        judged = dynamic.solve(asked)
    except Infeasible:
        with pytest.raises(Infeasible):
            solve.solve(asked)
        return
    found = solve.solve(asked)
    assert found.utility >= judged.utility - 0.005 * abs(judged.utility)


def test_so_it_is_with_the_published_error_of_a_thousand_steps():
    asked = problem(11, 12, PUBLISHED)
    assert solve.solve(asked).utility == pytest.approx(dynamic.solve(asked).utility, rel=0.005)


@given(seeds)
def test_a_plan_holds_deadlines_batteries_and_the_time_of_the_edge(seed):
    asked = problem(seed, 16)
    try:
        found = solve.solve(asked)
    except Infeasible:
        return
    u = asked.users
    local = ~found.at_edge
    assert (found.seconds <= u.deadline_s * (1 + 1e-9)).all()
    assert (found.joules[local] <= u.battery_joules[local] * (1 + 1e-9)).all()
    assert (found.hz[local] <= u.max_hz[local] * (1 + 1e-9)).all()
    assert found.compute_s[found.at_edge].sum() <= asked.edge.time_s * (1 + 1e-9)


@given(seeds)
def test_no_baseline_is_worth_more(seed):
    asked = problem(seed)
    made = schemes.every(asked, seed, 30)
    try:
        best = made["price method"]().utility
    except Infeasible:
        return
    for scheme in made.values():
        try:
            worth = scheme().utility
        except Infeasible:
            continue
        assert worth <= best + 0.005 * abs(best)


@given(seeds, st.integers(10, 60))
def test_the_clock_on_the_device_is_worth_more_than_any_other(seed, steps):
    asked = problem(seed)
    u, wanted = asked.users, np.full(len(asked.users), steps)
    worth = asked.worth_local(wanted)
    for part in np.linspace(0, 1, 25):
        hz = u.min_hz + part * (u.max_hz - u.min_hz)
        seconds, joules = u.cycles * steps / hz, u.kappa * u.cycles * steps * hz**2
        allowed = np.isfinite(worth) & (seconds <= u.deadline_s) & (joules <= u.battery_joules)
        other = asked.worth(wanted, seconds, joules)
        assert (other[allowed] <= worth[allowed] + 1e-9).all()


@given(seeds)
def test_the_search_over_steps_finds_what_trying_them_all_finds(seed):
    asked = problem(seed)
    every = np.array([asked.worth_local(np.full(len(asked.users), s)) for s in range(10, 61)])
    found = solve.best_steps(asked.worth_local, asked, asked.most_local())
    possible = np.isfinite(every.max(axis=0))
    assert np.allclose(asked.worth_local(found)[possible], every.max(axis=0)[possible], rtol=1e-9, atol=1e-12)


def test_a_user_who_can_be_served_nowhere_is_named():
    asked = problem(3)
    deadlines = asked.users.deadline_s.copy()
    deadlines[1] = 1e-3
    asked = replace(asked, users=replace(asked.users, deadline_s=deadlines))
    with pytest.raises(Infeasible, match="user 1 cannot do 10 steps anywhere") as refused:
        solve.solve(asked)
    assert (refused.value.users, refused.value.constraint) == ((1,), "deadline or battery")


def test_users_whom_only_the_edge_can_serve_need_its_time():
    asked = problem(3, cycles=1e13)
    short = replace(asked, edge=replace(asked.edge, time_s=0.0))
    with pytest.raises(Infeasible, match="can only be served by the edge") as refused:
        solve.solve(short)
    assert refused.value.constraint == "edge time"


def test_an_edge_without_end_takes_everybody_who_gains_there():
    asked = problem(4)
    free = replace(asked, edge=replace(asked.edge, time_s=1e9, watts=1e-6, step_s=1e-6))
    assert solve.solve(free).at_edge.all()


def test_steps_whose_error_is_not_known_are_refused():
    with pytest.raises(BadRequest, match="the error is known from 10 to 60"):
        replace(problem(0), fewest_steps=5)
