"""Clocks and bandwidth of simultaneous requests: nested bisection against dynamic programming over the band."""

from dataclasses import fields

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from optimizer.generation.resources import Clock, Demands, Infeasible, allocate, equal, share
from optimizer.generation.serving import EnergyLaw
from optimizer.models.radio import macro_gain

pytestmark = pytest.mark.slow

NOISE = 10 ** (-174 / 10) / 1000
PARTS = 40
laws = st.sampled_from(list(EnergyLaw))


def demands(seed, **changes):
    random = np.random.default_rng(seed)
    n = int(random.integers(2, 6))
    terms = {
        "cycles": random.uniform(0.5e9, 5e9, n),
        "bits": random.uniform(1e5, 2e7, n),
        "deadline_s": random.uniform(3, 10, n),
        "gain": macro_gain(random.uniform(50, 400, n)),
        "watts": 0.2,
        "noise_watts_per_hz": NOISE,
    }
    return Demands(**(terms | changes))


def clock(law, seed=0):
    random = np.random.default_rng(seed)
    if law is EnergyLaw.KAPPA:
        return Clock(law, 0.2e9, 2e9, kappa=10 ** random.uniform(-28, -26))
    return Clock(law, 0.2e9, 2e9, idle_watts=2.0, dyn_watts=random.uniform(1, 10))


def judged(of, on, total_hz):
    """The fewest joules when everybody gets a whole number of PARTS of the band."""
    best = np.zeros(PARTS + 1)
    for k in range(of.cycles.size):
        one = Demands(*(getattr(of, f.name)[k] for f in fields(of)))
        joules = np.full(PARTS + 1, np.inf)
        for part in range(1, PARTS + 1):
            try:
                joules[part] = allocate(one, on, np.array([part * total_hz / PARTS])).joules
            except Infeasible:
                continue
        best = np.array([min(best[used - p] + joules[p] for p in range(used + 1)) for used in range(PARTS + 1)])
    return best[PARTS]


@given(st.integers(0, 10**6), laws, st.floats(2e5, 2e7))
def test_the_band_is_shared_as_dynamic_programming_would(seed, law, total_hz):
    of, on = demands(seed), clock(law, seed)
    try:
        found = share(of, on, total_hz)
    except Infeasible:
        assert judged(of, on, total_hz) == np.inf
        return
    assert found.joules <= judged(of, on, total_hz) * 1.005
    assert found.bandwidth_hz.sum() <= total_hz * (1 + 1e-9)
    assert (found.compute_s + found.send_s <= of.deadline_s * (1 + 1e-6)).all()


@given(st.integers(0, 10**6), laws)
def test_equal_parts_of_the_band_never_take_fewer_joules(seed, law):
    of, on = demands(seed), clock(law, seed)
    try:
        alike = equal(of, on, 5e6)
    except Infeasible:
        return
    assert share(of, on, 5e6).joules <= alike.joules * (1 + 1e-9)


def test_latency_is_tight_when_joules_go_with_the_square_of_the_clock():
    of = demands(1)
    found = share(of, clock(EnergyLaw.KAPPA), 2e7)
    tight = of.cycles / (of.deadline_s - found.send_s)
    assert found.hz == pytest.approx(np.maximum(tight, 0.2e9), rel=1e-6)


def test_a_processor_with_a_high_idle_power_does_not_slow_down():
    on = Clock(EnergyLaw.CONSTANT_POWER, 0.2e9, 2e9, idle_watts=100.0, dyn_watts=1.0)
    assert (share(demands(1), on, 2e7).hz == 2e9).all()


def test_the_law_of_energy_is_named_in_the_result():
    assert share(demands(1), clock(EnergyLaw.KAPPA), 2e7).law is EnergyLaw.KAPPA


@pytest.mark.parametrize(
    ("changes", "total_hz", "constraint"),
    [
        ({"cycles": 1e12}, 2e7, "computation"),
        ({"gain": 1e-18}, 2e7, "download"),
        ({}, 1e3, "bandwidth"),
    ],
)
def test_what_cannot_be_names_the_constraint_and_the_request(changes, total_hz, constraint):
    with pytest.raises(Infeasible, match="request") as refused:
        share(demands(2, **changes), clock(EnergyLaw.KAPPA), total_hz)
    assert refused.value.constraint == constraint
