"""Client-level differential privacy: who takes part, what is added, and what it has cost.

    mean = (sum_k clip(update_k) + N(0, (z C)^2)) / (q N)        McMahan et al. 2018, algorithm 1, f~f

Devices are drawn by a key of the coordinator's and not by the experiment's seed, which everybody knows: the sample
hides nothing from who can foretell it. q N is the number of devices that a round is expected to have, so that the
sensitivity of the mean does not depend on who came. Two fleets are neighbours if one has a device more than the
other. The accountant is Google's dp-accounting, with Renyi differential privacy of the Poisson-sampled Gaussian
(Mironov et al. 2019).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from coordinator.noise import Secret, add_gaussian, uniform
from fleet.domain import Metric
from fleet.errors import PlanFailed
from fleet.experiment import DifferentialSection


@dataclass(frozen=True)
class Private:
    """One round of one run: `population` devices could have been drawn."""

    section: DifferentialSection
    secret: Secret
    run: str
    round: int
    population: int

    @property
    def expected(self) -> float:
        """Devices that the round is expected to have."""
        return self.section.sampling_rate * self.population

    @property
    def deviation(self) -> float:
        """Standard deviation of the noise on each value of the mean."""
        return self.section.noise_multiplier * self.section.clip_norm / self.expected

    def add_noise(self, mean: Mapping[str, np.ndarray], scale: float) -> None:
        """Adds `scale` times the noise of this round to `mean`; the same noise if it is done again."""
        key = self.secret.key(f"noise/{self.run}/{self.round}")
        add_gaussian(mean, scale * self.deviation, key)

    def spent(self, rounds: int) -> tuple[Metric, ...]:
        """What `rounds` rounds with a model have cost."""
        s = self.section
        how = (
            f"delta {s.delta:g}; {rounds} rounds, sampling rate {s.sampling_rate:g}, "
            f"noise multiplier {s.noise_multiplier:g}; RDP by dp-accounting"
        )
        noise = f"standard deviation on each value of the mean; clip {s.clip_norm:g}, {self.expected:g} devices"
        return (
            Metric("epsilon", epsilon(s.noise_multiplier, s.sampling_rate, rounds, s.delta), how),
            Metric("noise", self.deviation, noise),
        )


def drawn(section: DifferentialSection, secret: Secret, run: str, round: int, devices: Sequence[str]) -> list[str]:
    """The devices that take part in `round`, each with the probability `sampling_rate`, by itself."""
    ordered = sorted(devices)
    units = uniform(secret.key(f"sample/{run}/{round}"), len(ordered))
    return [name for name, unit in zip(ordered, units, strict=True) if unit < section.sampling_rate]


def check_draw(found: Sequence[str], population: int, quorum: int, most: int) -> None:
    """PlanFailed where a round of `found` out of `population` cannot be: fewer than `quorum` or `most` too low."""
    if population > most:
        raise PlanFailed(
            f"differential privacy draws from all {population} attached devices, but round.devices is {most}: "
            "a round that closed before all drawn devices have delivered would not be the one accounted for"
        )
    if len(found) < quorum:
        raise PlanFailed(f"{len(found)} of {population} devices were drawn; quorum is {quorum}")


@lru_cache(maxsize=256)
def epsilon(noise_multiplier: float, sampling_rate: float, rounds: int, delta: float) -> float:
    """Epsilon at `delta` after `rounds` rounds, for fleets that differ in one device. An upper bound."""
    import dp_accounting  # takes two seconds, and few coordinators need it
    from dp_accounting.rdp import RdpAccountant

    one = dp_accounting.GaussianDpEvent(noise_multiplier)
    if sampling_rate < 1:
        one = dp_accounting.PoissonSampledDpEvent(sampling_rate, one)
    accountant = RdpAccountant()
    accountant.compose(one, rounds)
    return float(accountant.get_epsilon(delta))
