"""How fast a queue runs: against a numerical optimiser."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import minimize

from optimizer.generation.serving import EnergyLaw, Place, Server
from optimizer.generation.speeds import clocks


def server(law=EnergyLaw.KAPPA, slowest=0.2):
    return Server("a", Place.DEVICE, (), 0.0, energy_law=law, slowest=slowest)


@given(st.integers(0, 10**6), st.integers(1, 5))
def test_the_clocks_spend_what_a_numerical_optimiser_spends(seed, count):
    random = np.random.default_rng(seed)
    seconds = random.uniform(0.5, 2, count)
    deadlines = np.cumsum(seconds) + np.sort(random.uniform(0, 6, count))
    found = np.array(clocks(server(), 0.0, seconds.tolist(), deadlines.tolist()))
    assert (np.cumsum(seconds / found) <= deadlines * (1 + 1e-9)).all()
    # Durations d = seconds / clock are the variables: joules seconds^3 / d^2, convex.
    judge = minimize(
        lambda d: np.sum(seconds**3 / d**2),
        seconds,
        bounds=[(s, s / 0.2) for s in seconds],
        constraints={"type": "ineq", "fun": lambda d: deadlines - np.cumsum(d)},
        method="SLSQP",
    )
    assert np.sum(seconds * found**2) <= judge.fun * (1 + 1e-6)


def test_without_that_law_nothing_slows_down():
    assert clocks(server(EnergyLaw.CONSTANT_POWER), 0.0, [1.0, 2.0], [50.0, 60.0]) == [1.0, 1.0]


def test_what_is_late_already_runs_at_the_full_clock():
    assert clocks(server(), 5.0, [1.0, 1.0], [2.0, 100.0]) == pytest.approx([1.0, 0.2])
