"""The published tables, by name."""

import numpy as np

from optimizer.models.convergence import Learning
from optimizer.models.radio import Radio
from optimizer.models.training import Chip, Network

GREEN_NETWORK = Network(parameters=411_598, macs=40.5e6, outputs=4990, inputs=784)
"""[P] arXiv 2207.09387: the convolutional network for MNIST."""

GREEN_CHIP = Chip(mac_joules=3.7e-12, alpha=1.25, dram_factor=150, units=16, sram_bits=16e6, full_bits=32)
"""[P] arXiv 2207.09387, after Moons et al. 2017."""

GREEN_BATCH = 32
"""[P] arXiv 2207.09387."""

GREEN_RADIO = Radio(power_watts=0.1, bandwidth_hz=10e6, noise_watts_per_hz=4e-21)
"""[P] arXiv 2207.09387; the path-loss exponent is 4, devices are uniform in [1, 500]^2 m."""

GREEN_JOULES_PER_BIT = 1.6781163901235174e-3
"""cbar of the authors' drawn devices and channels [P: their code]."""

GREEN_LEARNING = Learning(
    devices=50,
    max_iterations=30,
    smoothness=0.097,
    convexity=0.05,
    beta=40.0,
    gamma=1.0,
    gradient=0.25,
    heterogeneity=0.6,
    noise=100.0,
    eps=0.1,
    variance=1.4036520337750086e-19,
)
"""[P] arXiv 2207.09387; the variance is that of the authors' drawn devices."""

ANCHORS = {"naive linear W8": 4.71, "naive linear W4": 141.0, "Q-Diffusion W4": 5.09, "full precision": 4.22}
"""[P] FID of DDIM-100 on CIFAR-10 by bits of the weights: where quality breaks, not what wattbed measures."""

STEPS = np.arange(100, 1001, 100)
RMSE_BY_STEPS = np.array([67.60, 60.97, 54.19, 46.13, 38.03, 30.81, 24.44, 18.47, 12.02, 0.951])
"""[P] DDPM, table 4: RMSE on [0, 255] after STEPS of 1000 reverse steps on CIFAR-10."""
