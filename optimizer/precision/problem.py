"""The problem: choose iterations I, devices K, bits of the update m and bits of training n.

    E(I, K, m, n) = T(I, K, m, n) K (I E_train(n) + m cbar)        [P] arXiv 2207.09387

with T the rounds until the loss is within eps of its optimum. T is real, as in the paper.
"""

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike

from fleet.errors import BadRequest
from optimizer.models import convergence
from optimizer.models.checks import positive
from optimizer.models.convergence import Learning
from optimizer.models.presets import (
    GREEN_BATCH,
    GREEN_CHIP,
    GREEN_JOULES_PER_BIT,
    GREEN_LEARNING,
    GREEN_NETWORK,
)
from optimizer.models.training import Chip, Network, iteration_energy


@dataclass(frozen=True)
class Point:
    """One choice and what it comes to."""

    I: float  # noqa: E741 - the paper's symbol
    K: float
    m: float
    n: float
    rounds: float
    joules: float


@dataclass(frozen=True)
class Problem:
    """`joules_per_bit` is cbar: one more bit per parameter in one device's upload costs that much."""

    network: Network
    chip: Chip
    learning: Learning
    batch: int
    joules_per_bit: float
    max_update_bits: int = 32
    as_published: bool = False

    def __post_init__(self) -> None:
        positive(self, "batch", "joules_per_bit", "max_update_bits")
        if self.least_precision > self.chip.full_bits:
            raise BadRequest(
                f"eps = {self.learning.eps:g} needs {self.least_precision} bits in training; "
                f"the chip has {self.chip.full_bits}"
            )

    @cached_property
    def least_precision(self) -> int:
        """n_min."""
        return convergence.least_precision(self.learning, self.network.parameters)

    def train_joules(self, n: ArrayLike) -> np.ndarray:
        """E_train(n): one local iteration."""
        return iteration_energy(self.network, self.chip, n, self.batch, as_published=self.as_published)

    def rounds(self, i: ArrayLike, k: ArrayLike, m: ArrayLike, n: ArrayLike) -> np.ndarray:
        """T; inf where eps is out of reach or no round at all would be needed, which the bound does not cover."""
        t = convergence.rounds(self.learning, self.network.parameters, i, k, m, n)
        return np.where(t > 0, t, np.inf)

    def joules(self, i: ArrayLike, k: ArrayLike, m: ArrayLike, n: ArrayLike) -> np.ndarray:
        """E; inf where T is."""
        i, k, m = (np.asarray(x, float) for x in (i, k, m))
        per_round = k * (i * self.train_joules(n) + m * self.joules_per_bit)
        return np.asarray(self.rounds(i, k, m, n) * per_round)

    def point(self, i: float, k: float, m: float, n: float) -> Point:
        """The choice with its rounds and joules."""
        return Point(i, k, m, n, float(self.rounds(i, k, m, n)), float(self.joules(i, k, m, n)))

    @property
    def axes(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """The integers each of I, K, m, n may be."""
        return (
            np.arange(1, self.learning.max_iterations + 1),
            np.arange(1, self.learning.devices + 1),
            np.arange(1, self.max_update_bits + 1),
            np.arange(self.least_precision, self.chip.full_bits + 1),
        )


def green(
    eps: float | None = None,
    *,
    joules_per_bit: float = GREEN_JOULES_PER_BIT,
    variance: float | None = None,
    as_published: bool = False,
) -> Problem:
    """The published table, with another target, channel or variance where given."""
    changes = {k: v for k, v in {"eps": eps, "variance": variance}.items() if v is not None}
    learning = replace(GREEN_LEARNING, **changes)  # type: ignore[arg-type]
    return Problem(GREEN_NETWORK, GREEN_CHIP, learning, GREEN_BATCH, joules_per_bit, as_published=as_published)
