from typing import Any

import numpy as np
import pytest
import torch

from workloads.diffusion import DiffusionWorkload


@pytest.fixture(autouse=True, scope="session")
def one_thread():
    torch.set_num_threads(1)


OPTIONS: dict[str, Any] = {
    "dataset": "digits",
    "partition": {"scheme": "iid", "seed": 0},
    "model": {"channels": 16, "multipliers": [1, 2], "blocks": 1, "attention": [], "patch": 1, "divisor": 4},
    "diffusion": {"schedule": "cosine", "steps": 100},
    "training": {"batch": 16, "lr": 3e-3, "lr_decay": "none", "clip": 1.0, "flexible": True},
    "evaluation": {
        "samples": 20,
        "sampler": "ddim",
        "denoise_steps": 3,
        "held_out": 40,
        "reference": 60,
        "batch": 16,
    },
}


@pytest.fixture(scope="session")
def options() -> dict[str, Any]:
    """Of a network of 16 channels for all widths, kept in fours: 0.25, 0.5, 0.75 and 1."""
    return OPTIONS


@pytest.fixture(scope="session")
def flexible() -> DiffusionWorkload:
    """The workload of `options`."""
    return DiffusionWorkload(OPTIONS, None)


@pytest.fixture(scope="session")
def weights(flexible) -> dict[str, np.ndarray]:
    """Untrained, but none of them zero."""
    draws = np.random.default_rng(3)
    return {
        name: p + 0.05 * draws.standard_normal(p.shape).astype(np.float32)
        for name, p in flexible.initial(1).items()
    }
