"""Measured on an untrained network: only what must hold of any."""

from itertools import pairwise

import numpy as np
import pytest

from fleet.generation import Recipe
from workloads import features, measuring
from workloads.unet import macs


@pytest.fixture
def hasty(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(features, "EPOCHS", {"digits": 1})
    features.classifier.cache_clear()
    yield
    features.classifier.cache_clear()


def test_a_point_says_what_its_images_cost_and_how_far_they_are_from_the_reference(
    hasty, options, weights, flexible
):
    recipes = [
        Recipe((1.0,) * 4, "dpm++"),
        Recipe((1.0,) * 2, "ddim"),
        Recipe((0.25, 1.0), "ddpm"),
        Recipe((1.0,) * 4, "ddim", 3),
    ]

    same, fewer, drawn, few_bits = measuring.points(
        options, weights, recipes, images=16, seed=1, reference_steps=4
    )

    net = flexible._options.network()
    assert same.error == 0
    assert min(fewer.error, few_bits.error) > 1
    assert drawn.error is None
    assert drawn.macs == macs(net, (1, 8), 0.25) + macs(net, (1, 8), 1.0)
    assert same.macs == 2 * fewer.macs
    assert all(p.seconds > 0 and np.isfinite(p.fid) and 0 <= p.recall <= 1 for p in (same, fewer, drawn))


def test_a_network_that_says_nothing_is_wrong_by_the_variance_of_the_noise(options, flexible):
    found = measuring.noise_errors(options, flexible.initial(0), (1.0, 0.25), levels=3, images=64, seed=0)

    assert found.widths == (0.25, 1.0)
    assert all(e == pytest.approx(1, rel=0.1) for row in found.errors for e in row)
    assert all(a < b for a, b in pairwise(found.levels))
    assert all(a > b for a, b in pairwise(found.abars))
    assert all(0 < b < 1 for b in found.betas)
