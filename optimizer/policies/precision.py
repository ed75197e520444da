"""`precision`: iterations, devices, bits and precision by Kim et al. (arXiv 2207.09387) on fitted constants.

    E(I, K, m, n) = T(I, K, m, n) K (I E_train(n) + m cbar + E_fixed)

T is the paper's [P]. E_train(n) is what a step was measured to take at the cheapest precision that a device
runs natively and that has n bits or more, in the mean over the fleet; cbar is the slope of what an upload takes
over its bits, measured joules and modelled radio together; E_fixed is what an assignment takes in any case.
Precisions that no hardware here runs are not chosen, since simulating them saves nothing: what a chip with such
arithmetic would spend is `mac_level`, an estimate in a row of its own.

With arithmetic = "simulated" the paper's own experiment is run instead: E_train(n) is that estimate, cbar the
modelled radio for as long as uploads were seen to take, and training is simulated at n bits. What is predicted for
a device and held against its meters is still what the device itself takes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import ArrayLike
from pydantic import Field, field_validator, model_validator

from fleet.domain import Phase
from fleet.errors import BadRequest
from fleet.experiment import BITS, SIMULATED_PRECISIONS, Section, parse
from optimizer.fitting import Choice, Setting
from optimizer.models.arithmetic import NATIVE_BITS, step_joules
from optimizer.models.convergence import Learning
from optimizer.models.presets import GREEN_CHIP
from optimizer.models.training import Network
from optimizer.policies import draw
from optimizer.policies.base import FittedPolicy
from optimizer.policies.options import Bits, Explore, NetworkSection, Precision, Width
from optimizer.policy import Candidate
from optimizer.precision import solve
from optimizer.precision.problem import Point, Problem

SOLVERS = {
    "energy": solve.energy_minimal,
    "time": solve.time_minimal,
    "nash": solve.nash,
    "sum": solve.total_minimal,
}


class LearningSection(Section):
    """The task, as in optimizer.models.convergence.Learning; N is the number of devices at hand."""

    max_iterations: int = Field(ge=1)
    smoothness: float
    convexity: float
    beta: float
    gamma: float
    gradient: float
    heterogeneity: float
    noise: float
    eps: float
    variance: float


class PrecisionOptions(Section):
    """`goal`: which point of the paper. `precisions`: fp32 and which others, where devices run them natively.

    arithmetic: "native" plans with what devices run and were measured to take, "simulated" for the paper's chip.
    radio_watts: what a radio takes while sending, modelled, on top of what is measured. `seed`: of who is sampled.
    """

    goal: Literal["energy", "time", "nash", "sum"]
    arithmetic: Literal["native", "simulated"]
    precisions: tuple[Precision, ...] = Field(min_length=1)
    width: Width
    bits_down: Bits
    radio_watts: float = Field(ge=0)
    seed: int = Field(ge=0)
    learning: LearningSection
    network: NetworkSection
    explore: Explore | None = None

    @field_validator("precisions")
    @classmethod
    def _full(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if "fp32" not in value:
            raise ValueError("fp32 must be among them: a point may need more bits than any other has")
        return value

    @model_validator(mode="after")
    def _priced(self) -> Self:
        if self.arithmetic == "simulated" and self.radio_watts == 0:
            raise ValueError('arithmetic "simulated" needs radio_watts above zero: it is all that an upload costs')
        return self


@dataclass(frozen=True)
class FittedProblem(Problem):
    """The paper's problem with `step_joules` by n = 1, 2, ... for its chip, and `fixed_joules` per device."""

    step_joules: tuple[float, ...] = ()
    fixed_joules: float = 0.0

    def train_joules(self, n: ArrayLike) -> np.ndarray:
        """E_train(n), fitted."""
        return np.asarray(np.asarray(self.step_joules)[np.asarray(n, int) - 1])

    def joules(self, i: ArrayLike, k: ArrayLike, m: ArrayLike, n: ArrayLike) -> np.ndarray:
        """E with what an assignment takes in any case."""
        spent = super().joules(i, k, m, n)
        if self.fixed_joules == 0:  # where eps is out of reach T is inf, and inf * 0 would be nothing
            return spent
        return np.asarray(spent + self.rounds(i, k, m, n) * np.asarray(k, float) * self.fixed_joules)


class PrecisionPolicy(FittedPolicy):
    """I is train_steps, m bits_up, n the precision, and K of the devices are sampled each round."""

    def __init__(self, options: Mapping[str, Any]) -> None:
        self._options = o = parse(PrecisionOptions, options, where="policy.options")
        super().__init__(o.bits_down, o.explore, (o.width,), o.network.job())
        self.point: Point | None = None
        """The last point that was solved for."""

    def choose(self, round: int, candidates: Sequence[Candidate]) -> Mapping[str, Choice]:
        """See FittedPolicy. BadRequest names a device whose joules are not known, or why no point exists."""
        problem = self.problem(candidates)
        self.point = point = SOLVERS[self._options.goal](problem)
        if not np.isfinite(point.rounds):
            raise BadRequest(f"eps = {problem.learning.eps:g} is out of reach at every choice")
        bits = next(b for b in BITS if b >= max(point.m, 2))  # the codec at 1 bit is another one: signs
        taken = draw.some([c.device for c in candidates], int(point.K), self._options.seed, round)
        return {
            c.device: Choice(self._trained_at(c, int(point.n)), int(point.I), bits, self._options.bits_down)
            for c in candidates
            if c.device in taken
        }

    def problem(self, candidates: Sequence[Candidate]) -> FittedProblem:
        """The paper's problem on what is known of these devices."""
        o, simulated = self._options, self._options.arithmetic == "simulated"
        by_n = [
            self.mac_level(n) if simulated else float(np.mean([self._step_joules(c, n) for c in candidates]))
            for n in range(1, GREEN_CHIP.full_bits + 1)
        ]
        uploads = np.mean([self._upload(c) for c in candidates], axis=0)
        learning = Learning(devices=len(candidates), **o.learning.model_dump())
        return FittedProblem(
            self._network,
            GREEN_CHIP,
            learning,
            o.network.batch,
            float(uploads[0]),
            step_joules=tuple(by_n),
            fixed_joules=float(uploads[1]),
        )

    def mac_level(self, n: int) -> float:
        """Joules of a step on the paper's chip with n-bit arithmetic [P]: estimated, nothing here spends them."""
        return step_joules(self._options.network.size(), n)

    @property
    def _network(self) -> Network:
        n = self._options.network
        return Network(n.parameters, n.macs, n.outputs, n.inputs)

    def _trained_at(self, candidate: Candidate, n: int) -> Setting:
        simulated = f"q{n}"
        if self._options.arithmetic == "simulated" and simulated in SIMULATED_PRECISIONS:
            return Setting(self._options.width, simulated)
        return self._setting(candidate, n)

    def _native(self, candidate: Candidate, n: int) -> list[str]:
        fit = self.fits.device(candidate)
        allowed = [p for p in self._options.precisions if p in NATIVE_BITS and fit.offers(p)]
        return [p for p in allowed if NATIVE_BITS[p] >= n]

    def _setting(self, candidate: Candidate, n: int) -> Setting:
        """The cheapest that the device runs natively at n bits or more."""
        settings = [Setting(self._options.width, p) for p in self._native(candidate, n)]
        fit = self.fits.device(candidate)
        return min(settings, key=lambda s: fit.rank(Choice(s, 1, 32, self._options.bits_down)))

    def _step_joules(self, candidate: Candidate, n: int) -> float:
        one, two = (
            self._cost(candidate, Choice(self._setting(candidate, n), steps, 32, self._options.bits_down))
            for steps in (1, 2)
        )
        return two - one

    def _upload(self, candidate: Candidate) -> tuple[float, float]:
        """Joules per bit of the update, and what is left of an assignment without steps and bits."""
        o, setting = self._options, self._setting(candidate, 32)
        few, many = (Choice(setting, 1, bits, o.bits_down) for bits in (2, 32))
        if o.arithmetic == "simulated":
            least_s, most_s = (self._sending_s(candidate, choice) for choice in (few, many))
            return max(o.radio_watts * (most_s - least_s) / 30, 1e-12), 0.0
        slope = (self._cost(candidate, many) - self._cost(candidate, few)) / 30
        left = self._cost(candidate, few) - 2 * slope - self._step_joules(candidate, 32)
        return max(slope, 1e-12), max(left, 0.0)

    def _cost(self, candidate: Candidate, choice: Choice) -> float:
        joules = self.fits.cost(candidate, choice).joules
        if joules is None:
            raise BadRequest(
                f"device {candidate.device}: nothing says what {choice.setting.precision} at width "
                f"{choice.setting.width:g} costs it; calibrate it, or let it take part in a run"
            )
        return joules + self._options.radio_watts * self._sending_s(candidate, choice)

    def _sending_s(self, candidate: Candidate, choice: Choice) -> float:
        seconds = self.fits.cost(candidate, choice).of(Phase.UPLOAD).seconds
        if seconds is None:
            raise BadRequest(
                f"device {candidate.device}: nothing says how long its uploads take; calibrate it, or let it take "
                "part in a run"
            )
        return seconds
