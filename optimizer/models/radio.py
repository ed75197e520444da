"""The uplink: Shannon rate, path loss and fading, and what a bit costs. Rates in bit/s, powers in W.

[P] the laws (Shannon 1948; path loss as the systems' papers state them). [R] how they are put together for
on-demand bits, see `optimizer.ondemand`.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from optimizer.models.checks import positive


@dataclass(frozen=True)
class Radio:
    """A transmitter of `power_watts` on `bandwidth_hz` with noise of `noise_watts_per_hz`."""

    power_watts: float
    bandwidth_hz: float
    noise_watts_per_hz: float

    def __post_init__(self) -> None:
        positive(self, "power_watts", "bandwidth_hz", "noise_watts_per_hz")


def power_law_gain(distance_m: ArrayLike, exponent: float, fading: ArrayLike = 1.0) -> np.ndarray:
    """h = fading * distance ^ -exponent. [P] arXiv 2207.09387: exponent 4, fading Exp(1)."""
    return np.asarray(fading) * np.asarray(distance_m, float) ** -exponent


def macro_gain(distance_m: ArrayLike, fading: ArrayLike = 1.0) -> np.ndarray:
    """h of an urban macro cell: path loss 128.1 + 37.6 log10(distance in km) dB. [P] 3GPP TR 36.814."""
    loss_db = 128.1 + 37.6 * np.log10(np.asarray(distance_m, float) / 1000)
    return np.asarray(fading) * 10 ** (-loss_db / 10)


def rate_bps(
    power_watts: ArrayLike, gain: ArrayLike, bandwidth_hz: ArrayLike, noise_watts_per_hz: float
) -> np.ndarray:
    """b log2(1 + p h / (N0 b))."""
    b = np.asarray(bandwidth_hz, float)
    return np.asarray(b * np.log2(1 + np.asarray(power_watts) * np.asarray(gain) / (noise_watts_per_hz * b)))


def joules_per_update_bit(radio: Radio, gain: ArrayLike, parameters: int, probability: ArrayLike) -> float:
    """cbar = sum_k p_k mean_draws(P d / r_k): what one more bit per parameter costs a round.

    gain: (devices,) or (draws, devices), of which the mean is taken; probability: (devices,), summing to one.
    The expectation over Exp(1) fading has no finite value, so it is the draws that say what is meant.
    [P] arXiv 2207.09387.
    """
    gain = np.atleast_2d(np.asarray(gain, float))
    rate = rate_bps(radio.power_watts, gain, radio.bandwidth_hz, radio.noise_watts_per_hz)
    seconds_per_bit = (parameters / rate).mean(axis=0)
    return float(np.sum(np.asarray(probability) * radio.power_watts * seconds_per_bit))
