"""Noise of the deviation that is said, an epsilon that is an upper bound, and a sample that nobody can foretell."""

import math

import numpy as np
import pytest
from scipy import optimize, stats

from coordinator.differential import Private, check_draw, drawn, epsilon
from coordinator.noise import Secret, add_gaussian
from edge_agent.privacy import clipped
from fleet.errors import PlanFailed
from fleet.experiment import DifferentialSection

SECTION = DifferentialSection(clip_norm=2.0, noise_multiplier=1.5, sampling_rate=0.25, delta=1e-5)


@pytest.fixture
def secret(tmp_path):
    return Secret(tmp_path / "privacy.key")


def exact_epsilon(noise, delta):
    """Of one Gaussian mechanism: Balle and Wang 2018, theorem 8."""

    def too_much(eps):
        a, b = 1 / (2 * noise), eps * noise
        return stats.norm.cdf(a - b) - math.exp(eps) * stats.norm.cdf(-a - b) - delta

    return optimize.brentq(too_much, 0, 100)


@pytest.mark.parametrize("noise", [0.7, 1.0, 4.0])
@pytest.mark.parametrize("rounds", [1, 30])
def test_epsilon_bounds_the_exact_one_from_above_and_not_from_afar(noise, rounds):
    exact = exact_epsilon(noise / math.sqrt(rounds), 1e-5)  # Gaussians compose into one
    assert exact <= epsilon(noise, 1.0, rounds, 1e-5) <= 1.25 * exact


def test_a_sampled_round_costs_less_and_more_rounds_cost_more():
    assert epsilon(1.0, 0.1, 50, 1e-5) < epsilon(1.0, 0.5, 50, 1e-5) < epsilon(1.0, 1.0, 50, 1e-5)
    assert epsilon(1.0, 0.1, 50, 1e-5) < epsilon(1.0, 0.1, 100, 1e-5)


def test_the_noise_is_normal_and_the_same_again(secret):
    values = [{"b": np.zeros((300, 400), np.float32), "a": np.zeros(5, np.float32)} for _ in range(2)]
    for v in values:
        add_gaussian(v, 3.0, secret.key("noise/x-1/1"))
    drawn_ = np.concatenate([values[0]["a"], values[0]["b"].reshape(-1)])
    assert stats.kstest(drawn_ / 3.0, "norm").pvalue > 1e-4
    assert abs(np.corrcoef(drawn_[:-1], drawn_[1:])[0, 1]) < 0.02
    for name in ("a", "b"):
        np.testing.assert_array_equal(values[0][name], values[1][name])


def test_another_round_and_another_coordinator_have_other_noise(secret, tmp_path):
    keys = [
        secret.key("noise/x-1/1"),
        secret.key("noise/x-1/2"),
        Secret(tmp_path / "other.key").key("noise/x-1/1"),
    ]
    drawn_ = [{"a": np.zeros(20_000, np.float32)} for _ in keys]
    for key, values in zip(keys, drawn_, strict=True):
        add_gaussian(values, 1.0, key)
    assert np.abs(np.corrcoef([v["a"] for v in drawn_]) - np.eye(3)).max() < 0.05


def test_the_key_is_for_its_owner_only_and_outlives_the_process(secret, tmp_path):
    first = secret.key("x")
    assert (tmp_path / "privacy.key").stat().st_mode & 0o777 == 0o600
    assert Secret(tmp_path / "privacy.key").key("x") == first


def test_devices_are_drawn_each_with_the_rate_and_the_same_ones_again(secret):
    devices = [f"d{k:03}" for k in range(200)]
    samples = [drawn(SECTION, secret, "x-1", round, devices) for round in range(50)]
    assert np.mean([len(s) for s in samples]) == pytest.approx(50, rel=0.1)
    assert drawn(SECTION, secret, "x-1", 7, list(reversed(devices))) == samples[7]
    assert len({tuple(s) for s in samples}) == 50


def test_a_draw_that_makes_no_round_is_said():
    with pytest.raises(PlanFailed, match="1 of 9 devices were drawn; quorum is 2"):
        check_draw(["a"], 9, quorum=2, most=9)
    with pytest.raises(PlanFailed, match=r"draws from all 9 attached devices, but round.devices is 4"):
        check_draw(["a", "b"], 9, quorum=2, most=4)


def test_the_deviation_of_the_mean_is_that_of_the_sum_over_the_expected_devices(secret):
    private = Private(SECTION, secret, "x-1", 1, population=40)
    assert private.deviation == pytest.approx(1.5 * 2.0 / (0.25 * 40))
    mean = {"w": np.zeros(50_000, np.float32)}
    private.add_noise(mean, scale=0.5)
    assert mean["w"].std() == pytest.approx(0.5 * private.deviation, rel=0.02)


def test_a_clipped_update_has_the_norm_and_the_direction():
    update = {"a": np.full(100, 3.0, np.float32), "b": np.full((2, 2), 4.0, np.float32)}
    found = clipped(update, 1.0)
    assert math.sqrt(sum(float(np.square(x).sum()) for x in found.values())) == pytest.approx(1.0, rel=1e-6)
    assert found["b"][0, 0] / found["a"][0] == pytest.approx(4 / 3)
    assert clipped(update, 1e9) is update
