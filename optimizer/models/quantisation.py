"""Error of quantising, as a bound on the expected square of the difference, summed over the values."""

import numpy as np
from numpy.typing import ArrayLike

BITS = (*range(1, 17), 32)
"""Bit-widths an update may have."""


def fixed_point_error(values: ArrayLike, bits: ArrayLike) -> np.ndarray:
    """d / 2^(2n) for d values in [-1, 1] at n bits with stochastic rounding. [P] arXiv 2207.09387."""
    return np.asarray(np.asarray(values, float) / np.exp2(2 * np.asarray(bits, float)))


def min_max_error(values: ArrayLike, range_: ArrayLike, bits: ArrayLike) -> np.ndarray:
    """J(q) = d R^2 / (4 (2^q - 1)^2) for d values that span R; zero at 32 bits, which are sent as they are.

    [R] reconstruction of Lai et al. (arXiv 2403.04430): the variance of an unbiased two-point rounding.
    The arguments are broadcast.
    """
    q = np.asarray(bits, float)
    error = np.asarray(values, float) * np.square(np.asarray(range_, float)) / (4 * np.square(np.exp2(q) - 1))
    return np.where(q >= 32, 0.0, error)


def bits_for_error(values: ArrayLike, range_: ArrayLike, tolerated: ArrayLike) -> np.ndarray:
    """The fewest of BITS whose J is at most `tolerated` (0: only 32 bits will do). [R] as `min_max_error`."""
    values, range_, tolerated = np.broadcast_arrays(values, range_, tolerated)
    choices = np.asarray(BITS)
    enough = min_max_error(values[..., None], range_[..., None], choices) <= tolerated[..., None]
    return np.asarray(choices[np.argmax(enough, axis=-1)])
