"""How many rounds a federation of quantised networks needs to come within eps of the optimum.

[P] Kim et al., arXiv 2207.09387, theorem 1 and the authors' public code: step size beta / (t + gamma) with
beta mu > 1, I local iterations on K of N devices, weights at n bits while training, updates at m bits.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from fleet.errors import BadRequest
from optimizer.models.checks import not_negative, positive


@dataclass(frozen=True)
class Learning:
    """The task: smoothness L, strong convexity mu, gradient bound G, heterogeneity Gamma, noise rho, target eps.

    `devices` is N; a round samples 1 to N of them and does 1 to `max_iterations` local iterations.
    `variance` is sum_k p_k^2 sigma_k^2.
    """

    devices: int
    max_iterations: int
    smoothness: float
    convexity: float
    beta: float
    gamma: float
    gradient: float
    heterogeneity: float
    noise: float
    eps: float
    variance: float

    def __post_init__(self) -> None:
        positive(
            self,
            "devices",
            "max_iterations",
            "smoothness",
            "convexity",
            "beta",
            "gamma",
            "gradient",
            "noise",
            "eps",
        )
        not_negative(self, "heterogeneity", "variance")
        if self.beta * self.convexity <= 1:
            raise BadRequest(f"beta mu is {self.beta * self.convexity:g}; the bound holds above 1")
        if self.noise <= self.convexity:
            raise BadRequest(f"rho - mu is {self.noise - self.convexity:g}; it must be above zero")

    @property
    def contraction(self) -> float:
        """beta mu - 1."""
        return self.beta * self.convexity - 1


def precision_floor(learning: Learning, parameters: int, n: ArrayLike) -> np.ndarray:
    """Psi1(n) = d (rho - mu) / 2^(2n): what training at n bits leaves however long it goes on."""
    return np.asarray(parameters * (learning.noise - learning.convexity) / np.exp2(2 * np.asarray(n, float)))


def drift(learning: Learning, parameters: int, i: ArrayLike, k: ArrayLike, m: ArrayLike) -> np.ndarray:
    """Psi2(I, K, m): sampling noise, local drift, error of the update's quantiser, and heterogeneity."""
    i, k, m = (np.asarray(x, float) for x in (i, k, m))
    g2 = learning.gradient**2
    return np.asarray(
        learning.variance
        + 4 * (i - 1) ** 2 * g2
        + 4 * parameters * i * g2 / (k * np.exp2(2 * m))
        + 4 * i**2 * g2 / k
        + 4 * learning.smoothness * learning.heterogeneity
    )


def margin(learning: Learning, parameters: int, n: ArrayLike) -> np.ndarray:
    """2 eps / L - beta Psi1(n) / (beta mu - 1): what is left to reach; at or below zero n bits never reach eps."""
    floor = precision_floor(learning, parameters, n)
    return np.asarray(2 * learning.eps / learning.smoothness - learning.beta * floor / learning.contraction)


def rounds(
    learning: Learning, parameters: int, i: ArrayLike, k: ArrayLike, m: ArrayLike, n: ArrayLike
) -> np.ndarray:
    """T(I, K, m, n), real; inf where eps is out of reach. The arguments are broadcast."""
    left = margin(learning, parameters, n)
    with np.errstate(divide="ignore"):
        scale = learning.beta**2 / (learning.contraction * np.where(left > 0, left, np.nan))
    t = (scale * drift(learning, parameters, i, k, m) - learning.gamma) / np.asarray(i, float)
    return np.where(np.isnan(t), np.inf, t)


def least_precision(learning: Learning, parameters: int) -> int:
    """n_min: the fewest bits in training with which eps can be reached."""
    bound = learning.smoothness * learning.beta * parameters * (learning.noise - learning.convexity)
    bound /= 2 * learning.eps * learning.contraction
    n = max(1, int(np.ceil(0.5 * np.log2(bound))))
    return n if margin(learning, parameters, n) > 0 else n + 1
