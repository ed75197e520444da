"""On-demand bits: the KKT solution against scipy, the shared budget against brute force, and named refusals."""

from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar

from fleet.errors import BadRequest
from optimizer.models.quantisation import BITS, bits_for_error, min_max_error
from optimizer.models.radio import macro_gain
from optimizer.ondemand import budget, schemes
from optimizer.ondemand.allocate import allocate, energy
from optimizer.ondemand.bandwidth import share
from optimizer.ondemand.problem import Devices, Infeasible

pytestmark = pytest.mark.slow

CYCLES = 25 * 128 * 3 * 6.222e9 / 512
NOISE = 10 ** (-174 / 10) / 1000


def fleet(count, seed=0, **changes):
    random = np.random.default_rng(seed)
    constants = {
        "cycles": CYCLES * random.uniform(0.5, 1.5, count),
        "kappa": 1e-28,
        "min_hz": 0.2e9,
        "max_hz": 2e9,
        "gain": macro_gain(random.uniform(50, 400, count), random.exponential(size=count).clip(0.1)),
        "max_watts": 0.2,
        "noise_watts_per_hz": NOISE,
        "values": 35.746e6,
        "range": random.uniform(0.5, 2, count),
        "weight": 1 / count,
        "overhead_bits": 1e4,
        "deadline_s": 150.0,
        "energy_joules": np.inf,
    }
    return Devices(**(constants | changes))


def spent(devices, k, t, payload, band):
    """The joules of device k by the formulas, one number at a time."""
    f = np.clip(devices.cycles[k] / (devices.deadline_s[k] - t), devices.min_hz[k], devices.max_hz[k])
    p = devices.noise_watts_per_hz[k] * band / devices.gain[k] * (2 ** (payload / (band * t)) - 1)
    return devices.kappa[k] * devices.cycles[k] * f**2 + p * t


@settings(deadline=None)
@given(st.integers(0, 10**6), st.sampled_from(BITS), st.floats(1e5, 2e7), st.floats(60, 1000))
def test_power_frequency_and_time_are_those_scipy_finds(seed, bits, band, deadline_s):
    devices = fleet(1, seed, deadline_s=deadline_s)
    try:
        plan = allocate(devices, np.array([float(bits)]), np.array([band]))
    except Infeasible:
        most = deadline_s - devices.cycles[0] / 2e9
        top = band * np.log2(1 + 0.2 * devices.gain[0] / (NOISE * band))
        assert most <= devices.payload_bits(bits)[0] / top * (1 + 1e-9)
        return
    payload = plan.payload_bits[0]
    fewest = payload / (band * np.log2(1 + 0.2 * devices.gain[0] / (NOISE * band)))
    most = deadline_s - devices.cycles[0] / 2e9
    judge = minimize_scalar(
        lambda t: spent(devices, 0, t, payload, band),
        bounds=(fewest, most),
        method="bounded",
        options={"xatol": 1e-12 * most},
    )
    ends = min(spent(devices, 0, t, payload, band) for t in (fewest, most * (1 - 1e-15)))
    assert plan.joules <= min(judge.fun, ends) * (1 + 1e-6)


@settings(deadline=None)
@given(st.integers(0, 10**6), st.sampled_from((2, 6, 12)), st.floats(170, 600))
def test_shared_bandwidth_is_spent_as_scipy_would_spend_it(seed, bits, deadline_s):
    devices, q, total = fleet(2, seed, deadline_s=deadline_s), np.full(2, float(bits)), 4e6
    try:
        band = share(devices, q, total)
    except Infeasible:
        return
    payload = devices.payload_bits(q)

    def joules(first):
        t, compute, radio = energy(devices, payload, np.array([first, 1 - first]) * total)
        return 1e6 if np.isnan(t).any() else float(compute.sum() + radio.sum())

    found = minimize_scalar(joules, bounds=(1e-3, 1 - 1e-3), method="bounded", options={"xatol": 1e-9})
    assert abs(band.sum() / total - 1) < 1e-6
    assert allocate(devices, q, band).joules <= min(found.fun, joules(0.5)) * (1 + 1e-6)


@settings(deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 3), st.floats(2, 9))
@example(4117, 3, 3.0)  # the best choice meets the budget to the last bit
def test_bits_from_a_shared_budget_cost_what_brute_force_finds(seed, count, level):
    devices = fleet(count, seed)
    joules, errors = budget.choices(devices, np.full(count, 2e6))
    delta = float((devices.weight**2 * min_max_error(devices.values, devices.range, level)).sum())
    rows = np.arange(count)
    best = min(
        (
            joules[rows, c].sum()
            for c in map(list, product(range(len(BITS)), repeat=count))
            if errors[rows, c].sum() <= delta
        ),
        default=np.inf,
    )
    picked = budget.choose(joules, errors, delta)
    assert errors[rows, picked].sum() <= delta
    assert joules[rows, picked].sum() <= best * (1 + 1e-3)


def test_a_device_gets_the_fewest_bits_whose_error_it_tolerates():
    tolerated = min_max_error(1e6, 1.0, np.array([4, 6.0])) * 1.001
    assert bits_for_error(1e6, 1.0, np.array([*tolerated, 0.0])).tolist() == [4, 6, 32]


def test_on_demand_spends_less_than_full_bits_and_than_the_fixed_bits_all_tolerate():
    devices = fleet(10, deadline_s=300.0)
    tolerated = min_max_error(devices.values, 1.0, 6.0)
    plan = schemes.by_tolerance(devices, tolerated, 20e6)
    assert (
        plan.joules
        < schemes.fixed(devices, int(plan.bits.max()), 20e6).joules
        < schemes.fixed(devices, 32, 20e6).joules
    )


@pytest.mark.parametrize(
    ("changes", "constraint", "message"),
    [
        (
            {"deadline_s": 10.0},
            "computation",
            r"device 0 needs .* s to train at full frequency; its deadline is 10 s",
        ),
        ({"values": 1e10}, "upload", r"device 0 needs .* s to upload"),
        (
            {"energy_joules": np.array([np.inf, 1e-3, np.inf])},
            "energy",
            r"device 1 spends at least .*; it has 0.001 J",
        ),
    ],
)
def test_an_answer_that_does_not_exist_names_device_and_constraint(changes, constraint, message):
    with pytest.raises(Infeasible, match=message) as raised:
        schemes.fixed(fleet(3, **changes), 8, 20e6)
    assert raised.value.constraint == constraint


def test_a_budget_below_what_any_bits_reach_names_the_device_that_makes_most_of_it():
    devices = fleet(3, values=np.array([35e6, 9e8, 35e6]))
    with pytest.raises(Infeasible, match="device 1 alone makes"):
        schemes.by_budget(devices, 1e-12, 20e6)


def test_deadlines_that_need_more_band_than_there_is_are_refused_with_both_numbers():
    with pytest.raises(Infeasible, match=r"need .* Hz together, 1e\+05 Hz are there"):
        schemes.fixed(fleet(4), 16, 1e5, share_band=True)


@pytest.mark.parametrize(("name", "value"), [("gain", 0.0), ("deadline_s", -1.0), ("kappa", np.nan)])
def test_a_constant_that_means_nothing_is_refused_by_name(name, value):
    with pytest.raises(BadRequest, match=rf"Devices\.{name}"):
        fleet(3, **{name: value})


def test_an_empty_fleet_is_refused():
    devices = fleet(2)
    with pytest.raises(BadRequest, match="empty fleet"):
        replace(devices, **{name: np.array([]) for name in devices.__dataclass_fields__})
